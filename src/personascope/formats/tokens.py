"""The format of a conversation's token activations: what drift needs, so that no model is loaded again.

Parquet, a row an assistant token, in order:

============  =============  ==========================================================================
position      int32          index of the token in the rendered conversation
turn          int32          the assistant turn it belongs to, from 0
token_id      int32
token         string         the tokenizer's own piece
indices       list<int32>    active SAE features, ascending
values        list<float32>  their activations
layer_{k}     list<float32>  residual stream at the output of block k, fixed size d_model, for each layer kept
============  =============  ==========================================================================

File metadata, JSON under the key ``personascope``: what the model and SAE are, ``conversation`` (name, messages,
metadata), ``turns`` (message_index, start, end, special_tokens; one an assistant message), ``n_tokens``,
``dropped_messages`` (taken off the front to fit the context). A conversation that could not be read is a file
without rows whose ``error`` says why: it fails alone.

What the user said before each assistant turn is in a small .npz beside it, ``{conversation}.user_means.npz``:
``n_tokens`` int32 [n_turns], the tokens of the user messages between the previous assistant turn and this one, and
``layer_{k}`` float32 [n_turns, d_model], the residual mean over them, for each layer kept; NaN where there are none.
"""

# Why a file of its own: the means belong to turns, of which some have no token, so that the rows above cannot hold
# them all; in the metadata they would be read with every look at it (1.3 MB for 20 turns, 3 layers of width 5,376), and
# a second kind of rows would reach every reader of the first. It costs one more file a conversation, and it gives one
# layer without the others.

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personascope.errors import UserError
from personascope.formats.features import residual_column
from personascope.formats.files import atomic_path
from personascope.formats.tables import (
    METADATA_KEY,
    encode_metadata,
    list_of,
    lists,
    load_npz,
    open_parquet,
    save_npz,
)

BASE_SCHEMA = pa.schema(
    [
        pa.field("position", pa.int32(), nullable=False),
        pa.field("turn", pa.int32(), nullable=False),
        pa.field("token_id", pa.int32(), nullable=False),
        pa.field("token", pa.string(), nullable=False),
        pa.field("indices", list_of(pa.int32()), nullable=False),
        pa.field("values", list_of(pa.float32()), nullable=False),
    ]
)


@dataclass(frozen=True)
class Tokens:
    """The assistant tokens of one conversation, n of them in order of the text, and where they stand.

    turn int32 [n]: the assistant turn of each token, ascending; n_turns: assistant messages, empty ones too.
    tokens: the tokenizer's own pieces [n]; token_ids int32 [n]; position int32 [n]: index in the rendered conversation.
    message_index int32 [n_turns]: the conversation's message that each turn is.
    """

    turn: np.ndarray
    n_turns: int
    tokens: list[str]
    token_ids: np.ndarray
    position: np.ndarray
    message_index: np.ndarray

    def __len__(self) -> int:
        return len(self.turn)


@dataclass(frozen=True)
class TokenActivations(Tokens):
    """The same with their activations: compressed sparse rows over `width` features.

    offsets int64 [n + 1], indices int32 [nnz] (ascending within a token), values float32 [nnz]; token i owns
    offsets[i]:offsets[i + 1]. In residual space it owns all `width` of them.
    """

    offsets: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    width: int


@dataclass(frozen=True)
class TokenBlock:
    """Some assistant tokens: position, turn, token_id int32 [n]; tokens [n]; features as compressed sparse rows
    (offsets int64 [n + 1], indices int32 [nnz], values float32 [nnz]); residuals float32 [n, layers kept, d_model]."""

    position: np.ndarray
    turn: np.ndarray
    token_id: np.ndarray
    tokens: list[str]
    offsets: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    residuals: np.ndarray


@dataclass(frozen=True)
class UserMeans:
    """What the user said before each assistant turn: n_tokens int32 [n_turns], the tokens of those messages; means
    float32 [n_turns, layers kept, d_model], the mean of the residual stream over them, NaN where n_tokens is 0."""

    n_tokens: np.ndarray
    means: np.ndarray


@contextmanager
def token_writer(path: str | Path, metadata: dict[str, Any], d_model: int) -> Iterator[Callable[[TokenBlock], None]]:
    """Yield write(block); the file is there, whole, when the context ends."""
    vectors = pa.list_(pa.float32(), d_model)
    layers = [pa.field(residual_column(layer), vectors, nullable=False) for layer in metadata["residual_layers"]]
    schema = pa.schema([*BASE_SCHEMA, *layers]).with_metadata({METADATA_KEY: encode_metadata(metadata)})
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:

        def write(block: TokenBlock) -> None:
            columns = [pa.array(x) for x in (block.position, block.turn, block.token_id)]
            columns += [pa.array(block.tokens, pa.string())]
            columns += [lists(block.offsets, x) for x in (block.indices, block.values)]
            columns += [
                pa.FixedSizeListArray.from_arrays(pa.array(block.residuals[:, i].ravel()), d_model)
                for i in range(len(layers))
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))

        yield write


def write_failure(path: str | Path, metadata: dict[str, Any], error: str) -> None:
    """A conversation without tokens, and why."""
    with token_writer(path, metadata | {"error": error, "residual_layers": []}, 1):
        pass


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Everything about a conversation but its activations."""
    return open_parquet(path)[1]


def read_activations(path: str | Path, space: str = "sae", layer: int | None = None) -> TokenActivations:
    """The activations in one space; UserError where the residual layer was not kept."""
    file, metadata = open_parquet(path)
    column = residual_column(layer) if space == "residual" and layer is not None else "values"
    if column not in file.schema_arrow.names:
        raise UserError(f"{path}: layer {layer} is not among the layers kept; add it to extraction.residual_layers")
    wanted = ["position", "turn", "token_id", "token", *(("indices", "values") if space == "sae" else (column,))]
    try:
        table = file.read(columns=wanted).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]}); delete it and run again") from None
    arrays = {name: table.column(name).combine_chunks() for name in wanted}
    if space == "sae":
        width = int(metadata["d_sae"])
        offsets = np.asarray(arrays["indices"].offsets, np.int64)
        indices = np.asarray(arrays["indices"].flatten())
    else:
        width = int(file.schema_arrow.field(column).type.list_size)
        offsets = np.arange(len(table) + 1, dtype=np.int64) * width
        indices = np.tile(np.arange(width, dtype=np.int32), len(table))
    return TokenActivations(
        turn=np.asarray(arrays["turn"]),
        n_turns=len(metadata["turns"]),
        offsets=offsets - offsets[0],
        indices=indices,
        values=np.asarray(arrays[column].flatten(), np.float32),
        width=width,
        tokens=arrays["token"].to_pylist(),
        token_ids=np.asarray(arrays["token_id"]),
        position=np.asarray(arrays["position"]),
        message_index=np.array([turn["message_index"] for turn in metadata["turns"]], np.int32),
    )


def save_user_means(path: str | Path, user: UserMeans, layers: Sequence[int]) -> None:
    """Write the .npz of a conversation's user means; layers: those of `user.means`, in its order."""
    columns = {residual_column(layer): user.means[:, i] for i, layer in enumerate(layers)}
    save_npz(path, n_tokens=user.n_tokens, **columns)


def read_user_means(path: str | Path, layer: int) -> np.ndarray:
    """The user means of one layer, float32 [n_turns, d_model]; UserError where the file or the layer is missing."""
    return load_npz(path, residual_column(layer))[0]
