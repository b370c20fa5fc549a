"""What the role responses score on the axis: the reference distributions that a turn is held against.

Scores are cross-fitted (`directions.crossfit`): each response is scored in the role space made without its block of
questions and its instruction variant. The turns themselves are scored on the axis of all responses, which differs from
each of these a little.
"""

import logging
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from personascope.directions.axis import RoleSpace, role_space_of
from personascope.directions.block_sums import BlockSums, dense_column
from personascope.directions.bootstrap import MAX_THREADS, AxisBootstrap, bootstrap, role_features
from personascope.directions.crossfit import Fold, fold_of, spaces_without
from personascope.directions.halves import half_axes, split_half
from personascope.directions.quality import auc_of
from personascope.directions.spaces import LEAST_AUC, LEAST_SPLIT_HALF, below
from personascope.drift.options import SCORE_METHODS, DriftOptions
from personascope.drift.strength import PairShares, pair_shares
from personascope.drift.turns import MASS_METRICS, score_sparse, score_vectors
from personascope.errors import UserError
from personascope.formats.features import iter_features, residual_column
from personascope.formats.tables import iter_tables, load_npz, save_npz

log = logging.getLogger(__name__)

KEYS = ("role", "prompt_index", "question_id", "n_tokens")


@dataclass(frozen=True, eq=False)  # by identity, so that what is made from one can be kept beside it
class Reference:
    """Cross-fitted scores of all role responses that have tokens, and the draws of the axis.

    scores {score method: float32 [N]}; mass {mass metric: float32 [N]}; role int32 [N]: index into role_names (sorted);
    prompt_index, question_id, n_tokens int32 [N]; anchors, others int32 [A], [B]: the places in role_names of the
    anchor and of the roles that the axis leads away from. axes to shift
    and freedom are those of `AxisBootstrap`; without a bootstrap axes and assistants are [D, 0], the others [0],
    split_half NaN. pairs: how few features carry the difference of two answers of an anchor role to one question;
    half_axes: those of `directions.halves`, [D, 0] without a bootstrap.
    """

    scores: dict[str, np.ndarray]
    mass: dict[str, np.ndarray]
    role: np.ndarray
    prompt_index: np.ndarray
    question_id: np.ndarray
    n_tokens: np.ndarray
    role_names: list[str]
    anchors: np.ndarray
    others: np.ndarray
    axes: np.ndarray
    assistants: np.ndarray
    agreement: np.ndarray
    cos_to_axis: np.ndarray
    shift: np.ndarray
    split_half: float
    pairs: PairShares = field(default_factory=PairShares)
    half_axes: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    freedom: float = math.inf

    def __len__(self) -> int:
        return len(self.role)

    @property
    def doubt(self) -> str:
        """Why the axis is not to be interpreted, else empty; without a bootstrap there are no halves to look at."""
        anchor, other = (np.isin(self.role, rows) for rows in (self.anchors, self.others))
        scores, known = self.scores["projection"], np.isfinite(self.scores["projection"])
        found = [below("AUC", auc_of(scores[anchor & known], scores[other & known]), LEAST_AUC)]
        if self.half_axes.size:
            found.insert(0, below("split-half", self.split_half, LEAST_SPLIT_HALF))
        return ", ".join(filter(None, found))

    def save(self, path: str | Path) -> None:
        """Write an .npz: score_{method}, mass_{metric} and the other fields under their own names."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays |= {f"score_{name}": values for name, values in arrays.pop("scores").items()}
        arrays |= {f"mass_{name}": values for name, values in arrays.pop("mass").items()}
        arrays |= {f"pair_{name}": values for name, values in vars(arrays.pop("pairs")).items()}
        arrays["role_names"] = np.array(self.role_names, dtype=np.str_)
        save_npz(path, **{name: np.asarray(array) for name, array in arrays.items()})

    @classmethod
    def load(cls, path: str | Path) -> "Reference":
        """Read an .npz of `save`; UserError where it is missing or damaged."""
        names = [field.name for field in fields(cls) if field.name not in ("scores", "mass", "pairs")]
        arrays: dict[str, Any] = dict(zip(names, load_npz(path, *names), strict=True))
        scores = load_npz(path, *(f"score_{name}" for name in SCORE_METHODS))
        mass = load_npz(path, *(f"mass_{name}" for name in MASS_METRICS))
        pairs = load_npz(path, *(f"pair_{field.name}" for field in fields(PairShares)))
        return cls(
            **arrays
            | {
                "scores": dict(zip(SCORE_METHODS, scores, strict=True)),
                "mass": dict(zip(MASS_METRICS, mass, strict=True)),
                "role_names": [str(name) for name in arrays["role_names"]],
                "split_half": float(arrays["split_half"]),
                "freedom": float(arrays["freedom"]),
                "pairs": PairShares(*pairs),
            }
        )


# Responses of one batch: keys (prompt_index, question_id, n_tokens), and a function rows -> their scores and masses.
Scored = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
ScoreRows = Callable[[np.ndarray, RoleSpace], Scored]
Batch = tuple[dict[str, np.ndarray], ScoreRows]


def build(
    files: dict[str, str | Path],
    sums: dict[str, BlockSums],
    options: DriftOptions,
    draws: int = 1000,
    seed: int = 0,
) -> Reference:
    """The reference of one analysis from {role: file} and {role: its block sums}; draws = 0 leaves the bootstrap out.

    files: features, for a residual analysis residual means; they are read once, some rows at a time. A response that
    cannot be left out, since a role has all its responses in that block, gets no score, and a warning says so.
    """
    if sorted(files) != sorted(sums):
        raise UserError(f"drift: the {options.axis.space} files and the block sums are not of the same roles")
    names = sorted(sums)
    if silent := [name for name in names if not sums[name].counts.any()]:
        raise UserError(f"drift: no response of role {', '.join(silent)} has a token; generate it again")
    # Said once here that a name of the subset is unknown, not again by each fold.
    whole = role_space_of(role_features(sums, options.axis), names, options.axis)
    options = options.changed(roleplay_subset=tuple(name for name in options.axis.roleplay_subset if name in names))
    folds = spaces_without(sums, options.axis)
    n_blocks = len({block for _, block in folds})
    if draws and n_blocks < 2:
        log.warning(
            "drift: too few questions for a bootstrap, which would show no spread at all; no intervals are made"
        )
    drawn, halves = no_draws(len(whole.axis)), np.empty((len(whole.axis), 0), np.float32)
    if draws and n_blocks >= 2:
        needs = {"assistants": options.scoring.score_method == "cos_assistant"}
        needs["turn_mean"] = options.scoring.center_turns_with_role_mean
        drawn = bootstrap(sums, options.axis, draws, seed, **needs)
        halves = half_axes(sums, options.axis, seed)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(min(cpu_count() or 1, MAX_THREADS)) as pool:
        parts = list(pool.map(lambda name: _score_role(files[name], sums[name], folds, options), names))
    for index, part in enumerate(parts):
        part["role"] = np.full(len(part["n_tokens"]), index)
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return Reference(
        scores={name: joined[name].astype(np.float32) for name in SCORE_METHODS},
        mass={name: joined[name].astype(np.float32) for name in MASS_METRICS},
        **{key: joined[key].astype(np.int32) for key in KEYS},
        role_names=names,
        anchors=np.array(whole.anchors, np.int32),
        others=np.array(whole.others, np.int32),
        pairs=_pairs_of_anchor(files, sums, whole, options, seed),
        half_axes=halves,
        split_half=split_half(halves),
        **vars(drawn),
    )


def _pairs_of_anchor(
    files: dict[str, str | Path],
    sums: dict[str, BlockSums],
    roles: RoleSpace,
    options: DriftOptions,
    seed: int,
) -> PairShares:
    """The pairs of answers of each anchor role to one question, together."""
    anchors = [roles.role_names[row] for row in roles.anchors]
    # Two answers to one question are of two variants: both must be in the axis, and only the question is left out.
    folds = {block: space for (_, block), space in spaces_without(sums, options.axis, variants=False).items()}
    parts = [pair_shares(files[name], sums[name], folds, options, seed) for name in anchors]
    names = [field.name for field in fields(PairShares)]
    return PairShares(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def no_draws(width: int) -> AxisBootstrap:
    """What stands in the place of a bootstrap that was not asked for."""
    none = np.zeros(0)
    empty = np.empty((width, 0), np.float32)
    return AxisBootstrap(empty, empty, agreement=none, cos_to_axis=none, shift=none)


def _score_role(
    path: str | Path, sums: BlockSums, folds: dict[Fold, RoleSpace], options: DriftOptions
) -> dict[str, np.ndarray]:
    """Keys, scores and masses of one role's responses, in the order of the file; without those that have no fold."""
    parts: list[dict[str, np.ndarray]] = []
    spaces = list(folds.values())
    for keys, score in BATCHES[options.axis.space](path, options):
        place = fold_of(folds, sums, keys["prompt_index"], keys["question_id"])
        kept = np.flatnonzero((keys["n_tokens"] > 0) & (place >= 0))
        part = {name: np.zeros(len(place)) for name in (*SCORE_METHODS, *MASS_METRICS)}
        for fold in np.unique(place[kept]):
            rows = kept[place[kept] == fold]
            for values in score(rows, spaces[fold]):
                for name, column in values.items():
                    part[name][rows] = column
        parts.append({name: column[kept] for name, column in (keys | part).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _feature_batches(path: str | Path, options: DriftOptions) -> Iterator[Batch]:
    for rows in iter_features(path, [options.axis.pooling]):
        values = getattr(rows, options.axis.pooling)

        def score(chosen: np.ndarray, roles: RoleSpace, rows=rows, values=values) -> Scored:
            lengths = np.diff(rows.offsets)[chosen]
            offsets = np.concatenate([[0], np.cumsum(lengths)])
            entries = np.repeat(rows.offsets[chosen] - offsets[:-1], lengths) + np.arange(offsets[-1])
            return score_sparse(offsets, rows.indices[entries], values[entries], roles, options)

        yield {name: getattr(rows, name) for name in KEYS[1:]}, score


def _residual_batches(path: str | Path, options: DriftOptions) -> Iterator[Batch]:
    column = residual_column(options.axis.layer or 0)
    for table in iter_tables(path, [*KEYS[1:], column]):
        vectors = dense_column(table.column(column))
        keys = {name: np.asarray(table.column(name)) for name in KEYS[1:]}
        yield keys, lambda chosen, roles, vectors=vectors: score_vectors(vectors[chosen], roles, options)


BATCHES: dict[str, Callable[[str | Path, DriftOptions], Iterator[Batch]]] = {
    "sae": _feature_batches,
    "residual": _residual_batches,
}
