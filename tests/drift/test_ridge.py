"""Ridge regression on groups that it has not seen: scikit-learn's solution, known R², noise, and no leak."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from personascope.drift.ridge import FOLDS, PENALTIES, Held, held_out, r_squared, ridge_path

Data = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulated(groups: int, turns: int, d: int, r2: float, seed: int = 0, shared: float = 0.0) -> Data:
    """Standard normal features float32 [n, d], a target of which a linear signal is the share r2, and the groups [n];
    `shared` of the rest is the same in all turns of a group."""
    rng, n = np.random.default_rng(seed), groups * turns
    group = np.repeat(np.arange(groups), turns)
    x = rng.normal(size=(n, d))
    weights = rng.normal(size=d)
    signal = x @ weights / np.linalg.norm(weights)
    rest = np.sqrt(shared) * rng.normal(size=groups)[group] + np.sqrt(1 - shared) * rng.normal(size=n)
    return x.astype(np.float32), 7 + 3 * (np.sqrt(r2) * signal + np.sqrt(1 - r2) * rest), group


def r2_of(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> tuple[float, float, float]:
    return r_squared(held_out(x, y, group), y, group, 0)


@pytest.mark.parametrize(("n", "d"), [(60, 9), (9, 60), (20, 20)])
def test_each_penalty_gives_what_scikit_learn_gives(n: int, d: int) -> None:
    x, y, _ = simulated(n + 5, 1, d, 0.5)
    x = x * np.linspace(0.1, 50, d, dtype=np.float32) + 3
    x[:, 2] = 4.5
    found = ridge_path(x[:n], y[:n], x[n:], PENALTIES)
    scaler = StandardScaler().fit(x[:n].astype(np.float64))
    for penalty, predicted in zip(PENALTIES, found, strict=True):
        model = Ridge(alpha=penalty).fit(scaler.transform(x[:n]), y[:n])
        np.testing.assert_allclose(predicted, model.predict(scaler.transform(x[n:])), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("groups", "d"), [(400, 12), (400, 60), (60, 4)])
@pytest.mark.parametrize("r2", [0.1, 0.6, 0.9])
def test_a_linear_signal_of_known_strength_is_found(groups: int, d: int, r2: float) -> None:
    found, low, high = r2_of(*simulated(groups, 8, d, r2))
    assert found == pytest.approx(r2, abs=0.05) and low < found < high


def test_more_features_than_turns() -> None:
    """60 conversations of 4 turns and 900 features, in which one direction varies most, and matters."""
    x, y, group = simulated(60, 4, 900, 0.0)
    rng = np.random.default_rng(1)
    level = rng.normal(size=len(x))
    x += np.outer(5 * level, rng.normal(size=900)).astype(np.float32)
    y = 3 * (np.sqrt(0.7) * level + np.sqrt(0.3) * rng.normal(size=len(x)))
    assert r2_of(x, y, group)[0] == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("d", "shared"), [(5, 0.0), (200, 0.0), (40, 0.6)])
def test_noise_predicts_nothing(d: int, shared: float, seed: int) -> None:
    found, low, _ = r2_of(*simulated(30, 5, d, 0.0, seed, shared))
    assert -0.25 < found < 0.03 and low < 0


def test_groups_that_are_alike_do_not_see_each_other() -> None:
    """20 scripts in 4 conversations each: the same messages, and a level of the script's own."""
    rng = np.random.default_rng(0)
    script = np.tile(np.repeat(np.arange(20), 5), 4)
    conversation = np.repeat(rng.permutation(80), 5)
    x = rng.normal(size=(20 * 5, 200)).astype(np.float32)[np.tile(np.arange(100), 4)]
    y = rng.normal(size=20)[script] + 0.1 * rng.normal(size=len(script))
    assert r2_of(x, y, script)[0] < 0.05
    assert r2_of(x, y, conversation)[0] > 0.5, "what a fold that parts the scripts would have seemed to predict"


def test_a_fold_is_predicted_without_anything_of_its_own() -> None:
    x, y, group = simulated(FOLDS, 30, 8, 0.5)
    before = held_out(x, y, group)
    own = group == 3
    other_x, other_y = x.copy(), y.copy()
    other_y[own] = 1000 + 50 * np.arange(own.sum())
    other_x[np.flatnonzero(own)[10:]] *= 100
    after = held_out(other_x, other_y, group)
    kept = np.flatnonzero(own)[:10]
    np.testing.assert_allclose(after.predicted[kept], before.predicted[kept])
    np.testing.assert_allclose(after.baseline[own], before.baseline[own])
    (changed,) = np.flatnonzero([np.isclose(before.baseline[own], y[group != g].mean()).all() for g in range(FOLDS)])
    assert changed == 3 and not np.allclose(after.predicted[~own], before.predicted[~own])


def test_noise_is_penalized_and_a_plain_signal_is_not() -> None:
    noise, signal = (held_out(*simulated(60, 5, 100, r2)).penalties for r2 in (0.0, 0.99))
    assert np.median(noise) > 100 * np.median(signal)


def test_r2_is_that_against_the_mean_of_the_training_folds() -> None:
    y, group = np.array([1.0, 2, 3, 4]), np.arange(4)
    held = Held(np.array([1.0, 2, 3, 2]), np.array([3.0, 3, 4, 0]), np.ones(FOLDS))
    assert r_squared(held, y, group, 0)[0] == pytest.approx(1 - 4 / (4 + 1 + 1 + 16))


@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_the_interval_holds_the_strength_in_19_of_20_simulations(shared: float) -> None:
    inside = 0
    for seed in range(150):
        _, low, high = r2_of(*simulated(60, 6, 3, 0.5, seed, shared))
        inside += low <= 0.5 <= high
    assert 0.88 <= inside / 150 <= 0.99
