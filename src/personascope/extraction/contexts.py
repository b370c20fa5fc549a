"""Texts in which each feature is active, collected in one pass while its activations are in hand.

A text is a response, or a turn of a conversation; it counts once for a feature, at its peak, so that ten contexts are
ten texts. Two kinds are kept of each feature, so that memory is bounded by features x k whatever is read:

- the k texts of the largest peaks, by magnitude;
- a sample of the texts in which it is active, `SAMPLED` x k of them. Each text and feature has a random number that
  follows from their names alone (`draws`); those with the largest numbers are the sample. It is uniform, and the
  samples of several roles together make the sample of all, in whatever order they are read.

From the sample come contexts at lower quantiles. Where in the feature's distribution a peak stands is known from a
histogram of the peaks of ALL texts, in bins of an eighth of an octave (`formats.contexts.peak_bins`): 256 counts a
feature. Activations below 0, which some SAEs have, count by their magnitude.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personascope.formats.contexts import BEFORE, BINS, WIDTH, Activity, Contexts, peak_bins

SAMPLED = 2  # texts of the sample, for each of the largest


@dataclass(frozen=True)
class Active:
    """Activations that are not 0, of some texts: text, token (from 0 in its text), feature int64 [n]; value float32
    [n]; the tokens of a text and feature ascend."""

    text: np.ndarray
    token: np.ndarray
    feature: np.ndarray
    value: np.ndarray


class Kept:
    """The k largest keys of each feature, uint64 [d_sae, k], and what belongs to them; 0 is an empty place."""

    def __init__(self, d_sae: int, k: int):
        self.key = np.zeros((d_sae, k), np.uint64)
        self.row, self.at = np.zeros((d_sae, k), np.int32), np.zeros((d_sae, k), np.int32)
        self.window = np.zeros((d_sae, k, WIDTH), np.float32)
        self.floor = np.zeros(d_sae, np.uint64)

    def put(self, feature: np.ndarray, key: np.ndarray, row: np.ndarray, at: np.ndarray, window: np.ndarray) -> None:
        """Keep those [n] that are larger than the least of their feature, in its place."""
        # One of each feature at a time, the largest first.
        order = np.lexsort((~key, feature))
        feature, key, row, at, window = feature[order], key[order], row[order], at[order], window[order]
        first = np.searchsorted(feature, feature)
        rank = np.arange(len(feature)) - first
        for i in range(min(int(rank.max(initial=-1)) + 1, self.key.shape[1])):
            now = np.flatnonzero(rank == i)
            ids = feature[now]
            place = self.key[ids].argmin(1)
            larger = key[now] > self.key[ids, place]
            now, ids, place = now[larger], ids[larger], place[larger]
            self.key[ids, place], self.row[ids, place], self.at[ids, place] = key[now], row[now], at[now]
            self.window[ids, place] = window[now]
        touched = np.unique(feature)
        self.floor[touched] = self.key[touched].min(1)


class Collector:
    """Collects from texts in any order; name: of the role or conversation, by which its draws differ from others'."""

    def __init__(self, d_sae: int, k: int, name: str):
        self.d_sae, self.name = d_sae, name
        self.top, self.sample = Kept(d_sae, k), Kept(d_sae, SAMPLED * k)
        self.n_tokens = 0
        self.active, self.total = np.zeros(d_sae, np.int64), np.zeros(d_sae)
        self.histogram = np.zeros(d_sae * BINS, np.int32)

    def add(self, rows: Sequence[int], counts: Sequence[int], active: Active) -> None:
        """Some texts: rows: their numbers, by which they are known; counts: their tokens; active: with texts from 0."""
        self.n_tokens += sum(counts)
        text, token, feature, value = active.text, active.token, active.feature, np.abs(active.value)
        self.active += np.bincount(feature, minlength=self.d_sae)
        self.total += np.bincount(feature, value, self.d_sae)
        place = text * self.d_sae + feature
        peaks = np.zeros(len(rows) * self.d_sae, np.float32)
        np.maximum.at(peaks, place, value)
        entries = np.flatnonzero(value == peaks[place])
        entries = entries[np.unique(place[entries], return_index=True)[1]]  # the first of those that are equal
        np.add.at(self.histogram, feature[entries] * BINS + peak_bins(value[entries]), 1)
        row = np.asarray(rows, np.int64)[text[entries]]
        draw, size = draws(self.name, row, feature[entries]), value[entries].view(np.uint32).astype(np.uint64)
        keys = {"top": (size << np.uint64(32)) | draw, "sample": (draw << np.uint64(32)) | size}
        larger = {name: key > getattr(self, name).floor[feature[entries]] for name, key in keys.items()}
        wanted = np.flatnonzero(larger["top"] | larger["sample"])
        slot = np.zeros(len(peaks), np.int32)
        slot[place[entries[wanted]]] = np.arange(1, len(wanted) + 1)
        windows = _windows(slot[place], token, active.value, token[entries[wanted]])
        for name, key in keys.items():
            some = larger[name][wanted]
            i = wanted[some]
            at = token[entries[i]]
            getattr(self, name).put(feature[entries[i]], key[i], row[i], at, windows[some])

    def activity(self) -> Activity:
        peaks = np.flatnonzero(self.histogram)
        return Activity(self.n_tokens, self.active, self.total, peaks, self.histogram[peaks].astype(np.int64))

    def contexts(self) -> Contexts:
        """All that is kept, by feature, the largest keys first."""
        return Contexts.joined([_contexts(self.top, top=True), _contexts(self.sample, top=False)])


def _windows(slot: np.ndarray, token: np.ndarray, value: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Activations around the peaks `at` [n], float32 [n, WIDTH]; slot: 1 + the peak that an entry belongs to, or 0."""
    windows = np.zeros((len(at), WIDTH), np.float32)
    i = np.flatnonzero(slot)
    peak = slot[i] - 1
    column = token[i] - at[peak] + BEFORE
    inside = (column >= 0) & (column < WIDTH)
    windows[peak[inside], column[inside]] = value[i[inside]]
    return windows


def _contexts(kept: Kept, *, top: bool) -> Contexts:
    order = np.argsort(~kept.key, axis=1, kind="stable")
    key = np.take_along_axis(kept.key, order, 1)
    feature, column = np.nonzero(key)
    place, key = order[feature, column], key[feature, column]
    high, low = (key >> np.uint64(32)).astype(np.uint32), (key & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    draw, window = low if top else high, kept.window[feature, place]
    return Contexts(
        feature=feature.astype(np.int32),
        draw=draw,
        value=window[:, BEFORE],  # the key has its magnitude
        row=kept.row[feature, place],
        at=kept.at[feature, place],
        top=np.full(len(feature), top),
        window=window,
    )


def draws(name: str, rows: np.ndarray, features: np.ndarray) -> np.ndarray:
    """A random number below 2**32 of each text and feature, uint64 [n]: their numbers mixed with a hash of the name
    (the finalizer of splitmix64, Steele, Lea and Flood 2014)."""
    x = (rows.astype(np.uint64) << np.uint64(32)) ^ features.astype(np.uint64)
    x ^= np.uint64(zlib.crc32(name.encode()) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return (x ^ (x >> np.uint64(31))) >> np.uint64(32)
