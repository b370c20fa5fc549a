"""The formats of features, residual means and role matrices.

Features of one role: Parquet, a row a response, in row order (variant outer, question inner):

=============  =============  ===============================================================
prompt_index   int32          index of the instruction variant
question_id    int32          id of the question
n_tokens       int32          number of selected tokens, 0 for an empty response
indices        list<int32>    the SAE features active on at least one selected token, ascending
mean, max      list<float32>  pooled activation of each, same support
=============  =============  ===============================================================

File metadata: a JSON object under the key ``personascope`` (model, weights, SAE, layer convention, ...).
Residual means of the same rows: ``{role}.residuals.parquet``, the same keys and one column
``layer_{k}`` (fixed-size list<float32>[d_model]) for each layer kept.
"""

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from personascope.errors import UserError
from personascope.files import atomic_path

METADATA_KEY = b"personascope"
ROW_GROUP = 256
READ_ROWS = 64  # rows decoded at once: little enough to stay in the processor's caches


def list_of(kind: pa.DataType) -> pa.DataType:
    """A list whose elements are never null."""
    return pa.list_(pa.field("element", kind, nullable=False))


# Nothing is ever null; saying so saves the reader the levels of a nullable list.
FEATURE_SCHEMA = pa.schema(
    [
        pa.field("prompt_index", pa.int32(), nullable=False),
        pa.field("question_id", pa.int32(), nullable=False),
        pa.field("n_tokens", pa.int32(), nullable=False),
        pa.field("indices", list_of(pa.int32()), nullable=False),
        pa.field("mean", list_of(pa.float32()), nullable=False),
        pa.field("max", list_of(pa.float32()), nullable=False),
    ]
)


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as CSV without its index, atomically."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet without its index, atomically; a cell that is an object becomes its JSON."""
    objects = [name for name in table.columns if any(isinstance(cell, dict | list) for cell in table[name].tolist())]
    with atomic_path(path) as temporary:
        table.assign(**{name: table[name].map(_json_cell) for name in objects}).to_parquet(temporary, index=False)


def _json_cell(cell: Any) -> str:
    return json.dumps(cell, ensure_ascii=False, sort_keys=True, allow_nan=False)


def read_csv(path: str | Path) -> pd.DataFrame:
    """Read a table of ours: a role called `null` or `007` is a name."""
    return pd.read_csv(path, dtype={"role": str}, keep_default_na=False)


def save_npz(path: str | Path, **arrays: Any) -> None:
    """Write an .npz atomically; object arrays are refused, so that it loads with allow_pickle=False."""
    if bad := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise ValueError(f"{path}: object arrays cannot be stored: {bad}")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def load_npz(path: str | Path, *names: str) -> list[np.ndarray]:
    """Read named arrays of an .npz without pickle; UserError where file or array is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return [data[name] for name in names]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except KeyError as error:
        raise UserError(f"{path}: {error.args[0]}") from None
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not a readable .npz file: {error}") from None


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

    def dense(self, pooling: str, d_sae: int) -> np.ndarray:
        """The rows of one pooling ("mean" or "max") as dense float32 [n, d_sae]."""
        out = np.zeros((len(self), d_sae), np.float32)
        rows = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        out[rows, self.indices] = getattr(self, pooling)
        return out


def encode_metadata(metadata: dict[str, Any]) -> bytes:
    """A file's metadata as canonical JSON."""
    return json.dumps(metadata, sort_keys=True, allow_nan=False).encode()


def lists(offsets: np.ndarray, values: np.ndarray) -> pa.ListArray:
    """Compressed sparse rows as a column of lists."""
    flat = pa.array(values)
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), flat, type=list_of(flat.type))


def write_features(path: str | Path, blocks: Iterable[FeatureRows], metadata: dict[str, Any]) -> None:
    """Stream blocks of rows into one Parquet file, atomically; memory stays that of one block."""
    schema = FEATURE_SCHEMA.with_metadata({METADATA_KEY: encode_metadata(metadata)})
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
    writer: pq.ParquetWriter | None = None
    keys = list(FEATURE_SCHEMA)[:3]
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


def open_parquet(path: str | Path) -> tuple[pq.ParquetFile, dict[str, Any]]:
    """Open a features or residuals file: (Parquet file, metadata). UserError where it is absent or not ours."""
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error}); delete it and run again") from None
    raw = (file.schema_arrow.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise UserError(f"{path}: no `personascope` metadata, so it is no file of this pipeline")
    return file, json.loads(raw)


def iter_tables(path: str | Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Columns of a Parquet file, some rows at a time; UserError where they are absent or damaged."""
    file, _ = open_parquet(path)
    if missing := set(columns) - set(file.schema_arrow.names):
        raise UserError(f"{path}: has no column {', '.join(sorted(missing))}; is it the right kind of file?")
    try:
        yield from file.iter_batches(READ_ROWS, columns=list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged ({reason}); delete it and run again") from None


def iter_features(path: str | Path, columns: Sequence[str] = ("mean", "max")) -> Iterator[FeatureRows]:
    """The rows of a features file, some at a time; poolings not in `columns` come back empty."""
    names = ["prompt_index", "question_id", "n_tokens", "indices", *columns]
    for table in iter_tables(path, names):
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
