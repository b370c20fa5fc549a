"""The conversation test: its parts by hand, and its false alarms on simulated conversations whose turns are alike."""

import math

import numpy as np
import pytest

from personascope.drift.sequential import (
    ALLOWANCE,
    Standard,
    Turns,
    began,
    calibrate,
    cusum,
    fit,
    least_references,
)


def simulated(
    rng: np.random.Generator, n: int, turns: int, shared: float = 0.0, carried: float = 0.0, shift: float = 0.0
) -> Turns:
    """Conversations whose scores fall over turns and rise with length; `shared` of the variance is the conversation's,
    or turns follow an AR(1) of coefficient `carried`; all scores are shifted by so many standard deviations."""
    lengths = np.exp(rng.normal(4, 0.4, (n, turns)))
    noise = rng.normal(size=(n, turns))
    for turn in range(1, turns):
        noise[:, turn] = carried * noise[:, turn - 1] + math.sqrt(1 - carried**2) * noise[:, turn]
    noise = math.sqrt(shared) * rng.normal(size=(n, 1)) + math.sqrt(1 - shared) * noise
    place = np.log1p(np.arange(turns))
    scores = 3 - 0.5 * place + 0.3 * np.log(lengths) + (noise + shift) * (1 + 0.1 * place)
    return Turns(scores, np.log1p(lengths)[..., None])


def test_cusum_by_hand() -> None:
    z = np.array([[0.0, -2, -2, np.nan, 3, -1.5]])
    expected = [0, 2 - ALLOWANCE, 4 - 2 * ALLOWANCE, 4 - 2 * ALLOWANCE, 0, 1.5 - ALLOWANCE]
    assert cusum(z)[0] == pytest.approx(expected)


def test_evidence_began_behind_the_last_turn_without_any() -> None:
    evidence = np.array([0.0, 0.4, 0, 0.2, 0.9, 1.5])
    assert began(evidence, 5) == 3 and began(evidence, 1) == 1 and began(np.array([0.3, 0.8]), 1) == 0


def test_a_fit_finds_what_place_and_length_do_to_mean_and_spread() -> None:
    turns = simulated(np.random.default_rng(0), 4000, 8)
    standard = fit(turns)
    z = standard.z(turns)
    assert z.mean() == pytest.approx(0, abs=0.01) and z.std() == pytest.approx(1, abs=0.02)
    assert z.mean(0) == pytest.approx(np.zeros(8), abs=0.06) and z.std(0) == pytest.approx(np.ones(8), abs=0.06)
    longer = Turns(turns.scores, turns.regressors + math.log(2))
    assert (longer.scores - standard.expected(longer)[0]).mean() == pytest.approx(-0.3 * math.log(2), abs=0.03)
    assert (np.diff(standard.height) >= 0).all() and (standard.height >= 1).all()


def test_a_baseline_takes_the_own_level_of_a_conversation_off() -> None:
    turns = simulated(np.random.default_rng(1), 5, 6)
    there = turns.minus_baseline(2)
    assert np.isnan(there.scores[:, :2]).all()
    assert there.scores[:, 2:] == pytest.approx(turns.scores[:, 2:] - turns.scores[:, :2].mean(1, keepdims=True))
    moved = Turns(turns.scores + np.arange(5)[:, None], turns.regressors).minus_baseline(2)
    assert moved.scores[:, 2:] == pytest.approx(there.scores[:, 2:])


def test_p_values_are_ranks_and_an_alarm_is_what_reaches_alpha() -> None:
    test = calibrate(simulated(np.random.default_rng(2), 39, 4))
    high = test.statistics
    assert test.p_value(high[0] + 1) == pytest.approx(1 / 40) and test.p_value(0) == 1
    assert test.p_value(high[1]) == pytest.approx(3 / 40)
    level = test.level(0.05)
    for statistic in [*high, *(high + 1e-6)]:
        assert (statistic > level) == (test.p_value(statistic) <= 0.05)


@pytest.mark.parametrize(("alpha", "least"), [(0.05, 19), (0.1, 9), (0.01, 99)])
def test_too_few_references_give_no_alarm(alpha: float, least: int) -> None:
    assert least_references(alpha) == least
    test = calibrate(simulated(np.random.default_rng(3), least, 3))
    assert math.isfinite(test.level(alpha))
    fewer = calibrate(simulated(np.random.default_rng(3), least - 1, 3))
    assert fewer.level(alpha) == math.inf


def test_a_reference_is_judged_by_the_others_alone() -> None:
    """One that lies far off does not make itself normal."""
    turns = simulated(np.random.default_rng(4), 25, 5)
    scores = turns.scores.copy()
    scores[7] -= 50
    odd = calibrate(Turns(scores, turns.regressors))
    without = fit(Turns(np.delete(scores, 7, 0), np.delete(turns.regressors, 7, 0)))
    own = Turns(scores[7:8], turns.regressors[7:8])
    assert odd.statistics[0] == pytest.approx(without.evidence(own).max(), rel=1e-6)
    assert odd.statistics[0] > 3 * fit(Turns(scores, turns.regressors)).evidence(own).max()


@pytest.mark.parametrize(("shared", "carried"), [(0, 0), (0.6, 0), (0, 0.6)])
@pytest.mark.parametrize("turns", [2, 20])
def test_false_alarms_are_as_stated_whatever_the_dependence(turns: int, shared: float, carried: float) -> None:
    """Watched turn by turn: an alarm at any turn counts. More cells are in docs/validation.md."""
    rng = np.random.default_rng(5)
    alarms = []
    for _ in range(25):
        test = calibrate(simulated(rng, 99, turns, shared, carried))
        fresh = simulated(rng, 100, turns, shared, carried)
        alarms.append((test.standard.evidence(fresh) > test.level(0.05)).any(1).mean())
    assert 0.03 <= np.mean(alarms) <= 0.07


def test_conversations_that_drift_are_found() -> None:
    rng = np.random.default_rng(6)
    test = calibrate(simulated(rng, 99, 10, 0.3))
    drifted = simulated(rng, 200, 10, 0.3)
    drifted.scores[:, 5:] -= 2.5
    evidence = test.standard.evidence(drifted)
    found = (evidence > test.level(0.05)).any(1)
    assert found.mean() > 0.7
    first = (evidence > test.level(0.05)).argmax(1)[found]
    starts = np.array([began(row, turn) for row, turn in zip(evidence[found], first, strict=True)])
    assert np.median(first) in (6, 7) and np.median(starts) == 5


def test_what_does_not_vary_gives_numbers() -> None:
    flat = Turns(np.ones((20, 3)), np.ones((20, 3, 1)))
    test = calibrate(flat)
    assert np.isfinite(test.statistics).all() and test.p_value(test.statistics[0]) == 1
    assert isinstance(test.standard, Standard) and np.isfinite(test.standard.height).all()
