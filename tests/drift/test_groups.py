"""Features that fire together: by np.corrcoef on dense tokens, and split features that count once."""

from typing import Any

import numpy as np
import pytest

from personascope.drift.analysis import analyze
from personascope.drift.groups import FEWEST_TOKENS, TOGETHER, correlations, groups_of
from personascope.drift.options import DriftOptions
from tests.helpers.drift_cases import random_roles, random_tokens, to_activations

WIDTH = 120


def split_tokens() -> tuple[np.ndarray, np.ndarray]:
    """Random tokens in which features 11 and 12 fire as 10 does, a little noisy, and 20 as the negative of 10."""
    dense, turn = random_tokens([20, 25, 30], WIDTH)
    rng = np.random.default_rng(3)
    dense[:, 10] = np.where(rng.random(len(dense)) < 0.4, rng.gamma(2, 2, len(dense)), 0)
    for feature, factor in ((11, 2.0), (12, 0.5), (20, -1.0)):
        dense[:, feature] = factor * dense[:, 10] * rng.uniform(0.9, 1.1, len(dense))
    return dense.astype(np.float32), turn


def test_correlations_are_those_of_the_dense_tokens() -> None:
    dense, turn = split_tokens()
    ids = np.array([12, 3, 10, 55, 20, 11, 70])
    active = (dense[:, ids] != 0).sum(0)
    assert active.min() >= FEWEST_TOKENS
    ours = correlations(ids, to_activations(dense, turn, 3))
    np.testing.assert_allclose(ours, np.corrcoef(dense[:, ids].astype(np.float64).T), atol=1e-9)


def test_every_two_features_of_a_group_fire_together_and_the_first_names_it() -> None:
    dense, turn = split_tokens()
    ids = np.array([12, 3, 10, 20, 11])
    assert groups_of(ids, to_activations(dense, turn, 3)).tolist() == [12, 3, 12, 20, 12]


def test_a_chain_is_not_one_group() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4000))
    dense = np.zeros((4000, WIDTH), np.float32)
    # Each neighbor correlates by about 0.9, the ends by about 0.62.
    dense[:, 1], dense[:, 2], dense[:, 3] = a, 0.9 * a + 0.436 * b, 0.62 * a + 0.785 * b
    corr: Any = np.corrcoef(dense[:, [1, 2, 3]].T)
    assert corr[0, 1] > TOGETHER < corr[1, 2] and corr[0, 2] < TOGETHER
    tokens = to_activations(dense, np.zeros(4000), 1)
    assert groups_of(np.array([1, 2, 3]), tokens).tolist() == [1, 1, 3]
    assert groups_of(np.array([3, 2, 1]), tokens).tolist() == [3, 3, 1]


def test_few_tokens_in_common_are_chance() -> None:
    dense, turn = random_tokens([20, 20], WIDTH)
    dense[:, 1:3] = 0
    dense[:4, 1], dense[:4, 2] = 1, 1
    assert groups_of(np.array([1, 2]), to_activations(dense, turn, 2)).tolist() == [1, 2]
    dense[4, 1:3] = 2
    assert groups_of(np.array([1, 2]), to_activations(dense, turn, 2)).tolist() == [1, 1]


def test_features_that_never_vary_are_alone() -> None:
    dense, turn = random_tokens([20, 20], WIDTH)
    dense[:, 1], dense[:, 2] = 0.1, 0.3
    tokens = to_activations(dense, turn, 2)
    assert groups_of(np.array([1, 2]), tokens).tolist() == [1, 2]
    assert (correlations(np.array([1, 2]), tokens) == 0).all()


def test_tables_say_what_a_group_contributes_together() -> None:
    dense, turn = split_tokens()
    matrix, names = random_roles(7, WIDTH)
    options = DriftOptions.of(top_features=WIDTH)
    result: Any = analyze(to_activations(dense, turn, 3), matrix, names, options)
    contrib = result.transitions[result.selected].contrib
    seen = {feature: row for table in result.features.values() for feature, row in _rows(table)}
    for row in seen.values():
        mates = [feature for feature, other in seen.items() if other["group"] == row["group"]]
        assert row["group"] in mates and row["group_size"] == len(mates)
        assert row["group_contrib"] == pytest.approx(contrib[mates].sum(dtype=np.float64))
        assert abs(contrib[row["group"]]) == np.abs(contrib[mates]).max()
    assert len({seen[feature]["group"] for feature in (10, 11, 12)}) == 1


def _rows(table: Any) -> list[tuple[int, dict[str, Any]]]:
    return [(row["feature_idx"], row) for row in table.to_dict("records")]


@pytest.mark.parametrize("chosen", [{}, {"space": "residual", "layer": 3}])
@pytest.mark.parametrize("lengths", [[4], [4, 5]])
def test_empty_tables_have_the_columns_too(lengths: list[int], chosen: dict[str, Any]) -> None:
    dense, turn = random_tokens(lengths, WIDTH)
    matrix, names = random_roles(7, WIDTH)
    result = analyze(to_activations(dense, turn, len(lengths)), matrix, names, DriftOptions.of(**chosen))
    for table in result.features.values():
        assert {"group", "group_size", "group_contrib"} <= set(table.columns)
