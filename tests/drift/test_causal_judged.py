"""What a judge says of the causal test's texts: paired by seed, and held against the matched controls."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from personascope.drift.causal_judged import write_judged
from personascope.errors import UserError
from personascope.formats.files import write_jsonl
from personascope.formats.judgements import write_judgements

ARMS = [("none", 0), ("features", 0), ("matched", 0), ("matched", 1), ("random_direction", 0)]
SEEDS = 4
FIT = {"metrics": {"adherence": {"against": ""}}, "fit": True, "verdict": "fit to judge"}
UNFIT = {"metrics": {"adherence": {"against": "kappa 0.10 < 0.6"}}, "fit": False, "verdict": "not fit to judge"}


@pytest.fixture
def scores() -> dict[tuple[str, int], np.ndarray]:
    rng = np.random.default_rng(3)
    return {arm: rng.uniform(0, 3, SEEDS) for arm in ARMS}


def write(folder: Path, scores: dict[tuple[str, int], np.ndarray], worth: dict[str, Any]) -> dict[str, Path]:
    files = {name: folder / name for name in ("samples", "judgements", "worth", "judged")}
    texts = [{"arm": arm, "draw": draw, "sample": i} for arm, draw in ARMS for i in range(SEEDS)]
    write_jsonl(files["samples"], texts)
    rows = []
    for row, text in enumerate(texts):
        score = float(scores[text["arm"], text["draw"]][text["sample"]])
        problem = "" if np.isfinite(score) else "refusal"
        rows.append({"row": row, "metric": "adherence", "score": score, "mass": 0.9, "problem": problem})
        rows.append({"row": row, "metric": "coherence", "score": 50.0, "mass": 0.9, "problem": ""})
    write_judgements(files["judgements"], pd.DataFrame(rows), {"judge": "j"})
    files["worth"].write_text(json.dumps(worth))
    return files


def test_effects_are_paired_by_seed(tmp_path: Path, scores: dict[tuple[str, int], np.ndarray]) -> None:
    files = write(tmp_path, scores, FIT)
    write_judged(**files)
    content = json.loads(files["judged"].read_text())
    assert content["judge"] == "j" and content["fit"] and content["worth"] == "fit to judge"
    found = content["metrics"]["adherence"]
    own, plain = scores["features", 0], scores["none", 0]
    test = stats.ttest_rel(own, plain).confidence_interval()
    assert found["effect"]["mean"] == pytest.approx((own - plain).mean())
    assert (found["effect"]["low"], found["effect"]["high"]) == pytest.approx((test.low, test.high))
    matched = (scores["matched", 0] + scores["matched", 1]) / 2
    assert found["beyond_matched"]["mean"] == pytest.approx((own - matched).mean())
    assert [one["mean"] for one in found["arms"]["matched"]] == pytest.approx(
        [(scores["matched", draw] - plain).mean() for draw in (0, 1)]
    )
    assert found["unpatched"] == pytest.approx(plain.mean()) and found["counts"] == {"scored": 20}
    # A text that the judge gives no difference in: the effect is 0, and so is its interval.
    assert content["metrics"]["coherence"]["effect"] | {"d": None} == {
        "mean": 0, "low": 0, "high": 0, "d": None, "n": SEEDS, "seeds_needed": None,
    }  # fmt: skip


def test_a_text_without_a_score_loses_its_pair_and_is_counted(
    tmp_path: Path, scores: dict[tuple[str, int], np.ndarray]
) -> None:
    scores["features", 0][1] = np.nan
    files = write(tmp_path, scores, UNFIT)
    write_judged(**files)
    content = json.loads(files["judged"].read_text())
    assert not content["fit"] and "kappa 0.10 < 0.6" in content["worth"]
    assert content["metrics"]["adherence"]["effect"]["n"] == SEEDS - 1
    assert content["metrics"]["adherence"]["counts"] == {"scored": 19, "refusal": 1}


def test_a_test_without_texts_has_no_effects(tmp_path: Path) -> None:
    files = write(tmp_path, {arm: np.ones(SEEDS) for arm in ARMS}, FIT)
    write_jsonl(files["samples"], [])
    with pytest.raises(UserError, match="its rows are not those of"):
        write_judged(**files)
    columns = ["row", "metric", "score", "mass", "problem"]
    write_judgements(files["judgements"], pd.DataFrame([], columns=columns), {"judge": "j"})
    write_judged(**files)
    assert json.loads(files["judged"].read_text())["metrics"] == {"adherence": None, "coherence": None}
