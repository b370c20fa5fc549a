"""The parts of an explorer bundle as bytes: JSON, with its large arrays of numbers behind it.

A part is a little-endian uint32 n, n bytes of JSON in UTF-8, zeros up to a multiple of 8, and the arrays one behind
the other, each at a multiple of 8, little-endian. In the JSON an array is {"@": [kind, offset, length, order]}: kind is
a key of KINDS, offset counts bytes from the end of the JSON's padding, length counts numbers. order is what makes it
smaller under gzip: 0 as it is; 1 first bytes of all numbers, then their second ones, and so on; 2 the same of the
differences of successive integers, modulo their size. Integers of which few differ may be {"@of": [values, index]}, two
such arrays; many texts may be {"@text": [words, index, counts]}: text i is counts[i] words, one behind the other.
Arrays of more dimensions are flat, row by row. Texts have a visible sign where they have a hidden or
reordering character. A part stands in the page as text of its gzip (`encoded`).
"""

import gzip
import json
import re
import struct
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from personascope.display.text import visible
from personascope.formats.tables import plain

VERSION = 1  # of the bundle; a page refuses another one's parts
KINDS = {
    "f4": np.float32,
    "f8": np.float64,
    "i4": np.int32,
    "i2": np.int16,
    "u4": np.uint32,
    "u2": np.uint16,
}
KINDS |= {"u1": np.uint8}
_NAMES = {np.dtype(kind): name for name, kind in KINDS.items()}
ALIGN = 8
SMALL, MANY = 64, 5000  # numbers below which no order is tried; texts from which on words are counted
WORDS = re.compile(r"\S+|\s+")
# The characters of the text: all that are printed but the space, and those that end a script element or a string.
LETTERS = bytes(code for code in range(33, 127) if chr(code) not in '"<\\')
BITS = 13  # of two letters: 91 ** 2 > 2 ** 13, so that text is 23 % longer than its bytes, of base64 33 %
LAST = 6  # bits of a single letter at the end


