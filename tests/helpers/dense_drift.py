"""The method written out densely, tokens x features, as one would in a notebook: truth and speed to compare with.

For conversations in which every turn has tokens.
"""

import itertools
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from personascope.drift.options import DriftOptions

METRICS = ("turn_l2_raw", "turn_nonzero_raw", "turn_l2_space", "turn_nonzero_space")


def log1p(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.log1p(np.abs(x)) if np.any(x < 0) else np.log1p(x)


def same(x: np.ndarray) -> np.ndarray:
    return x


def rows_to_unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-8)


def dense_roles(matrix: np.ndarray, names: list[str], options: DriftOptions) -> dict[str, Any]:
    """Role space and axis; "all_other_roles" only."""
    space = (log1p if options.axis.transform == "log1p" else same)(matrix)
    mean = space.mean(0)
    if options.axis.use_centering:
        space, mean = space - mean, np.zeros_like(mean)
    anchors = [names.index(name) for name in options.axis.anchor]
    anchor = space[anchors].mean(0)
    diff = rows_to_unit(anchor - np.delete(space, anchors, axis=0).mean(0))
    pca: Any = PCA(n_components=1, random_state=0).fit(space)
    pc1 = pca.components_[0]
    axis = diff if options.axis.axis_method == "diff" else rows_to_unit(pc1 * np.sign(pc1 @ diff))
    return {"space": space, "mean": mean, "unit": rows_to_unit(space), "anchor": anchor, "axis": axis}


def dense_profile(space: np.ndarray, names: list[str], feature: int) -> str:
    column = np.clip(space[:, feature], 0, None)
    if column.sum() <= 0:
        return "no positive role mass"
    best = np.argsort(-column, kind="stable")[:3]
    return " | ".join(f"{names[role]}:{column[role] / column.sum():.0%}" for role in best)


def dense_features(
    delta: np.ndarray, contrib: np.ndarray, roles: dict[str, Any], names: list[str], ids: np.ndarray
) -> list[dict[str, Any]]:
    """What is said about some features of a transition."""
    away = np.clip(-contrib, 0, None).sum(dtype=np.float64)
    change = np.abs(delta).sum(dtype=np.float64)
    return [
        {
            "feature_idx": int(i),
            "direction": "activated" if delta[i] > 0 else "deactivated",
            "delta_x": float(delta[i]),
            "axis_weight": float(roles["axis"][i]),
            "contrib": float(contrib[i]),
            "axis_side": "assistant_like" if roles["axis"][i] > 0 else "non_assistant_like",
            "effect": "away_from_assistant" if contrib[i] < 0 else "toward_assistant",
            "share_of_change": float(abs(delta[i]) / change),
            "share_of_away": float(max(-contrib[i], 0) / max(away, 1e-12)),
            "role_profile": dense_profile(roles["space"], names, int(i)),
        }
        for i in ids
    ]


def first(keys: np.ndarray, where: np.ndarray, k: int) -> np.ndarray:
    """The k places of the smallest keys, by sorting all that count."""
    ids = np.flatnonzero(where)
    return ids[np.argsort(keys[ids], kind="stable")][:k]


def dense_transition(
    space: np.ndarray, turn: int, roles: dict[str, Any], names: list[str], options: DriftOptions
) -> dict[str, Any]:
    """One transition with its masses and the features that changed most."""
    delta = space[turn] - space[turn - 1]
    contrib = delta * roles["axis"]
    k = options.display.top_features
    return {
        "delta": delta,
        "contrib": contrib,
        "away_mass": np.clip(-contrib, 0, None).sum(dtype=np.float64),
        "toward_mass": np.clip(contrib, 0, None).sum(dtype=np.float64),
        "activated": dense_features(delta, contrib, roles, names, first(-delta, delta > 0, k)),
        "deactivated": dense_features(delta, contrib, roles, names, first(delta, delta < 0, k)),
    }


def dense_tables(
    transition: dict[str, Any], roles: dict[str, Any], names: list[str], options: DriftOptions
) -> dict[str, list[dict[str, Any]]]:
    """The four feature tables of one transition."""
    delta, contrib, axis, k = transition["delta"], transition["contrib"], roles["axis"], options.display.top_features
    picks = {
        "q2_top_away_contrib": first(contrib, contrib < 0, k),
        "q2_top_toward_contrib": first(-contrib, contrib > 0, k),
        "q2_deactivated_assistant_features": first(contrib, (delta < 0) & (axis > 0), k),
        "q2_activated_nonassistant_features": first(contrib, (delta > 0) & (axis < 0), k),
    }
    return {name: dense_features(delta, contrib, roles, names, ids) for name, ids in picks.items()}


