"""The format of contexts as they are collected: texts in which features are active, of one role or of conversations.

``{name}.contexts.parquet``, a row a text and feature, in order of feature:

=========  ====================  ======================================================================
feature    int32
draw       uint32                a random number of its own, by which samples are taken
value      float32               the feature's largest activation in the text by magnitude, its peak, with its sign
row        int32                 the text
at         int32                 the token of the peak, from 0 in the text
top        bool                  whether it is among the feature's largest peaks; else it is of the sample
window     list<float32>[WIDTH]  activations on the tokens from at - BEFORE to at + AFTER, 0 outside the text
=========  ====================  ======================================================================

``{name}.activity.npz``: how often each feature is active, and the texts. n_tokens int64; active int64 [d_sae], tokens
on which it is active; total float64 [d_sae], the sum of magnitudes over them; peaks int64 [n] and counts int64 [n], the
histogram of the peaks (`peak_bins`): counts[i] texts have a peak in the bin peaks[i] = feature * BINS + bin; token_ids
int32 and offsets int64 [texts + 1], the tokens of text i at offsets[i]:offsets[i + 1]; names and questions int32
[texts], indices into the lists of those names in the metadata, which also has the tokenizer's own `pieces` of
`piece_ids` int32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personascope.errors import UserError
from personascope.formats.files import atomic_path
from personascope.formats.tables import (
    METADATA_KEY,
    encode_metadata,
    json_array,
    load_all_npz,
    load_metadata,
    open_parquet,
    save_npz,
)

BEFORE, AFTER = 16, 8
WIDTH = BEFORE + 1 + AFTER
# A bin is an eighth of an octave: the exponent and three bits of the mantissa, from 2**-12 (all below) to 2**20.
MANTISSA_BITS, LOWEST, OCTAVES = 3, -12, 32
BINS = OCTAVES << MANTISSA_BITS


@dataclass(frozen=True)
class Contexts:
    """Texts by feature, n of them: feature, row, at int32 [n]; draw uint32 [n]; value float32 [n]; top bool [n];
    window float32 [n, WIDTH]."""

    feature: np.ndarray
    draw: np.ndarray
    value: np.ndarray
    row: np.ndarray
    at: np.ndarray
    top: np.ndarray
    window: np.ndarray

    def __len__(self) -> int:
        return len(self.feature)

    def take(self, chosen: np.ndarray) -> "Contexts":
        """Some of them, by index or as bool [n]."""
        return Contexts(*(getattr(self, name)[chosen] for name in CONTEXT_FIELDS))

    @staticmethod
    def joined(parts: Sequence["Contexts"]) -> "Contexts":
        """All of several, one after the other."""
        return Contexts(*(np.concatenate([getattr(part, name) for part in parts]) for name in CONTEXT_FIELDS))


CONTEXT_FIELDS = tuple(Contexts.__dataclass_fields__)


@dataclass(frozen=True)
class Texts:
    """The texts that were read, and the tokenizer's own pieces: token_ids int32, offsets int64 [n + 1]; names and
    questions of each text [n]; pieces {token id: piece}."""

    token_ids: np.ndarray
    offsets: np.ndarray
    names: list[str]
    questions: list[str]
    pieces: dict[int, str]


@dataclass(frozen=True)
class Activity:
    """How often features are active: n_tokens; active int64 [d_sae]; total float64 [d_sae]; histogram {feature * BINS +
    bin: texts} as two arrays, peaks int64 [n] ascending and counts int64 [n]."""

    n_tokens: int
    active: np.ndarray
    total: np.ndarray
    peaks: np.ndarray
    counts: np.ndarray

    def plus(self, other: "Activity") -> "Activity":
        """Both together; UserError where they are of SAEs of different width."""
        if len(self.active) != len(other.active):
            raise UserError(f"contexts of SAEs with {len(self.active)} and {len(other.active)} features; use one SAE")
        keys, places = np.unique(np.concatenate([self.peaks, other.peaks]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([self.counts, other.counts]), len(keys)).astype(np.int64)
        return Activity(
            self.n_tokens + other.n_tokens, self.active + other.active, self.total + other.total, keys, counts
        )


def peak_bins(values: np.ndarray) -> np.ndarray:
    """The bin of each magnitude, int64 [n]."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32) >> (23 - MANTISSA_BITS)
    return (bits.astype(np.int64) - ((127 + LOWEST) << MANTISSA_BITS)).clip(0, BINS - 1)


