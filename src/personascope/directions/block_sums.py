"""Sufficient statistics of a role for the bootstrap: sums of its responses over cells (variant, question block).

Questions are dealt into at most `n_blocks` blocks, so that a resampled role vector is a weighted sum of few cells
and no response is read twice. Added over all cells they give the role vector of `aggregate`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personascope.errors import UserError
from personascope.formats.features import iter_features, residual_column
from personascope.formats.tables import iter_tables, load_npz, open_parquet, save_npz

N_BLOCKS = 12
PARTS = ("sums", "max_sums", "residual_sums")
KEYS = ("variants", "blocks", "question_ids", "question_blocks", "counts", "layers")


@dataclass(frozen=True)
class BlockSums:
    """One role. Cells are (variant, block); responses without tokens have no activations and count nowhere.

    variants int32 [V]: prompt indices; blocks int32 [G]: 0 to G - 1; question_ids, question_blocks int32 [Q]: the block
    of each question; counts int64 [V, G]: responses with tokens;
    sums, max_sums float32 [V, G, D]: sums of the response means, and of the response maxima;
    residual_sums float32 [V, G, L, d_model]: sum of the response means of the residual stream; layers int32 [L].
    """

    variants: np.ndarray
    blocks: np.ndarray
    question_ids: np.ndarray
    question_blocks: np.ndarray
    counts: np.ndarray
    sums: np.ndarray
    max_sums: np.ndarray
    residual_sums: np.ndarray
    layers: np.ndarray

    def save(self, path: str | Path) -> None:
        """Write all arrays to an .npz."""
        save_npz(path, **vars(self))

    @classmethod
    def load(cls, path: str | Path, parts: Collection[str] = PARTS) -> "BlockSums":
        """Read an .npz of `save`; of the three large arrays only `parts`, the others come back empty."""
        arrays = dict(zip(KEYS, load_npz(path, *KEYS), strict=True))
        cells = arrays["counts"].shape
        empty = {
            "sums": np.empty((*cells, 0), np.float32),
            "max_sums": np.empty((*cells, 0), np.float32),
            "residual_sums": np.empty((*cells, 0, 0), np.float32),
        }
        wanted = [part for part in PARTS if part in parts]
        return cls(**arrays, **empty | dict(zip(wanted, load_npz(path, *wanted), strict=True)))


def deal_questions(question_ids: np.ndarray, n_blocks: int = N_BLOCKS) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct ids int32 [Q] and the block of each, int32 [Q]: its place among them modulo `n_blocks`."""
    ids = np.unique(np.asarray(question_ids, np.int32))
    return ids, (np.arange(len(ids)) % n_blocks).astype(np.int32)


@dataclass(frozen=True)
class _Grid:
    """The cells of one role, flat: variant-major, V * G of them."""

    path: str | Path
    variants: np.ndarray
    question_ids: np.ndarray
    question_blocks: np.ndarray
    blocks: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.variants), len(self.blocks)

    def cells(self, prompt_index: np.ndarray, question_id: np.ndarray) -> np.ndarray:
        """Flat index of the cell of each row; UserError where a key is none of the features file's."""
        if not (np.isin(prompt_index, self.variants).all() and np.isin(question_id, self.question_ids).all()):
            raise UserError(f"{self.path}: not the variants and questions of its residuals file; extract both again")
        block = self.question_blocks[np.searchsorted(self.question_ids, question_id)]
        return np.searchsorted(self.variants, prompt_index) * len(self.blocks) + block


def block_sums(
    features_path: str | Path, residuals_path: str | Path | None = None, n_blocks: int = N_BLOCKS
) -> BlockSums:
    """The cells of one role from its features file and, where there is one, its residuals file.

    Streams row groups: memory is that of the cells. UserError where the residuals are not of the same responses.
    """
    grid = _grid(features_path, n_blocks)
    counts, sums, max_sums = _feature_cells(features_path, grid)
    layers, residual_sums = np.empty(0, np.int32), np.empty((*grid.shape, 0, 0), np.float32)
    if residuals_path is not None:
        layers, residual_sums = _residual_cells(residuals_path, grid, counts)
    return BlockSums(
        variants=grid.variants,
        blocks=grid.blocks,
        question_ids=grid.question_ids,
        question_blocks=grid.question_blocks,
        counts=counts,
        sums=sums,
        max_sums=max_sums,
        residual_sums=residual_sums,
        layers=layers,
    )


def _grid(path: str | Path, n_blocks: int) -> _Grid:
    keys = [table.to_pandas() for table in iter_tables(path, ["prompt_index", "question_id"])]
    if not keys:
        raise UserError(f"{path}: holds no response; generate and extract it again")
    variants = np.unique(np.concatenate([part["prompt_index"] for part in keys])).astype(np.int32)
    ids, blocks = deal_questions(np.concatenate([part["question_id"] for part in keys]), n_blocks)
    return _Grid(path, variants, ids, blocks, np.unique(blocks))


def _feature_cells(path: str | Path, grid: _Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """counts [V, G], sums and max_sums float32 [V, G, D], taken in float64."""
    width = open_parquet(path)[1]["d_sae"]
    n_cells = grid.shape[0] * grid.shape[1]
    counts, sums, max_sums = np.zeros(n_cells, np.int64), np.zeros(n_cells * width), np.zeros(n_cells * width)
    for rows in iter_features(path):
        cells = grid.cells(rows.prompt_index, rows.question_id)
        counts += np.bincount(cells[rows.n_tokens > 0], minlength=n_cells)
        entries = np.repeat(cells, np.diff(rows.offsets)) * width + rows.indices
        np.add.at(sums, entries, rows.mean.astype(np.float64))
        np.add.at(max_sums, entries, rows.max.astype(np.float64))
    sums, max_sums = (part.astype(np.float32).reshape(*grid.shape, width) for part in (sums, max_sums))
    return counts.reshape(grid.shape), sums, max_sums


def _residual_cells(path: str | Path, grid: _Grid, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """layers int32 [L] and sums float32 [V, G, L, d_model], taken in float64."""
    layers = open_parquet(path)[1]["residual_layers"]
    columns = [residual_column(layer) for layer in layers]
    n_cells, seen, sums = counts.size, np.zeros(counts.size, np.int64), None
    for table in iter_tables(path, ["prompt_index", "question_id", "n_tokens", *columns]):
        kept = np.asarray(table.column("n_tokens")) > 0
        keys = (np.asarray(table.column(name))[kept] for name in ("prompt_index", "question_id"))
        member = np.zeros((n_cells, int(kept.sum())))
        cells = grid.cells(*keys)
        member[cells, np.arange(len(cells))] = 1
        seen += np.bincount(cells, minlength=n_cells)
        part = [member @ dense_column(table.column(name))[kept] for name in columns]
        sums = np.stack(part, axis=1) + (0 if sums is None else sums)
    if sums is None or not np.array_equal(seen, counts.ravel()):
        raise UserError(f"{path}: not the responses of {grid.path}; extract both again")
    return np.array(layers, np.int32), sums.astype(np.float32).reshape(*grid.shape, *sums.shape[1:])


def dense_column(column: Any) -> np.ndarray:
    """A column of fixed-size vectors as float32 [n, width]."""
    return np.asarray(column.flatten()).reshape(len(column), -1)
