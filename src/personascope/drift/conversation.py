"""One conversation under one analysis, from files to files. Loads no model and does not import torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.axis import RoleSpace
from personascope.drift.analysis import analyze_in
from personascope.drift.bundle import FILES, Run, arrays, run_meta, summary, ui_bundle
from personascope.drift.notebook import notebook_tables
from personascope.drift.null import Null
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference
from personascope.drift.result import DriftResult
from personascope.drift.result_file import NO_TABLE, RunFile, load_run, save_run
from personascope.drift.summary import empty_overview, overview
from personascope.errors import UserError
from personascope.formats.conversation_files import display_name
from personascope.formats.descriptions import described
from personascope.formats.files import write_json
from personascope.formats.tables import save_npz, write_csv
from personascope.formats.tokens import read_activations, read_metadata


@dataclass(frozen=True)
class Case:
    """A conversation under an analysis: what its tokens file says of it, and the result or why there is none."""

    metadata: dict[str, Any]
    result: DriftResult | str


def analyze_file(
    tokens: str | Path,
    roles: RoleSpace,
    options: DriftOptions,
    reference: Reference | None = None,
    null: Null | None = None,
) -> Case:
    """The conversation of a tokens file; one that cannot be analyzed fails alone, with its reason."""
    metadata = read_metadata(tokens)
    if metadata.get("error"):
        return Case(metadata, metadata["error"])
    activations = read_activations(tokens, options.axis.space, options.axis.layer)
    try:
        domain = metadata["conversation"]["metadata"].get("domain")
        return Case(metadata, analyze_in(roles, activations, options, reference=reference, null=null, domain=domain))
    except UserError as error:
        return Case(metadata, f"conversation {metadata['conversation']['name']}: {error}")


def write_run(
    case: Case,
    analysis: str,
    roles: RoleSpace,
    options: DriftOptions,
    outputs: dict[str, str],
    references: pd.DataFrame = NO_TABLE,
    causal: dict[str, Any] | None = None,
) -> None:
    """Write the files of a run, {conversation, summary, ui_bundle, result: path}; where there is no result, its reason
    stands in each of them. references: role, q25, median, q75 of the roles' own scores, for the figures; causal: what
    the summary says of the causal test, where there was one."""
    conversation, result = case.metadata["conversation"], case.result
    run, timestamp = _run(case.metadata, analysis), datetime.now(UTC).isoformat()
    write_json(outputs["conversation"], run.conversation)
    if isinstance(result, str):
        _write_failure(run, options, result, timestamp, outputs)
    else:
        content = summary(result, run, timestamp)
        content |= {"status": "ok", "error": None, "overview": overview(result, case.metadata)}
        content["dropped_messages"] = case.metadata["dropped_messages"]
        content |= {} if causal is None else {"causal": causal}
        write_json(outputs["summary"], content)
        write_json(outputs["ui_bundle"], ui_bundle(result, roles, run_meta(run, options)))
    name, messages = conversation["name"], conversation["messages"]
    called = display_name(name, conversation["metadata"])
    save_run(outputs["result"], RunFile(analysis, name, messages, result, references, called))


def write_tables(
    result_file: str | Path, table_files: list[str], arrays_file: str | Path, descriptions: Sequence[str] = ()
) -> None:
    """Write tables of a run as CSV, each named as its file, and its arrays; without a result they hold the reason.
    descriptions: the file of what features are called, where there is one."""
    run = load_run(result_file)
    result = run.result
    made: dict[str, pd.DataFrame] = {}
    if isinstance(result, str):
        kept = {"error": np.array(result)}
    else:
        made, kept = notebook_tables(result, run.messages, described(descriptions)), arrays(result)
    for path in table_files:
        write_csv(path, pd.DataFrame({"error": [result]}) if isinstance(result, str) else made[Path(path).stem])
    save_npz(arrays_file, **kept)


def _run(metadata: dict[str, Any], analysis: str) -> Run:
    conversation = metadata["conversation"]
    title = conversation["metadata"].get("title")
    return Run(
        run_name=f"{analysis}/{conversation['name']}",
        conversation_name=title if isinstance(title, str) and title.strip() else conversation["name"],
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
