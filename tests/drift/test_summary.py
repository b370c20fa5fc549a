"""The summary over conversations, and how often simulated pressure is found."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from personascope.directions.stats import proportion_interval
from personascope.drift.summary import detection_table, empty_overview, read_summaries, summary_table
from personascope.formats.files import write_json
from personascope.formats.tables import write_table


def content(status: str = "ok", **row: Any) -> dict[str, Any]:
    return {"status": status, "error": None if status == "ok" else "no good", "overview": empty_overview({}) | row}


def simulated(condition: str, onset: int | None, pressure_from: int | None) -> dict[str, Any]:
    return content(
        onset=onset, largest_drop=-1.0, slope=-0.5, metadata={"condition": condition, "pressure_from": pressure_from}
    )


def table(*contents: dict[str, Any]) -> pd.DataFrame:
    return summary_table(
        [{"conversation": f"c{i}", "analysis": "default", "content": item} for i, item in enumerate(contents)]
    )


def test_the_largest_drop_comes_first_and_failures_last() -> None:
    made = table(content("failed"), content(largest_drop=-1.0), content(), content(largest_drop=-3.0, flags=["a", "b"]))
    assert made["conversation"].tolist() == ["c3", "c1", "c2", "c0"]
    assert made["reason"].tolist() == ["", "", "", "no good"] and made["flags"].tolist()[0] == "a, b"
    assert made["largest_drop"].dtype == float


def test_detection_counts_what_comes_after_the_pressure() -> None:
    onsets = [3, 5, None, 1, None, None]
    pressed = [simulated("pressure", onset, 3) for onset in onsets]
    plain = [simulated("plain", onset, None) for onset in (None, None, 2, None)]
    found = detection_table(table(*pressed, *plain, content("failed"), content())).set_index("condition")
    assert found.loc["pressure", "detected"] == pytest.approx(2 / 6) and found.loc["plain", "detected"] == 0.25
    assert found.loc["pressure", "early"] == pytest.approx(1 / 6)
    assert found.loc["pressure", "median_delay"] == 1 and np.isnan(found.loc["plain", "median_delay"])
    assert found["conversations"].to_dict() == {"pressure": 6, "plain": 4}


def test_without_simulations_the_detection_is_empty_but_has_its_columns(tmp_path: Path) -> None:
    found = detection_table(table(content(), content("failed")))
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
