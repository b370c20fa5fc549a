"""Which features explain a transition between two turns.

delta_x = x_turn - x_prev; contrib = delta_x * axis elementwise, both float32, so that a stored contrib is the
product of the stored factors bit for bit. contrib < 0 moves the turn away from the assistant. It explains the plain
projection; a score that is divided by the turn's norm is explained by score_contrib, beside it.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.axis import EPS, RoleSpace, ScoredAxis, unit
from personascope.drift.options import DriftOptions
from personascope.drift.result import Transition, TurnScores

TINY = 1e-12
STRENGTHS = ((0.60, "STRONG"), (0.35, "MODERATE"), (0.0, "WEAK"))
NO_STRENGTH = "N/A"
ENTRY_COLUMNS = (
    *("feature_idx", "direction", "delta_x", "axis_weight", "contrib", "axis_side", "effect"),
    *("share_of_change", "share_of_away", "role_profile"),
)

# Table name -> (delta_x, axis, contrib) -> (candidates, key): the smallest keys among the candidates come first.
FEATURE_TABLES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "q2_top_away_contrib": lambda delta, axis, contrib: (contrib < 0, contrib),
    "q2_top_toward_contrib": lambda delta, axis, contrib: (contrib > 0, -contrib),
    "q2_deactivated_assistant_features": lambda delta, axis, contrib: ((delta < 0) & (axis > 0), contrib),
    "q2_activated_nonassistant_features": lambda delta, axis, contrib: ((delta > 0) & (axis < 0), contrib),
}


def smallest(keys: np.ndarray, candidates: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k smallest keys [D] among the candidates (bool [D]), ascending; ties by index."""
    ids = np.flatnonzero(candidates)
    values = keys[ids]
    if len(ids) > k:
        kept = values <= np.partition(values, k - 1)[k - 1]
        ids, values = ids[kept], values[kept]
    return ids[np.argsort(values, kind="stable")][:k]


def scored_direction(roles: ScoredAxis, options: DriftOptions) -> np.ndarray:
    """The unit vector float32 [D] that the selected score is taken along: the axis, or the anchor's vector."""
    return unit(roles.anchor) if options.scoring.score_method == "cos_assistant" else roles.axis


def is_normalized(options: DriftOptions) -> bool:
    """Whether the selected score divides by the turn's norm."""
    return options.scoring.use_l2_normalize or options.scoring.score_method != "projection"


def transitions_of(turns: TurnScores, roles: ScoredAxis, options: DriftOptions) -> list[Transition]:
    """Every transition between neighbors among the turns that have tokens."""
    filled = np.flatnonzero(turns.n_tokens).tolist()
    steps = [_transition(turns, roles, options, prev_turn, turn) for prev_turn, turn in itertools.pairwise(filled)]
    if not is_normalized(options):
        return steps
    scored = scored_direction(roles, options)
    return [replace(step, score_contrib=_score_contrib(turns, scored, step)) for step in steps]


def _score_contrib(turns: TurnScores, scored: np.ndarray, step: Transition) -> np.ndarray:
    """(x_turn / |x_turn| - x_prev / |x_prev|) * scored elementwise, float32 [D]: sums to the change of the score."""
    now, before = (
        turns.space[turn] / max(turns.mass["turn_l2_space"][turn], EPS) for turn in (step.turn, step.prev_turn)
    )
    return ((now - before) * scored.astype(np.float64)).astype(np.float32)


def _transition(turns: TurnScores, roles: ScoredAxis, options: DriftOptions, prev_turn: int, turn: int) -> Transition:
    delta_x = turns.space[turn] - turns.space[prev_turn]
    contrib = delta_x * roles.axis
    away_mass = float(np.maximum(-contrib, 0).sum(dtype=np.float64))
    top = smallest(contrib, contrib < 0, options.display.top_features)
    share = float(-contrib[top].sum(dtype=np.float64)) / max(away_mass, TINY)
    score, projection = turns.scores[options.scoring.score_method], turns.scores["projection"]
    # The dimensions of the residual stream are no features: how few of them carry a change says nothing.
    in_features = options.axis.space == "sae"
    return Transition(
        prev_turn=prev_turn,
        turn=turn,
        delta_score=float(score[turn] - score[prev_turn]),
        delta_projection=float(projection[turn] - projection[prev_turn]),
        away_mass=away_mass,
        toward_mass=float(np.maximum(contrib, 0).sum(dtype=np.float64)),
        top_away_share=share if in_features else float("nan"),
        effect_strength=effect_strength(share) if in_features else NO_STRENGTH,
        delta_x=delta_x,
        contrib=contrib,
    )


def effect_strength(top_away_share: float) -> str:
    """STRONG, MODERATE or WEAK by the share of away_mass that the top away table covers."""
    return next(name for threshold, name in STRENGTHS if top_away_share >= threshold)


