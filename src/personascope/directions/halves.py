"""Axes of two halves of the questions, many times over: what is chosen by one half can be judged by the other, and how
well they agree is the axis's reliability."""

import numpy as np

from personascope.directions.block_sums import BlockSums
from personascope.directions.bootstrap import Draws, axes_of, cells_of, complete
from personascope.directions.options import AxisOptions

SPLITS = 20


def half_axes(sums: dict[str, BlockSums], options: AxisOptions, seed: int = 0, splits: int = SPLITS) -> np.ndarray:
    """Unit axes float32 [D, 2 S] of {role: its block sums}: columns 2 k and 2 k + 1 are those of one random split.

    The two share neither a block of questions nor an instruction variant (of which the other two quarters of the
    responses are then unused), since a common variant would make them agree in its noise; with one variant they share
    that one. S <= splits: a split that leaves a role without a response in one half is left out. [D, 0] where there
    are fewer than two blocks.
    """
    variants = np.unique(np.concatenate([role.variants for role in sums.values()]))
    blocks = np.unique(np.concatenate([role.blocks for role in sums.values()]))
    if len(blocks) < 2:
        return np.empty((cells_of(next(iter(sums.values())), options).shape[2], 0), np.float32)
    rng = np.random.default_rng(seed)
    of_blocks = random_halves(len(blocks), splits, rng)
    of_variants = random_halves(len(variants), splits, rng) if len(variants) > 1 else np.ones((2 * splits, 1), int)
    whole = complete(sums, Draws(variants, blocks, of_variants, of_blocks)).reshape(-1, 2).all(1).repeat(2)
    return axes_of(sums, options, Draws(variants, blocks, of_variants[whole], of_blocks[whole]))["axes"]


def split_half(axes: np.ndarray) -> float:
    """Reliability: mean cosine of the two axes of each split of `half_axes`, NaN where there is none.

    That of an axis from half of the questions and half of the variants; not stepped up to all of them.
    """
    if not axes.shape[1]:
        return float("nan")
    return float(np.einsum("ds,ds->s", axes[:, ::2], axes[:, 1::2], dtype=np.float64).mean())


def random_halves(n: int, splits: int, rng: np.random.Generator) -> np.ndarray:
    """Which of n units are in which half, int [2 * splits, n] of 0 and 1; the halves have the same size."""
    halves = np.zeros((2 * splits, n), int)
    for row in range(0, 2 * splits, 2):
        order = rng.permutation(n)
        halves[row, order[: n // 2]] = 1
        halves[row + 1, order[n // 2 : 2 * (n // 2)]] = 1
    return halves
