"""How far a feature's profile over roles is the same in two random halves of each role's responses.

Streams the sparse features files: per role two vectors of half sums are kept, never its responses as dense rows.
"""

import itertools
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from personascope.errors import UserError
from personascope.formats.features import FeatureRows, iter_features
from personascope.formats.tables import iter_tables, open_parquet

MAX_THREADS = 8
KEY_ROWS = 256  # keys whose means over roles are in memory at a time: 64 MiB at 65,536 features
KEYS = ("prompt_index", "question_id", "n_tokens")


@dataclass(frozen=True)
class Halves:
    """One role's features file and the half of each of its responses.

    keys int64 [rows, 2]: (variant, question) of each row of the file; half int8 [rows]: 0 or 1, or -1 for a response
    without tokens, which has no activations and is in neither.
    """

    path: str | Path
    keys: np.ndarray
    half: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Responses in each half, int64 [2]."""
        return np.array([(self.half == 0).sum(), (self.half == 1).sum()])


def deal_halves(files: Mapping[str, str | Path], seed: int) -> dict[str, Halves]:
    """{role: its halves} in the order of `files`: one RandomState(seed) gives each role in turn a permutation of its n
    responses with tokens, the halves are [:n // 2] and [n // 2:]. UserError for a role with fewer than two."""
    random, dealt = np.random.RandomState(seed), {}
    for role, path in files.items():
        columns = [[] for _ in KEYS]
        for table in iter_tables(path, KEYS):
            for column, name in zip(columns, KEYS, strict=True):
                column.append(np.asarray(table.column(name)))
        variant, question, n_tokens = (np.concatenate(column or [np.empty(0, np.int32)]) for column in columns)
        rows = np.flatnonzero(n_tokens > 0)
        if len(rows) < 2:
            raise UserError(
                f"{path}: role {role} has {len(rows)} responses with tokens; two halves need at least 2: generate more"
            )
        half = np.full(len(n_tokens), -1, np.int8)
        order = random.permutation(len(rows))
        half[rows[order[: len(rows) // 2]]], half[rows[order[len(rows) // 2 :]]] = 0, 1
        dealt[role] = Halves(path, np.column_stack([variant, question]).astype(np.int64), half)
    return dealt


def split_half_stability(
    files: Mapping[str, str | Path], seed: int, *, pooling: str = "mean", centered: bool = False
) -> np.ndarray:
    """Per feature the cosine between its means over the two halves, each a vector over roles, float64 [D]; 0 where one
    of them is 0 throughout.

    files: {role: features file} in the order of the role matrix; pooling: "mean" or "max" of a response. centered: from
    each response the mean over roles of the responses to the same question with the same variant is taken off first.
    UserError where files differ in width, or a role has too few responses.
    """
    width = _width(list(files.values()))
    roles = list(deal_halves(files, seed).values())
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as pool:
        means = np.stack(list(pool.map(lambda role: _half_means(role, pooling, width), roles)))
    if centered:
        means -= _baselines(roles, pooling, width)
    first, second = means[:, 0], means[:, 1]
    dot = np.einsum("rd,rd->d", first, second, dtype=np.float64)
    norms = [np.einsum("rd,rd->d", part, part, dtype=np.float64) for part in (first, second)]
    return np.divide(dot, np.sqrt(norms[0] * norms[1]), out=np.zeros(width), where=(norms[0] > 0) & (norms[1] > 0))


def _width(paths: Sequence[str | Path]) -> int:
    widths = [open_parquet(path)[1]["d_sae"] for path in paths]
    for path, width in zip(paths, widths, strict=True):
        if width != widths[0]:
            raise UserError(f"{path}: {width} features, but {widths[0]} in {paths[0]}; extract them with the same SAE")
    return widths[0]


def _half_means(role: Halves, pooling: str, width: int) -> np.ndarray:
    """Means of the responses of each half, float32 [2, D], summed in float64."""
    sums, start = np.zeros((width, 2)), 0
    for rows in iter_features(role.path, (pooling,)):
        half = role.half[start : start + len(rows)]
        start += len(rows)
        sums += _sparse(rows, pooling, width).T @ np.column_stack([half == 0, half == 1]).astype(np.float32)
    return (sums.T / role.sizes[:, None]).astype(np.float32)


def _sparse(rows: FeatureRows, pooling: str, width: int) -> csr_array:
    return csr_array((getattr(rows, pooling), rows.indices, rows.offsets.astype(np.int32)), shape=(len(rows), width))


def _baselines(roles: Sequence[Halves], pooling: str, width: int) -> np.ndarray:
    """What centering takes off the half means, float32 [R, 2, D]: over a half's responses, the mean of the means over
    roles of the responses with the same key.

    Keys are gone through some at a time, so that their means over roles are dense for few of them; the row groups that
    hold none of them are not read. A file in the usual order is read once.
    """
    keys, places, responses = _common_keys(roles)
    out = np.zeros((2 * len(roles), width), np.float32)
    for start in range(0, len(keys), KEY_ROWS):
        window = range(start, min(start + KEY_ROWS, len(keys)))
        means = np.zeros((len(window), width), np.float32)
        for role, place in zip(roles, places, strict=True):
            _add_window(means, role, place, window, pooling)
        means /= np.maximum(responses[window.start : window.stop, None], 1)
        out += np.concatenate([_weights(*role, window) for role in zip(roles, places, strict=True)]) @ means
    return out.reshape(len(roles), 2, width)


def _weights(role: Halves, place: np.ndarray, window: range) -> np.ndarray:
    """What each key of the window counts in the means of the role's halves, float32 [2, len(window)]."""
    weights = np.zeros((2, len(window)), np.float32)
    for half in (0, 1):
        inside = place[(role.half == half) & (place >= window.start) & (place < window.stop)]
        weights[half] = np.bincount(inside - window.start, minlength=len(window)) / role.sizes[half]
    return weights


def _common_keys(roles: Sequence[Halves]) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """All keys [K, 2] in the order in which the roles have them, the place of each row of each role among them, and how
    many responses with tokens a key has over all roles, int64 [K]."""
    stacked = np.concatenate([role.keys for role in roles])
    distinct, first, inverse = np.unique(stacked, axis=0, return_index=True, return_inverse=True)
    rank = np.empty(len(distinct), np.int64)
    order = np.argsort(first)
    rank[order] = np.arange(len(distinct))
    places = np.split(rank[inverse.ravel()], np.cumsum([len(role.keys) for role in roles])[:-1])
    filled = np.concatenate([place[role.half >= 0] for role, place in zip(roles, places, strict=True)])
    return distinct[order], places, np.bincount(filled, minlength=len(distinct))


def _add_window(means: np.ndarray, role: Halves, place: np.ndarray, window: range, pooling: str) -> None:
    """Add the responses of a role whose keys are in the window to the sums by key, [len(window), D], in place."""
    wanted = (place >= window.start) & (place < window.stop) & (role.half >= 0)
    sizes = _group_sizes(role.path)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    for group, (lo, hi) in enumerate(itertools.pairwise(starts)):
        if not wanted[lo:hi].any():
            continue
        at = lo
        for rows in iter_features(role.path, (pooling,), [group]):
            here = slice(at, at + len(rows))
            at += len(rows)
            kept = rows.rows(wanted[here])
            key = np.repeat(place[here][wanted[here]] - window.start, np.diff(kept.offsets))
            np.add.at(means.reshape(-1), key * means.shape[1] + kept.indices, getattr(kept, pooling))


def _group_sizes(path: str | Path) -> list[int]:
    """Rows of each row group of a Parquet file."""
    metadata = open_parquet(path)[0].metadata
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
