"""Parts of conversations: drift runs with their tokens, features and roles, and traces along directions."""

import itertools
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.display.heat import heat_limit
from personascope.drift.attribution import FEATURE_TABLES, smallest
from personascope.drift.result import DriftResult
from personascope.drift.result_file import RunFile, load_run
from personascope.drift.turns import turn_bounds
from personascope.drift.weights import MEAN_SLOPES, turn_parts
from personascope.errors import UserError
from personascope.explorer.features import rounded
from personascope.explorer.text_runs import TextRuns
from personascope.formats.files import read_json
from personascope.formats.tokens import TokenActivations, read_activations
from personascope.formats.traces import read_trace

TABLES = {"away": "q2_top_away_contrib", "toward": "q2_top_toward_contrib"}
CHANGES = ("activated", "deactivated")
LARGEST = 128  # features of each transition whose parts are kept for a comparison with other runs
TRUST = ("contrib_low", "contrib_high", "chosen_share", "contrib_held_out", "group_size", "group_contrib")


def run_part(folder: Path, tokens: Path, most: int) -> dict[str, Any]:
    """A drift run: messages, turns, transitions with their features, tokens with theirs, roles, summary.

    folder: that of the run; tokens: the conversation's tokens file, without which tokens have no features; most:
    features kept for each token, beside those of the tables.
    """
    run, summary = load_run(folder / "result.npz"), read_json(folder / "summary.json")
    part: dict[str, Any] = {"analysis": run.analysis, "conversation": run.conversation, "messages": run.messages}
    part |= {"summary": {name: summary.get(name) for name in SUMMARY}}
    if isinstance(run.result, str):
        return part | {"error": run.result}
    result = run.result
    runs = TextRuns.of(result.tokens.tokens, result.tokens.turn)
    transitions = [_transition(result, index) for index in range(len(result.transitions))]
    part |= {"error": None, "turns": _turns(result), "transitions": transitions, "selected": result.selected}
    part |= {"tokens": _tokens(result, runs), "roles": _roles(run, result)}
    part |= {"confounds": result.confounds.to_dict("records")}
    if result.options.axis.space != "sae":
        return part | {"features": None, "features_reason": "a run in the residual stream has no features"}
    try:
        activations = read_activations(tokens)
    except UserError as error:
        return part | {"features": None, "features_reason": str(error)}
    listed = {int(i) for step in transitions for table in step["tables"].values() for i in table["feature"]}
    return part | {"features": token_features(result, activations, runs, listed, most), "features_reason": ""}


SUMMARY = ("conversation_name", "config", "calibration", "diagnostics", "overview", "causal", "metadata", "status")


def _turns(result: DriftResult) -> dict[str, Any]:
    """A column a key, a value an assistant turn."""
    turns, table = result.turns, result.calibration
    if result.intervals is not None:
        table = result.intervals.merge(table, on="assistant_turn")
    columns = {"message_index": result.tokens.message_index, "n_tokens": turns.n_tokens, "score": result.score}
    columns |= {name: table[name].to_numpy() for name in table.columns if name != "assistant_turn"}
    columns |= {"repetition": result.repetition, **turns.scores}
    weights = result.weights
    columns |= {"w_constant": weights.constant, "w_scale": weights.scale}
    return {name: np.asarray(values).tolist() for name, values in columns.items()}


def _transition(result: DriftResult, index: int) -> dict[str, Any]:
    """Masses and the four tables of a transition; the selected one's have what is known of their trust."""
    step, top = result.transitions[index], result.options.display.top_features
    names = ("prev_turn", "turn", "delta_score", "delta_projection", "away_mass", "toward_mass", "top_away_share")
    content = {name: getattr(step, name) for name in (*names, "effect_strength")}
    if result.strength is not None:
        usual = result.strength.drop(columns="turn").iloc[index]
        content |= {str(name): float(value) for name, value in usual.items()}
    content["tables"] = {}
    if result.options.axis.space != "sae":
        return content
    delta, contrib, axis = step.delta_x, step.contrib, result.roles.axis
    picks = {name: FEATURE_TABLES[table](delta, axis, contrib) for name, table in TABLES.items()}
    picks |= {"activated": (delta > 0, -delta), "deactivated": (delta < 0, delta)}
    for name, (candidates, keys) in picks.items():
        ids = smallest(keys, candidates, top)
        # The page multiplies: a part is delta_x * axis_weight in float32, bit for bit.
        rows = {"feature": ids.astype(np.int32), "delta_x": delta[ids], "axis_weight": axis[ids]}
        if index == result.selected and name in TABLES:
            rows |= _trust(result.features.get(TABLES[name]), ids)
        content["tables"][name] = rows
    ids = np.sort(smallest(-np.abs(contrib), contrib != 0, LARGEST))
    content["largest"] = {"feature": ids.astype(np.int32), "contrib": rounded(contrib[ids], 10)}
    return content


def _trust(table: pd.DataFrame | None, ids: np.ndarray) -> dict[str, np.ndarray]:
    if table is None:
        return {}
    rows = table.set_index("feature_idx").reindex(ids)
    return {name: rows[name].to_numpy(np.float64) for name in TRUST if name in rows}


