"""What the analysis host does for a job: one conversation under one analysis, from files to files. No torch.

Role space and reference of an analysis are made once and kept: what a further conversation costs is its own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personascope.drift.analysis import analyze_in
from personascope.drift.bundle import FILES, Run, run_meta
from personascope.drift.options import DriftOptions
from personascope.drift.result import DriftResult
from personascope.drift.summary import empty_overview
from personascope.errors import UserError
from personascope.formats.files import write_json
from personascope.formats.role_matrix import load_role_matrix
from personascope.formats.tables import load_npz
from personascope.formats.tokens import read_activations, read_metadata
from personascope.hosting.operations.drift_conversation import Resources


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


def drift_options(knobs: dict[str, Any]) -> DriftOptions:
    """Options from a config block; UserError names a knob that does not fit."""
    lists = ("roleplay_subset", "token_heat_percentiles")
    values: dict[str, Any] = {key: tuple(value) if key in lists else value for key, value in knobs.items()}
    options = DriftOptions.of(**values)
    return options


def role_vectors(path: str | Path, options: DriftOptions) -> tuple[np.ndarray, list[str]]:
    """Role vectors [R, D] and names of the analysis's space from a per_role.npz (of one layer in residual space)."""
    matrix = load_role_matrix(path)
    if options.axis.space == "sae":
        return matrix.features, matrix.role_names
    (layers,) = load_npz(path, "layers")
    if options.axis.layer not in layers.tolist():
        raise UserError(f"drift: layer {options.axis.layer} is not among extraction.residual_layers {layers.tolist()}")
    return matrix.features[:, layers.tolist().index(options.axis.layer)], matrix.role_names


def analyze_files(resources: Resources, inputs: dict[str, str], knobs: dict[str, Any]) -> Case:
    """One conversation under one analysis from files.

    inputs: files `tokens`, `matrix`, and `reference` where there is one. UserError for a wrong option, which is an
    error of the analysis; a conversation fails alone."""
    analysis = Analysis(drift_options(knobs), inputs["matrix"], inputs.get("reference"))
    metadata = read_metadata(inputs["tokens"])
    if metadata.get("error"):
        return Case(analysis, metadata, metadata["error"])
    roles, reference = resources.roles(analysis), resources.reference(analysis)
    activations = read_activations(inputs["tokens"], analysis.options.axis.space, analysis.options.axis.layer)
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
        "q2": {"top_features_per_direction": options.display.top_features, "transitions": []},
        "q3": {"token_localization": []},
    }
    write_json(outputs["ui_bundle"], nothing)
