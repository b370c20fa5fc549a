"""The assistant axis: the direction in role space that points toward the assistant.

Methods (Lu et al. 2026, arXiv 2601.10387): ``diff`` is v_assistant - mean(v_others); ``pc1`` is the first
principal component of the role vectors, with the sign that agrees with diff. Both are unit vectors. This is their
only definition; `bootstrap` computes many of them at once and is tested against it.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.options import AxisOptions
from personascope.errors import UserError
from personascope.formats.role_matrix import load_role_matrix
from personascope.formats.tables import load_npz, save_npz, write_csv

log = logging.getLogger(__name__)

EPS = 1e-8
BLOCK_COLUMNS = 8192  # features that are in float64 at a time: 3 MiB at 50 roles

# Variants of the transform into role space; log1p keeps the sign where values can be negative.
TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "raw": lambda x: np.asarray(x, np.float32),
    "log1p": lambda x: np.sign(x) * np.log1p(np.abs(np.asarray(x, np.float32))),
}


@dataclass(frozen=True)
class ScoredAxis:
    """The axis that turns are scored on, and what it is made from, D dimensions and R roles.

    axis float32 [D]: unit; mean float32 [D]: mean role vector in role space (0 where it is centered); assistant: row
    of the assistant; others: rows that it is held against; agreement: cos(diff, pc1).
    """

    axis: np.ndarray
    mean: np.ndarray
    assistant: int
    others: list[int]
    role_names: list[str]
    agreement: float


@dataclass(frozen=True)
class RoleSpace(ScoredAxis):
    """The same with the role vectors, float32.

    space [R, D]: transformed (and centered) role vectors; directions [R, D]: their unit vectors.
    """

    space: np.ndarray
    directions: np.ndarray


def unit(x: np.ndarray) -> np.ndarray:
    """x divided by its L2 norm along the last axis (at least EPS)."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), EPS)


def role_space(features: np.ndarray, transform: str, use_centering: bool) -> np.ndarray:
    """Role vectors [R, d] in role space: transformed, and minus the mean role where asked for."""
    space = TRANSFORMS[transform](features)
    return space - space.mean(0, keepdims=True) if use_centering else space


def assistant_index(names: Sequence[str], assistant: str) -> int:
    """Row of the assistant role (matched trimmed, in any case); UserError where it is missing or not unique."""
    matches = [i for i, name in enumerate(names) if name.strip().lower() == assistant.strip().lower()]
    if len(matches) != 1:
        found = "is not among" if not matches else f"occurs {len(matches)} times in"
        raise UserError(f"axis.assistant_role: {assistant!r} {found} the {len(names)} roles of the matrix")
    return matches[0]


def other_indices(names: Sequence[str], assistant: int, group: str, subset: Sequence[str]) -> list[int]:
    """Rows of the roles that the assistant is held against; unknown names are warned about, an empty set an error."""
    if group == "all_other_roles":
        others = [i for i in range(len(names)) if i != assistant]
    else:
        rows = {name: i for i, name in enumerate(names)}
        if missing := [name for name in subset if name not in rows]:
            log.warning("axis.roleplay_subset: not among the roles, ignored: %s", ", ".join(missing))
        others = sorted({rows[name] for name in subset if name in rows} - {assistant})
    if not others:
        raise UserError(f"axis.other_group: {group} leaves no role besides the assistant; name some that exist")
    return others


def diff_axis(space: np.ndarray, assistant: int, others: Sequence[int]) -> np.ndarray:
    """Unit axis float32 [D] = v_assistant - mean(v_others); points toward the assistant."""
    return unit(space[assistant] - space[list(others)].mean(0))


def pc1_axis(space: np.ndarray, assistant: int, others: Sequence[int]) -> np.ndarray:
    """First principal component float32 [D] of the rows [R, D], unit, with the sign that agrees with diff_axis."""
    component, _ = principal_components(space)
    return -component if component @ diff_axis(space, assistant, others) < 0 else component


AXIS_METHODS: dict[str, Callable[[np.ndarray, int, Sequence[int]], np.ndarray]] = {"diff": diff_axis, "pc1": pc1_axis}