def dense_tokens(features: np.ndarray, roles: dict[str, Any], options: DriftOptions) -> tuple[np.ndarray, np.ndarray]:
    """u_k and u_k_norm of one turn's tokens [n, D]."""
    space = (log1p if options.axis.transform == "log1p" else same)(features)
    if options.scoring.center_turns_with_role_mean:
        space = space - roles["mean"]
    u = space @ roles["axis"]
    low, high = np.percentile(u, options.display.token_heat_percentiles)
    return u, np.clip((u - low) / (max(high, low + 1e-6) - low), 0, 1)


def dense_drift(turns: list[np.ndarray], matrix: np.ndarray, names: list[str], options: DriftOptions) -> dict[str, Any]:
    """Everything about a conversation whose turns are dense token activations [n, D] each."""
    roles = dense_roles(matrix, names, options)
    pooled = [tokens.mean(0) if options.axis.pooling == "mean" else tokens.max(0) for tokens in turns]
    raw = np.stack(pooled).astype(np.float32, copy=False)
    space = (log1p if options.axis.transform == "log1p" else same)(raw)
    if options.scoring.center_turns_with_role_mean:
        space = space - roles["mean"]
    unit = rows_to_unit(space)
    scores = {
        "projection": (unit if options.scoring.use_l2_normalize else space) @ roles["axis"],
        "cos_axis": unit @ roles["axis"],
        "cos_assistant": unit @ rows_to_unit(roles["anchor"]),
    }
    score = scores[options.scoring.score_method]
    lengths = [np.linalg.norm(raw, axis=1), (raw > 0).sum(1), np.linalg.norm(space, axis=1), (space > 0).sum(1)]
    similarity = unit @ roles["unit"].T
    transitions = [dense_transition(space, turn, roles, names, options) for turn in range(1, len(turns))]
    selected = int(np.argmin(np.diff(score)))
    tokens = [dense_tokens(features, roles, options) for features in turns]
    return {
        "raw": raw,
        "space": space,
        "scores": scores,
        "mass": dict(zip(METRICS, lengths, strict=True)),
        "corr": [np.corrcoef(score, metric)[0, 1] for metric in lengths],
        "nearest": np.argsort(-similarity, axis=1, kind="stable")[:, : options.display.top_k_roles],
        "transitions": transitions,
        "selected": selected,
        "tables": dense_tables(transitions[selected], roles, names, options),
        "u": np.concatenate([u for u, _ in tokens]),
        "heat": np.concatenate([heat for _, heat in tokens]),
    }


def dense_weights(turns: list[np.ndarray], dense: dict[str, Any], axis: np.ndarray, share: float) -> dict[str, Any]:
    """What each token adds, under log1p and mean pooling: to its turn (w), to the transitions out of it and into it,
    and by feature for the selected one (the entries that make up `share` of it, the largest first)."""
    raw = dense["raw"].astype(np.float64)
    slopes = (axis * np.where(raw > 0, np.log1p(raw) / np.where(raw > 0, raw, 1), 1)).astype(np.float32)
    steps = []
    for before, now in itertools.pairwise(raw):
        apart = now != before
        slope = np.where(apart, (np.log1p(now) - np.log1p(before)) / np.where(apart, now - before, 1), 1 / (1 + now))
        steps.append((axis * slope).astype(np.float32))
    selected = dense["selected"]
    sides = [turns[selected + i] * steps[selected] / len(turns[selected + i]) for i in (0, 1)]
    entries = np.concatenate([-sides[0].ravel(), sides[1].ravel()])
    entries = entries[entries != 0]
    entries = entries[np.argsort(-np.abs(entries), kind="stable")]
    covered = np.cumsum(np.abs(entries), dtype=np.float64)
    return {
        "w": np.concatenate([z @ slope / len(z) for z, slope in zip(turns, slopes, strict=True)]),
        "as_turn": np.concatenate([z @ slope / len(z) for z, slope in zip(turns[1:], steps, strict=True)]),
        "as_prev": np.concatenate([-z @ slope / len(z) for z, slope in zip(turns, steps, strict=False)]),
        "entries": entries[: int(np.searchsorted(covered, share * covered[-1])) + 1],
    }
