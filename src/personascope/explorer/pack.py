"""The parts of an explorer bundle as bytes: JSON, with its large arrays of numbers behind it.

A part is a little-endian uint32 n, n bytes of JSON in UTF-8, zeros up to a multiple of 8, and the arrays one behind
the other, each at a multiple of 8, little-endian. In the JSON an array is {"@": [kind, offset, length]}: kind is a key
of KINDS, offset counts bytes from the end of the JSON's padding, length counts numbers. Arrays of more dimensions are
flat, row by row. Texts have a visible sign where they have a hidden or reordering character. A part stands in the page
as base64 of its gzip.
"""

import base64
import gzip
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from personascope.display.text import visible
from personascope.formats.tables import plain

VERSION = 1  # of the bundle; a page refuses another one's parts
KINDS = {
    "f2": np.float16,
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


def pack(value: Mapping[str, Any]) -> bytes:
    """A part's bytes; arrays of another type than those of KINDS are stored as float64 or int32."""
    chunks: list[bytes] = []
    size = 0

    def stored(array: np.ndarray) -> dict[str, Any]:
        nonlocal size
        if array.dtype not in _NAMES:
            array = array.astype(np.float64 if array.dtype.kind == "f" else np.int32)
        data = np.ascontiguousarray(array).tobytes()
        entry = {"@": [_NAMES[array.dtype], size, int(array.size)]}
        chunks.append(data + b"\0" * (-len(data) % ALIGN))
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
        if set(item) != {"@"}:
            return item
        kind, offset, count = item["@"]
        return np.frombuffer(data, KINDS[kind], count, start + offset)

    return json.loads(data[4 : 4 + length], object_hook=restored)


def encoded(data: bytes) -> str:
    """Base64 of the gzip; the same bytes give the same text."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def decoded(text: str) -> bytes:
    """The bytes of `encoded`."""
    return gzip.decompress(base64.b64decode(text))