def bin_edges() -> np.ndarray:
    """The lower edges of all bins and the upper edge of the last, float64 [BINS + 1]."""
    steps = 1 << MANTISSA_BITS
    octave, part = np.divmod(np.arange(BINS + 1), steps)
    edges = 2.0 ** (octave + LOWEST) * (1 + part / steps)
    edges[0] = 0
    return edges


def save_contexts(path: str | Path, contexts: Contexts, metadata: dict[str, Any]) -> None:
    """Write the Parquet file, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array(getattr(contexts, name)) for name in CONTEXT_FIELDS[:-1]]
    columns.append(pa.FixedSizeListArray.from_arrays(pa.array(contexts.window.ravel()), WIDTH))
    table = pa.Table.from_arrays(columns, names=list(CONTEXT_FIELDS))
    with atomic_path(path) as temporary:
        described = table.replace_schema_metadata({METADATA_KEY: encode_metadata(metadata)})
        pq.write_table(described, temporary, compression="zstd")


def load_contexts(path: str | Path) -> Contexts:
    """Read the Parquet file; UserError where it is missing, damaged or of another kind."""
    import pyarrow as pa

    file, _ = open_parquet(path)
    if missing := [name for name in CONTEXT_FIELDS if name not in file.schema_arrow.names]:
        raise UserError(f"{path}: has no column {missing[0]}; is it the right kind of file?")
    try:
        table = file.read().combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]}); delete it and run again") from None
    arrays = {name: table.column(name).combine_chunks() for name in CONTEXT_FIELDS}
    window = np.asarray(arrays.pop("window").flatten()).reshape(-1, WIDTH)
    return Contexts(**{name: array.to_numpy(zero_copy_only=False) for name, array in arrays.items()}, window=window)


def save_activity(path: str | Path, activity: Activity, texts: Texts, metadata: dict[str, Any]) -> None:
    """Write the .npz file, atomically; metadata: what a reader wants to know of model and SAE."""
    lists: dict[str, list[str]] = {}
    arrays: dict[str, np.ndarray] = {}
    for name in ("names", "questions"):
        lists[name], arrays[name] = _indexed(getattr(texts, name))
    lists["pieces"] = list(texts.pieces.values())
    save_npz(
        path,
        n_tokens=np.int64(activity.n_tokens),
        **{name: getattr(activity, name) for name in ("active", "total", "peaks", "counts")},
        token_ids=texts.token_ids.astype(np.int32),
        offsets=texts.offsets.astype(np.int64),
        piece_ids=np.array(list(texts.pieces), np.int32),
        **arrays,
        metadata=json_array(metadata | lists),
    )


def load_activity(path: str | Path) -> tuple[Activity, Texts, dict[str, Any]]:
    """(activity, texts, metadata) of the .npz file; UserError where it is missing or damaged."""
    arrays, metadata = load_all_npz(path), load_metadata(path)
    try:
        lists = {name: metadata.pop(name) for name in ("names", "questions", "pieces")}
        activity = Activity(int(arrays["n_tokens"]), *(arrays[n] for n in ("active", "total", "peaks", "counts")))
        named, asked = ([lists[n][i] for i in arrays[n].tolist()] for n in ("names", "questions"))
        pieces = dict(zip(arrays["piece_ids"].tolist(), lists["pieces"], strict=True))
        return activity, Texts(arrays["token_ids"], arrays["offsets"], named, asked, pieces), metadata
    except KeyError as error:
        raise UserError(f"{path}: has no {error.args[0]}; is it the right kind of file?") from None


def _indexed(words: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The different words, and the index of each word among them, int32."""
    place = {word: i for i, word in enumerate(dict.fromkeys(words))}
    return list(place), np.array([place[word] for word in words], np.int32)