def _tokens(result: DriftResult, runs: TextRuns) -> dict[str, Any]:
    weights, tokens = result.weights, result.tokens
    return {
        "text": runs.texts,
        "turn": runs.firsts(tokens.turn).astype(np.int32),
        "w": runs.sums(weights.w).astype(np.float32),
        "as_turn": runs.sums(weights.as_turn).astype(np.float32),
        "as_prev": runs.sums(weights.as_prev).astype(np.float32),
        "limits": {name: heat_limit(getattr(weights, name)) for name in ("w", "as_turn", "as_prev")},
    }


def _roles(run: RunFile, result: DriftResult) -> dict[str, Any]:
    references = run.references.to_dict("records") if len(run.references) else []
    return {"names": result.roles.role_names, "cosines": result.role_cosines, "references": references}


def token_features(
    result: DriftResult, activations: TokenActivations, runs: TextRuns, listed: set[int], most: int
) -> dict[str, Any]:
    """The exact parts of features in tokens, as compressed sparse rows over the runs.

    A part is a_f s_f p_kf of `drift.weights`, from zero: a run's parts over all features sum to its weight w. Kept are
    all parts of the listed features, and of the others the `most` largest of each run. kept_all: the listed features;
    unit float32 [k]: what each run's parts are multiples of.
    """
    bounds, width = turn_bounds(activations), activations.width
    axis, slope_of = result.roles.axis.astype(np.float64), MEAN_SLOPES[result.options.axis.transform]
    rows, features, parts = [], [], []
    for turn, (lo, hi) in enumerate(itertools.pairwise(bounds.tolist())):
        if lo == hi:
            continue
        owned = turn_parts(activations, result.turns, turn, result.options)
        pooled = owned.pooled(width)
        along = axis * slope_of(pooled, np.zeros(width))
        rows.append(runs.of_token[lo + owned.token])
        features.append(owned.feature)
        parts.append(along[owned.feature] * owned.value)
    keys = np.concatenate(rows) * width + np.concatenate(features) if rows else np.zeros(0, np.int64)
    keys, inverse = np.unique(keys, return_inverse=True)
    part = np.bincount(inverse, np.concatenate(parts), len(keys)) if rows else np.zeros(0)
    row, feature = np.divmod(keys, width)
    order = np.lexsort((-np.abs(part), row))
    place = np.arange(len(order)) - np.searchsorted(row[order], row[order])
    kept = order[(place < most) | np.isin(feature[order], list(listed))]
    kept = kept[part[kept] != 0]
    offsets = np.searchsorted(row[kept], np.arange(len(runs.texts) + 1))
    small = np.uint16 if width <= 1 << 16 else np.uint32
    kept_all = np.array(sorted(listed), np.int32)
    # Between two and three digits, in units of the run's largest part.
    most_of_run = np.zeros(len(runs.texts))
    np.maximum.at(most_of_run, row[kept], np.abs(part[kept]))
    most_of_run = rounded(most_of_run, 12)
    return {
        "offsets": offsets.astype(np.int32),
        "feature": feature[kept].astype(small),
        "part": rounded(part[kept] / most_of_run[row[kept]], 7),
        "unit": most_of_run,
        "kept_all": kept_all,
        "most": most,
    }


def where_part(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Rows of (feature, run, turn, contrib) of every transition's tables; parts: {ANALYSIS/NAME: its run part}."""
    rows: dict[tuple[int, int, int], float] = {}
    for number, part in enumerate(parts.values()):
        for step in part["transitions"]:
            for table in step["tables"].values():
                contribs = (table["delta_x"] * table["axis_weight"]).tolist()
                for feature, contrib in zip(table["feature"].tolist(), contribs, strict=True):
                    rows[feature, number, step["turn"]] = contrib
    keys = np.array(sorted(rows), np.int32).reshape(-1, 3)
    contribs = rounded(np.array([rows[key] for key in sorted(rows)], np.float32), 8)
    names = ("feature", "run", "turn")
    return {"runs": list(parts), **{name: keys[:, i] for i, name in enumerate(names)}, "contrib": contribs}


def trace_part(path: Path, sensitive: Collection[str] = ()) -> dict[str, Any]:
    """A trace: what each token of a conversation projects on directions, against plain conversations' tokens, of which
    scale.json beside it tells. sensitive: conversations that are shown only when asked for, beside those whose file
    says so."""
    scale = path.parent / "scale.json"
    trace = read_trace(path)
    talk = trace.metadata.get("conversation") or {}
    error = trace.metadata.get("error")
    name, described = talk.get("name", path.stem), talk.get("metadata") or {}
    runs = TextRuns.of(trace.tokens, trace.message_index * 2 + trace.in_content)
    return {
        "conversation": name,
        "title": described.get("title", ""),
        "sensitive": bool(described.get("sensitive")) or name in sensitive,
        "error": error,
        "columns": trace.columns,
        "roles": [trace.roles[start] for start in runs.starts.tolist()],
        "text": runs.texts,
        "message_index": runs.firsts(trace.message_index).astype(np.int32),
        "in_content": runs.firsts(trace.in_content).astype(np.uint8),
        "surprise": runs.firsts(trace.surprise),
        "values": {name: runs.firsts(trace.projections[:, i]) for i, name in enumerate(trace.columns)},
        "scale": read_json(scale) if scale.is_file() else None,
    }
