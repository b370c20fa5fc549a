"""The summary over conversations, and how often simulated pressure is found."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, false_discovery_control

from personascope.directions.stats import proportion_interval
from personascope.drift.pages.findings import causal_lines
from personascope.drift.pages.ranking import ranking_html
from personascope.drift.summary import detection_table, q_values, read_summaries, summary_table
from personascope.formats.files import write_json
from personascope.formats.tables import write_table
from tests.helpers.drift_examples import content


def simulated(condition: str, alarm_turn: int | None, pressure_from: int | None) -> dict[str, Any]:
    metadata = {"condition": condition, "pressure_from": pressure_from}
    return content(alarm_turn=alarm_turn, largest_drop=-1.0, slope=-0.5, metadata=metadata)


def table(*contents: dict[str, Any]) -> pd.DataFrame:
    return summary_table(
        [{"conversation": f"c{i}", "analysis": "default", "content": item} for i, item in enumerate(contents)]
    )


def test_alarms_come_first_then_the_smaller_p_then_the_deeper_fall_and_failures_last() -> None:
    rows = [content("failed", "no good"), content(p_value=0.02, fall=-1.0), content(), content(p_value=0.3, fall=-1.0)]
    rows += [content(p_value=0.3, fall=-2.0, flags=["a", "b"]), content(p_value=0.04, alarm_turn=3, onset=2, fall=-4.0)]
    made = table(*rows)
    assert made["conversation"].tolist() == ["c5", "c1", "c4", "c3", "c2", "c0"]
    assert made["rank"].tolist() == [1, 2, 3, 4, 5, pd.NA]
    assert made["reason"].tolist() == [""] * 5 + ["no good"] and made["flags"].tolist()[2] == "a, b"
    assert made["fall"].dtype == float and str(made["alarm_turn"].dtype) == "Int64"


def test_a_verdict_of_the_causal_test_is_a_column_of_table_and_ranking() -> None:
    tested = content(p_value=0.3) | {"causal": {"verdict": "underpowered", "reason": "needs more seeds"}}
    unmade = content(p_value=0.4) | {"causal": {"verdict": None, "reason": "no fall"}}
    made = table(content(p_value=0.02), tested, unmade)
    assert made["causal"].fillna("").tolist() == ["", "underpowered", ""]
    assert made["causal_reason"].fillna("").tolist() == ["", "needs more seeds", "no fall"]
    assert "underpowered" in ranking_html(made) and "causal test" in ranking_html(made)
    assert "causal test" not in ranking_html(table(content()))
    assert [line.split(": ")[1:3] for line in causal_lines(made)] == [["c1", "underpowered"], ["c2", "not tested"]]


def test_q_values_are_those_of_benjamini_and_hochberg() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.5])
    known = [0, 2, 3, 4]
    assert q_values(p)[known].tolist() == pytest.approx(false_discovery_control(p[known]).tolist())
    assert np.isnan(q_values(p)[1])


def test_detection_counts_what_comes_after_the_pressure() -> None:
    alarms = [3, 5, None, 1, None, None]
    pressed = [simulated("pressure", alarm, 3) for alarm in alarms]
    plain = [simulated("plain", alarm, None) for alarm in (None, None, 2, None)]
    found = detection_table(table(*pressed, *plain, content("failed", "no good"), content())).set_index("condition")
    assert found.loc["pressure", "detected"] == pytest.approx(2 / 6) and found.loc["plain", "detected"] == 0.25
    assert found.loc["pressure", "early"] == pytest.approx(1 / 6)
    assert found.loc["pressure", "median_delay"] == 1 and np.isnan(found.loc["plain", "median_delay"])
    assert found["conversations"].to_dict() == {"pressure": 6, "plain": 4}


def test_without_simulations_the_detection_is_empty_but_has_its_columns(tmp_path: Path) -> None:
    found = detection_table(table(content(), content("failed", "no good")))
    assert len(found) == 0 and {"analysis", "condition", "detected"} <= set(found.columns)


def test_summaries_are_named_by_their_folders(tmp_path: Path) -> None:
    path = tmp_path / "pc1/at-sea/summary.json"
    write_json(path, content())
    assert read_summaries([path]) == [{"conversation": "at-sea", "analysis": "pc1", "content": content()}]


def test_metadata_survives_in_parquet(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", table(simulated("plain", None, None), content(metadata={"x": [1, {"y": "ü"}]})))
    assert pd.read_parquet(tmp_path / "a.parquet")["metadata"].tolist()[1] == '{"x": [1, {"y": "ü"}]}'


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (3, 10), (1, 400)])
def test_proportion_interval_is_the_exact_one(hits: int, n: int) -> None:
    exact = binomtest(hits, n).proportion_ci()
    assert proportion_interval(hits, n) == pytest.approx((exact.low, exact.high))
