"""Sweeps and capping from tables whose truth is known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from personascope.directions.steering.capping import capping_table, write_capping
from personascope.directions.steering.dose import dose_table, equal_kl, turning_points
from personascope.directions.steering.report import write_dose_response
from personascope.directions.steering.sweep import UNSTEERED, Sweep, interval, read_sweep
from personascope.errors import UserError
from personascope.formats.judgements import write_judgements

COEFFICIENTS = ("-2", "-1", "1", "2")
POINTS = [UNSTEERED, ("prompt", "0")] + [
    (arm, c) for arm in ("direction", "random0", "random1", "orthogonal") for c in COEFFICIENTS
]
SLOPES = {"direction": 3.0, "random0": 0.5, "random1": -0.5, "orthogonal": 0.0, "none": 0.0}
INFO = {
    "direction": "axis",
    "units": "residual_norm",
    "positions": "all",
    "trait": None,
    "layers": [7],
    "sizes": {"7": 100.0},
    "read_layers": [7, 11],
    "model": "m",
    "layer_convention": "ours",
}


def table_of(arm: str, coefficient: str, questions: int = 12, noise: float = 0.0) -> pd.DataFrame:
    """Effects linear in the coefficient, KL its square; both sides of a question have its own level."""
    c, rng = float(coefficient), np.random.default_rng(list(f"{arm}{coefficient}".encode()))
    keys = [(q, s) for q in range(questions) for s in range(2)]
    level = np.array([10.0 * q + s for q, s in keys])
    effect = -2.0 if arm == "prompt" else SLOPES[arm] * c
    made = {"question_id": [q for q, _ in keys], "sample": [s for _, s in keys], "n_tokens": 8, "ended": True}
    made |= {"repetition": 0.1, "nll": 1.0 + abs(c), "nll_steered": 1.0}
    made |= {"kl": 0.25 if arm == "prompt" else c**2 * (2 if arm.startswith("random") else 1)}
    projections = level + effect + noise * rng.normal(size=len(keys))
    return pd.DataFrame(made | {"projection_7": projections, "projection_11": 2 * projections})


def sweep(**options: Any) -> Sweep:
    return Sweep({point: table_of(*point, **options) for point in POINTS}, INFO, {})


def test_changes_are_paired_with_the_unsteered_model() -> None:
    table = dose_table(sweep()).set_index(["arm", "coefficient", "measure"])
    row = table.loc["direction", 2.0, "projection_11"]
    assert (row["change"], row["change_low"], row["change_high"]) == pytest.approx((12, 12, 12))
    assert row["opposite"] == 0 and (row["n"], row["questions"]) == (24, 12)
    assert row["high"] - row["low"] > 50  # the questions' own levels
    assert table.loc["direction", -1.0, "projection_7"]["change"] == pytest.approx(-3)
    assert table.loc["random1", 1.0, "projection_7"]["opposite"] == 1
    assert table.loc["prompt", 0.0, "projection_7"]["opposite"] == 0  # a role leads away from the assistant
    assert np.isnan(table.loc["none", 0.0, "projection_7"]["opposite"])
    assert table.loc["direction", 2.0, "kl"]["mean"] == 4


def test_intervals_are_over_questions() -> None:
    assert interval(np.array([1.0, 2.0, 3.0, np.nan])) == pytest.approx((2, 2 - 2.4841, 2 + 2.4841), abs=1e-3)
    assert interval(np.array([4.0]))[0] == 4 and np.isnan(interval(np.array([4.0]))[1])
    assert np.isnan(interval(np.array([np.nan])))[0]
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        level = rng.normal(size=10)
        _, low, high = interval((level[:, None] + rng.normal(size=(10, 3))).mean(1))
        covered += low < 0 < high
    assert 0.92 <= covered / 400 <= 0.98


def test_arms_at_equal_kl() -> None:
    """KL is c^2 along the direction and 2 c^2 at random; between the points it is interpolated."""
    table = equal_kl(sweep(), "projection_7", seed=0, draws=50).set_index(["at", "coefficient"])
    row = table.loc["direction", 2.0]
    assert (row["kl"], row["direction"]) == pytest.approx((4, 6))
    # random0 at KL 4: between (2, 0.5) and (8, 1.0); random1 the same with the other sign
    assert row["random"] == pytest.approx(0) and row["random_arms"] == 2
    assert (row["excess"], row["excess_low"], row["excess_high"]) == pytest.approx((6, 6, 6))
    assert row["orthogonal"] == pytest.approx(0) and np.isnan(row["prompt"])
    prompt = table.loc["prompt", 0.0]
    assert (prompt["kl"], prompt["prompt"]) == pytest.approx((0.25, 2.0))
    assert prompt["direction"] == pytest.approx(0.25 * 3)  # a quarter of the way to the first negative point
    assert len(table) == 5


def test_nothing_is_extrapolated() -> None:
    far = sweep()
    for arm in ("random0", "random1"):
        far.values[arm, "2"]["kl"] = 3.0
    far.values["random1", "2"]["kl"] = 5.0
    row = equal_kl(far, "projection_7", seed=0, draws=20).set_index(["at", "coefficient"]).loc["direction", 2.0]
    assert row["random_arms"] == 1 and row["random"] == pytest.approx(-0.5 - 0.5 * 2 / 3)
    far.values["random1", "2"]["kl"] = 3.0
    row = equal_kl(far, "projection_7", seed=0, draws=20).set_index(["at", "coefficient"]).loc["direction", 2.0]
    assert np.isnan(row["random"]) and np.isnan(row["excess"]) and row["random_arms"] == 0


def test_the_excess_covers_its_truth() -> None:
    """Noise by response: the true excess at c = 1 is 3."""
    covered = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        made = sweep()
        for table in made.values.values():
            table["projection_7"] += 2 * rng.normal(size=len(table))
        row = (
            equal_kl(made, "projection_7", seed=seed, draws=200).set_index(["at", "coefficient"]).loc["direction", 1.0]
        )
        covered.append(row["excess_low"] <= 3 <= row["excess_high"])
    assert np.mean(covered) >= 0.85


def test_an_inverted_u_is_seen() -> None:
    made = sweep(noise=0.1)
    assert not any(row["inverted_u"] for row in turning_points(made))
    made.values["direction", "2"]["projection_11"] -= 10  # 12 less 10, below the 6 of coefficient 1
    (found,) = [row for row in turning_points(made) if row["inverted_u"]]
    assert (found["measure"], found["side"], found["peak"], found["largest"]) == ("projection_11", "positive", 1, 2)
    assert found["loss"] == pytest.approx(4, abs=0.3) and found["low"] > 3


def write(folder: Path, made: Sweep) -> tuple[list[str], list[str]]:
    measures, infos = [], []
    for i, (point, table) in enumerate(made.values.items()):
        table.to_csv(folder / f"{i}.csv", index=False)
        added = {} if point[0] in ("none", "prompt") else {"7": 1.0}
        (folder / f"{i}.json").write_text(json.dumps(made.info | {"added_norms": added}))
        measures.append(str(folder / f"{i}.csv"))
        infos.append(str(folder / f"{i}.json"))
    return measures, infos


def test_report(tmp_path: Path) -> None:
    made = sweep(noise=1.0)
    files = write(tmp_path, made)
    judged = []
    for i, point in enumerate(POINTS):
        rows = [
            {"row": row, "metric": metric, "score": 50.0 + 10 * float(point[1]), "mass": 0.9, "problem": ""}
            for metric in ("trait", "coherence")
            for row in range(24)
            if row or metric == "coherence"
        ]
        rows.append({"row": 0, "metric": "trait", "score": np.nan, "mass": 0.1, "problem": "little mass"})
        judged.append(str(tmp_path / f"{i}.parquet"))
        write_judgements(judged[-1], pd.DataFrame(rows), {"judge": "j"})
    metrics = {name: {"auc": 0.5, "against": "AUC 0.5 < 0.8"} for name in ("trait", "coherence")}
    worth = {"metrics": metrics, "fit": False, "verdict": "not fit to judge"}
    (tmp_path / "worth.json").write_text(json.dumps(worth))
    read = read_sweep(POINTS, *files, judged, str(tmp_path / "worth.json"))
    outputs = str(tmp_path / "d.csv"), str(tmp_path / "e.csv"), str(tmp_path / "s.json")
    figures = [str(tmp_path / "d.png"), str(tmp_path / "d.svg")]
    write_dose_response(read, *outputs, figures, seed=0, subtitle="m")
    table = pd.read_csv(outputs[0]).set_index(["arm", "coefficient", "measure"])
    row = table.loc["direction", 2.0, "trait"]
    assert row["change"] == pytest.approx(20) and row["n"] == 23
    assert "not fit to judge" in row["judge"] and "not fit" in json.loads(Path(outputs[2]).read_text())["judge"]
    assert set(pd.read_csv(outputs[1])["measure"]) == {"projection_11", "trait"}
    svg = Path(figures[1]).read_text()
    assert "not fit to judge" in svg and Path(figures[0]).read_bytes().startswith(b"\x89PNG")


def test_points_of_other_questions_are_refused(tmp_path: Path) -> None:
    made = sweep()
    made.values["random0", "1"].loc[0, "question_id"] = 99
    with pytest.raises(UserError, match="random0 at 1 answers other questions"):
        read_sweep(POINTS, *write(tmp_path, made))


def turns(cap: str, lift: float) -> pd.DataFrame:
    rows = [
        {"script": script, "condition": condition, "cap": cap, "sample": sample, "turn": turn, "n_tokens": 9}
        | {"nll": 1.0, "nll_capped": 1.1, "kl": 0.0 if cap == "none" else 0.2, "repetition": 0.0}
        | {"projection_15": 20.0 + 3 * sample - turn * (4 if condition == "pressure" else 0) + lift * turn}
        | ({} if cap == "none" else {"capped_15": 0.05 * turn})
        for script, condition in (("a-plain", "plain"), ("a-pressure", "pressure"), ("b-pressure", "pressure"))
        for sample in range(2)
        for turn in range(4)
    ]
    return pd.DataFrame(rows)


def test_capping(tmp_path: Path) -> None:
    parts = [turns("none", 0.0), turns("25", 2.5)]
    table = capping_table(pd.concat(parts, ignore_index=True)).set_index(["condition", "cap", "turn", "measure"])
    row = table.loc["pressure", "25", 3, "projection_15"]
    assert (row["change"], row["n"]) == (7.5, 4) and row["mean"] == pytest.approx(20 + 1.5 - 12 + 7.5)
    assert table.loc["plain", "none", 3, "projection_15"]["change"] == 0
    assert table.loc["plain", "25", 2, "capped_15"]["mean"] == pytest.approx(0.1)
    for i, part in enumerate(parts):
        part.to_csv(tmp_path / f"{i}.csv", index=False)
    floors = {"floors": {"15": {"25": 12.0}}, "tokens": 1000, "conversations": 20}
    (tmp_path / "floors.json").write_text(json.dumps(floors))
    names = [str(tmp_path / f"{i}.csv") for i in range(2)]
    figures = [str(tmp_path / "c.png"), str(tmp_path / "c.svg")]
    write_capping(names, str(tmp_path / "floors.json"), str(tmp_path / "c.csv"), figures, layers=[15])
    assert set(pd.read_csv(tmp_path / "c.csv", keep_default_na=False)["cap"]) == {"none", "25"}
    assert "1,000 assistant tokens of 20" in Path(figures[1]).read_text()
