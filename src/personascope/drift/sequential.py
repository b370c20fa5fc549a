"""From which turn on "still the assistant" is rejected: one test a conversation, calibrated on whole conversations.

Turns of a conversation are not exchangeable with each other or with single answers: they depend on each other, later
turns of plain conversations lie lower, and genres differ. What is exchangeable is the conversation. So the scores are
standardized by what reference conversations (the same model, neutral users) score at that turn and length,

    z_t = (score_t - mu(t, log length)) / sigma(t, log length),

added up by Page's one-sided CUSUM ("Continuous inspection schemes", 1954), S_t = max(0, S_{t-1} - z_t - ALLOWANCE),
and the statistic of a conversation is the maximum of S_t / h(t) over its turns, h(t) being what S_t typically reaches
in the references by turn t. Its p-value is its rank among the references' own statistics, each of them made without
the reference itself: P(p <= u) <= u whatever the dependence and the trend within a conversation.

The running maximum only grows and its level is fixed beforehand, so an alarm never retracts, and the stated share of
false alarms holds whenever one stops watching.
"""

import math
from dataclasses import dataclass

import numpy as np

# Standard deviations that a turn must lie below its expectation to count: half of the fall that is to be found. Half of
# this would let what a conversation's turns have in common add up, and with an intra-class correlation of 0.3 find 52 %
# of falls by 2.5 standard deviations over 5 turns in place of 75 % (docs/validation.md has more).
ALLOWANCE = 1.0
TYPICAL = 0.5  # h(t) is this quantile of the references' S_t
LEAST_HEIGHT = 1.0  # and not less than one standard deviation
LEAST_SIGMA = 1e-9
RANK = 1e-6  # of the largest singular value: regressors that say the same share one coefficient


@dataclass(frozen=True)
class Turns:
    """Scores of M conversations by assistant turn, padded with NaN: scores [M, T], and regressors [M, T, K] of a turn
    besides its place, of which the first is the log of its number of tokens."""

    scores: np.ndarray
    regressors: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: np.ndarray | slice) -> "Turns":
        return Turns(self.scores[rows], self.regressors[rows])

    def minus_baseline(self, baseline: int) -> "Turns":
        """Each conversation minus the mean of its own first `baseline` turns, which have no score any more."""
        if not baseline:
            return self
        scores = self.scores.copy()
        first = scores[:, :baseline]
        counts = (~np.isnan(first)).sum(1)
        means = np.where(counts > 0, np.nansum(first, 1) / np.maximum(counts, 1), np.nan)
        scores -= means[:, None]
        scores[:, :baseline] = np.nan
        return Turns(scores, self.regressors)


@dataclass(frozen=True)
class Standard:
    """What is expected of a turn: mu = B . location, log sigma = B . spread, for the basis B of `basis`; and h.

    location, spread float64 [K + 3]; center [K]: mean regressors; height float64 [T]: h(t).
    """

    location: np.ndarray
    spread: np.ndarray
    center: np.ndarray
    height: np.ndarray

    def expected(self, turns: Turns) -> tuple[np.ndarray, np.ndarray]:
        """mu and sigma, each [M, T]."""
        design = basis(turns, self.center)
        return design @ self.location, np.maximum(np.exp(design @ self.spread), LEAST_SIGMA)

    def z(self, turns: Turns) -> np.ndarray:
        """Standardized scores [M, T]; NaN where there is no score."""
        mean, sigma = self.expected(turns)
        return (turns.scores - mean) / sigma

    def evidence(self, turns: Turns) -> np.ndarray:
        """S_t / h(t) [M, T] of conversations of at most T turns; a turn without a score adds nothing."""
        return cusum(self.z(turns)) / self.height[: turns.scores.shape[1]]


def basis(turns: Turns, center: np.ndarray) -> np.ndarray:
    """float64 [M, T, K + 3]: 1, log(1 + t), its square, and the regressors minus their center."""
    place = np.log1p(np.arange(turns.scores.shape[1], dtype=np.float64))
    place = np.broadcast_to(place[None, :, None], (*turns.scores.shape, 1))
    rest = np.nan_to_num(turns.regressors - center)
    return np.concatenate([np.ones_like(place), place, place**2, rest], axis=2)


def cusum(z: np.ndarray) -> np.ndarray:
    """S_t = max(0, S_{t-1} - z_t - ALLOWANCE) [M, T]; NaN leaves it as it is."""
    steps = np.where(np.isnan(z), 0.0, -z - ALLOWANCE)
    levels, level = np.zeros_like(steps), np.zeros(len(steps))
    for turn in range(steps.shape[1]):
        level = np.maximum(0, level + steps[:, turn])
        levels[:, turn] = level
    return levels


def fit(turns: Turns) -> Standard:
    """The standard of some conversations: least squares for mu, and for the log of the residuals' size.

    E log|r| of a normal r lies below log sigma, so that sigma is scaled until the standardized residuals have
    variance 1.
    """
    known = ~np.isnan(turns.scores)
    center = turns.regressors[known].mean(0)
    design, scores = basis(turns, center)[known], turns.scores[known]
    location = _solve(design, scores)
    size = np.abs(scores - design @ location)
    spread = _solve(design, np.log(np.maximum(size, np.median(size) * 0.05 + LEAST_SIGMA)))
    scale = math.sqrt(np.square(size / np.exp(design @ spread)).mean())
    spread[0] += math.log(max(scale, LEAST_SIGMA))
    half = Standard(location, spread, center, np.ones(turns.scores.shape[1]))
    height = np.maximum.accumulate(np.quantile(half.evidence(turns), TYPICAL, axis=0))
    return Standard(location, spread, center, np.maximum(height, LEAST_HEIGHT))


def _solve(design: np.ndarray, values: np.ndarray) -> np.ndarray:
    scale = np.sqrt(np.square(design).mean(0))
    scale = np.where(scale > RANK, scale, np.inf)
    return np.linalg.lstsq(design / scale, values, rcond=RANK)[0] / scale


@dataclass(frozen=True)
class Calibrated:
    """The test as M reference conversations calibrate it.

    standard: of all of them; statistics float64 [M], descending: each reference's by the standard of the others.
    """

    standard: Standard
    statistics: np.ndarray

    @property
    def turns(self) -> int:
        """T_max: turns up to which a conversation is tested."""
        return len(self.standard.height)

    def p_value(self, statistic: float) -> float:
        """(1 + number of references that reach the statistic) / (M + 1)."""
        return (1 + int((self.statistics >= statistic).sum())) / (len(self.statistics) + 1)

    def level(self, alpha: float) -> float:
        """What a statistic must pass for p <= alpha; infinite where M is too small for that."""
        rank = math.floor(alpha * (len(self.statistics) + 1) + 1e-9)
        return float(self.statistics[rank - 1]) if rank else math.inf


def calibrate(references: Turns) -> Calibrated:
    """The test of references [M, T] that all have T turns, or turns without a score."""
    statistics = np.empty(len(references))
    everyone = np.arange(len(references))
    for i in everyone:
        own = references[i : i + 1]
        statistics[i] = fit(references[everyone != i]).evidence(own).max(initial=0)
    return Calibrated(fit(references), np.sort(statistics)[::-1])


def least_references(alpha: float) -> int:
    """How many reference conversations are needed for p <= alpha to be possible."""
    return math.ceil(1 / alpha - 1 - 1e-9)


def began(evidence: np.ndarray, turn: int) -> int:
    """The first turn of the run of evidence [T] above 0 that leads to `turn`."""
    quiet = np.flatnonzero(evidence[: turn + 1] <= 0)
    return int(quiet[-1]) + 1 if len(quiet) else 0
