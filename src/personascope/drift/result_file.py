"""The one file of a drift run, `result.npz`: everything that tables, arrays, figures and pages are made from.

Turn vectors are sparse over features, so they are stored as compressed sparse rows; what follows from them and the axis
by a formula (vectors in role space, transitions) is computed again when the file is read, to the same numbers. A
conversation that could not be analyzed has such a file too, which says why.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.axis import ScoredAxis
from personascope.drift.attribution import transitions_of
from personascope.drift.options import DriftOptions
from personascope.drift.result import DriftResult, TokenWeights, TurnScores, Verdict
from personascope.drift.turns import role_space_rows
from personascope.errors import UserError
from personascope.formats.tables import load_all_npz, plain, save_npz
from personascope.formats.tokens import Tokens

VERSION = 3
NO_TABLE = pd.DataFrame()


@dataclass(frozen=True)
class RunFile:
    """What `result.npz` holds: the analysis's and the conversation's name, its messages, and the result or the reason
    why there is none; references: role, q25, median, q75 of the scores of the roles' own responses, a row a role;
    called: what figures and pages call the conversation."""

    analysis: str
    conversation: str
    messages: list[dict[str, Any]]
    result: DriftResult | str
    references: pd.DataFrame = field(default_factory=pd.DataFrame)
    called: str = ""

    @property
    def title(self) -> str:
        return f"{self.called or self.conversation}, {self.analysis}"


def save_run(path: str | Path, run: RunFile) -> None:
    """Write `result.npz`, readable without pickle."""
    header: dict[str, Any] = {"version": VERSION, "analysis": run.analysis, "conversation": run.conversation}
    header["called"] = run.called
    header |= {"messages": run.messages, "error": run.result if isinstance(run.result, str) else None}
    arrays: dict[str, np.ndarray] = {}
    if isinstance(run.result, DriftResult):
        more, arrays = _packed(run.result)
        header |= more
    header["tables"] = {}
    for name, table in _tables(run).items():
        header["tables"][name], columns = _table_columns(table)
        arrays |= {f"{name}/{column}": values for column, values in columns.items()}
    text = np.frombuffer(json.dumps(plain(header), ensure_ascii=False, allow_nan=False).encode(), np.uint8)
    save_npz(path, json=text, **arrays)


def load_run(path: str | Path) -> RunFile:
    """Read `result.npz`; UserError where it is missing, damaged or of another version."""
    arrays = load_all_npz(path)
    header = json.loads(arrays.pop("json", np.zeros(0, np.uint8)).tobytes() or b"{}")
    if header.get("version") != VERSION:
        raise UserError(f"{path}: not a result of this version; delete it and run again")
    tables = {name: _table(name, columns, arrays) for name, columns in header["tables"].items()}
    references = tables.pop("references", NO_TABLE)
    result = header["error"] if header["error"] is not None else _unpacked(header, arrays, tables)
    return RunFile(
        header["analysis"], header["conversation"], header["messages"], result, references, header.get("called", "")
    )


def _tables(run: RunFile) -> dict[str, pd.DataFrame]:
    named: dict[str, pd.DataFrame | None] = {"references": run.references}
    if isinstance(run.result, DriftResult):
        named |= {"nearest": run.result.nearest, "confounds": run.result.confounds, **run.result.features}
        named |= {"calibration": run.result.calibration, "intervals": run.result.intervals}
        named["strength"] = run.result.strength
        named["attribution"] = run.result.attribution
    return {name: table for name, table in named.items() if table is not None}


def _packed(result: DriftResult) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A result's texts and single numbers, and its arrays."""
    tokens, turns, roles = result.tokens, result.turns, result.roles
    rows, indices = np.nonzero(turns.raw)
    header = {
        "options": result.options.flat(),
        "n_turns": tokens.n_turns,
        "tokens": tokens.tokens,
        "width": turns.raw.shape[1],
        "roles": {name: getattr(roles, name) for name in ("anchors", "others", "role_names", "agreement")},
        "features": list(result.features),
        "verdict": asdict(result.verdict),
        **{name: getattr(result, name) for name in ("selected", "max_abs_corr", "confound_verdict", "doubt")},
    }
    arrays = {name: getattr(tokens, name) for name in ("turn", "token_ids", "position", "message_index")}
    arrays |= {"role_cosines": result.role_cosines, "repetition": result.repetition}
    arrays |= {"u_k": result.token_scores, "u_k_norm": result.token_heat, "n_tokens": turns.n_tokens}
    arrays |= {f"score_{name}": values for name, values in turns.scores.items()}
    arrays |= {f"mass_{name}": values for name, values in turns.mass.items()}
    arrays |= {f"weights_{name}": values for name, values in vars(result.weights).items()}
    # The mean role is needed again only where it is taken off the turns.
    kept = roles.mean if result.options.scoring.center_turns_with_role_mean else np.zeros(0, np.float32)
    arrays |= {"axis": roles.axis, "anchor": roles.anchor, "mean": kept}
    arrays |= {"raw_rows": rows.astype(np.int32), "raw_indices": indices.astype(np.int32)}
    return header, arrays | {"raw_values": turns.raw[rows, indices]}


