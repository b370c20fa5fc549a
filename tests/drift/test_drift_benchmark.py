"""The labeled benchmark: rates and AUC by hand, and from files in which it is known who drifts."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from yaml import safe_load

from personascope.directions.axis import load_role_space
from personascope.drift.baselines import first_above, highest, matched_level, signals
from personascope.drift.drift_benchmark import Judged, Talk, benchmark_table, labels_of
from personascope.drift.pages.benchmark import NAMES, benchmark_figure, panels_of, write_benchmark
from personascope.drift.result import TurnScores
from personascope.errors import UserError
from personascope.formats.files import read_json
from tests.helpers.benchmark_cases import ONSET, TURNS, Benchmark
from tests.helpers.drift_cases import to_activations

ROOT = Path(__file__).parents[2]
BASES = [f"base{i}" for i in range(6)]


def row(table: pd.DataFrame, contrast: str, method: str = "test") -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {str(name): value for name, value in line.items()} for line in table.to_dict("records")
    ]
    (found,) = (line for line in rows if (line["contrast"], line["method"]) == (contrast, method))
    return found


def test_rates_auc_and_delay_by_hand() -> None:
    plain = [Talk(base, "plain", 4, statistic, None) for base, statistic in zip(BASES, [0, 0, 1, 1, 2, 2], strict=True)]
    alarms = [4, 6, 8, None, 2, 5]
    known = [Talk(b, "persona_known", 4, s, a) for b, s, a in zip(BASES, [3, 3, 3, 0, 3, 3], alarms, strict=True)]
    table = benchmark_table([Judged("default", "sae", "test", [*known, *plain], 0.05)])
    assert table["contrast"].tolist() == ["plain", "persona_known"] and table["is_persona"].tolist() == [False, True]
    found = row(table, "persona_known")
    # 5 of 6 lie above all 6 plain ones; the sixth, at 0, ties with 2 and is below 4.
    assert found["auc"] == pytest.approx((5 * 6 + 2 * 0.5) / 36)
    assert found["detected"] == pytest.approx(4 / 6) and found["early"] == pytest.approx(1 / 6)
    assert found["delay"] == pytest.approx((0 + 2 + 4 + 1) / 4)
    assert found["detected_low"] < 4 / 6 < found["detected_high"] <= 1 and found["auc_high"] == 1
    assert found["conversations"] == found["bases"] == 6 and found["false_alarm_rate"] == 0.05
    quiet = row(table, "plain")
    assert np.isnan(quiet["auc"]) and np.isnan(quiet["delay"]) and quiet["detected"] == 0
    # All bases alike: Clopper-Pearson of 0 among 6.
    assert quiet["detected_low"] == 0 and quiet["detected_high"] == pytest.approx(0.459, abs=0.001)


def test_intervals_draw_bases_not_conversations() -> None:
    """Ten samples of each of six bases, all alike: as uncertain as six conversations."""
    one = [Talk(base, "genre", 4, 0.0, 5 if i < 3 else None) for i, base in enumerate(BASES)]
    made = [row(benchmark_table([Judged("a", "sae", "test", one * times, 0.0)]), "genre") for times in (1, 10)]
    assert [made[0][f"detected_{end}"] for end in ("low", "high")] == [
        made[1][f"detected_{end}"] for end in ("low", "high")
    ]
    assert made[1]["conversations"] == 60 and made[1]["detected_high"] - made[1]["detected_low"] > 0.5


def test_a_baseline_alarms_as_often_as_the_test_on_what_is_quiet() -> None:
    quiet = {f"q{i}": float(i) for i in range(20)}
    assert matched_level(quiet, 0.1) == 17 and matched_level(quiet, 0) == 19 and matched_level(quiet, 1) == -np.inf
    assert sum(value > matched_level(quiet, 0.1) for value in quiet.values()) == 2
    signal = np.array([np.nan, 1.0, 3.0, 2.0])
    assert first_above(signal, 1.5) == 2 and first_above(signal, 3) is None and highest(signal) == 3
    assert highest(np.array([np.nan])) == -np.inf


def test_signals_by_hand(tmp_path: Path) -> None:
    bench = Benchmark(tmp_path, references=19)
    roles = load_role_space(bench.matrix, bench.chosen.axis)
    turn = np.repeat([0, 1, 2, 3], [2, 4, 8, 0])
    tokens = to_activations(np.ones((14, 8), np.float32), turn, 4)
    space = np.zeros((4, 8), np.float32)
    space[0, 0], space[1, 1], space[2, :2] = 2, 3, 1
    scores = {"projection": np.array([2.0, -1, 0.5, np.nan])}
    found = signals(tokens, TurnScores(space, space, scores, {}, np.array([2, 4, 8, 0])), roles, bench.chosen)
    assert found["projection"] == pytest.approx([np.nan, 3, 1.5, np.nan], nan_ok=True)
    assert found["length"] == pytest.approx([np.nan, np.log(2), np.log(4), np.nan], nan_ok=True)
    assert found["nearest_role"] == pytest.approx([-1, 1, 0, np.nan], nan_ok=True)
    assert found["repetition"] == pytest.approx([0, 0, 0, np.nan], nan_ok=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Benchmark, pd.DataFrame, Path]:
    """Personas: five of six are found, one base stays itself. Longer answers; and one that is away before the onset."""
    bench = Benchmark(tmp_path_factory.mktemp("benchmark"))
    for base in BASES:
        bench.add(base, "plain")
        bench.add(base, "persona_known", None if base == "base5" else ONSET)
        bench.add(base, "persona_new", 2 if base == "base0" else ONSET + 2)
        bench.add(base, "longer", n_tokens=96)
    bench.add_labeled("other", {"domain": "cooking"}, 0)
    outputs = {name: str(bench.folder / f"made.{name}") for name in ("png", "svg")}
    table = str(bench.folder / "made.csv")
    write_benchmark({"default": bench.options}, bench.files, seed=0, table=table, **outputs)
    return bench, pd.read_csv(table), bench.folder


def test_personas_are_found_where_they_are(made: tuple[Benchmark, pd.DataFrame, Path]) -> None:
    table = made[1]
    assert set(table["contrast"]) == {"plain", "persona_known", "persona_new", "longer"}
    known, new = row(table, "persona_known"), row(table, "persona_new")
    assert known["detected"] == pytest.approx(5 / 6) and known["early"] == 0
    assert known["delay"] <= 1 and known["auc"] > 0.8
    # One is away from turn 2 on: its alarm comes early, which is no detection.
    assert new["detected"] == pytest.approx(5 / 6) and new["early"] == pytest.approx(1 / 6)
    assert 2 <= new["delay"] <= 3 and new["auc"] == 1
    assert row(table, "plain")["detected"] <= 1 / 6
    assert row(table, "plain")["false_alarm_rate"] <= 0.2


def test_baselines_have_the_false_alarms_of_the_test(made: tuple[Benchmark, pd.DataFrame, Path]) -> None:
    table = made[1]
    methods = ("test", "projection", "nearest_role", "length", "repetition")
    rates = {method: row(table, "plain", method)["false_alarm_rate"] for method in methods}
    assert set(table["method"]) == set(methods)
    assert max(rates.values()) <= rates["test"] + 1e-9 and rates["projection"] == pytest.approx(rates["test"])
    # Length finds the longer answers, which are 4 times as long only in those conversations' every turn: no change.
    assert row(table, "longer", "length")["detected"] <= 1 / 6
    assert row(table, "persona_known", "nearest_role")["detected"] == pytest.approx(5 / 6)
    assert row(table, "persona_known", "repetition")["detected"] <= 1 / 6


def test_the_figure_keeps_false_contrasts_apart(made: tuple[Benchmark, pd.DataFrame, Path]) -> None:
    _, table, folder = made
    assert (folder / "made.png").stat().st_size > 10_000 and (folder / "made.svg").read_text().startswith("<?xml")
    assert panels_of(table) == [
        [("default", "test")],
        [("default", "projection"), *(("default", name) for name in ("nearest_role", "length", "repetition"))],
    ]
    figure = benchmark_figure(table, 0.1)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["persona, one of the roles", "persona, none of the roles", "nothing", "longer answers"]
    places = figure.axes[0].get_yticks()
    assert places[2] - places[1] > places[1] - places[0] == places[3] - places[2]


def test_what_is_no_benchmark_is_said() -> None:
    assert labels_of({"domain": "x"}, "talk") is None
    assert labels_of({"base": "b", "contrast": "plain", "onset": 4}, "talk") == ("b", "plain", 4)
    with pytest.raises(UserError, match="talk: metadata with `contrast` needs `base`"):
        labels_of({"contrast": "plain", "onset": 4}, "talk")
    with pytest.raises(UserError, match="no conversation has `contrast`"):
        benchmark_table([])
    assert TURNS > ONSET


def test_the_shipped_benchmark_has_personas_inside_and_outside_the_roles() -> None:
    """Every base in every contrast, the onset where the persona begins, and a baseline that ends at the onset."""
    overlay, config = (safe_load((ROOT / f"config/{name}.yaml").read_text()) for name in ("benchmark", "config"))
    assert "roles" not in overlay
    roles = set(config["roles"]["select"])
    scripts = [read_json(path) for path in sorted((ROOT / overlay["drift"]["simulations"]["folder"]).glob("*.json"))]
    assert {script["persona"] for script in scripts if script["contrast"] == "persona_known"} <= roles
    assert not {script["persona"] for script in scripts if script["contrast"] == "persona_new"} & roles
    contrasts = {contrast: {s["base"] for s in scripts if s["contrast"] == contrast} for contrast in NAMES}
    assert len(scripts) == 90 and all(len(bases) == 10 for bases in contrasts.values())
    starts = {script["pressure"]["from"] for script in scripts if script["contrast"].startswith("persona")}
    assert starts == {script["onset"] for script in scripts} == {4}
    assert overlay["drift"]["analyses"]["baseline"]["baseline_turns"] == 4 and overlay["drift"]["benchmark"] is True
    layers = {block["layer"] for block in overlay["drift"]["analyses"].values() if block and "layer" in block}
    assert layers == set(overlay["extraction"]["residual_layers"])
