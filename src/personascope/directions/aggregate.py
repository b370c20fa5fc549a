"""One vector a role: streaming mean and max over its responses, without a dense row ever being made.

Per role, float32 ``[R, d_sae]``: the mean of the response means, the max (by magnitude, with its sign) of the response
maxima, and the mean of the response maxima; residual persona vectors, ``[R, n_layers_kept, d_model]``: the mean of the
residual means. Responses without a token (empty answers) have no activations and are left out; they are counted.
"""

import logging
import os
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from personascope.errors import UserError
from personascope.formats.features import iter_features, raise_peaks, residual_column
from personascope.formats.role_matrix import RoleMatrix
from personascope.formats.tables import iter_tables, open_parquet

log = logging.getLogger(__name__)

MAX_THREADS = 8
POOLINGS = ("mean", "max", "mean_of_max")
KEYS = ("prompt_index", "question_id")

# What must be the same in all files of a matrix.
SAME = ("model", "weights", "dtype", "sae", "sae_weights", "template", "token_selection", "residual_layers", "d_sae")

# What of it describes a vector in the residual stream.
DESCRIBED = ("model", "weights", "dtype", "template", "token_selection", "layer_convention")


# {role: (instruction variant, question) of the responses that count}; of a role that is not in it, all do.
Kept = Mapping[str, Set[tuple[int, int]]]
ALL: Kept = {}


def aggregate_features(files: dict[str, str | Path], kept: Kept = ALL) -> dict[str, RoleMatrix]:
    """{one of POOLINGS: matrix} from {role: features file}; UserError where files do not belong together.

    mean: mean of the response means; max: max of the response maxima, which grows with the number of responses;
    mean_of_max: mean of the response maxima, which the maxima of a turn can be held against.
    """
    names = sorted(files)
    d_sae = _common_metadata([files[name] for name in names])["d_sae"]
    matrices = {pooling: np.zeros((len(names), d_sae), np.float32) for pooling in POOLINGS}
    counts = np.zeros(len(names), np.int64)
    # Decoding Parquet is most of the work and leaves the interpreter's lock alone: one role a core.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as pool:
        poolings = pool.map(lambda name: pool_role(files[name], d_sae, kept.get(name)), names)
        for row, (name, (pooled, count)) in enumerate(zip(names, poolings, strict=True)):
            _require_tokens(count, name, files[name])
            counts[row] = count
            for pooling, vector in pooled.items():
                matrices[pooling][row] = vector
    return {pooling: RoleMatrix(matrix, names, counts) for pooling, matrix in matrices.items()}


def pool_role(
    path: str | Path, d_sae: int, kept: Set[tuple[int, int]] | None = None
) -> tuple[dict[str, np.ndarray], int]:
    """{pooling: vector [d_sae]} of a role, and how many of its responses (of those kept) have tokens."""
    totals = {"mean": np.zeros(d_sae), "max": np.zeros(d_sae)}
    peak, count = np.zeros(d_sae, np.float32), 0
    for block in iter_features(path):
        if kept is not None:
            block = block.rows(np.array([key in kept for key in block.row_keys()], bool))
        for name, total in totals.items():
            values = getattr(block, name)
            rows = csr_array((values, block.indices, block.offsets.astype(np.int32)), shape=(len(block), d_sae))
            total += rows.T @ np.ones(len(block), np.float32)
        raise_peaks(peak, block.indices, block.max)
        count += int(np.count_nonzero(block.n_tokens))
    n = max(count, 1)
    return {"mean": totals["mean"] / n, "max": peak, "mean_of_max": totals["max"] / n}, count


def aggregate_residuals(files: dict[str, str | Path], kept: Kept = ALL) -> tuple[RoleMatrix, np.ndarray]:
    """Persona vectors [R, n_layers_kept, d_model] and the layers int32, from {role: residuals file}."""
    names = sorted(files)
    layers = _common_metadata([files[name] for name in names])["residual_layers"]
    vectors, counts = [], np.zeros(len(names), np.int64)
    for row, name in enumerate(names):
        total: Any = 0.0
        for table in iter_tables(files[name], [*KEYS, "n_tokens", *map(residual_column, layers)]):
            here = np.asarray(table.column("n_tokens")) > 0
            if name in kept:
                keys = zip(*(table.column(key).to_pylist() for key in KEYS), strict=True)
                here &= np.array([key in kept[name] for key in keys], bool)
            counts[row] += here.sum()
            columns = [_vectors(table.column(residual_column(layer)), len(here)) for layer in layers]
            total = total + np.stack([column[here].sum(0, dtype=np.float64) for column in columns])
        _require_tokens(counts[row], name, files[name])
        vectors.append(total / counts[row])
    return RoleMatrix(np.stack(vectors).astype(np.float32), names, counts), np.array(layers, np.int32)


def residual_description(files: dict[str, str | Path]) -> dict[str, Any]:
    """What directions made of residual means say of themselves: model, weights, dtype, layers and their convention."""
    metadata = _common_metadata(list(files.values()))
    return {name: metadata[name] for name in DESCRIBED if metadata.get(name) is not None}


def _require_tokens(count: int, role: str, path: str | Path) -> None:
    if count == 0:
        raise UserError(
            f"{path}: no response of role {role} has a token of an answer; generate it again, with "
            "a higher generation.max_tokens where reasoning has used them up"
        )


def _vectors(column: Any, rows: int) -> np.ndarray:
    return np.asarray(column.flatten()).reshape(rows, -1)


def _common_metadata(paths: Sequence[str | Path]) -> dict[str, Any]:
    """The files' metadata; UserError names the file and key where one differs from the first."""
    _, first = open_parquet(paths[0])
    for path in paths[1:]:
        _, metadata = open_parquet(path)
        for key in SAME:
            if metadata.get(key) != first.get(key):
                raise UserError(
                    f"{path}: {key} is {metadata.get(key)}, but {first.get(key)} in {paths[0]}; "
                    "extract them with the same model and SAE before aggregating"
                )
    return first
