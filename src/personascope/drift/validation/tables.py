"""The tables of the validation by their names, and a table as a file."""

from collections.abc import Callable

import pandas as pd

from personascope.directions.validation import agreement, axis_quality, role_coverage
from personascope.drift.validation.coverage import axis_coverage, text_coverage
from personascope.drift.validation.false_alarms import false_alarms, false_alarms_varied, power
from personascope.formats.tables import write_csv

# (seed, effort) -> table; effort: share of the replications that the committed tables have.
MADE: dict[str, Callable[[int, float], pd.DataFrame]] = {
    "false_alarms": false_alarms,
    "false_alarms_varied": false_alarms_varied,
    "power": power,
    "axis_coverage": axis_coverage,
    "text_coverage": text_coverage,
    "role_coverage": role_coverage,
    "axis_quality": axis_quality,
    "agreement": agreement,
}


def write_table_of(name: str, path: str, *, seed: int, effort: float) -> None:
    """Simulate and write one table as CSV; the same seed and effort give the same file."""
    write_csv(path, MADE[name](seed, effort))