def principal_components(space: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First principal component of the rows [R, D], unit float32 [D] (sign arbitrary), and the shares of the variance
    of all min(R - 1, D) components, largest first.

    From the R x R Gram matrix of the centered rows C: its top eigenvector u gives the component C^T u, and its
    eigenvalues are the variances.
    """
    mean = space.mean(0, dtype=np.float64)
    blocks = [slice(start, start + BLOCK_COLUMNS) for start in range(0, space.shape[1], BLOCK_COLUMNS)]
    gram = np.zeros((len(space), len(space)))
    for block in blocks:
        centered = space[:, block] - mean[block]
        gram += centered @ centered.T
    values, vectors = np.linalg.eigh(gram)
    component = unit(np.concatenate([vectors[:, -1] @ (space[:, block] - mean[block]) for block in blocks]))
    variances = np.maximum(values[::-1][: max(min(len(space) - 1, space.shape[1]), 1)], 0)
    return component.astype(np.float32), variances / max(variances.sum(), EPS)


def role_space_of(features: np.ndarray, names: Sequence[str], options: AxisOptions) -> RoleSpace:
    """Role vectors [R, D] in role space, and the axis; UserError names the option that does not fit the roles."""
    assistant = assistant_index(names, options.assistant_role)
    others = other_indices(names, assistant, options.other_group, options.roleplay_subset)
    space = role_space(features, options.transform, options.use_centering)
    axes = {name: method(space, assistant, others) for name, method in AXIS_METHODS.items()}
    # Centered rows have mean 0; what rounding leaves of it would make every inactive feature of a turn nonzero.
    mean = np.zeros(space.shape[1], np.float32) if options.use_centering else space.mean(0)
    return RoleSpace(
        space=space,
        directions=unit(space),
        mean=mean,
        axis=axes[options.axis_method],
        assistant=assistant,
        others=others,
        role_names=list(names),
        agreement=float(axes["diff"] @ axes["pc1"]),
    )


@dataclass(frozen=True)
class Axis:
    """Unit axes float32 [d], their agreement, and what follows for the roles.

    agreement: cos(diff, pc1); variance_shares [min(R - 1, d)]: PCA spectrum of the role vectors;
    similarity [R, R]: cosines between role vectors; projections: {"diff", "pc1"} -> [R].
    """

    diff: np.ndarray
    pc1: np.ndarray
    agreement: float
    variance_shares: np.ndarray
    similarity: np.ndarray
    projections: dict[str, np.ndarray]
    role_names: list[str]


def assistant_axis(features: np.ndarray, names: Sequence[str], options: AxisOptions) -> Axis:
    """Both axes from a role matrix [R, d]; UserError names the option that does not fit the roles."""
    roles = role_space_of(features, names, options)
    axes = {name: method(roles.space, roles.assistant, roles.others) for name, method in AXIS_METHODS.items()}
    _, shares = principal_components(roles.space)
    return Axis(
        **axes,
        agreement=roles.agreement,
        variance_shares=shares,
        similarity=roles.directions @ roles.directions.T,
        projections={name: roles.space @ axis for name, axis in axes.items()},
        role_names=list(names),
    )


def axes_of_spaces(mean: str | Path, residual: str | Path | None, options: AxisOptions) -> dict[str, Axis]:
    """The axis in SAE space ("sae") and, untransformed, in residual space on each layer kept ("residual layer k")."""
    matrix = load_role_matrix(mean)
    axes = {"sae": assistant_axis(matrix.features, matrix.role_names, options)}
    if residual is not None:
        vectors = load_role_matrix(residual)
        (layers,) = load_npz(residual, "layers")
        for i, layer in enumerate(layers):
            raw = replace(options, transform="raw")
            axes[f"residual layer {layer}"] = assistant_axis(vectors.features[:, i], vectors.role_names, raw)
    return axes


def write_axis(
    mean: str | Path, residual: str | Path | None, options: AxisOptions, *, arrays: str | Path, tables: Sequence[str]
) -> None:
    """From role matrices to the stage's files: the unit axes, and each table under the file of its name."""
    axes = axes_of_spaces(mean, residual, options)
    made = axis_tables(axes)
    for path in tables:
        write_csv(path, made[Path(path).stem])
    save_npz(arrays, **axis_arrays(axes))


def axis_arrays(axes: dict[str, Axis]) -> dict[str, np.ndarray]:
    """The unit axes as named arrays: diff_sae, pc1_sae, diff_residual_layer_15, ..., and role_names."""
    arrays = {"role_names": np.array(next(iter(axes.values())).role_names, dtype=np.str_)}
    for space, axis in axes.items():
        arrays[f"diff_{space.replace(' ', '_')}"] = axis.diff
        arrays[f"pc1_{space.replace(' ', '_')}"] = axis.pc1
    return arrays


def axis_tables(axes: dict[str, Axis]) -> dict[str, pd.DataFrame]:
    """Tables over spaces ({"sae": axis, "residual layer 15": axis, ...}), one row an item, for people and figures."""
    agreement: list[dict[str, Any]] = []
    spectrum, roles, similarity = [], [], []
    for space, axis in axes.items():
        agreement.append(
            {"space": space, "cos_diff_pc1": axis.agreement, "pc1_variance_share": float(axis.variance_shares[0])}
        )
        shares = axis.variance_shares
        spectrum.append(
            pd.DataFrame(
                {
                    "space": space,
                    "component": np.arange(1, len(shares) + 1),
                    "variance_share": shares,
                    "cumulative": np.cumsum(shares),
                }
            )
        )
        roles.append(
            pd.DataFrame({"space": space, "role": axis.role_names, **axis.projections}).sort_values(
                "diff", ascending=False
            )
        )
        pairs = pd.DataFrame(axis.similarity, index=axis.role_names, columns=axis.role_names)
        similarity.append(pairs.rename_axis("role").reset_index().assign(space=space))
    return {
        "agreement": pd.DataFrame(agreement),
        "pca_spectrum": pd.concat(spectrum, ignore_index=True),
        "role_projections": pd.concat(roles, ignore_index=True),
        "role_similarity": pd.concat(similarity, ignore_index=True),
    }
