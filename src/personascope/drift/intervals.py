"""Intervals of scores and contributions, from the draws of the axis."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from personascope.directions.axis import EPS, RoleSpace, unit
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference
from personascope.drift.result import Transition, TurnScores
from personascope.errors import UserError

LEVEL = 0.95


def turn_intervals(
    turns: TurnScores, roles: RoleSpace, reference: Reference, options: DriftOptions
) -> pd.DataFrame | None:
    """assistant_turn, score_low, score_high of every turn: 95 % intervals of the selected score; None without draws.

    The turn itself is given; what varies is the axis (for cos_assistant the anchor's vector) and, where turns are
    centered, the mean role along it. The norm of a centered turn is held. See `spread` for what they cover.
    """
    by_assistant = options.scoring.score_method == "cos_assistant"
    directions = reference.assistants if by_assistant else reference.axes
    direction = unit(roles.anchor) if by_assistant else roles.axis
    if not directions.shape[1]:
        return None
    if len(directions) != len(direction):
        raise UserError(f"drift: the reference is of {len(directions)} features, the role matrix of {len(direction)}")
    draws = turns.space @ directions - reference.shift
    if options.scoring.score_method != "projection" or options.scoring.use_l2_normalize:
        draws = draws / np.maximum(np.linalg.norm(turns.space, axis=1, keepdims=True), EPS)
    low, high = spread(draws, direction @ directions)
    empty = turns.n_tokens == 0
    low[empty], high[empty] = np.nan, np.nan
    return pd.DataFrame({"assistant_turn": np.arange(len(low)), "score_low": low, "score_high": high})


def contribution_intervals(
    transition: Transition, feature_ids: Sequence[int] | np.ndarray, reference: Reference
) -> tuple[np.ndarray, np.ndarray] | None:
    """(low, high), each [n]: 95 % intervals of contrib = delta_x * axis of n features; None without draws."""
    if not reference.axes.shape[1]:
        return None
    ids = np.asarray(feature_ids, np.int64)
    return spread(transition.delta_x[ids, None] * reference.axes[ids], reference.cos_to_axis)


def spread(draws: np.ndarray, cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile intervals (low [n], high [n]) of dot products with drawn unit axes, draws [n, B].

    Noise in many features takes length from a unit axis, so that every dot product with a drawn axis comes out too
    small by one common factor: its cosine [B] to the axis of all responses. Divided by it the draws lie around the
    estimate. The interval covers what such dot products are on average with axes from as many questions and variants,
    not with the axis from infinitely many, to which they all lie nearer to 0 by the same (unknown) factor.
    """
    tail = 100 * (1 - LEVEL) / 2
    scale = np.where(np.abs(cosines) > EPS, cosines, EPS)
    low, high = np.percentile(draws / scale, [tail, 100 - tail], axis=1)
    return low, high
