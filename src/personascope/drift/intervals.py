"""Intervals of scores and contributions, from the draws of the axis."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from personascope.directions.axis import EPS, RoleSpace, unit
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference
from personascope.drift.result import Transition, TurnScores
from personascope.drift.token_noise import freedom as freedom_of_tokens
from personascope.errors import UserError

LEVEL = 0.95
NORMAL = 1.95996  # standard errors on either side


def turn_intervals(
    turns: TurnScores, roles: RoleSpace, reference: Reference, options: DriftOptions, noise: np.ndarray
) -> pd.DataFrame | None:
    """assistant_turn, score_low, score_high, axis_low, axis_high, token_error of every turn; None without draws.

    95 % intervals of the selected score. axis_low to axis_high: with other questions and instruction variants, which
    move the axis (for cos_assistant the anchor's vector) and, where turns are centered, the mean role along it; the
    turn is given, and the norm of a centered one is held. score_low to score_high: with other tokens of the turn, too;
    token_error is `token_noise`, and where it is missing the two are the same. See `spread` for the target.
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
    low, high = spread(draws, direction @ directions, reference.freedom)
    empty = turns.n_tokens == 0
    low[empty], high[empty] = np.nan, np.nan
    score = turns.scores[options.scoring.score_method]
    wide = np.nan_to_num(token_half_width(noise, turns.n_tokens))
    columns = {
        "score_low": score - np.hypot(np.maximum(score - low, 0), wide),
        "score_high": score + np.hypot(np.maximum(high - score, 0), wide),
    }
    columns |= {"axis_low": low, "axis_high": high, "token_error": noise}
    return pd.DataFrame({"assistant_turn": np.arange(len(low)), **columns})


def token_half_width(noise: np.ndarray, n_tokens: np.ndarray) -> np.ndarray:
    """Half of a 95 % interval, [T], from standard errors of `token_noise`; NaN where there is none."""
    return stdtrit(freedom_of_tokens(n_tokens), (1 + LEVEL) / 2) * noise


def contribution_intervals(
    transition: Transition, feature_ids: Sequence[int] | np.ndarray, reference: Reference
) -> tuple[np.ndarray, np.ndarray] | None:
    """(low, high), each [n]: 95 % intervals of contrib = delta_x * axis of n features; None without draws."""
    if not reference.axes.shape[1]:
        return None
    ids = np.asarray(feature_ids, np.int64)
    return spread(transition.delta_x[ids, None] * reference.axes[ids], reference.cos_to_axis, reference.freedom)


def spread(draws: np.ndarray, cosines: np.ndarray, freedom: float = math.inf) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile intervals (low [n], high [n]) of dot products with drawn unit axes, draws [n, B].

    Noise in many features takes length from a unit axis, so that every dot product with a drawn axis comes out too
    small by one common factor: its cosine [B] to the axis of all responses. Divided by it the draws lie around the
    estimate. The percentiles are moved away from the median by the ratio of Student's quantile, with the degrees of
    freedom of `bootstrap.degrees_of_freedom`, to the normal one.

    Target: kappa times the dot product with the population's axis, the one from all questions and variants that might
    have been asked, where kappa is the cosine of the estimated axis to it: the population's score in the units of
    every score that is shown, references and thresholds included. The median of `cosines` estimates kappa; divided by
    it, an interval is one of the population's score itself.

    Limits (docs/validation.md): what was chosen by the same axis, as the largest contributions are, is held less often
    than stated, the less the more features there were to choose from; see `stability` for those.
    """
    tail = 100 * (1 - LEVEL) / 2
    scale = np.where(np.abs(cosines) > EPS, cosines, EPS)
    low, middle, high = np.percentile(draws / scale, [tail, 50, 100 - tail], axis=1)
    wider = 1 if math.isinf(freedom) else float(stdtrit(freedom, (1 + LEVEL) / 2)) / NORMAL
    return middle - wider * (middle - low), middle + wider * (high - middle)
