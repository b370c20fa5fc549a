"""The tables of the validation as one Markdown page; docs/validation.md is a copy of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from personascope.drift.validation.pages import INTRODUCTION, SECTIONS
from personascope.formats.files import write_text

ALARMS_HELD, COVERAGE_HELD = (3.0, 7.0), (90.0, 97.0)  # percent: what a cell must lie in
CLAIMED = ("score", "population", "change", "contribution", "text", "tokens")  # the others show a limit


ENOUGH_VARIANTS = 3


@dataclass(frozen=True)
class Cell:
    """Names of the columns that a table is spread over, and what is shown in its cells."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    value: str
    error: str


SPREAD = {
    "false_alarms": Cell(("turns",), ("dependence",), "rate", "error"),
    "axis_coverage": Cell(("d", "variants", "questions", "kappa"), ("target",), "coverage", "error"),
    "text_coverage": Cell(("n_tokens", "carried"), ("axis", "target"), "coverage", "error"),
    "role_coverage": Cell(("variants", "questions"), ("noise",), "coverage", "error"),
}


def write_report(tables: Iterable[str], page: str) -> None:
    """From the CSV files of the tables, each named as its table, to the page."""
    found = {Path(path).stem: pd.read_csv(path, keep_default_na=False) for path in tables}
    write_text(page, report(found))


def report(tables: Mapping[str, pd.DataFrame]) -> str:
    """The page, from every table by its name."""
    parts = [INTRODUCTION]
    for name, text in SECTIONS.items():
        parts.append(text)
        if name in tables:
            parts += WRITERS.get(name, _plain)(name, tables[name])
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _alarms(name: str, table: pd.DataFrame) -> list[str]:
    return [spread_table(table, SPREAD[name]), _held(table, "rate", ALARMS_HELD)]


def _varied(_: str, table: pd.DataFrame) -> list[str]:
    shown = table.assign(measured=_shares(table, "rate", "error"), stated=[f"{a:.0%}" for a in table["alpha"]])
    return [markdown(shown.loc[:, ["what", "turns", "dependence", "domain", "stated", "measured"]])]


def _power(_: str, table: pd.DataFrame) -> list[str]:
    shown = table.assign(found=_shares(table, "rate", "error"), drop=[f"{drop:g} sd" for drop in table["drop"]])
    wide = shown.pivot(index=["turns", "dependence", "baseline_turns"], columns="drop", values="found")
    return [markdown(wide.reset_index())]


def _coverage(name: str, table: pd.DataFrame) -> list[str]:
    parts = []
    for axis, part in table.groupby("axis", sort=True):
        rounded = part.assign(kappa=[f"{kappa:.2f}" for kappa in part["kappa"]])
        claimed = part.loc[part["target"].isin(CLAIMED) & (part["variants"] >= ENOUGH_VARIANTS)]
        held = f"With {ENOUGH_VARIANTS} variants or more, {_held(claimed, 'coverage', COVERAGE_HELD)}"
        parts += [f"The axis by `{axis}`:", spread_table(rounded, SPREAD[name]), held]
    every = _held(table.loc[table["target"].isin(CLAIMED)], "coverage", COVERAGE_HELD)
    return [*parts, f"Of both axes and all numbers of variants, {every}"]


def _spread_coverage(name: str, table: pd.DataFrame) -> list[str]:
    return [spread_table(table, SPREAD[name]), _held(table, "coverage", COVERAGE_HELD)]


def _plain(_: str, table: pd.DataFrame) -> list[str]:
    """Every number with its error behind it."""
    names = [name for name in table.columns if not name.endswith("_error")]
    return [markdown(pd.DataFrame({name: _numbers(table, name) for name in names}))]


WRITERS: dict[str, Callable[[str, pd.DataFrame], list[str]]] = {
    "false_alarms": _alarms,
    "false_alarms_varied": _varied,
    "power": _power,
    "axis_coverage": _coverage,
    "text_coverage": _spread_coverage,
    "role_coverage": _spread_coverage,
}


def spread_table(table: pd.DataFrame, cell: Cell) -> str:
    """Markdown of shares in percent with their standard error, one row and column a combination, as they come."""
    keys = {"row": list(cell.rows), "column": list(cell.columns)}
    shown = table.assign(shown=_shares(table, cell.value, cell.error))
    labels = [", ".join(map(str, row)) for row in shown[keys["column"]].itertuples(index=False)]
    shown["column"] = labels
    wide = shown.pivot(index=keys["row"], columns="column", values="shown")[list(dict.fromkeys(labels))]
    return markdown(wide.reset_index())


def _shares(table: pd.DataFrame, value: str, error: str) -> list[str]:
    return [f"{100 * a:.1f} ± {100 * b:.1f}" for a, b in zip(table[value], table[error], strict=True)]


def _numbers(table: pd.DataFrame, name: str) -> list[str]:
    values = table[name]
    if not pd.api.types.is_float_dtype(values):
        return [str(value) for value in values]
    if f"{name}_error" not in table:
        return [f"{value:.2f}" for value in values]
    return [f"{a:.2f} ± {b:.2f}" for a, b in zip(values, table[f"{name}_error"], strict=True)]


def _held(table: pd.DataFrame, name: str, bounds: tuple[float, float]) -> str:
    """How many cells lie in the bounds, and which are below and above them."""
    percent = 100 * table[name].to_numpy(float)
    low, high = bounds
    inside = int(((percent >= low) & (percent <= high)).sum())
    said = f"{inside} of {len(percent)} cells lie in {low:g} to {high:g} %"
    if inside == len(percent):
        return f"{said}."
    extremes = f"the lowest is {np.min(percent):.1f}, the highest {np.max(percent):.1f}"
    return f"{said}, {int((percent < low).sum())} below, {int((percent > high).sum())} above; {extremes}."


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    head = [f"| {' | '.join(map(str, table.columns))} |", f"|{'---|' * len(table.columns)}"]
    return "\n".join(head + [f"| {' | '.join(map(str, row))} |" for row in table.itertuples(index=False)])
