"""Persona vectors: the mean residual stream of each role's answers at some layers, and how the roles lie to each other.

Vectors of one model share most of what they are: their raw cosines are all near 1. What tells roles apart is what is
left when the mean role is taken off, so that the tables have both. How much of that is noise is seen from quarters of
the responses: every other instruction variant, and of these every other block of questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.axis import unit
from personascope.directions.block_sums import BlockSums
from personascope.directions.spaces import axis_spaces
from personascope.errors import UserError
from personascope.formats.directions import Directions, save_directions
from personascope.formats.role_matrix import load_role_matrix
from personascope.formats.tables import load_metadata, load_npz, write_csv

COMPONENTS = 10
RAW = ", raw"  # behind the name of a space whose vectors still have the mean role
QUARTERS = ((0, 0), (1, 1), (0, 1), (1, 0))  # of variants and question blocks; neighbors share neither


@dataclass(frozen=True)
class Personas:
    """vectors float32 [R, L, d_model] of R roles at L layers; quarters float32 [R, 4, L, d_model]: the same from each
    of QUARTERS of the responses (from two halves of the questions, [R, 2, L, d_model], where there is one variant; NaN
    where there is no response); counts int64 [R]: responses with tokens; metadata: of the activations."""

    roles: list[str]
    layers: list[int]
    vectors: np.ndarray
    quarters: np.ndarray
    counts: np.ndarray
    metadata: dict[str, Any]


def read_personas(matrix: str | Path, sums: dict[str, str | Path], layers: Sequence[int]) -> Personas:
    """Some layers of a per_role.npz of residual means, and quarters of {role: its block sums}; UserError where a layer
    was not kept."""
    found, metadata = load_role_matrix(matrix), load_metadata(matrix)
    if "model" not in metadata:
        raise UserError(f"{matrix}: does not say of which model; aggregate again")
    (there,) = load_npz(matrix, "layers")
    if missing := sorted(set(layers) - set(there.tolist())):
        raise UserError(f"{matrix}: nothing of layer {missing[0]}; there are layers {there.tolist()}")
    kept = [there.tolist().index(layer) for layer in layers]
    quarters = [_quarters(BlockSums.load(sums[role], ["residual_sums"]), kept) for role in found.role_names]
    if len({len(part) for part in quarters}) > 1:
        raise UserError(f"{matrix}: some roles have one instruction variant, some several; extract all of them alike")
    vectors = found.features[:, kept]
    return Personas(found.role_names, list(layers), vectors, np.stack(quarters), found.n_responses, metadata)


def _quarters(sums: BlockSums, rows: list[int]) -> np.ndarray:
    """Means of a role's responses over each quarter, float32 [4, L, d], or over halves of the questions, [2, L, d]."""
    cells, counts = sums.residual_sums[:, :, rows], sums.counts
    blocks = np.arange(counts.shape[1]) % 2
    variants = np.arange(counts.shape[0]) % 2
    parts = QUARTERS if len(variants) > 1 else ((0, 0), (0, 1))
    means = []
    for variant, block in parts:
        chosen = np.ix_(variants == variant, blocks == block)
        n = counts[chosen].sum()
        total = cells[chosen].sum((0, 1), dtype=np.float64)
        means.append(total / n if n else np.full_like(total, np.nan))
    return np.stack(means).astype(np.float32)


def write_persona_vectors(
    matrix: str | Path,
    sums: dict[str, str | Path],
    layers: Sequence[int],
    *,
    vectors: str | Path,
    cosine: str | Path,
    pca: str | Path,
    roles: str | Path,
) -> None:
    """Write the vectors as safetensors, and the tables of cosines, components and roles."""
    made = read_personas(matrix, sums, layers)
    save_directions(vectors, persona_directions(made))
    for path, table in ((cosine, cosine_table(made)), (pca, pca_table(made)), (roles, role_table(made))):
        write_csv(path, table)


def persona_directions(personas: Personas) -> Directions:
    """The vectors by role, with the mean role in them."""
    counts = dict(zip(personas.roles, personas.counts.tolist(), strict=True))
    metadata = personas.metadata | {"kind": "persona", "centered": False, "n_responses": counts}
    return Directions(dict(zip(personas.roles, personas.vectors, strict=True)), personas.layers, metadata)


def cosine_table(personas: Personas) -> pd.DataFrame:
    """Cosines between roles: a row a role and space, a column a role. "residual layer 15" is without the mean role,
    "residual layer 15, raw" with it."""
    parts = []
    for i, space in enumerate(axis_spaces(personas.layers)[1:]):
        raw = personas.vectors[:, i].astype(np.float64)
        for name, vectors in ((space, raw - raw.mean(0)), (space + RAW, raw)):
            directions = unit(vectors)
            columns = dict(zip(personas.roles, (directions @ directions.T), strict=True))
            parts.append(pd.DataFrame({"space": name, "role": personas.roles, **columns}))
    return pd.concat(parts, ignore_index=True)


def pca_table(personas: Personas) -> pd.DataFrame:
    """Principal components of the centered role vectors: a row a layer, role and component, with the component's share
    of the variance, the role's coordinate, and where each quarter of its responses lies (part_1, ...)."""
    rows = []
    for i, layer in enumerate(personas.layers):
        vectors = personas.vectors[:, i].astype(np.float64)
        mean = vectors.mean(0)
        components, shares = principal_axes(vectors - mean)
        coordinates = (vectors - mean) @ components.T
        parts = (personas.quarters[:, :, i] - mean) @ components.T
        for k, share in enumerate(shares):
            columns = {"layer": layer, "role": personas.roles, "component": k + 1, "variance_share": share}
            columns["coordinate"] = coordinates[:, k]
            columns |= {f"part_{q + 1}": parts[:, q, k] for q in range(parts.shape[1])}
            rows.append(pd.DataFrame(columns))
    return pd.concat(rows, ignore_index=True)


def principal_axes(centered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit components [K, d] of centered rows [R, d] and their shares of the variance [K], the largest first; the role
    that lies farthest out on a component is on its positive side. K <= COMPONENTS."""
    left, scales, right = np.linalg.svd(centered, full_matrices=False)
    n = min(COMPONENTS, max(len(centered) - 1, 1), len(scales))
    far = left[np.abs(left).argmax(0), np.arange(len(scales))]
    signs = np.where(far[:n] < 0, -1.0, 1.0)
    return right[:n] * signs[:, None], scales[:n] ** 2 / max(float((scales**2).sum()), 1e-30)


def role_table(personas: Personas) -> pd.DataFrame:
    """A row a layer and role: its responses, the norm of its vector with and without the mean role, and split_half: the
    cosine of its vectors, each without the mean role of its part, from parts of the responses that share neither
    questions nor variants (two pairs of quarters, averaged; not stepped up to all responses)."""
    rows = []
    for i, layer in enumerate(personas.layers):
        vectors = personas.vectors[:, i].astype(np.float64)
        parts = personas.quarters[:, :, i].astype(np.float64)
        parts = unit(parts - parts.mean(0))
        agreement = (parts[:, ::2] * parts[:, 1::2]).sum(2).mean(1)
        columns = {"layer": layer, "role": personas.roles, "n_responses": personas.counts}
        columns["norm"] = np.linalg.norm(vectors, axis=1)
        columns["norm_centered"] = np.linalg.norm(vectors - vectors.mean(0), axis=1)
        rows.append(pd.DataFrame(columns | {"split_half": agreement}))
    return pd.concat(rows, ignore_index=True)
