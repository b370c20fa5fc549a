"""The role matrix on disk, per_role.npz: one vector a role, readable without pickle."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personascope.errors import UserError
from personascope.formats.tables import load_npz, save_npz


@dataclass(frozen=True)
class RoleMatrix:
    """features float32 [R, ...]; role_names sorted; n_responses int64 [R] that count towards each row."""

    features: np.ndarray
    role_names: list[str]
    n_responses: np.ndarray

    def save(self, path: str | Path, **extra: np.ndarray) -> None:
        """Write per_role.npz: features, role_names (unicode), n_responses; readable without pickle."""
        names = np.array(self.role_names, dtype=np.str_)
        save_npz(path, features=self.features, role_names=names, n_responses=self.n_responses, **extra)


def load_role_matrix(path: str | Path) -> RoleMatrix:
    """Read a per_role.npz (also one written by others: without n_responses, counts are 0)."""
    features, names = load_npz(path, "features", "role_names")
    try:
        (counts,) = load_npz(path, "n_responses")
    except UserError:
        counts = np.zeros(len(names), np.int64)
    if features.shape[0] != len(names):
        raise UserError(f"{path}: {features.shape[0]} rows of features for {len(names)} role names")
    if bad := [str(name) for name, row in zip(names, features, strict=True) if not np.isfinite(row).all()]:
        raise UserError(f"{path}: the vector of {', '.join(bad)} is not finite; aggregate again")
    return RoleMatrix(features.astype(np.float32, copy=False), [str(name) for name in names], counts)
