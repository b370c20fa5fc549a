"""Which features the map shows: those whose activation differs most between roles, and does so reliably.

X is the role matrix F [R, D]: log1p(F) (with the sign of F), or, centered, F minus its mean over roles, which is what
is left of response means when the mean over roles of each question and variant is taken off. With mu and sd its mean
and standard deviation over roles (ddof 0), a feature is alive where X is not 0 throughout (not centered that is mu > 0,
but for SAEs with activations below 0) and passes where its sd is at least the median over the living. score =
stability * sd orders those that pass.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from personascope.errors import UserError
from personascope.explorer.stability import split_half_stability
from personascope.formats.role_matrix import RoleMatrix, load_role_matrix
from personascope.formats.tables import json_array, load_metadata, load_npz, save_npz

POOLINGS = ("mean", "max")
ARRAYS = ("selected", "alive", "passing", "mu", "sd", "stability", "score")


@dataclass(frozen=True)
class SelectionOptions:
    """Which features; UserError names what does not fit."""

    pooling: str = "mean"
    """From a response's tokens to its activation, and the role matrix of that name."""
    centered: bool = False
    """Whether what a question and variant do in all roles is taken off."""
    top_k: int = 2000
    """The most features to select."""
    split_seed: int = 42
    """Of the random halves."""

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise UserError(f"atlas.pooling: {self.pooling!r} is none of {', '.join(POOLINGS)}")
        if self.centered and self.pooling != "mean":
            raise UserError("atlas.maps: centered needs pooling mean: a maximum over responses has no mean to take off")
        if self.top_k < 1:
            raise UserError(f"atlas.top_k: {self.top_k}; at least 1")


@dataclass(frozen=True)
class Selection:
    """Numbers of all D features, and which are selected.

    selected int32 [n]: feature ids, the highest score first, ties by id; alive, passing: bool [D]; mu, sd, stability,
    score: float64 [D]; sd_threshold: the least sd that passes.
    """

    options: SelectionOptions
    sd_threshold: float
    selected: np.ndarray
    alive: np.ndarray
    passing: np.ndarray
    mu: np.ndarray
    sd: np.ndarray
    stability: np.ndarray
    score: np.ndarray

    def save(self, path: str | Path) -> None:
        """Write an .npz that `load` reads."""
        metadata = {"options": asdict(self.options), "sd_threshold": self.sd_threshold}
        save_npz(path, **{name: getattr(self, name) for name in ARRAYS}, metadata=json_array(metadata))

    @classmethod
    def load(cls, path: str | Path) -> "Selection":
        """Read what `save` has written; UserError where it is none."""
        metadata = load_metadata(path)
        try:
            options, threshold = SelectionOptions(**metadata["options"]), metadata["sd_threshold"]
        except (KeyError, TypeError):
            raise UserError(f"{path}: no selection of features; delete it and run again") from None
        return cls(options, threshold, *load_npz(path, *ARRAYS))


def role_space(features: np.ndarray, centered: bool) -> np.ndarray:
    """X of the module's docstring, float64 [R, D], from F [R, D]."""
    wide = np.asarray(features, np.float64)
    return wide - wide.mean(0) if centered else np.sign(wide) * np.log1p(np.abs(wide))


def select_features(matrix: RoleMatrix, files: Mapping[str, str | Path], options: SelectionOptions) -> Selection:
    """The selection from the role matrix of the options' pooling and {role: features file}.

    At most top_k features, fewer where fewer pass, and never a dead one. UserError where matrix and files do not fit.
    """
    roles, width = matrix.role_names, matrix.features.shape[1]
    if sorted(files) != sorted(roles):
        odd = sorted(set(files) ^ set(roles))[0]
        raise UserError(f"role matrix and features: role {odd} is in only one of them; aggregate again")
    pooling, centered = options.pooling, options.centered
    in_order = {role: files[role] for role in roles}
    stability = split_half_stability(in_order, options.split_seed, pooling=pooling, centered=centered)
    if len(stability) != width:
        raise UserError(f"the role matrix has {width} features, the features files {len(stability)}; aggregate again")
    x = role_space(matrix.features, centered)
    mu, sd = x.mean(0), x.std(0)
    alive = (x != 0).any(0)
    threshold = float(np.median(sd[alive])) if alive.any() else 0.0
    passing = alive & (sd >= threshold)
    score = stability * sd
    ids = np.flatnonzero(passing)
    selected = ids[np.argsort(-score[ids], kind="stable")][: options.top_k].astype(np.int32)
    return Selection(options, threshold, selected, alive, passing, mu, sd, stability, score)


def write_selection(
    matrix: str | Path, features: Mapping[str, str | Path], path: str | Path, **options: object
) -> None:
    """Read a role matrix, select, and write the selection; options: of `SelectionOptions`."""
    chosen = SelectionOptions(**options)  # type: ignore[arg-type]
    select_features(load_role_matrix(matrix), features, chosen).save(path)
