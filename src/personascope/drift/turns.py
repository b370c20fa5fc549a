"""Turn vectors and their scores, without a dense matrix over tokens ever being made.

x_t = transform(pool over the tokens of turn t), minus the mean role where turns are centered. The scores are
projection = x_t . axis (of the unit vector of x_t where `use_l2_normalize`), cos_axis = cos(x_t, axis) and
cos_assistant = cos(x_t, v_anchor): larger is more like the assistant. Sums run in float64.
"""

import itertools
from collections.abc import Callable

import numpy as np

from personascope.directions.axis import EPS, TRANSFORMS, RoleSpace, ScoredAxis, unit
from personascope.drift.options import DriftOptions
from personascope.drift.result import TurnScores
from personascope.formats.features import raise_peaks
from personascope.formats.tokens import TokenActivations, Tokens

MASS_METRICS = ("turn_l2_raw", "turn_nonzero_raw", "turn_l2_space", "turn_nonzero_space")
BLOCK_ROWS = 32  # rows that are in float64 at a time: 16 MiB at 65,536 features


def turn_bounds(tokens: Tokens) -> np.ndarray:
    """int64 [T + 1]: turn t owns the tokens bounds[t]:bounds[t + 1]."""
    return np.searchsorted(tokens.turn, np.arange(tokens.n_turns + 1))


def _turn_entries(activations: TokenActivations) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(n_tokens, indices, values) of each turn."""
    entries = []
    for lo, hi in itertools.pairwise(turn_bounds(activations).tolist()):
        owned = slice(activations.offsets[lo], activations.offsets[hi])
        entries.append((hi - lo, activations.indices[owned], activations.values[owned]))
    return entries


def mean_pool(activations: TokenActivations) -> np.ndarray:
    """Mean over each turn's tokens, float32 [T, D]; a turn without tokens is 0."""
    pooled = np.zeros((activations.n_turns, activations.width), np.float32)
    for row, (n, indices, values) in zip(pooled, _turn_entries(activations), strict=True):
        row[:] = np.bincount(indices, weights=values, minlength=len(row)) / max(n, 1)
    return pooled


def max_pool(activations: TokenActivations) -> np.ndarray:
    """The value of largest magnitude, with its sign, over each turn's tokens, float32 [T, D]."""
    pooled = np.zeros((activations.n_turns, activations.width), np.float32)
    for row, (_, indices, values) in zip(pooled, _turn_entries(activations), strict=True):
        raise_peaks(row, indices, values)
    return pooled


POOLINGS: dict[str, Callable[[TokenActivations], np.ndarray]] = {"mean": mean_pool, "max": max_pool}


def to_space(pooled: np.ndarray, roles: ScoredAxis, options: DriftOptions) -> np.ndarray:
    """Rows [N, D] in role space: transformed, and minus the mean role where turns are centered; float32."""
    space = TRANSFORMS[options.axis.transform](pooled)
    return space - roles.mean if options.scoring.center_turns_with_role_mean else space


def role_space_rows(raw: np.ndarray, n_tokens: np.ndarray, roles: ScoredAxis, options: DriftOptions) -> np.ndarray:
    """Pooled turns [T, D] in role space; a turn without tokens is 0."""
    space = to_space(raw, roles, options)
    space[n_tokens == 0] = 0
    return space


def turn_scores(activations: TokenActivations, roles: RoleSpace, options: DriftOptions) -> TurnScores:
    """Vectors, scores and mass metrics of every turn; of a turn without tokens the vector is 0, the rest NaN."""
    raw = POOLINGS[options.axis.pooling](activations)
    n_tokens = np.diff(turn_bounds(activations))
    space = role_space_rows(raw, n_tokens, roles, options)
    scores, mass = _score_blocks(raw, roles, options, lambda rows: space[rows])
    for values in [*scores.values(), *mass.values()]:
        values[n_tokens == 0] = np.nan
    return TurnScores(raw=raw, space=space, scores=scores, mass=mass, n_tokens=n_tokens)