def _unpacked(header: dict[str, Any], arrays: dict[str, np.ndarray], tables: dict[str, pd.DataFrame]) -> DriftResult:
    options, onset_set = DriftOptions.of(**header["options"]), header["verdict"]["onset_set"]
    width = header["width"]
    mean = arrays["mean"] if len(arrays["mean"]) else np.zeros(width, np.float32)
    roles = ScoredAxis(axis=arrays["axis"], anchor=arrays["anchor"], mean=mean, **header["roles"])
    raw = np.zeros((header["n_turns"], width), np.float32)
    raw[arrays["raw_rows"], arrays["raw_indices"]] = arrays["raw_values"]
    turns = TurnScores(
        raw=raw,
        space=role_space_rows(raw, arrays["n_tokens"], roles, options),
        scores=_prefixed(arrays, "score_"),
        mass=_prefixed(arrays, "mass_"),
        n_tokens=arrays["n_tokens"],
    )
    places = {name: arrays[name] for name in ("turn", "token_ids", "position", "message_index")}
    return DriftResult(
        options=options,
        tokens=Tokens(n_turns=header["n_turns"], tokens=header["tokens"], **places),
        roles=roles,
        turns=turns,
        transitions=transitions_of(turns, roles, options),
        nearest=tables["nearest"],
        role_cosines=arrays["role_cosines"],
        repetition=arrays["repetition"],
        confounds=tables["confounds"],
        token_scores=arrays["u_k"],
        token_heat=arrays["u_k_norm"],
        weights=TokenWeights(**_prefixed(arrays, "weights_")),
        attribution=tables["attribution"],
        features={name: tables[name] for name in header["features"]},
        calibration=tables["calibration"],
        verdict=Verdict(**header["verdict"] | {"onset_set": onset_set and tuple(onset_set)}),
        intervals=tables.get("intervals"),
        strength=tables.get("strength"),
        **{name: header[name] for name in ("selected", "max_abs_corr", "confound_verdict", "doubt")},
    )


def _prefixed(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}


def _table_columns(table: pd.DataFrame) -> tuple[dict[str, Sequence[Any] | None], dict[str, np.ndarray]]:
    """{column: its texts, or None where it is an array}, and the arrays of the other columns."""
    texts: dict[str, Sequence[Any] | None] = {}
    arrays = {}
    for name in map(str, table.columns):
        values = table[name].to_numpy()
        is_text = values.dtype.kind not in "biuf"
        texts[name] = table[name].tolist() if is_text else None
        if not is_text:
            arrays[name] = values
    return texts, arrays


def _table(name: str, columns: Mapping[str, Sequence[Any] | None], arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            column: arrays[f"{name}/{column}"] if texts is None else pd.Series(texts, dtype=object)
            for column, texts in columns.items()
        }
    )
