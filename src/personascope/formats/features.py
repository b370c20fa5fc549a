"""The formats of features, residual means and role matrices.

Features of one role: Parquet, a row a response, in row order (variant outer, question inner):

=============  =============  ===============================================================
prompt_index   int32          index of the instruction variant
question_id    int32          id of the question
n_tokens       int32          number of selected tokens, 0 for an empty response
indices        list<int32>    the SAE features active on at least one selected token, ascending
mean, max      list<float32>  pooled activation of each, same support
=============  =============  ===============================================================

Active is what is not 0: some SAEs have activations below 0. max is the value of largest magnitude, with its sign.

File metadata: a JSON object under the key ``personascope`` (model, weights, SAE, layer convention, ...).
Residual means of the same rows: ``{role}.residuals.parquet``, the same keys and one column
``layer_{k}`` (fixed-size list<float32>[d_model]) for each layer kept.

pyarrow is imported where it is used: extraction computes without it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from personascope.formats.files import atomic_path
from personascope.formats.tables import METADATA_KEY, encode_metadata, iter_tables, list_of, lists

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 256


@cache
def feature_schema() -> "pa.Schema":
    """The columns of a features file."""
    import pyarrow as pa

    # Nothing is ever null; saying so saves the reader the levels of a nullable list.
    return pa.schema(
        [
            pa.field("prompt_index", pa.int32(), nullable=False),
            pa.field("question_id", pa.int32(), nullable=False),
            pa.field("n_tokens", pa.int32(), nullable=False),
            pa.field("indices", list_of(pa.int32()), nullable=False),
            pa.field("mean", list_of(pa.float32()), nullable=False),
            pa.field("max", list_of(pa.float32()), nullable=False),
        ]
    )


@dataclass(frozen=True)
class FeatureRows:
    """A block of feature rows in compressed sparse row form.

    prompt_index, question_id, n_tokens: int32 [n]; offsets: int64 [n + 1];
    indices: int32 [nnz]; mean, max: float32 [nnz]; row i owns offsets[i]:offsets[i + 1].
    """

    prompt_index: np.ndarray
    question_id: np.ndarray
    n_tokens: np.ndarray
    offsets: np.ndarray
    indices: np.ndarray
    mean: np.ndarray
    max: np.ndarray

    def __len__(self) -> int:
        return len(self.n_tokens)

    def row_keys(self) -> list[tuple[int, int]]:
        """(instruction variant, question) of each row."""
        return list(zip(self.prompt_index.tolist(), self.question_id.tolist(), strict=True))

    def rows(self, chosen: np.ndarray) -> "FeatureRows":
        """The rows where `chosen`, bool [n], is True."""
        counts = np.diff(self.offsets)
        entries = np.repeat(chosen, counts)
        values = {
            name: array[entries] if len(array) else array for name, array in (("mean", self.mean), ("max", self.max))
        }
        return FeatureRows(
            *(array[chosen] for array in (self.prompt_index, self.question_id, self.n_tokens)),
            offsets=np.concatenate([[0], np.cumsum(counts[chosen])]).astype(np.int64),
            indices=self.indices[entries],
            **values,
        )

    def dense(self, pooling: str, d_sae: int) -> np.ndarray:
        """The rows of one pooling ("mean" or "max") as dense float32 [n, d_sae]."""
        out = np.zeros((len(self), d_sae), np.float32)
        rows = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        out[rows, self.indices] = getattr(self, pooling)
        return out


def write_features(path: str | Path, blocks: Iterable[FeatureRows], metadata: dict[str, Any]) -> None:
    """Stream blocks of rows into one Parquet file, atomically; memory stays that of one block."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = feature_schema().with_metadata({METADATA_KEY: encode_metadata(metadata)})
    options: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": ["prompt_index", "question_id"],
        "use_byte_stream_split": ["mean.list.element", "max.list.element"],
        "column_encoding": {"indices.list.element": "DELTA_BINARY_PACKED"},
    }
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, **options) as writer:
        for block in blocks:
            columns = [pa.array(x) for x in (block.prompt_index, block.question_id, block.n_tokens)]
            columns += [lists(block.offsets, x) for x in (block.indices, block.mean, block.max)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=ROW_GROUP)


@contextmanager
def residual_writer(
    path: str | Path, layers: Sequence[int], metadata: dict[str, Any]
) -> Iterator[Callable[[FeatureRows, np.ndarray], None]]:
    """Yield write(block, residual_means [n, n_layers_kept, d_model]): the block's keys and one column a layer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer: pq.ParquetWriter | None = None
    keys = list(feature_schema())[:3]
    with atomic_path(path) as temporary:

        def write(block: FeatureRows, means: np.ndarray) -> None:
            nonlocal writer
            vectors = pa.list_(pa.float32(), means.shape[2])
            schema = pa.schema([*keys, *(pa.field(residual_column(layer), vectors) for layer in layers)])
            if writer is None:
                described = schema.with_metadata({METADATA_KEY: encode_metadata(metadata)})
                writer = pq.ParquetWriter(temporary, described, compression="zstd")
            columns = [pa.array(x) for x in (block.prompt_index, block.question_id, block.n_tokens)]
            columns += [
                pa.FixedSizeListArray.from_arrays(means[:, i].ravel(), means.shape[2]) for i in range(len(layers))
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))

        try:
            yield write
        finally:
            if writer is not None:
                writer.close()


def residual_column(layer: int) -> str:
    """Column of a layer in a residuals file."""
    return f"layer_{layer}"


def iter_features(
    path: str | Path, columns: Sequence[str] = ("mean", "max"), row_groups: Sequence[int] | None = None
) -> Iterator[FeatureRows]:
    """The rows of a features file, or of some of its row groups, some at a time; poolings not in `columns` come back
    empty."""
    names = ["prompt_index", "question_id", "n_tokens", "indices", *columns]
    for table in iter_tables(path, names, row_groups):
        lists = {name: table.column(name) for name in ("indices", *columns)}
        offsets = np.asarray(lists["indices"].offsets, np.int64)
        values = {name: np.asarray(array.flatten()) for name, array in lists.items()}
        empty = np.empty(0, np.float32)
        yield FeatureRows(
            *(np.asarray(table.column(name)) for name in names[:3]),
            offsets=offsets - offsets[0],
            indices=values["indices"],
            mean=values.get("mean", empty),
            max=values.get("max", empty),
        )


POOLINGS = ("mean", "max")


def raise_peaks(peaks: np.ndarray, places: np.ndarray, values: np.ndarray) -> None:
    """Put each of `values` [n] into peaks[places], in place, where it is larger in magnitude; of +a and -a, +a."""
    low = peaks.copy() if min(values.min(initial=0), peaks.min(initial=0)) < 0 else None
    np.maximum.at(peaks, places, values)
    if low is not None:
        np.minimum.at(low, places, values)
        np.copyto(peaks, low, where=-low > peaks)


@dataclass(frozen=True)
class Pooled:
    """Pooled features and residuals of one response.

    n_tokens: tokens pooled over; indices int32 [nnz] ascending; mean, max float32 [nnz] on the same support, max the
    value of largest magnitude with its sign; residual_means float32 [n_layers_kept, d_model]. All zero where n_tokens
    is 0.
    """

    n_tokens: int
    indices: np.ndarray
    mean: np.ndarray
    max: np.ndarray
    residual_means: np.ndarray
