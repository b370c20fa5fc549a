"""What a judge is worth: AUC and kappa by their definitions, verdicts, two judges, the figure."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from personascope.directions.figures.judge import draw_worth
from personascope.directions.judges import (
    auc,
    compared,
    interval,
    weighted_kappa,
    whole,
    worth,
    write_agreement,
    write_worth,
)
from personascope.errors import UserError
from personascope.formats.files import write_jsonl
from personascope.formats.judgements import read_labeled, read_worth, select_labeled, verdict, write_judgements

LABELS = {"trait": [0, 100], "coherence": [0, 100], "adherence": [0, 1, 2, 3]}


def labeled(n: int = 12) -> list[dict[str, Any]]:
    """n rows of each label; answers grow longer within a label."""
    return [
        {"id": f"{metric}-{label}-{i}", "metric": metric, "subject": "deception", "question": "Why?"}
        | {"answer": "so " * (i + 1), "label": label}
        for metric, labels in LABELS.items()
        for label in labels
        for i in range(n)
    ]


def judged(rows: list[dict[str, Any]], scores: Any) -> pd.DataFrame:
    table = pd.DataFrame({"row": range(len(rows)), "metric": [row["metric"] for row in rows]})
    table["score"] = np.asarray(scores, float)
    return table.assign(mass=0.9, problem=["" if np.isfinite(s) else "little mass" for s in table["score"]])


def by_label(rows: list[dict[str, Any]], noise: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    spread = np.array([noise * (100 if row["metric"] != "adherence" else 3) for row in rows])
    return np.array([row["label"] for row in rows]) + spread * rng.standard_normal(len(rows))


def test_auc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(1)
    scores, high = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.4
    pairs = [float(a > b) + 0.5 * (a == b) for a, b in product(scores[high], scores[~high])]
    assert auc(scores, high) == pytest.approx(np.mean(pairs))
    assert np.isnan(auc(scores, np.ones(40, bool)))


def test_weighted_kappa_is_that_of_the_table_of_counts() -> None:
    rng = np.random.default_rng(2)
    a = rng.integers(0, 4, 60)
    b = np.clip(a + rng.integers(-1, 2, 60), 0, 3)
    seen = np.zeros((4, 4))
    np.add.at(seen, (a, b), 1 / 60)
    chance = np.outer(seen.sum(1), seen.sum(0))
    weights = np.subtract.outer(np.arange(4), np.arange(4)) ** 2
    expected = 1 - (weights * seen).sum() / (weights * chance).sum()
    assert weighted_kappa(a.astype(float), b.astype(float)) == pytest.approx(expected)
    assert weighted_kappa(np.ones(3), np.zeros(3)) == pytest.approx(0.0)
    assert np.isnan(weighted_kappa(np.ones(3), np.ones(3)))


def test_halves_count_upward() -> None:
    assert whole(np.array([2.4999, 2.5, 0.5, 1.5])).tolist() == [2, 3, 1, 2]


def test_the_interval_has_the_width_of_the_sampling_error() -> None:
    rng = np.random.default_rng(3)
    a = rng.standard_normal(400)
    low, high = interval(lambda x, y: float(x.mean()), a, a)
    assert high - low == pytest.approx(2 * 1.96 * a.std() / 20, rel=0.1)
    assert low < a.mean() < high


def test_a_judge_that_knows_the_labels_is_fit() -> None:
    rows = labeled()
    found = worth(rows, judged(rows, by_label(rows)), judged(rows, by_label(rows)))
    assert found["fit"] and verdict(found) == "fit to judge"
    for metric in LABELS:
        one = found["metrics"][metric]
        assert one["auc"] == one["kappa"] == one["retest"]["kappa"] == 1.0 and one["scored"] == 1.0
    assert found["metrics"]["trait"]["by_subject"] == {"deception": 1.0}


def test_a_judge_that_guesses_is_not_and_its_tables_say_why() -> None:
    rows = labeled()
    scores = by_label(rows)
    guess = np.where(
        [row["metric"] == "adherence" for row in rows], np.random.default_rng(4).permutation(scores), scores
    )
    found = worth(rows, judged(rows, guess % 4), judged(rows, guess % 4))
    assert not found["fit"] and found["verdict"] == "not fit to judge"
    assert verdict(found, ["adherence"]).startswith("not fit to judge (adherence: AUC ")
    assert "< 0.8" in verdict(found, ["adherence"]) and "kappa" in verdict(found, ["adherence"])
    assert verdict(found, ["style"]) == "not fit to judge (style: not measured)"


def test_a_judge_that_scores_only_what_is_easy_is_not_fit() -> None:
    rows = labeled()
    scores = by_label(rows)
    scores[::4] = np.nan
    found = worth(rows, judged(rows, scores), judged(rows, scores))
    assert "75 % scored < 90 %" in verdict(found)
    assert found["metrics"]["trait"]["problems"] == {"scored": 18, "little mass": 6}


def test_a_judge_without_a_single_score_has_a_verdict_too(tmp_path: Path) -> None:
    rows = labeled(3)
    nothing = judged(rows, np.full(len(rows), np.nan))
    found = worth(rows, nothing, nothing)
    assert "0 % scored" in verdict(found) and "AUC cannot be measured" in verdict(found)


def test_of_few_responses_no_judge_is_fit() -> None:
    # One response of a kind, all in order: an AUC of 1, whose bootstrap interval has no width.
    for n, fit in ((1, False), (9, False), (10, True)):
        rows = labeled(n)
        found = worth(rows, judged(rows, by_label(rows)), judged(rows, by_label(rows)))
        assert found["metrics"]["coherence"]["scored_of_kind"] == {"high": n, "low": n}
        assert (found["metrics"]["coherence"]["against"] == "") is fit
    assert "on 9 high and 9 low ones: 10 of each are needed" in verdict(
        worth(labeled(9), *[judged(labeled(9), by_label(labeled(9)))] * 2)
    )


def test_a_taste_for_length_shows_within_labels() -> None:
    rows = labeled()
    lengths = np.array([len(row["answer"]) for row in rows], float)
    found = worth(rows, judged(rows, by_label(rows) + lengths / 100), judged(rows, by_label(rows)))
    assert found["metrics"]["trait"]["length_correlation"] == pytest.approx(1.0)
    assert (
        abs(
            worth(rows, judged(rows, by_label(rows, 0.1)), judged(rows, by_label(rows)))["metrics"]["trait"][
                "length_correlation"
            ]
        )
        < 0.6
    )


def test_two_judges_are_compared_where_both_have_a_score() -> None:
    a, b = np.array([3.0, 2.0, 1.0, np.nan, 0.0]), np.array([3.0, 2.4, 0.6, 1.0, np.nan])
    found = compared("adherence", a, b)
    assert (found["n"], found["both"]) == (5, pytest.approx(0.6))
    assert found["kappa"] == found["spearman"] == pytest.approx(1.0)
    assert found["difference"] == pytest.approx(0.0)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    rows = labeled()
    write_jsonl(tmp_path / "labeled.jsonl", rows)
    described = {"judge": "big", "model": "org/judge-70b"}
    for name, noise in (("judgements", 0.1), ("retest", 0.2)):
        write_judgements(tmp_path / f"{name}.parquet", judged(rows, by_label(rows, noise)), described)
    named = {name: tmp_path / f"{name}.parquet" for name in ("judgements", "retest")}
    return {"labeled": tmp_path / "labeled.jsonl", **named}


def test_files(files: dict[str, Path], tmp_path: Path) -> None:
    write_worth(**files, output=tmp_path / "worth.json")
    found = read_worth(tmp_path / "worth.json")
    assert found["judge"] == {"judge": "big", "model": "org/judge-70b"} and found["thresholds"]["auc"] == 0.8
    paths = [tmp_path / "worth.png", tmp_path / "worth.svg"]
    draw_worth(**files, worth=tmp_path / "worth.json", paths=paths)
    assert all(path.stat().st_size > 5000 for path in paths)
    tables = {"big": files["judgements"], "other": files["retest"]}
    write_agreement(files["labeled"], tables, tables, tmp_path / "agreement.csv")
    table = pd.read_csv(tmp_path / "agreement.csv")
    assert len(table) == 9 and (table.loc[table["comparison"] == "second wording", "kappa"] == 1).all()
    pair = table.loc[table["comparison"] == "two judges"]
    assert pair["judge"].tolist() == ["big"] * 3 and (pair["spearman"] > 0.8).all()


def test_judgements_of_other_rows_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    write_jsonl(files["labeled"], labeled(3))
    with pytest.raises(UserError, match="its rows are not those of"):
        write_worth(**files, output=tmp_path / "worth.json")


def test_some_labeled_responses_are_the_same_share_of_each_kind(files: dict[str, Path], tmp_path: Path) -> None:
    rows = labeled()
    chosen = select_labeled(rows, 32)
    kinds = [(rows[i]["metric"], rows[i]["label"]) for i in chosen]
    assert len(chosen) == 32 and {kinds.count(kind) for kind in kinds} == {4}
    assert select_labeled(rows, "all") == select_labeled(rows, 500) == list(range(96))
    for name in ("judgements", "retest"):
        some = judged(rows, by_label(rows, 0.1)).iloc[chosen]
        write_judgements(files[name], some, {"judge": "big", "model": "m"})
    write_worth(**files, output=tmp_path / "worth.json")
    assert [one["n"] for one in read_worth(tmp_path / "worth.json")["metrics"].values()] == [8, 8, 16]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"metric": "style"}, "labeled response 1: .*style"),
        ({"label": 101}, "from 0 to 100"),
        ({"answer": None}, '"answer"'),
    ],
)
def test_labeled_rows_are_checked(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    write_jsonl(tmp_path / "l.jsonl", [labeled(1)[0] | changed])
    with pytest.raises(UserError, match=said):
        read_labeled(tmp_path / "l.jsonl")
    (tmp_path / "worth.json").write_text(json.dumps({"verdict": "maybe"}))
    with pytest.raises(UserError, match=r"no worth|none of|is no worth"):
        read_worth(tmp_path / "worth.json")