def pack(value: Mapping[str, Any]) -> bytes:
    """A part's bytes; arrays of another type than those of KINDS are stored as float64 or int32."""
    chunks: list[bytes] = []
    size = 0

    def stored(array: np.ndarray) -> dict[str, Any]:
        nonlocal size
        if array.dtype not in _NAMES:
            array = array.astype(np.float64 if array.dtype.kind == "f" else np.int32)
        array = np.ascontiguousarray(array).ravel()
        orders = [_ordered(array, order) for order in _orders(array)]
        lengths = [len(zlib.compress(data)) for data in orders] if len(orders) > 1 else [0]
        table, index = _distinct(array)
        if index is not None and len(zlib.compress(_ordered(index, 1))) + table.nbytes < min(lengths):
            return {"@of": [stored(table), stored(index)]}
        order = int(np.argmin(lengths))
        entry = {"@": [_NAMES[array.dtype], size, int(array.size), order]}
        chunks.append(orders[order] + b"\0" * (-len(orders[order]) % ALIGN))
        size += len(chunks[-1])
        return entry

    def walk(item: Any) -> Any:
        if isinstance(item, str):
            return visible(item)
        if isinstance(item, np.ndarray):
            return stored(item)
        if isinstance(item, Mapping):
            return {visible(str(key)): walk(part) for key, part in item.items()}
        if isinstance(item, list | tuple):
            if len(item) >= MANY and all(isinstance(text, str) for text in item):
                words, index, counts = _worded([visible(text) for text in item])
                return {"@text": [words, stored(index), stored(counts)]}
            return [walk(part) for part in item]
        return plain(item)

    header = json.dumps(walk(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    head = struct.pack("<I", len(header)) + header
    return head + b"\0" * (-len(head) % ALIGN) + b"".join(chunks)


def unpack(data: bytes) -> dict[str, Any]:
    """What `pack` has packed, arrays flat: for tests, and for whoever reads a page's data without a browser."""
    (length,) = struct.unpack_from("<I", data)
    start = 4 + length + -(4 + length) % ALIGN

    def restored(item: dict[str, Any]) -> Any:
        if set(item) == {"@of"}:
            table, index = item["@of"]
            return table[index]
        if set(item) == {"@text"}:
            words, index, counts = item["@text"]
            ends = np.cumsum(counts)
            return ["".join(words[i] for i in index[end - n : end]) for n, end in zip(counts, ends, strict=True)]
        if set(item) != {"@"}:
            return item
        kind, offset, count, order = item["@"]
        array = np.frombuffer(data, KINDS[kind], count, start + offset)
        if order:
            array = np.ascontiguousarray(array.view(np.uint8).reshape(-1, count).T).view(KINDS[kind]).ravel()
        return np.cumsum(array, dtype=array.dtype) if order == 2 else array

    return json.loads(data[4 : 4 + length], object_hook=restored)


def _orders(array: np.ndarray) -> range:
    """The orders of its bytes that may be of use."""
    if array.size < SMALL or array.itemsize == 1:
        return range(1)
    return range(2 if array.dtype.kind == "f" else 3)


def _ordered(array: np.ndarray, order: int) -> bytes:
    if order == 2:
        array = np.diff(array, prepend=array.dtype.type(0))
    return (
        array.tobytes()
        if not order
        else np.ascontiguousarray(array.view(np.uint8).reshape(-1, array.itemsize).T).tobytes()
    )


def _distinct(array: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The values of integers of which few differ, the frequent ones first, and where each is among them."""
    if array.size < SMALL or array.dtype.kind == "f" or array.itemsize == 1:
        return array, None
    values, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    if 4 * len(values) > array.size or len(values) > 1 << 16:
        return array, None
    order = np.argsort(-counts, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return values[order], place[inverse].astype(np.uint8 if len(values) <= 256 else np.uint16)


def _worded(texts: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """All words of the texts, the frequent ones first; which they are, one text behind the other; and their counts."""
    parts = [WORDS.findall(text) for text in texts]
    words = [word for word, _ in Counter(word for part in parts for word in part).most_common()]
    place = {word: i for i, word in enumerate(words)}
    kind = np.uint16 if len(words) <= 1 << 16 else np.int32
    index = np.array([place[word] for part in parts for word in part], kind)
    return words, index, np.array([len(part) for part in parts], np.int32)


def encoded(data: bytes) -> str:
    """The gzip as text: 13 bits, the highest first, are two of LETTERS, and up to 6 at the end one. The same bytes
    give the same text."""
    bits = np.unpackbits(np.frombuffer(gzip.compress(data, 9, mtime=0), np.uint8))
    rest = len(bits) % BITS
    bits = np.append(bits, np.zeros(-len(bits) % BITS, np.uint8)).reshape(-1, BITS)
    numbers = bits @ (1 << np.arange(BITS - 1, -1, -1, dtype=np.int32))
    pairs = np.stack(np.divmod(numbers, len(LETTERS)), 1).ravel()
    if 0 < rest <= LAST:
        pairs = np.append(pairs[:-2], numbers[-1] >> (BITS - LAST))
    return np.frombuffer(LETTERS, np.uint8)[pairs].tobytes().decode()


def decoded(text: str) -> bytes:
    """The bytes of `encoded`."""
    place = np.zeros(128, np.int32)
    place[list(LETTERS)] = np.arange(len(LETTERS))
    values = place[np.frombuffer(text.encode(), np.uint8)]
    pairs = values[: len(values) // 2 * 2].reshape(-1, 2)
    numbers = (pairs[:, 0] * len(LETTERS) + pairs[:, 1]).astype(">u2")
    bits = np.unpackbits(numbers.view(np.uint8)).reshape(-1, 16)[:, 16 - BITS :].ravel()
    if len(values) % 2:
        bits = np.append(bits, np.unpackbits(values[-1:].astype(np.uint8))[8 - LAST :])
    return gzip.decompress(np.packbits(bits[: len(bits) // 8 * 8]).tobytes())
