"""Cross-fitting: what a role response scores on an axis that has not seen its question.

An axis made from a response fits that response's own noise, so that role responses would lie further apart than fresh
text does. Each response is therefore scored on the axis made WITHOUT its question block (of any role): total sums
minus the block's, so that no response is read twice.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os import cpu_count
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from personascope.directions.axis import TRANSFORMS, RoleSpace, role_space_of
from personascope.directions.block_sums import BlockSums, dense_column
from personascope.directions.bootstrap import MAX_THREADS, role_features
from personascope.directions.options import AxisOptions
from personascope.formats.features import iter_features, residual_column
from personascope.formats.tables import iter_tables

log = logging.getLogger(__name__)


def spaces_without(sums: dict[str, BlockSums], options: AxisOptions) -> dict[int, RoleSpace]:
    """{question block: role space without it, its role vectors left out}; without the blocks that must stay, since a
    role has all its responses in one."""
    names, found = sorted(sums), {}
    block_of: dict[int, int] = {}
    dealt = [pair for name in names for pair in zip(sums[name].question_ids, sums[name].question_blocks, strict=True)]
    if any(block_of.setdefault(int(question), int(block)) != block for question, block in dealt):
        log.warning("the roles have different questions, so that one question is in different blocks")
    for block in np.unique(np.concatenate([role.blocks for role in sums.values()])):
        features = role_features(sums, options, without=int(block))
        if bad := [name for name, row in zip(names, features, strict=True) if not np.isfinite(row).all()]:
            log.warning("all responses of %s are to questions of one block; they get no score", ", ".join(bad))
            continue
        roles = role_space_of(features, names, options)
        found[int(block)] = replace(roles, space=roles.space[:0], directions=roles.directions[:0])
    return found


def response_scores(files: dict[str, str | Path], sums: dict[str, BlockSums], options: AxisOptions) -> pd.DataFrame:
    """The projection of every response: role, prompt_index, question_id, crossfit, in_sample; a row a response with
    tokens. crossfit: on the axis without its question block; in_sample: on the axis of all responses.

    files: {role: features, or residuals file where options.space is residual}.
    """
    names = sorted(files)
    whole = role_space_of(role_features(sums, options), names, options).axis
    folds = spaces_without(sums, options)
    axes = np.stack([whole, *(roles.axis for roles in folds.values())], axis=1)

    def scored(name: str) -> pd.DataFrame:
        parts = [_scored(batch, sums[name], list(folds), axes) for batch in _batches(files[name], options, len(whole))]
        return pd.concat(parts, ignore_index=True).assign(role=name)

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(min(cpu_count() or 1, MAX_THREADS)) as pool:
        return pd.concat(list(pool.map(scored, names)), ignore_index=True)


Batch = tuple[pd.DataFrame, np.ndarray | csr_array]


def _scored(batch: Batch, sums: BlockSums, folds: list[int], axes: np.ndarray) -> pd.DataFrame:
    keys, rows = batch
    along = rows @ axes
    blocks = sums.question_blocks[np.searchsorted(sums.question_ids, keys["question_id"].to_numpy())]
    columns = {block: 1 + i for i, block in enumerate(folds)}
    column = np.array([columns.get(int(block), -1) for block in blocks])
    kept = (keys["n_tokens"].to_numpy() > 0) & (column > 0)
    picked = np.take_along_axis(along, np.maximum(column, 0)[:, None], 1)[:, 0]
    table = keys[["prompt_index", "question_id"]].assign(crossfit=picked, in_sample=along[:, 0])
    return table.loc[kept]


def _batches(path: str | Path, options: AxisOptions, width: int) -> Iterator[Batch]:
    """Keys and transformed vectors of some responses at a time."""
    names = ["prompt_index", "question_id", "n_tokens"]
    if options.space == "sae":
        for block in iter_features(path, [options.pooling]):
            values = TRANSFORMS[options.transform](getattr(block, options.pooling))
            rows = csr_array((values, block.indices, block.offsets.astype(np.int64)), shape=(len(block), width))
            yield pd.DataFrame({name: getattr(block, name) for name in names}), rows
    else:
        column = residual_column(options.layer or 0)
        for table in iter_tables(path, [*names, column]):
            keys = pd.DataFrame({name: np.asarray(table.column(name)) for name in names})
            yield keys, TRANSFORMS[options.transform](dense_column(table.column(column)))
