"""The contexts of all roles and conversations put together: the best of each feature, at several quantiles.

A context's quantile is the share of the texts in which its feature is active whose peak is no larger, by the histogram
of all peaks (`formats.contexts`), within whose bins peaks are taken to be spread evenly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personascope.formats.contexts import (
    BINS,
    WIDTH,
    Activity,
    Contexts,
    bin_edges,
    load_contexts,
    peak_bins,
)
from personascope.formats.descriptions import TOP

# Below the top: at each level `SHOWN` texts of the sample, as near to it as `NEAR`.
LEVELS, SHOWN, NEAR = (0.9, 0.75, 0.5, 0.25), 2, 0.12


@dataclass(frozen=True)
class Merged:
    """The contexts of several files, sorted by feature; file int32 [n]: the number of the file that each is of."""

    contexts: Contexts
    file: np.ndarray

    def take(self, chosen: np.ndarray) -> "Merged":
        """Some of them, by index or as bool [n]."""
        return Merged(self.contexts.take(chosen), self.file[chosen])


def merged(paths: Sequence[str], k: int, sampled: int) -> Merged:
    """Of all files the k largest peaks of each feature, and `sampled` texts of the sample; read one after the other, so
    that no more are in memory than are kept of all, and one file."""
    kept = Merged(_none(), np.zeros(0, np.int32))
    for number, path in enumerate(paths):
        new = load_contexts(path)
        file = np.concatenate([kept.file, np.full(len(new), number, np.int32)])
        both = Merged(Contexts.joined([kept.contexts, new]), file)
        kept = both.take(_best(both.contexts, k, sampled))
    return kept


def _best(contexts: Contexts, k: int, sampled: int) -> np.ndarray:
    """Indices of what is kept, by feature, the top first, the largest keys first."""
    size, draw = np.abs(contexts.value).view(np.uint32).astype(np.uint64), contexts.draw.astype(np.uint64)
    high, low = np.where(contexts.top, size, draw), np.where(contexts.top, draw, size)
    group = contexts.feature.astype(np.int64) * 2 + ~contexts.top
    order = np.lexsort((~((high << np.uint64(32)) | low), group))
    limit = np.where(contexts.top[order], k, sampled)
    return order[rank_in(group[order]) < limit]


def rank_in(group: np.ndarray) -> np.ndarray:
    """The place of each entry within its group, from 0; groups int64 [n] ascend."""
    return np.arange(len(group)) - np.searchsorted(group, group)


def _none() -> Contexts:
    empty = np.zeros(0, np.int32)
    return Contexts(
        feature=empty,
        draw=empty.astype(np.uint32),
        value=empty.astype(np.float32),
        row=empty,
        at=empty,
        top=empty.astype(bool),
        window=np.zeros((0, WIDTH), np.float32),
    )


def quantiles(activity: Activity, feature: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The quantile of the magnitude of each peak among those of its feature, float64 [n]."""
    value = np.abs(value)
    ends = np.cumsum(activity.counts)
    place = feature.astype(np.int64) * BINS + peak_bins(value)
    i = np.searchsorted(activity.peaks, place)
    first = np.searchsorted(activity.peaks, feature.astype(np.int64) * BINS)
    last = np.searchsorted(activity.peaks, (feature.astype(np.int64) + 1) * BINS)
    padded, before = np.append(activity.counts, 0), np.concatenate([[0], ends])
    inside = np.append(activity.peaks, -1)[i] == place
    edges, own = bin_edges(), peak_bins(value)
    part = ((value - edges[own]) / (edges[own + 1] - edges[own])).clip(0, 1)
    below = before[i] - before[first] + np.where(inside, padded[i] * part, 0)
    return below / np.maximum(before[last] - before[first], 1)


@dataclass(frozen=True)
class Chosen:
    """What is shown, n of it, by feature, level and rank: index int64 [n] into the merged contexts; level float32 [n];
    rank int64 [n]."""

    index: np.ndarray
    level: np.ndarray
    rank: np.ndarray


def chosen(all_contexts: Merged, activity: Activity) -> Chosen:
    """The top of each feature, and of its sample the texts nearest to each level; no text twice for a feature."""
    contexts = all_contexts.contexts
    text = (all_contexts.file.astype(np.int64) << 32) + contexts.row
    top = np.flatnonzero(contexts.top)
    index, level = [top], [np.full(len(top), TOP)]
    taken = np.unique(np.stack([contexts.feature[top], text[top]]), axis=1) if len(top) else np.zeros((2, 0), np.int64)
    rest = np.flatnonzero(~contexts.top)
    rest = rest[~_among(np.stack([contexts.feature[rest], text[rest]]), taken)]
    stands = quantiles(activity, contexts.feature[rest], contexts.value[rest])
    nearest = np.abs(stands[:, None] - np.array(LEVELS)).argmin(1)
    distance = np.abs(stands - np.array(LEVELS)[nearest])
    near = distance <= NEAR
    rest, nearest, distance = rest[near], nearest[near], distance[near]
    group = contexts.feature[rest].astype(np.int64) * len(LEVELS) + nearest
    order = np.lexsort((distance, group))
    first = order[rank_in(group[order]) < SHOWN]
    index.append(rest[first])
    level.append(np.array(LEVELS)[nearest[first]])
    every, levels = np.concatenate(index), np.concatenate(level)
    order = np.lexsort((-np.abs(contexts.value[every]), -levels, contexts.feature[every]))
    every, levels = every[order], levels[order]
    ranked = rank_in(np.unique(np.stack([contexts.feature[every], -levels]), axis=1, return_inverse=True)[1].ravel())
    return Chosen(every, levels.astype(np.float32), ranked)


def _among(pairs: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Whether each column of `pairs` [2, n] is a column of `known` [2, m], bool [n]."""
    kind = np.dtype([("feature", np.int64), ("text", np.int64)])
    as_one = [np.ascontiguousarray(x.astype(np.int64).T).view(kind).ravel() for x in (pairs, known)]
    return np.isin(as_one[0], as_one[1])