def score_vectors(
    pooled: np.ndarray, roles: RoleSpace, options: DriftOptions
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Scores and mass metrics, each float64 [N], of pooled rows float32 [N, D] (before the transform)."""
    return _score_blocks(pooled, roles, options, lambda rows: to_space(pooled[rows], roles, options))


def score_sparse(
    offsets: np.ndarray,
    indices: np.ndarray,
    values: np.ndarray,
    roles: RoleSpace,
    options: DriftOptions,
    axis: np.ndarray | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """score_vectors of N sparse rows (row i owns offsets[i]:offsets[i + 1]); `axis` [D] in place of the roles' own.

    Both transforms keep 0, so the mean role m comes off by algebra: (x - m) . a = x . a - m . a,
    ||x - m||^2 = ||x||^2 - 2 x . m + ||m||^2, and an inactive feature is positive where m < 0. Where no mean comes off,
    what is not 0 is counted: some SAEs have activations below 0.
    """
    axis = roles.axis if axis is None else axis
    anchor = unit(roles.anchor)
    x = TRANSFORMS[options.axis.transform](values)
    along_axis = row_sums(offsets, x * axis[indices])
    along_anchor = row_sums(offsets, x * anchor[indices])
    squares = row_sums(offsets, np.square(x, dtype=np.float64))
    counted = row_sums(offsets, x != 0)
    mass = {
        "turn_l2_raw": np.sqrt(row_sums(offsets, np.square(values, dtype=np.float64))),
        "turn_nonzero_raw": row_sums(offsets, values != 0),
    }
    if options.scoring.center_turns_with_role_mean:
        mean = roles.mean.astype(np.float64)
        here = roles.mean[indices]
        along_axis -= mean @ axis
        along_anchor -= mean @ anchor
        squares += mean @ mean - 2 * row_sums(offsets, np.multiply(x, here, dtype=np.float64))
        counted = row_sums(offsets, x > here) + np.count_nonzero(roles.mean < 0) - row_sums(offsets, here < 0)
    l2 = np.sqrt(np.maximum(squares, 0))
    mass |= {"turn_l2_space": l2, "turn_nonzero_space": counted}
    return _scores(along_axis, along_anchor, l2, options), mass


def token_scores(activations: TokenActivations, roles: RoleSpace, options: DriftOptions) -> np.ndarray:
    """u_k = transform(z_k) . axis of each token, minus mean . axis where turns are centered; float32 [n].

    Their mean is not the turn's score: the log1p of a mean is not the mean of log1p.
    """
    transformed = TRANSFORMS[options.axis.transform](activations.values)
    sums = row_sums(activations.offsets, transformed * roles.axis[activations.indices])
    if options.scoring.center_turns_with_role_mean:
        sums -= roles.mean.astype(np.float64) @ roles.axis
    return sums.astype(np.float32)


def row_sums(offsets: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum of each row of compressed sparse rows, float64 [N]; an empty row gives 0."""
    sums = np.zeros(len(offsets) - 1)
    filled = np.diff(offsets) > 0
    if filled.any():
        sums[filled] = np.add.reduceat(values, offsets[:-1][filled], dtype=np.float64)
    return sums


def _score_blocks(
    pooled: np.ndarray, roles: RoleSpace, options: DriftOptions, space_of: Callable[[slice], np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Scores and mass of rows; space_of(rows) gives those rows in role space, so that few need be there at once."""
    targets = np.stack([roles.axis, unit(roles.anchor)], axis=1).astype(np.float64)
    # In the residual stream and about a mean nothing is 0: there it is what is positive that is counted.
    sparse = {"raw": options.axis.space == "sae"}
    sparse["space"] = sparse["raw"] and not options.scoring.center_turns_with_role_mean
    dots = np.empty((len(pooled), 2))
    mass = {metric: np.empty(len(pooled)) for metric in MASS_METRICS}
    for start in range(0, len(pooled), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        space = space_of(rows)
        for stage, block in (("raw", pooled[rows]), ("space", space)):
            mass[f"turn_l2_{stage}"][rows] = np.sqrt(np.square(block, dtype=np.float64).sum(1))
            mass[f"turn_nonzero_{stage}"][rows] = np.count_nonzero(block if sparse[stage] else block > 0, axis=1)
        dots[rows] = space.astype(np.float64) @ targets
    return _scores(dots[:, 0], dots[:, 1], mass["turn_l2_space"], options), mass


def _scores(
    along_axis: np.ndarray, along_anchor: np.ndarray, l2: np.ndarray, options: DriftOptions
) -> dict[str, np.ndarray]:
    """The three scores from dot products with the two unit vectors; a zero vector has cosine 0."""
    length = np.maximum(l2, EPS)
    cos_axis = along_axis / length
    projection = cos_axis.copy() if options.scoring.use_l2_normalize else along_axis
    return {"projection": projection, "cos_axis": cos_axis, "cos_assistant": along_anchor / length}
