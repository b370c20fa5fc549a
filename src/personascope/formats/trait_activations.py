"""The residual stream of a trait's responses: an .npz of blocks, float32 [rows, reading, n_layers, d_model].

The rows are those of the responses' file, in its order. Written block by block, so that a writer holds one of them;
`metadata` is a JSON object (model, layers, layer convention, readings, rows, ...).
Not float16: its largest number is 65,504, which the residual stream of some models (Gemma 3) exceeds.
"""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from personascope.errors import UserError
from personascope.formats.files import atomic_path
from personascope.formats.tables import encode_metadata, load_npz

# The mean over the answer's tokens (the one used), the mean over the prompt's, and the prompt's last token.
READINGS = ("response_avg", "prompt_avg", "prompt_last")


def write_trait_activations(path: str | Path, blocks: Iterable[np.ndarray], metadata: dict[str, Any]) -> None:
    """Stream blocks [rows, 3, n_layers, d_model] into one .npz, atomically."""
    rows = count = 0
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for count, block in enumerate(blocks, start=1):
            rows += len(block)
            _add(archive, f"block_{count - 1}", np.ascontiguousarray(block, np.float32))
        text = encode_metadata(metadata | {"rows": rows, "blocks": count, "readings": list(READINGS)}).decode()
        _add(archive, "metadata", np.array(text))


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        npy.write_array(file, array, allow_pickle=False)


def read_trait_activations(path: str | Path, reading: str) -> tuple[np.ndarray, dict[str, Any]]:
    """(one reading of all rows, float32 [n, n_layers, d_model]; metadata). UserError where the file is not of ours."""
    (text,) = load_npz(path, "metadata")
    metadata = json.loads(str(text))
    found: np.ndarray | None = None
    row, place = 0, READINGS.index(reading)
    for number in range(metadata["blocks"]):
        (block,) = load_npz(path, f"block_{number}")
        if found is None:
            found = np.empty((metadata["rows"], *block.shape[2:]), np.float32)
        found[row : row + len(block)] = block[:, place]
        row += len(block)
    if found is None or row != metadata["rows"]:
        raise UserError(f"{path}: {row} rows of {metadata['rows']}; delete it and run again")
    return found, metadata
