"""One conversation under one analysis."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.axis import RoleSpace, role_space_of
from personascope.drift.bundle import arrays, run_meta, summary, ui_bundle
from personascope.drift.conversation import Analysis, _run, _write_failure, analyze_files, role_vectors
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference
from personascope.drift.summary import overview
from personascope.drift.tables import tables
from personascope.errors import UserError
from personascope.formats.files import write_json
from personascope.formats.tables import save_npz, write_csv

Report = Callable[[str], None]


class Resources:
    """Role spaces and references, by the files they come from and the time these were written."""

    def __init__(self) -> None:
        self._spaces = lru_cache(4)(_load_space)
        self._references = lru_cache(4)(_load_reference)

    def roles(self, analysis: Analysis) -> RoleSpace:
        return self._spaces(analysis.matrix, _written(analysis.matrix), analysis.options)

    def reference(self, analysis: Analysis) -> Reference | None:
        return self._references(analysis.reference, _written(analysis.reference)) if analysis.reference else None


def _written(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def _load_space(path: str, _written: int, options: DriftOptions) -> RoleSpace:
    features, names = role_vectors(path, options)
    return role_space_of(features, names, options.axis)


def _load_reference(path: str, _written: int) -> Reference:
    return Reference.load(path)


def run_drift(
    resources: Resources,
    report: Report,
    *,
    inputs: dict[str, str],
    options: dict[str, Any],
    name: str,
    outputs: dict[str, str],
) -> dict[str, Any]:
    """Write conversation.json, summary.json and ui_bundle.json; a conversation that fails has its reason in them."""
    case = analyze_files(resources, inputs, options)
    result, knobs, run = case.result, case.analysis.options, _run(case.metadata, name)
    timestamp = datetime.now(UTC).isoformat()
    write_json(outputs["conversation"], run.conversation)
    if isinstance(result, str):
        report(f"error: {result}")
        _write_failure(run, knobs, result, timestamp, outputs)
        return {}
    content = summary(result, run, timestamp)
    content |= {"status": "ok", "error": None, "overview": overview(result, case.metadata)}
    write_json(outputs["summary"], content)
    write_json(outputs["ui_bundle"], ui_bundle(result, run_meta(run, knobs)))
    return {}


def run_tables(
    resources: Resources,
    report: Report,
    *,
    inputs: dict[str, str],
    options: dict[str, Any],
    folder: str,
    names: list[str],
) -> dict[str, Any]:
    """Write the named tables as CSV into `folder`, and arrays.npz."""
    result = analyze_files(resources, inputs, options).result
    if isinstance(result, str):
        # A conversation without results has the same files, and its reason in them.
        made: dict[str, pd.DataFrame] = {name: pd.DataFrame({"error": [result]}) for name in names}
        kept = {"error": np.array(result)}
    else:
        made, kept = tables(result), arrays(result)
    for name in names:
        write_csv(Path(folder) / f"{name}.csv", made[name])
    save_npz(Path(folder) / "arrays.npz", **kept)
    return {}


make_resources = Resources


OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "drift": run_drift,
    "drift_tables": run_tables,
}