def role_profiles(roles: RoleSpace, feature_ids: np.ndarray) -> list[str]:
    """For each feature its three largest shares over roles, "name:12% | name:8% | name:5%", of values clipped at 0."""
    columns = np.maximum(roles.space[:, feature_ids].T, 0).astype(np.float64)
    totals = columns.sum(1)
    order = np.argsort(-columns, axis=1, kind="stable")[:, :3]
    profiles = []
    for column, total, rows in zip(columns, totals, order.tolist(), strict=True):
        shares = " | ".join(f"{roles.role_names[row]}:{column[row] / total:.0%}" for row in rows) if total > 0 else ""
        profiles.append(shares or "no positive role mass")
    return profiles


def axis_side(axis_weight: float) -> str:
    """Which side of the axis a feature lies on; a weight of exactly 0 is not assistant-like."""
    return "assistant_like" if axis_weight > 0 else "non_assistant_like"


def effect(contrib: float) -> str:
    """Where a contribution moves the turn; one of exactly 0 does not move it away."""
    return "away_from_assistant" if contrib < 0 else "toward_assistant"


def share_of_away(contrib: float, away_mass: float) -> float:
    """max(-contrib, 0) / away_mass."""
    return max(-contrib, 0.0) / max(away_mass, TINY)


def entries(transition: Transition, roles: RoleSpace, feature_ids: np.ndarray) -> list[dict[str, Any]]:
    """One plain dict (ENTRY_COLUMNS) a feature; floats are the float32 values exactly."""
    change = max(float(np.abs(transition.delta_x).sum(dtype=np.float64)), TINY)
    columns = zip(
        feature_ids.tolist(),
        transition.delta_x[feature_ids].tolist(),
        roles.axis[feature_ids].tolist(),
        transition.contrib[feature_ids].tolist(),
        role_profiles(roles, feature_ids),
        strict=True,
    )
    return [
        {
            "feature_idx": feature,
            "direction": "activated" if delta > 0 else "deactivated",
            "delta_x": delta,
            "axis_weight": weight,
            "contrib": contrib,
            "axis_side": axis_side(weight),
            "effect": effect(contrib),
            "share_of_change": abs(delta) / change,
            "share_of_away": share_of_away(contrib, transition.away_mass),
            "role_profile": profile,
        }
        for feature, delta, weight, contrib, profile in columns
    ]


def changed_features(
    transition: Transition, roles: RoleSpace, options: DriftOptions
) -> dict[str, list[dict[str, Any]]]:
    """Entries of the `top_features` largest changes of each sign: {"activated": [...], "deactivated": [...]}."""
    if options.axis.space != "sae":
        return {"activated": [], "deactivated": []}
    delta = transition.delta_x
    activated = smallest(-delta, delta > 0, options.display.top_features)
    deactivated = smallest(delta, delta < 0, options.display.top_features)
    both = entries(transition, roles, np.concatenate([activated, deactivated]))
    return {"activated": both[: len(activated)], "deactivated": both[len(activated) :]}


def feature_tables(
    transition: Transition | None,
    roles: RoleSpace,
    options: DriftOptions,
    descriptions: Mapping[int, Mapping[str, str | None]] | None = None,
) -> dict[str, pd.DataFrame]:
    """The four q2_* tables of a transition, each `top_features` long, the largest contribution first.

    score_contrib: what the feature adds to the change of the selected score; contrib: of the plain projection.
    descriptions: {feature: {"description": text, "url": link}}, as in a descriptions cache; None where not known.
    Without a transition, and in residual space, the tables are empty.
    """
    tables = {}
    for name, pick in FEATURE_TABLES.items():
        rows: Sequence[dict[str, Any]] = []
        if transition is not None and options.axis.space == "sae":
            candidates, keys = pick(transition.delta_x, roles.axis, transition.contrib)
            rows = entries(transition, roles, smallest(keys, candidates, options.display.top_features))
        known = [(descriptions or {}).get(row["feature_idx"], {}) for row in rows]
        table = pd.DataFrame(rows, columns=list(ENTRY_COLUMNS))
        table["score_contrib"] = _own_contrib(transition, table["feature_idx"].to_numpy(np.int64))
        table["description"] = pd.Series([entry.get("description") for entry in known], dtype=object)
        table["url"] = pd.Series([entry.get("url") for entry in known], dtype=object)
        tables[name] = table
    return tables


def _own_contrib(transition: Transition | None, feature_ids: np.ndarray) -> np.ndarray:
    """score_contrib of some features, float64 [n]; that is contrib where the selected score is the plain projection."""
    if transition is None:
        return np.zeros(0)
    own = transition.contrib if transition.score_contrib is None else transition.score_contrib
    return own[feature_ids].astype(np.float64)
