"""Whether a transition is carried by few features, held against pairs of an anchor role's answers to one question.

The share of away_mass that the top away table covers says little by itself: in SAE space a change spreads over
thousands of features whatever caused it. Two answers of one role to the same question differ by sampling and by
the wording of the instruction alone; the share of their difference, scored like a transition, is the null. Each pair
is scored on the axis made without its block of questions, and in both orders, since the away side of a fall is the
heavier one: a transition is held against pairs that move the projection as it does.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from personascope.directions.axis import TRANSFORMS, RoleSpace
from personascope.directions.block_sums import BlockSums
from personascope.drift.options import DriftOptions
from personascope.drift.result import Transition
from personascope.formats.features import iter_features

TINY = 1e-12
MOST_FEATURES = 100  # of a top away table that there is a null for
PAIRS_A_QUESTION = 10  # more of them are alike
HIGH = 0.95
COLUMNS = ("top_away_share_null_median", "top_away_share_null_high", "top_away_share_p_value")


@dataclass(frozen=True)
class PairShares:
    """Pairs of answers of one role to the same question under different variants, P of them.

    shares float32 [P, 2, K]: the share of away_mass that the k largest away contributions cover, k from 1 to K, in the
    order in which the projection falls and in the one in which it rises; question_id int32 [P]; n_tokens int32 [P, 2]:
    how long the two are. Few tokens have few features: a null of answers far shorter than the turns is too high.
    """

    shares: np.ndarray = field(default_factory=lambda: np.zeros((0, 2, MOST_FEATURES), np.float32))
    question_id: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    n_tokens: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int32))

    def null(self, top_features: int, rises: bool) -> "Null | None":
        """The null of one length of the table and one direction; None without pairs, and for longer tables."""
        if not len(self.shares) or top_features > self.shares.shape[2]:
            return None
        _, place, counts = np.unique(self.question_id, return_inverse=True, return_counts=True)
        return Null(self.shares[:, int(rises), top_features - 1].astype(np.float64), 1 / counts[place])


@dataclass(frozen=True)
class Null:
    """Shares float64 [P] of pairs, and weights [P]: those of one question, which are alike, sum to 1."""

    shares: np.ndarray
    weights: np.ndarray

    def quantile(self, level: float) -> float:
        """Of the weighted shares."""
        return float(np.quantile(self.shares, level, weights=self.weights, method="inverted_cdf"))

    def p_value(self, share: float) -> float:
        """(1 + number of questions whose pairs reach the share) / (Q + 1), a question counting by how many of its
        pairs do: at most alpha with probability alpha, were the transition one more such question."""
        reached = self.weights[self.shares >= share].sum()
        return float((1 + reached) / (round(self.weights.sum()) + 1))


def strength_table(transitions: Sequence[Transition], pairs: PairShares, options: DriftOptions) -> pd.DataFrame:
    """turn and COLUMNS, a row a transition: median and 95th percentile of the null, and the p-value of its share.

    NaN in residual space, where there are no features, and where there is no null.
    """
    rows = []
    for step in transitions:
        null = pairs.null(options.display.top_features, rises=bool(step.contrib.sum(dtype=np.float64) > 0))
        values = [np.nan] * len(COLUMNS)
        if null is not None and np.isfinite(step.top_away_share):
            values = [null.quantile(0.5), null.quantile(HIGH), null.p_value(step.top_away_share)]
        rows.append({"turn": step.turn, **dict(zip(COLUMNS, values, strict=True))})
    return pd.DataFrame(rows, columns=["turn", *COLUMNS]).astype({"turn": np.int64, **dict.fromkeys(COLUMNS, float)})


def pair_shares(
    path: str | Path, sums: BlockSums, folds: Mapping[int, RoleSpace], options: DriftOptions, seed: int = 0
) -> PairShares:
    """The pairs of one role from its features file; none in residual space, and where there is one variant.

    folds: {question block: role space without it}. At most PAIRS_A_QUESTION pairs of a question, drawn at random.
    """
    if options.axis.space != "sae":
        return PairShares()
    answers = _answers(path, options)
    rng = np.random.default_rng(seed)
    shares, questions, lengths = [], [], []
    for question, block in zip(sums.question_ids.tolist(), sums.question_blocks.tolist(), strict=True):
        pairs = list(itertools.combinations(answers.get(question, []), 2))
        if block not in folds or not pairs:
            continue
        for row in rng.permutation(len(pairs))[:PAIRS_A_QUESTION]:
            a, b = pairs[row]
            shares.append(_both_orders(a, b, folds[block].axis))
            questions.append(question)
            lengths.append((a[2], b[2]))
    if not shares:
        return PairShares()
    return PairShares(np.stack(shares).astype(np.float32), np.array(questions, np.int32), np.array(lengths, np.int32))


Answer = tuple[np.ndarray, np.ndarray, int]  # active features, their values in role space before centering, tokens


def _answers(path: str | Path, options: DriftOptions) -> dict[int, list[Answer]]:
    """{question: its answers that have tokens}."""
    answers: dict[int, list[Answer]] = {}
    for rows in iter_features(path, [options.axis.pooling]):
        values = TRANSFORMS[options.axis.transform](getattr(rows, options.axis.pooling))
        for row in np.flatnonzero(rows.n_tokens > 0):
            owned = slice(rows.offsets[row], rows.offsets[row + 1])
            answer = (rows.indices[owned], values[owned], int(rows.n_tokens[row]))
            answers.setdefault(int(rows.question_id[row]), []).append(answer)
    return answers


def _both_orders(a: Answer, b: Answer, axis: np.ndarray) -> np.ndarray:
    """Cumulative shares [2, MOST_FEATURES] of the difference of two answers: as it falls, and as it rises."""
    ids, place = np.unique(np.concatenate([a[0], b[0]]), return_inverse=True)
    delta = np.bincount(place, np.concatenate([a[1], -b[1]]), len(ids))
    contrib = delta * axis[ids]
    falling = contrib if contrib.sum() <= 0 else -contrib
    return np.stack([cumulative_shares(falling), cumulative_shares(-falling)])


def cumulative_shares(contrib: np.ndarray) -> np.ndarray:
    """Share of away_mass that the k largest away contributions cover, float64 [MOST_FEATURES] for k from 1."""
    away = np.sort(-contrib[contrib < 0])[::-1]
    covered = np.zeros(MOST_FEATURES)
    top = away[:MOST_FEATURES]
    covered[: len(top)] = top
    return np.cumsum(covered) / max(away.sum(), TINY)
