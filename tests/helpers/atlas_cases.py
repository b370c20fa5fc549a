"""Features files of a few roles on disk, and the same responses dense: the truth that streaming is held against."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personascope.formats.features import FeatureRows, write_features
from personascope.formats.role_matrix import RoleMatrix

D_SAE, VARIANTS, QUESTIONS = 60, 3, 9


@dataclass(frozen=True)
class Role:
    """keys: (variant, question) of each row; n_tokens [n]; mean, max: dense float32 [n, D]."""

    keys: list[tuple[int, int]]
    n_tokens: np.ndarray
    mean: np.ndarray
    max: np.ndarray

    @property
    def filled(self) -> np.ndarray:
        return self.n_tokens > 0


def random_roles(names: list[str], seed: int = 0, width: int = D_SAE) -> dict[str, Role]:
    """Roles that differ in some features, on questions that differ in others. The last two features are dead and the
    two before them the same; `default` has one variant, one role its rows in another order, another lacks two rows, and
    every seventh response has no token."""
    rng = np.random.default_rng(seed)
    by_question, roles = rng.gamma(0.5, 1, (QUESTIONS, width)), {}
    for r, name in enumerate(names):
        variants = 1 if name == "default" else VARIANTS
        keys = [(variant, question) for variant in range(variants) for question in range(QUESTIONS)]
        if r == 1:
            keys = [keys[i] for i in rng.permutation(len(keys))]
        if r == 2:
            keys = keys[:4] + keys[6:]
        level = rng.gamma(1.0, 1, width) * (rng.random(width) < 0.7)
        mean = np.array([level * by_question[question] for _, question in keys]) * rng.gamma(3, 1, (len(keys), width))
        mean *= rng.random(mean.shape) < 0.5
        n_tokens = np.where(np.arange(len(keys)) % 7 == 6, 0, rng.integers(1, 9, len(keys))).astype(np.int32)
        mean[n_tokens == 0], mean[:, -2:] = 0, 0
        mean[:, -3] = mean[:, -4]
        roles[name] = Role(keys, n_tokens, mean.astype(np.float32), (mean * 3).astype(np.float32))
    return roles


def write_roles(folder: Path, roles: dict[str, Role], group: int = 5) -> dict[str, str | Path]:
    """{role: features file}, in row groups of `group` rows."""
    files: dict[str, str | Path] = {}
    for name, role in roles.items():
        files[name] = folder / f"{name}.parquet"
        blocks = [sparse(role, slice(start, start + group)) for start in range(0, len(role.keys), group)]
        write_features(files[name], blocks, {"d_sae": role.mean.shape[1]})
    return files


def sparse(role: Role, part: slice) -> FeatureRows:
    rows, indices = np.nonzero(role.mean[part])
    counts = np.bincount(rows, minlength=len(role.mean[part]))
    keys = np.array(role.keys[part], np.int32)
    return FeatureRows(
        prompt_index=keys[:, 0],
        question_id=keys[:, 1],
        n_tokens=role.n_tokens[part],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        indices=indices.astype(np.int32),
        mean=role.mean[part][rows, indices],
        max=role.max[part][rows, indices],
    )


def role_matrix(roles: dict[str, Role], pooling: str = "mean") -> RoleMatrix:
    names = sorted(roles)
    filled = {name: getattr(roles[name], pooling)[roles[name].filled] for name in names}
    rows = [filled[name].mean(0) if pooling == "mean" else filled[name].max(0) for name in names]
    counts = np.array([len(filled[name]) for name in names])
    return RoleMatrix(np.stack(rows).astype(np.float32), names, counts)


def dense_stability(roles: dict[str, Role], seed: int, pooling: str = "mean", centered: bool = False) -> np.ndarray:
    """By the definition, feature by feature and row by row."""
    random, names = np.random.RandomState(seed), sorted(roles)
    by_key: dict[tuple[int, int], list[np.ndarray]] = {}
    for name in names:
        for key, there, row in zip(roles[name].keys, roles[name].filled, getattr(roles[name], pooling), strict=True):
            if there:
                by_key.setdefault(key, []).append(row.astype(np.float64))
    halves = []
    for name in names:
        role = roles[name]
        rows = getattr(role, pooling)[role.filled].astype(np.float64)
        if centered:
            keys = [key for key, there in zip(role.keys, role.filled, strict=True) if there]
            rows = rows - np.array([np.mean(by_key[key], axis=0) for key in keys])
        order = random.permutation(len(rows))
        halves.append((rows[order[: len(rows) // 2]].mean(0), rows[order[len(rows) // 2 :]].mean(0)))
    a, b = (np.stack(part) for part in zip(*halves, strict=True))
    norms = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return np.array([a[:, i] @ b[:, i] / norms[i] if norms[i] > 0 else 0.0 for i in range(a.shape[1])])
