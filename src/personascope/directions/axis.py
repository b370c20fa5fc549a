"""The assistant axis: the direction in role space that points toward the assistant.

Methods (Lu et al. 2026, arXiv 2601.10387): ``diff`` is v_anchor - mean(v_others), where v_anchor is the mean of the
anchor roles' vectors; ``pc1`` is the first principal component of the role vectors, with the sign that agrees with
diff. Both are unit vectors. This is their only definition; `bootstrap` computes many of them at once and is tested
against it.

The role `default` has no persona: it is the assistant. Left among the others it would pull the axis toward itself, so
it takes part as an anchor or not at all.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personascope.directions.options import AxisOptions
from personascope.errors import UserError
from personascope.formats.role_matrix import load_role_matrix
from personascope.formats.tables import load_npz

log = logging.getLogger(__name__)

EPS = 1e-8
BLOCK_COLUMNS = 8192  # features that are in float64 at a time: 3 MiB at 50 roles
DEFAULT = "default"

# Variants of the transform into role space; log1p keeps the sign where values can be negative.
TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "raw": lambda x: np.asarray(x, np.float32),
    "log1p": lambda x: np.sign(x) * np.log1p(np.abs(np.asarray(x, np.float32))),
}


@dataclass(frozen=True)
class AxisRoles:
    """Rows of a role matrix by the part that they take: anchors, the others of `diff`, and all that make the axis.

    members: the anchors and every other role, also those outside a subset; without `default` where it is no anchor.
    """

    anchors: list[int]
    others: list[int]
    members: list[int]


@dataclass(frozen=True)
class ScoredAxis:
    """The axis that turns are scored on, and what it is made from, D dimensions and R roles.

    axis float32 [D]: unit; anchor float32 [D]: v_anchor in role space; mean float32 [D]: mean role vector in role space
    (0 where it is centered); anchors, others: rows of the roles that diff is made from; agreement: cos(diff, pc1).
    """

    axis: np.ndarray
    anchor: np.ndarray
    mean: np.ndarray
    anchors: list[int]
    others: list[int]
    role_names: list[str]
    agreement: float


@dataclass(frozen=True)
class RoleSpace(ScoredAxis):
    """The same with the role vectors, float32.

    space [R, D]: transformed (and centered) role vectors; directions [R, D]: their unit vectors; members: see
    `AxisRoles`; center [D]: the mean role vector before centering, whether it was taken off or not.
    """

    space: np.ndarray
    directions: np.ndarray
    members: list[int]
    center: np.ndarray


def unit(x: np.ndarray) -> np.ndarray:
    """x divided by its L2 norm along the last axis (at least EPS)."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), EPS)


def is_default(name: str) -> bool:
    """Whether a role's name is that of the role without a persona."""
    return same_name(name, DEFAULT)


def same_name(a: str, b: str) -> bool:
    """Role names are matched trimmed and in any case."""
    return a.strip().lower() == b.strip().lower()


def axis_roles(names: Sequence[str], options: AxisOptions) -> AxisRoles:
    """The part of each role; UserError names the option that does not fit them.

    An anchor that is missing or occurs twice is an error; unknown names of the subset are warned about.
    """
    anchors = [_anchor_index(names, anchor) for anchor in options.anchor]
    if len(set(anchors)) < len(anchors):
        raise UserError(f"axis.anchor: {', '.join(options.anchor)} names a role twice")
    members = [i for i, name in enumerate(names) if i in anchors or not is_default(name)]
    if options.other_group == "all_other_roles":
        others = [i for i in members if i not in anchors]
    else:
        rows = {names[i]: i for i in members}
        if missing := [name for name in options.roleplay_subset if name not in names]:
            log.warning("axis.roleplay_subset: not among the roles, ignored: %s", ", ".join(missing))
        others = sorted({rows[name] for name in options.roleplay_subset if name in rows} - set(anchors))
    if not others:
        raise UserError(
            f"axis.other_group: {options.other_group} leaves no role besides the anchor ({', '.join(options.anchor)}) "
            "and default; name some that exist"
        )
    return AxisRoles(sorted(anchors), others, members)


def _anchor_index(names: Sequence[str], anchor: str) -> int:
    matches = [i for i, name in enumerate(names) if same_name(name, anchor)]
    if len(matches) != 1:
        found = "is not among" if not matches else f"occurs {len(matches)} times in"
        raise UserError(f"axis.anchor: {anchor!r} {found} the {len(names)} roles of the matrix")
    return matches[0]


def diff_axis(space: np.ndarray, roles: AxisRoles) -> np.ndarray:
    """Unit axis float32 [D] = v_anchor - mean(v_others) of role vectors [R, D]; points toward the assistant."""
    return unit(space[roles.anchors].mean(0) - space[roles.others].mean(0))


def pc1_axis(space: np.ndarray, roles: AxisRoles) -> np.ndarray:
    """First principal component float32 [D] of the members' vectors, unit, with the sign that agrees with diff_axis."""
    component, _ = principal_components(space[roles.members])
    return -component if component @ diff_axis(space, roles) < 0 else component


AXIS_METHODS: dict[str, Callable[[np.ndarray, AxisRoles], np.ndarray]] = {"diff": diff_axis, "pc1": pc1_axis}


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
    """Role vectors [R, D] in role space, and the axis; UserError names the option that does not fit the roles.

    Centering takes off the mean of the roles that make the axis.
    """
    roles = axis_roles(names, options)
    space = TRANSFORMS[options.transform](features)
    center = mean = space[roles.members].mean(0)
    if options.use_centering:
        # What rounding leaves of the centered mean would make every inactive feature of a turn nonzero: it is 0.
        space, mean = space - mean, np.zeros_like(mean)
    axes = {name: method(space, roles) for name, method in AXIS_METHODS.items()}
    return RoleSpace(
        axis=axes[options.axis_method],
        anchor=space[roles.anchors].mean(0),
        mean=mean,
        anchors=roles.anchors,
        others=roles.others,
        role_names=list(names),
        agreement=float(axes["diff"] @ axes["pc1"]),
        space=space,
        directions=unit(space),
        members=roles.members,
        center=center,
    )


@dataclass(frozen=True)
class Axis:
    """Both axes of a role matrix of d dimensions: diff, pc1 float32 [d], unit; variance_shares: PCA spectrum of the
    roles that make them; roles: the role space, with their agreement cos(diff, pc1)."""

    diff: np.ndarray
    pc1: np.ndarray
    variance_shares: np.ndarray
    roles: RoleSpace


def assistant_axis(features: np.ndarray, names: Sequence[str], options: AxisOptions) -> Axis:
    """Both axes from a role matrix [R, d]; UserError names the option that does not fit the roles."""
    roles = role_space_of(features, names, options)
    parts = AxisRoles(roles.anchors, roles.others, roles.members)
    axes = {name: method(roles.space, parts) for name, method in AXIS_METHODS.items()}
    _, shares = principal_components(roles.space[parts.members])
    return Axis(**axes, variance_shares=shares, roles=roles)


def load_role_space(path: str | Path, options: AxisOptions) -> RoleSpace:
    """Role vectors and axis from a per_role.npz; UserError where it lacks the layer or an option does not fit."""
    matrix = load_role_matrix(path)
    features = matrix.features
    if options.space == "residual":
        (layers,) = load_npz(path, "layers")
        if options.layer not in layers.tolist():
            raise UserError(f"drift: layer {options.layer} is not among extraction.residual_layers {layers.tolist()}")
        features = features[:, layers.tolist().index(options.layer)]
    return role_space_of(features, matrix.role_names, options)
