"""The sequential tests: what evidence is, that no more than alpha is spent, and where a run of it began."""

import numpy as np
import pytest

from personascope.drift.sequential import SEQUENTIAL_TESTS, cusum, cusum_threshold

CUSUM, BONFERRONI, SPENDING = (SEQUENTIAL_TESTS[name] for name in ("cusum", "bonferroni", "spending"))


def test_evidence_by_hand() -> None:
    p = np.array([[1, 0.01, 0.04, 1, 1, 1, 1, 0.01]])
    steps = -0.5 * np.log(p[0]) - np.log(2)
    evidence = cusum(p)[0]
    assert evidence[:3] == pytest.approx([0, steps[1], steps[1] + steps[2]])
    assert evidence[3:6] == pytest.approx(evidence[2] - np.log(2) * np.array([1, 2, 3]))
    assert evidence[6] == 0 and evidence[7] == pytest.approx(steps[7])
    assert CUSUM.began(evidence).tolist() == [0, 1, 1, 1, 1, 1, 6, 7]
    assert BONFERRONI.evidence(p)[0] == pytest.approx(-np.log(p[0]))
    assert BONFERRONI.began(evidence).tolist() == list(range(8))


def test_the_calibrator_makes_e_values() -> None:
    """Their mean is at most 1 under the hypothesis: here over the p-values that 40 questions can give."""
    p = np.arange(1, 42) / 41
    e = np.exp(-0.5 * np.log(p) - np.log(2))
    assert 0.8 < e.mean() <= 1


@pytest.mark.parametrize("n", [1, 2, 7, 400])
def test_no_more_than_alpha_is_spent(n: int) -> None:
    for test in (BONFERRONI, SPENDING):
        spent = np.exp(-test.threshold(0.05, n, 240))
        assert len(spent) == n and spent.sum() <= 0.05 * (1 + 1e-6)
    assert np.exp(-BONFERRONI.threshold(0.05, n, 240)).sum() == pytest.approx(0.05)


def test_spending_does_not_depend_on_the_turns_to_come() -> None:
    assert np.array_equal(SPENDING.threshold(0.05, 9, 1)[:4], SPENDING.threshold(0.05, 4, 1))
    assert np.exp(-SPENDING.threshold(0.05, 2, 1)).tolist() == pytest.approx([0.025, 0.05 / 6])


@pytest.mark.parametrize(("n_questions", "turns", "alpha"), [(12, 4, 0.05), (60, 12, 0.05), (60, 12, 0.2)])
def test_cusum_keeps_alpha_over_references_and_conversations(n_questions: int, turns: int, alpha: float) -> None:
    """Scores drawn afresh, from a skewed distribution: only their ranks may matter."""
    rng = np.random.default_rng(1)
    own, conversations = rng.gumbel(size=(4000, n_questions)), rng.gumbel(size=(4000, turns))
    below = (own[:, None, :] <= conversations[:, :, None]).sum(2)
    reached = cusum((1 + below) / (n_questions + 1)).max(1)
    alarms = np.asarray(reached >= cusum_threshold(alpha, turns, n_questions))
    error = np.sqrt(alpha * (1 - alpha) / len(alarms))
    assert 0.6 * alpha < alarms.mean() < alpha + 3 * error


def test_a_threshold_out_of_reach_is_said() -> None:
    assert np.isnan(cusum_threshold(0.05, 1, 6)) and np.isnan(cusum_threshold(0.05, 8, 0))
    assert cusum_threshold(0.05, 1, 19) == pytest.approx(0.5 * np.log(20) - np.log(2))
    assert cusum_threshold(0.05, 8, 24) < cusum_threshold(0.01, 8, 24)
