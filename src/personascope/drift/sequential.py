"""From which turn on "still the assistant" is rejected: tests that go through a conversation's p-values turn by turn.

A test makes evidence (nats) of p-values, and rejects at the first turn whose evidence reaches the threshold. Its
promise is one alarm in at most alpha of the conversations that stay the assistant's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

DRAWS, CHUNK = 20_000, 2_000  # conversations that a threshold is simulated from: alpha = 0.05 is met to 0.15 points
ROUNDING = 1e-9


@dataclass(frozen=True)
class SequentialTest:
    """evidence: p-values [n, T] -> nats [n, T]; threshold: (alpha, T, n_questions) -> nats [T], NaN if out of reach.

    accumulates: whether a turn's evidence holds that of turns before it.
    """

    evidence: Callable[[np.ndarray], np.ndarray]
    threshold: Callable[[float, int, int], np.ndarray]
    accumulates: bool = False

    def began(self, evidence: np.ndarray) -> np.ndarray:
        """The first turn of the run of turns that the evidence [T] at each turn is made of, int [T]."""
        turns = np.arange(len(evidence))
        if not self.accumulates:
            return turns
        restarts = np.where(evidence <= 0, turns + 1, 0)
        return np.minimum(np.maximum.accumulate(restarts), turns)


def cusum(p_values: np.ndarray) -> np.ndarray:
    """S_t = max(0, S_{t-1} + log e_t) with e = 1 / (2 sqrt(p)): some low turns in a row count, not one alone.

    Page's CUSUM ("Continuous inspection schemes", 1954) of e-values; the calibrator from p to e, whose mean is 1 under
    the hypothesis, is that of Vovk and Wang ("E-values", 2021) with kappa = 1/2.
    """
    steps = -0.5 * np.log(p_values) - np.log(2)
    evidence = np.zeros_like(steps)
    level = np.zeros(len(steps))
    for turn in range(steps.shape[1]):
        level = np.maximum(0, level + steps[:, turn])
        evidence[:, turn] = level
    return evidence


@lru_cache(256)
def cusum_threshold(alpha: float, turns: int, n_questions: int) -> float:
    """What `cusum` reaches in at most alpha of all conversations of T turns; NaN where no value is that rare.

    Simulated, without assuming a distribution: turns and calibrating questions that are exchangeable have all orders
    alike, and the p-values are ranks. All turns are held against the same questions, and that is in it.
    """
    rng = np.random.default_rng(0)
    highest = np.sort([_highest(rng, turns, n_questions) for _ in range(DRAWS // CHUNK)], axis=None)
    levels, first = np.unique(highest, return_index=True)
    rare = levels[(levels > 0) & (1 - first / DRAWS <= alpha)]
    return float(rare[0]) - ROUNDING if len(rare) else float("nan")


def _highest(rng: np.random.Generator, turns: int, n_questions: int) -> np.ndarray:
    """The highest evidence of each of CHUNK conversations, from random orders of turns and questions."""
    order = rng.random((CHUNK, n_questions + turns)).argsort(1)
    below = np.empty_like(order)
    np.put_along_axis(below, order, (order < n_questions).cumsum(1), 1)
    return cusum((1 + below[:, n_questions:]) / (n_questions + 1)).max(1, initial=0)


def _surprise(p_values: np.ndarray) -> np.ndarray:
    return -np.log(p_values)


def _spent(shares: np.ndarray) -> np.ndarray:
    return -np.log(shares) - ROUNDING


SEQUENTIAL_TESTS: dict[str, SequentialTest] = {
    "cusum": SequentialTest(cusum, lambda alpha, n, q: np.full(n, cusum_threshold(alpha, n, q)), accumulates=True),
    "bonferroni": SequentialTest(_surprise, lambda alpha, n, _: _spent(np.full(n, alpha / max(n, 1)))),
    # Valid for a conversation that still goes on: the sum over all t of 1 / (t (t + 1)) is 1.
    "spending": SequentialTest(
        _surprise, lambda alpha, n, _: _spent(alpha / (np.arange(1.0, n + 1) * np.arange(2.0, n + 2)))
    ),
}
