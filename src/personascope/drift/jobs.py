"""What the analysis host does for a job: one conversation under one analysis, from files to files. No torch.

Role space and reference of an analysis are made once and kept: what a further conversation costs is its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.drift.analysis import analyze_in, check_options
from personascope.drift.bundle import FILES, Run, arrays, run_meta, summary, ui_bundle
from personascope.drift.overview import empty_overview, overview
from personascope.drift.reference import Reference
from personascope.drift.tables import tables
from personascope.drift.turns import role_space_of
from personascope.drift.types import DriftOptions, DriftResult, RoleSpace
from personascope.errors import UserError
from personascope.formats.files import write_json
from personascope.formats.role_matrix import load_role_matrix
from personascope.formats.tables import load_npz, save_npz, write_csv
from personascope.formats.tokens import read_activations, read_metadata

Report = Callable[[str], None]


@dataclass(frozen=True)
class Analysis:
    """A named analysis: its knobs, the role matrix it is made from, and the reference, where there is one."""

    options: DriftOptions
    matrix: str
    reference: str | None


@dataclass(frozen=True)
class Case:
    """A conversation under an analysis: its metadata, and the result, or why there is none."""

    analysis: Analysis
    metadata: dict[str, Any]
    result: DriftResult | str


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
    return role_space_of(features, names, options)


def _load_reference(path: str, _written: int) -> Reference:
    return Reference.load(path)


def drift_options(knobs: dict[str, Any]) -> DriftOptions:
    """Options from a config block; UserError names a knob that does not fit."""
    lists = ("roleplay_subset", "token_heat_percentiles")
    values: dict[str, Any] = {key: tuple(value) if key in lists else value for key, value in knobs.items()}
    options = DriftOptions(**values)
    check_options(options)
    return options


def role_vectors(path: str | Path, options: DriftOptions) -> tuple[np.ndarray, list[str]]:
    """Role vectors [R, D] and names of the analysis's space from a per_role.npz (of one layer in residual space)."""
    matrix = load_role_matrix(path)
    if options.space == "sae":
        return matrix.features, matrix.role_names
    (layers,) = load_npz(path, "layers")
    if options.layer not in layers.tolist():
        raise UserError(f"drift: layer {options.layer} is not among extraction.residual_layers {layers.tolist()}")
    return matrix.features[:, layers.tolist().index(options.layer)], matrix.role_names


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


def analyze_files(resources: Resources, inputs: dict[str, str], knobs: dict[str, Any]) -> Case:
    """One conversation under one analysis from files.

    inputs: files `tokens`, `matrix`, and `reference` where there is one. UserError for a wrong option, which is an
    error of the analysis; a conversation fails alone."""
    analysis = Analysis(drift_options(knobs), inputs["matrix"], inputs.get("reference"))
    metadata = read_metadata(inputs["tokens"])
    if metadata.get("error"):
        return Case(analysis, metadata, metadata["error"])
    roles, reference = resources.roles(analysis), resources.reference(analysis)
    activations = read_activations(inputs["tokens"], analysis.options.space, analysis.options.layer)
    try:
        return Case(analysis, metadata, analyze_in(roles, activations, analysis.options, reference=reference))
    except UserError as error:
        return Case(analysis, metadata, f"conversation {metadata['conversation']['name']}: {error}")


def _run(metadata: dict[str, Any], name: str) -> Run:
    conversation = metadata["conversation"]
    return Run(
        run_name=f"{name}/{conversation['name']}",
        conversation_name=conversation["metadata"].get("title") or conversation["name"],
        model_name=metadata["model"],
        sae_release=metadata["sae_release"],
        sae_id=metadata["sae_id"],
        target_layer=metadata["sae_layer"],
        conversation=conversation["messages"],
        metadata=conversation["metadata"],
    )


def _write_failure(run: Run, options: DriftOptions, error: str, timestamp: str, outputs: dict[str, str]) -> None:
    write_json(
        outputs["summary"],
        {
            "run_name": run.run_name,
            "conversation_name": run.conversation_name,
            "timestamp_utc": timestamp,
            "status": "failed",
            "error": error,
            "overview": empty_overview(run.metadata),
            "files": FILES,
        },
    )
    nothing: dict[str, Any] = {
        "version": 1,
        "run_meta": run_meta(run, options),
        "error": error,
        "q1": {"turn_scores": [], "transitions": []},
        "q2": {"top_features_per_direction": options.top_features, "transitions": []},
        "q3": {"token_localization": []},
    }
    write_json(outputs["ui_bundle"], nothing)


make_resources = Resources
OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "drift": run_drift,
    "drift_tables": run_tables,
}
