"""Tables and arrays on disk: CSV, Parquet with our metadata, and .npz without pickle.

pandas and pyarrow are imported where they are used: extraction computes without them.
"""

import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from personascope.errors import UserError
from personascope.formats.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

METADATA_KEY = b"personascope"


READ_ROWS = 64  # rows decoded at once: little enough to stay in the processor's caches


def list_of(kind: "pa.DataType") -> "pa.DataType":
    """A list whose elements are never null."""
    import pyarrow as pa

    return pa.list_(pa.field("element", kind, nullable=False))


def write_csv(path: str | Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV without its index, atomically; a cell that is an object becomes its JSON."""
    with atomic_path(path) as temporary:
        _plain_cells(table).to_csv(temporary, index=False)


def write_table(path: str | Path, table: "pd.DataFrame") -> None:
    """Write a table as Parquet without its index, atomically; a cell that is an object becomes its JSON."""
    with atomic_path(path) as temporary:
        _plain_cells(table).to_parquet(temporary, index=False)


def _plain_cells(table: "pd.DataFrame") -> "pd.DataFrame":
    named = [name for name in table.columns if table[name].dtype == object]
    objects = [name for name in named if any(isinstance(cell, dict | list) for cell in table[name].tolist())]
    return table.assign(**{name: table[name].map(_json_cell) for name in objects}) if objects else table


def _json_cell(cell: Any) -> str:
    return json.dumps(cell, ensure_ascii=False, sort_keys=True, allow_nan=False)


def read_csv(path: str | Path) -> "pd.DataFrame":
    """Read a table of ours: a role called `null` or `007` is a name."""
    import pandas as pd

    return pd.read_csv(path, dtype={"role": str}, keep_default_na=False)


def save_npz(path: str | Path, **arrays: Any) -> None:
    """Write an .npz atomically; object arrays are refused, so that it loads with allow_pickle=False."""
    if bad := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise ValueError(f"{path}: object arrays cannot be stored: {bad}")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def load_npz(path: str | Path, *names: str) -> list[np.ndarray]:
    """Read named arrays of an .npz without pickle; UserError where file or array is missing or damaged."""
    with _readable_npz(path) as data:
        return [data[name] for name in names]


def load_all_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Every array of an .npz by its name, read without pickle; UserError where the file is missing or damaged."""
    with _readable_npz(path) as data:
        return {name: data[name] for name in data.files}


@contextmanager
def _readable_npz(path: str | Path) -> Iterator[Any]:
    try:
        with np.load(path, allow_pickle=False) as data:
            yield data
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except KeyError as error:
        raise UserError(f"{path}: {error.args[0]}") from None
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not a readable .npz file: {error}") from None


def encode_metadata(metadata: dict[str, Any]) -> bytes:
    """A file's metadata as canonical JSON."""
    return json.dumps(metadata, sort_keys=True, allow_nan=False).encode()


def json_array(metadata: dict[str, Any]) -> np.ndarray:
    """Metadata as an array of an .npz, which has no place of its own for it."""
    return np.array(encode_metadata(metadata).decode(), np.str_)


def load_metadata(path: str | Path) -> dict[str, Any]:
    """What `json_array` has written into an .npz as `metadata`; empty where there is none."""
    with _readable_npz(path) as data:
        return json.loads(str(data["metadata"])) if "metadata" in data.files else {}


def lists(offsets: np.ndarray, values: np.ndarray) -> "pa.ListArray":
    """Compressed sparse rows as a column of lists."""
    import pyarrow as pa

    flat = pa.array(values)
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), flat, type=list_of(flat.type))


def open_parquet(path: str | Path) -> "tuple[pq.ParquetFile, dict[str, Any]]":
    """Open a features or residuals file: (Parquet file, metadata). UserError where it is absent or not ours."""
    import pyarrow as pa
    import pyarrow.parquet as pq

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


def iter_tables(
    path: str | Path, columns: Sequence[str], row_groups: Sequence[int] | None = None
) -> "Iterator[pa.RecordBatch]":
    """Columns of a Parquet file, or of some of its row groups, some rows at a time; UserError where they are absent or
    damaged."""
    import pyarrow as pa

    file, _ = open_parquet(path)
    if missing := set(columns) - set(file.schema_arrow.names):
        raise UserError(f"{path}: has no column {', '.join(sorted(missing))}; is it the right kind of file?")
    try:
        yield from file.iter_batches(READ_ROWS, row_groups, columns=list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged ({reason}); delete it and run again") from None


def plain(value: Any) -> Any:
    """The value in JSON's own types: arrays become lists; NaN, infinities and missing values become null."""
    # The common kinds first: a bundle has tens of thousands of tokens and numbers.
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [item if type(item) is float and math.isfinite(item) else plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    import pandas as pd

    return None if value is pd.NA else value


def numbers(table: "pd.DataFrame", column: str) -> np.ndarray:
    """A column as float64 [len(table)]; NaN where it is missing, empty or no number."""
    import pandas as pd

    if column not in table:
        return np.full(len(table), np.nan)
    return np.asarray(pd.to_numeric(table[column], errors="coerce"), dtype=np.float64)


def truths(table: "pd.DataFrame", column: str) -> np.ndarray:
    """A column of yes and no as bool [len(table)], also from a CSV file; a missing column is all no."""
    if column not in table:
        return np.zeros(len(table), bool)
    return np.array([str(value).strip().lower() in ("true", "1", "1.0") for value in table[column]], bool)
