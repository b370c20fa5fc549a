"""Cross-fitting: what a role response scores on an axis that has seen neither its question nor its instruction.

An axis made from a response fits that response's own noise, so that role responses would lie further apart than fresh
text does. Each response is therefore scored on the axis made WITHOUT its block of questions and WITHOUT its instruction
variant (of any role): a variant is particular too, and an axis that has seen it tells the roles apart by it (simulated:
an AUC of 1.00 where the truth is 0.62; docs/validation.md). With one variant the block alone is left out.
"""

import logging
from collections.abc import Iterable, Iterator
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
from personascope.errors import UserError
from personascope.formats.features import iter_features, residual_column
from personascope.formats.tables import iter_tables

log = logging.getLogger(__name__)


Fold = tuple[int | None, int]  # a variant (None: all of them have a part) and a block of questions


def spaces_without(sums: dict[str, BlockSums], options: AxisOptions, *, variants: bool = True) -> dict[Fold, RoleSpace]:
    """{fold: role space without its variant and its block, role vectors left out}; variants=False: without its block.

    A fold that leaves a role without a response is not there, and a warning names the role.
    """
    _warn_of_other_questions(sums)
    names, found, silent = sorted(sums), {}, set()
    for fold in _folds(sums, variants):
        features = role_features(sums, options, variant=fold[0], block=fold[1])
        if bad := {name for name, row in zip(names, features, strict=True) if not np.isfinite(row).all()}:
            silent |= bad
            continue
        roles = role_space_of(features, names, options)
        found[fold] = replace(roles, space=roles.space[:0], directions=roles.directions[:0])
    if silent:
        log.warning("%s: all responses of one variant or one block; some get no score", ", ".join(sorted(silent)))
    return found


def _folds(sums: dict[str, BlockSums], variants: bool) -> list[Fold]:
    blocks = np.unique(np.concatenate([role.blocks for role in sums.values()])).tolist()
    known = np.unique(np.concatenate([role.variants for role in sums.values()])).tolist()
    return [(v, g) for v in (known if variants and len(known) > 1 else [None]) for g in blocks]


def _warn_of_other_questions(sums: dict[str, BlockSums]) -> None:
    block_of: dict[int, int] = {}
    dealt = [pair for role in sums.values() for pair in zip(role.question_ids, role.question_blocks, strict=True)]
    if any(block_of.setdefault(int(question), int(block)) != block for question, block in dealt):
        log.warning("the roles have different questions, so that one question is in different blocks")


def fold_of(folds: Iterable[Fold], sums: BlockSums, prompt_index: np.ndarray, question_id: np.ndarray) -> np.ndarray:
    """The place among `folds` of the one that leaves each response out, int [n]; -1 where there is none."""
    places = {fold: place for place, fold in enumerate(folds)}
    blocks = sums.question_blocks[np.searchsorted(sums.question_ids, question_id)]
    pairs = zip(prompt_index.tolist(), blocks.tolist(), strict=True)
    return np.array([places.get((v, g), places.get((None, g), -1)) for v, g in pairs], int)


def response_scores(files: dict[str, str | Path], sums: dict[str, BlockSums], options: AxisOptions) -> pd.DataFrame:
    """The projection of every response: role, prompt_index, question_id, crossfit, in_sample; a row a response with
    tokens. crossfit: on the axis without its block of questions and its variant; in_sample: on the axis of all.

    files: {role: features, or residuals file where options.space is residual}.
    """
    names = sorted(files)
    whole = role_space_of(role_features(sums, options), names, options).axis
    folds = spaces_without(sums, options)
    if not folds:
        raise UserError("questions: one is too few for an axis that can be judged, ask at least 2")
    axes = np.stack([whole, *(roles.axis for roles in folds.values())], axis=1)

    def scored(name: str) -> pd.DataFrame:
        parts = [_scored(batch, sums[name], list(folds), axes) for batch in _batches(files[name], options, len(whole))]
        return pd.concat(parts, ignore_index=True).assign(role=name)

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(min(cpu_count() or 1, MAX_THREADS)) as pool:
        return pd.concat(list(pool.map(scored, names)), ignore_index=True)


Batch = tuple[pd.DataFrame, np.ndarray | csr_array]


def _scored(batch: Batch, sums: BlockSums, folds: list[Fold], axes: np.ndarray) -> pd.DataFrame:
    keys, rows = batch
    along = rows @ axes
    place = fold_of(folds, sums, keys["prompt_index"].to_numpy(), keys["question_id"].to_numpy())
    kept = (keys["n_tokens"].to_numpy() > 0) & (place >= 0)
    picked = np.take_along_axis(along, np.maximum(place, 0)[:, None] + 1, 1)[:, 0]
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
