"""Parts of roles: how alike they are, where the axis lies among them, their features, and what they said."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.axis import TRANSFORMS
from personascope.directions.figures.order import cluster_order
from personascope.directions.persona_vectors import principal_axes
from personascope.explorer.features import DIGITS, rounded
from personascope.formats.features import iter_features
from personascope.formats.files import iter_jsonl
from personascope.formats.responses import count_oddities
from personascope.formats.role_matrix import RoleMatrix, load_role_matrix
from personascope.formats.tables import load_all_npz, numbers, plain, read_csv

COMPONENTS = 3
EXACT = 500_000  # role x feature values up to which all are on the page


def roles_part(
    axis: Path, aggregated: Path, transform: str, groups: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """What the roles view shows of each space: similarity in clustered order, principal components with the axis in
    them, projections on the axis with their intervals.

    axis, aggregated: folders of the cell; transform: of the role matrix, as the axis has it; groups: {label: roles}.
    """
    tables = {name: read_csv(axis / f"{name}.csv") for name in ("role_projections", "role_similarity")}
    axes, matrices = load_all_npz(axis / "axis.npz"), role_matrices(aggregated, transform)
    spaces = []
    for space, group in tables["role_similarity"].groupby("space", sort=False):
        names = group["role"].astype(str).tolist()
        similar = group[names].to_numpy(np.float32)
        key = str(space).replace(" ", "_")
        content: dict[str, Any] = {"space": str(space), "roles": names, "similarity": similar}
        content |= {"order": cluster_order(similar)}
        projections = tables["role_projections"]
        own = pd.DataFrame(projections[projections["space"] == space])
        for column in own.columns.difference(["space", "role", "kind"]):  # one variant or question gives no interval
            own[column] = numbers(own, str(column))
        content["projections"] = plain(own.to_dict("records"))
        if key in matrices and f"diff_{key}" in axes:
            content["pca"] = principal(*matrices[key], axes[f"diff_{key}"])
        spaces.append(content)
    return {"spaces": spaces, "groups": [{"label": label, "roles": list(own)} for label, own in (groups or {}).items()]}


def role_matrices(aggregated: Path, transform: str) -> dict[str, tuple[np.ndarray, list[str]]]:
    """{space: (role vectors float32 [R, d] in role space, names)}; a space that was not made is left out."""
    found = {}
    if (path := aggregated / "mean" / "per_role.npz").is_file():
        matrix = load_role_matrix(path)
        found["sae"] = (TRANSFORMS[transform](matrix.features), matrix.role_names)
    if (path := aggregated / "residual" / "per_role.npz").is_file():
        matrix, arrays = load_role_matrix(path), load_all_npz(path)
        for i, layer in enumerate(arrays["layers"].tolist() if "layers" in arrays else []):
            found[f"residual_layer_{layer}"] = (matrix.features[:, i], matrix.role_names)
    return found


def principal(vectors: np.ndarray, names: Sequence[str], axis: np.ndarray) -> dict[str, Any]:
    """Coordinates of the roles [R, k] on their first components, shares of the variance, and the unit axis on the same
    components [k]; signs so that the axis points to the right and up."""
    centered = (vectors - vectors.mean(0)).astype(np.float64)
    components, shares = (part[:COMPONENTS] for part in principal_axes(centered))
    along = components @ axis.astype(np.float64)
    signs = np.where(along < 0, -1.0, 1.0)
    return {
        "roles": list(names),
        "coordinates": centered @ components.T * signs,
        "shares": shares.tolist(),
        "axis": (along * signs).tolist(),
    }


def profiles_part(aggregated: Path, features: Path, alive: np.ndarray, best: np.ndarray) -> dict[str, Any]:
    """Mean activation of each role on the alive features [R, n], with standard errors over questions where each role
    has at least two.

    Where these are more than EXACT values, only those of the features at the places `best`, which `places` repeats, and
    with fewer digits.
    """
    matrix = load_role_matrix(aggregated / "mean" / "per_role.npz")
    part: dict[str, Any] = {"names": matrix.role_names, "n_responses": matrix.n_responses.tolist()}
    few = len(matrix.role_names) * len(alive) <= EXACT
    if not few:
        part["places"], alive = best.astype(np.int32), alive[best]
    mean, error = matrix.features[:, alive], standard_errors(matrix, features, alive)
    part["error_of"] = "questions" if error is not None else ""
    if few:
        return part | {"mean": mean, "error": error}
    return part | {"mean": rounded(mean, DIGITS), "error": None if error is None else rounded(error, 5)}


def standard_errors(matrix: RoleMatrix, folder: Path, wanted: np.ndarray) -> np.ndarray | None:
    """Standard errors float32 [R, m] of the roles' means on the features `wanted` [m], over questions: the means of
    each question's responses count as independent. None where a role's responses are not there or have one question.

    A role in which a feature was never active has an error of 0 by itself, which would make every rare feature set it
    apart: it has the root mean square of the roles' errors instead.
    """
    width = matrix.features.shape[1]
    errors = np.zeros((len(matrix.role_names), len(wanted)), np.float32)
    for i, name in enumerate(matrix.role_names):
        path = folder / f"{name}.parquet"
        if not path.is_file():
            return None
        sums: dict[int, np.ndarray] = {}
        counts: dict[int, int] = {}
        for block in iter_features(path, ("mean",)):
            for row, question in enumerate(block.question_id.tolist()):
                lo, hi = block.offsets[row : row + 2]
                total = sums.setdefault(question, np.zeros(width, np.float32))
                total[block.indices[lo:hi]] += block.mean[lo:hi]
                counts[question] = counts.get(question, 0) + 1
        if len(sums) < 2:
            return None
        means = np.stack([sums[question][wanted] / counts[question] for question in sums])
        errors[i] = means.std(0, ddof=1) / np.sqrt(len(means))
    usual = np.sqrt(np.mean(errors.astype(np.float64) ** 2, axis=0)).astype(np.float32)
    return np.where(errors == 0, usual, errors)


def responses_part(folder: Path, names: Sequence[str], most: int) -> dict[str, Any]:
    """Up to `most` responses of each role, evenly over its file, how many it has, and how many of these are odd."""
    read = {}
    for name in names:
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            continue
        rows = list(iter_jsonl(path))
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)) if rows else []
        odd = {what: n for what, n in count_oddities(rows).items() if what != "responses"}
        read[name] = {"n": len(rows), "shown": [_response(rows[i]) for i in chosen], "odd": odd}
    return {"roles": read}


def _response(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt_index": row.get("prompt_index"),
        "question": row.get("question", ""),
        "system": row.get("system_prompt", ""),
        "response": row.get("response", ""),
        "reasoning": row.get("reasoning"),
        "ended": row.get("finish_reason", "stop"),
    }


def table_rows(path: Path) -> list[dict[str, Any]]:
    """A CSV table of ours as plain rows; an empty cell is null."""
    table = pd.read_csv(path, dtype={"role": str})
    return plain(table.astype(object).where(table.notna(), None).to_dict("records"))
