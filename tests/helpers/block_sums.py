"""Block sums for tests of the bootstrap, and the role vectors of a draw made by hand."""

import numpy as np

from personascope.directions.block_sums import BlockSums, deal_questions
from personascope.directions.options import AxisOptions

NAMES = ["assistant", "baker", "cook", "elf"]


D, D_MODEL = 37, 11


def sums_of(y: np.ndarray, questions_per_block: int = 1) -> BlockSums:
    """The sums of responses y [V, Q, D], question q in block q // questions_per_block."""
    variants, questions, width = y.shape
    blocks = np.arange(questions, dtype=np.int32) // questions_per_block
    cells = y.reshape(variants, -1, questions_per_block, width).sum(2).astype(np.float32)
    return BlockSums(
        variants=np.arange(variants, dtype=np.int32),
        blocks=np.unique(blocks),
        question_ids=np.arange(questions, dtype=np.int32),
        question_blocks=blocks,
        counts=np.full(cells.shape[:2], questions_per_block),
        sums=cells,
        max_sums=cells,
        residual_sums=np.empty((*cells.shape[:2], 0, 0), np.float32),
        layers=np.empty(0, np.int32),
    )


def random_sums(variants: int = 3, blocks: int = 4, seed: int = 0) -> dict[str, BlockSums]:
    """Sparse features, signed residuals on layers 3 and 5, and counts that differ from cell to cell and may be 0."""
    rng = np.random.default_rng(seed)
    roles = {}
    for name in NAMES:
        counts = rng.integers(0, 4, (variants, blocks))
        active = (rng.random((variants, blocks, D)) < 0.5) & (counts > 0)[:, :, None]
        maxima = np.where(active, rng.random((variants, blocks, D)) * 3, 0) * counts[:, :, None]
        residuals = rng.standard_normal((variants, blocks, 2, D_MODEL)) * counts[:, :, None, None]
        ids, dealt = deal_questions(np.arange(2 * blocks), blocks)
        roles[name] = BlockSums(
            np.arange(variants, dtype=np.int32),
            np.arange(blocks, dtype=np.int32),
            ids,
            dealt,
            counts,
            (maxima / 2).astype(np.float32),
            maxima.astype(np.float32),
            residuals.astype(np.float32),
            np.array([3, 5], np.int32),
        )
    return roles


def vectors_by_hand(sums: dict[str, BlockSums], v: np.ndarray, w: np.ndarray, options: AxisOptions) -> np.ndarray:
    rows = []
    for name in sorted(sums):
        role = sums[name]
        repeated = [(p, g) for p in range(len(v)) for g in range(len(w)) for _ in range(v[p] * w[g])]
        at = tuple(np.array(repeated).T)
        if options.space == "residual":
            layer = [3, 5].index(options.layer or 0)
            rows.append(role.residual_sums[at][:, layer].sum(0) / role.counts[at].sum())
        elif options.pooling == "max":
            rows.append(role.max_sums[at].sum(0) / role.counts[at].sum())
        else:
            rows.append(role.sums[at].sum(0) / role.counts[at].sum())
    return np.stack(rows).astype(np.float32)
