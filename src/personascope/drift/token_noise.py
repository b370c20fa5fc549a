"""How far a turn's score would move with other tokens of the same kind: the noise of the text itself.

With mean pooling a score depends on the mean m of the tokens z_k, and to first order moves with the mean of the
influences h_k = sum over f of (d score / d m_f) z_kf. The variance of that mean is taken over blocks of tokens, since
neighbors are alike: of all overlapping blocks of length l, l times the variance of their means / n (Künsch, "The
jackknife and the bootstrap for general stationary observations", 1989, in closed form).
"""

from collections.abc import Callable

import numpy as np

from personascope.directions.axis import EPS, RoleSpace
from personascope.drift.attribution import is_normalized, scored_direction
from personascope.drift.options import DriftOptions
from personascope.drift.result import TurnScores
from personascope.drift.turns import row_sums, turn_bounds
from personascope.formats.tokens import TokenActivations

BLOCK = 16  # tokens
LEAST_BLOCKS = 4  # in a turn; in shorter ones the blocks are shorter
LEAST_TOKENS = 8

SLOPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "raw": np.ones_like,
    "log1p": lambda m: 1 / (1 + np.abs(m)),
}


def token_noise(
    activations: TokenActivations, turns: TurnScores, roles: RoleSpace, options: DriftOptions
) -> np.ndarray:
    """Standard error of each turn's selected score, float64 [T].

    NaN for a turn of fewer than LEAST_TOKENS tokens, and under max pooling, which has no such expansion.
    """
    errors = np.full(len(turns.n_tokens), np.nan)
    if options.axis.pooling != "mean":
        return errors
    bounds = turn_bounds(activations)
    for turn in np.flatnonzero(turns.n_tokens >= LEAST_TOKENS):
        rows = slice(bounds[turn], bounds[turn + 1] + 1)
        offsets = activations.offsets[rows]
        owned = slice(offsets[0], offsets[-1])
        weights = _gradient(turns, int(turn), roles, options)[activations.indices[owned]]
        errors[turn] = standard_error(row_sums(offsets - offsets[0], weights * activations.values[owned]))
    return errors


def _gradient(turns: TurnScores, turn: int, roles: RoleSpace, options: DriftOptions) -> np.ndarray:
    """d score / d m_f, float64 [D]: through the norm of the turn where the score divides by it."""
    direction = scored_direction(roles, options).astype(np.float64)
    if is_normalized(options):
        x = turns.space[turn].astype(np.float64)
        length = max(float(turns.mass["turn_l2_space"][turn]), EPS)
        direction = (direction - x * (x @ direction) / length**2) / length
    return direction * SLOPES[options.axis.transform](turns.raw[turn].astype(np.float64))


def standard_error(values: np.ndarray) -> float:
    """Of the mean of a series [n] whose neighbors are alike, n >= LEAST_TOKENS."""
    n = len(values)
    length = int(block_length(np.array(n)))
    sums = np.concatenate([[0.0], np.cumsum(values - values.mean())])
    means = (sums[length:] - sums[:-length]) / length
    return float(np.sqrt(length * np.square(means).mean() / (n - length)))


def block_length(n_tokens: np.ndarray) -> np.ndarray:
    """Tokens in a block of a turn of so many, int [...]."""
    return np.clip(n_tokens // LEAST_BLOCKS, 1, BLOCK)


def freedom(n_tokens: np.ndarray) -> np.ndarray:
    """Degrees of freedom of the squared standard error, float64 [...], at least 1: 1.5 times those of blocks that do
    not overlap (Meketon and Schmeiser, "Overlapping batch means: something for nothing?", 1984).

    Blocks of 16 tokens see a correlation of neighbors up to 0.6, in turns of 32 tokens or more; beyond that, and in
    shorter turns, whose blocks are shorter, the standard error is too small (docs/validation.md).
    """
    return np.maximum(1.5 * (n_tokens / block_length(n_tokens) - 1), 1.0)
