"""The format of a conversation's trace: what each of its tokens projects on directions, and how surprising it is.

Parquet, a row a token of the rendered conversation, in order:

==============  =======  =========================================================================
position        int32    index of the token in the rendered conversation
message_index   int32    the message that it belongs to
role            string   of that message
token_id        int32
token           string   the tokenizer's own piece
in_content      bool     whether it is of the message's content; the others are the template's
surprise        float32  -log p of the token under the model; null for the first
NAME@LAYER      float32  h·v/|v| at the output of block LAYER, a column for each direction and layer
==============  =======  =========================================================================

File metadata, JSON under the key ``personascope``: the model, layer convention, ``directions`` (where each is from),
``columns``, ``conversation`` (name, messages, metadata), ``dropped_messages`` (taken off the front to fit the context).
A conversation that could not be read is a file without rows whose ``error`` says why.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personascope.errors import UserError
from personascope.formats.files import atomic_path
from personascope.formats.tables import METADATA_KEY, encode_metadata, open_parquet

FIXED = {
    "position": pa.int32(),
    "message_index": pa.int32(),
    "role": pa.string(),
    "token_id": pa.int32(),
    "token": pa.string(),
    "in_content": pa.bool_(),
    "surprise": pa.float32(),
}


@dataclass(frozen=True)
class Trace:
    """n tokens: message_index and token_ids int32 [n], roles and tokens [n], in_content bool [n], surprise float32 [n]
    (NaN for the first), projections float32 [n, columns]."""

    columns: list[str]
    message_index: np.ndarray
    roles: list[str]
    token_ids: np.ndarray
    tokens: list[str]
    in_content: np.ndarray
    surprise: np.ndarray
    projections: np.ndarray
    metadata: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def answered(self) -> np.ndarray:
        """Which tokens are of the assistant's content, bool [n]."""
        return self.in_content & np.array([role == "assistant" for role in self.roles], bool)


def column_name(direction: str, layer: int) -> str:
    """The name of a direction's column: "axis@15"."""
    return f"{direction}@{layer}"


def split_column(column: str) -> tuple[str, int]:
    """The direction and the layer of a column."""
    direction, _, layer = column.rpartition("@")
    return direction, int(layer)


def empty_trace(columns: list[str]) -> Trace:
    """A trace without tokens."""
    none = np.zeros(0, np.int32)
    values = np.zeros((0, len(columns)), np.float32)
    return Trace(columns, none, [], none, [], none.astype(bool), none.astype(np.float32), values)


def write_trace(path: str | Path, trace: Trace, metadata: dict[str, Any]) -> None:
    """Write a trace, atomically."""
    fixed = [np.arange(len(trace), dtype=np.int32), trace.message_index, trace.roles, trace.token_ids, trace.tokens]
    arrays = [pa.array(value, kind) for value, kind in zip(fixed, FIXED.values(), strict=False)]
    arrays += [pa.array(trace.in_content), pa.array(trace.surprise, pa.float32(), mask=np.isnan(trace.surprise))]
    arrays += [pa.array(np.ascontiguousarray(trace.projections[:, i])) for i in range(len(trace.columns))]
    kinds = [pa.field(name, kind, nullable=name == "surprise") for name, kind in FIXED.items()]
    kinds += [pa.field(name, pa.float32(), nullable=False) for name in trace.columns]
    schema = pa.schema(kinds).with_metadata({METADATA_KEY: encode_metadata(metadata | {"columns": trace.columns})})
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), temporary, compression="zstd")


def read_trace(path: str | Path) -> Trace:
    """Read a trace; UserError where the file is absent, damaged or no trace."""
    file, metadata = open_parquet(path)
    if missing := {*FIXED, *metadata.get("columns", ["columns"])} - set(file.schema_arrow.names):
        raise UserError(f"{path}: is no trace: it has no column {sorted(missing)[0]}")
    try:
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]}); delete it and run again") from None
    read = {name: table.column(name).to_numpy() for name in ("message_index", "token_id", "in_content", "surprise")}
    columns = metadata["columns"]
    values = [table.column(name).to_numpy() for name in columns]
    return Trace(
        columns,
        read["message_index"],
        table.column("role").to_pylist(),
        read["token_id"],
        table.column("token").to_pylist(),
        read["in_content"].astype(bool),
        read["surprise"].astype(np.float32),
        np.stack(values, 1) if values else np.zeros((len(table), 0), np.float32),
        metadata,
    )
