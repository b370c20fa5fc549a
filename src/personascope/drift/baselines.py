"""What anyone would try instead of the conversation test: signals of a conversation's turns, larger the more it drifts.

Each is a number a turn; the first turn has none where the signal is a change since then.

- projection: the first turn's score minus the turn's, under the analysis itself;
- nearest_role: the largest cosine of the turn to a role that is no anchor, minus the largest to an anchor; over 0, the
  nearest role has flipped;
- length: how far the number of tokens has moved since the first turn, |log n_t - log n_0|;
- repetition: share of the turn's runs of 4 tokens that occurred in it before.
"""

from collections.abc import Mapping

import numpy as np

from personascope.directions.axis import RoleSpace, unit
from personascope.drift.analysis import repetition
from personascope.drift.options import DriftOptions
from personascope.drift.result import TurnScores
from personascope.formats.tokens import Tokens

BASELINES = ("projection", "nearest_role", "length", "repetition")


def signals(tokens: Tokens, turns: TurnScores, roles: RoleSpace, options: DriftOptions) -> dict[str, np.ndarray]:
    """{baseline: float64 [T]}; NaN for a turn without tokens and, of changes, for the first turn with some."""
    score = turns.scores[options.scoring.score_method]
    filled = turns.n_tokens > 0
    length = np.log(np.where(filled, turns.n_tokens, 1))
    found = {
        "projection": -_since_first(score, filled),
        "nearest_role": nearest_margin(turns, roles),
        "length": np.abs(_since_first(length, filled)),
        "repetition": repetition(tokens),
    }
    return {name: np.where(filled, values, np.nan) for name, values in found.items()}


def _since_first(values: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """Each turn minus the first one with tokens, which itself is NaN."""
    changes = np.full(len(values), np.nan)
    if filled.any():
        first = int(filled.argmax())
        changes[first + 1 :] = values[first + 1 :] - values[first]
    return changes


def nearest_margin(turns: TurnScores, roles: RoleSpace) -> np.ndarray:
    """Largest cosine to a member of the axis that is no anchor, minus the largest to an anchor, float64 [T]."""
    cosines = unit(turns.space.astype(np.float64)) @ roles.directions.T
    others = sorted(set(roles.members) - set(roles.anchors))
    return cosines[:, others].max(1) - cosines[:, roles.anchors].max(1)


def first_above(signal: np.ndarray, level: float) -> int | None:
    """The first turn whose signal [T] is above the level; None where none is."""
    above = np.flatnonzero(signal > level)
    return int(above[0]) if len(above) else None


def highest(signal: np.ndarray) -> float:
    """The largest value [T]; minus infinity where there is none."""
    return float(np.max(signal, where=~np.isnan(signal), initial=-np.inf))


def matched_level(quiet: Mapping[str, float], rate: float) -> float:
    """The lowest level that at most this share of quiet conversations {name: highest signal} is above."""
    ordered = np.sort(np.array(list(quiet.values())))[::-1]
    allowed = int(np.floor(rate * len(ordered) + 1e-9))
    return float(ordered[allowed]) if allowed < len(ordered) else -np.inf
