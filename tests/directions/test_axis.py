"""The assistant axis: numbers worked out by hand, its sign, the second method, and what is refused."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from personascope.directions.axis import (
    TRANSFORMS,
    assistant_axis,
    axis_roles,
    principal_components,
    unit,
)
from personascope.directions.options import AxisOptions
from personascope.errors import UserError

PLAIN = AxisOptions(anchor=("assistant",))
RAW = replace(PLAIN, transform="raw")
# others' mean = [1, 2]; diff = [2, -2] / sqrt(8); covariance of the rows ~ [[1, -1], [-1, 4]].
NAMES = ["assistant", "baker", "cook"]
FEATURES = np.array([[3, 0], [1, 0], [1, 4]], np.float32)
HALF = 0.5**0.5


def random_features(roles: int = 9, d: int = 30, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    sparse = rng.random((roles, d)) * (rng.random((roles, d)) < 0.5)
    return sparse.astype(np.float32), ["assistant", *(f"role{i}" for i in range(1, roles))]


def test_diff_by_hand() -> None:
    axis = assistant_axis(FEATURES, NAMES, RAW)
    assert axis.diff == pytest.approx([HALF, -HALF])
    assert axis.roles.space @ axis.diff == pytest.approx([3 * HALF, HALF, -3 * HALF])
    assert axis.roles.role_names == NAMES and axis.diff.dtype == axis.pc1.dtype == np.float32


def test_pc1_and_agreement_by_hand() -> None:
    axis = assistant_axis(FEATURES, NAMES, RAW)
    eigenvalue = (5 + 13**0.5) / 2
    expected = np.array([1, 1 - eigenvalue]) / np.hypot(1, 1 - eigenvalue)
    assert axis.pc1 == pytest.approx(expected, abs=1e-6)
    assert axis.roles.agreement == pytest.approx(0.88167, abs=1e-5)
    assert axis.variance_shares == pytest.approx([eigenvalue / 5, 1 - eigenvalue / 5])


def test_two_anchors_are_averaged() -> None:
    axis = assistant_axis(FEATURES, NAMES, replace(RAW, anchor=("cook", "Assistant ")))
    assert axis.roles.anchor == pytest.approx([2, 2]) and axis.roles.anchors == [0, 2]
    assert axis.diff == pytest.approx([1 / 5**0.5, 2 / 5**0.5])


def test_default_is_an_anchor_or_nothing() -> None:
    """It is the assistant without a persona: among the others it would pull the axis toward itself."""
    features, names = random_features()
    features[4], names[4] = 100, "Default"
    without = assistant_axis(np.delete(features, 4, 0), [name for name in names if name != "Default"], PLAIN)
    axis = assistant_axis(features, names, PLAIN)
    assert axis.diff == pytest.approx(without.diff, abs=1e-6) and axis.pc1 == pytest.approx(without.pc1, abs=1e-5)
    assert axis.variance_shares == pytest.approx(without.variance_shares, abs=1e-6)
    assert 4 not in axis.roles.others and len(axis.roles.space) == 9
    centered = assistant_axis(features, names, replace(PLAIN, use_centering=True)).roles.space
    assert np.delete(centered, 4, 0).mean(0) == pytest.approx(np.zeros(30), abs=1e-6)
    anchored = assistant_axis(features, names, replace(PLAIN, anchor=("default",)))
    assert anchored.roles.anchors == [4] and 0 in anchored.roles.others


@pytest.mark.parametrize("seed", range(3))
def test_both_axes_are_unit_and_point_to_the_anchor(seed: int) -> None:
    features, names = random_features(seed=seed)
    axis = assistant_axis(features, names, PLAIN)
    assert np.linalg.norm(axis.diff) == pytest.approx(1) and np.linalg.norm(axis.pc1) == pytest.approx(1)
    # Not larger than every role's (another can lie further out), but larger than the others' mean, by |diff|.
    along = axis.roles.space @ axis.diff
    space = np.log1p(features)
    gap = np.linalg.norm(space[0] - space[1:].mean(0))
    assert along[0] - along[1:].mean() == pytest.approx(gap, rel=1e-5)
    assert 0 <= axis.roles.agreement <= 1


def test_swapping_the_assistant_turns_the_axis_round() -> None:
    features, _ = random_features(roles=2)
    here = assistant_axis(features, ["assistant", "baker"], RAW)
    there = assistant_axis(features, ["baker", "assistant"], RAW)
    assert here.diff == pytest.approx(-there.diff) and here.pc1 == pytest.approx(-there.pc1, abs=1e-5)
    assert here.roles.agreement == pytest.approx(1)


@pytest.mark.parametrize("shape", [(9, 30), (12, 5)])
def test_principal_components_are_those_of_sklearn(shape: tuple[int, int]) -> None:
    features, names = random_features(*shape)
    axis = assistant_axis(features, names, PLAIN)
    pca: Any = PCA(svd_solver="full").fit(np.log1p(features.astype(np.float64)))
    assert abs(axis.pc1 @ pca.components_[0]) == pytest.approx(1, abs=1e-5)
    assert len(axis.variance_shares) == min(shape[0] - 1, shape[1])
    expected = pca.explained_variance_ratio_[: len(axis.variance_shares)]
    assert axis.variance_shares == pytest.approx(expected, abs=1e-6)
    assert axis.variance_shares.sum() == pytest.approx(1)


def test_centering_moves_the_roles_and_leaves_the_axes() -> None:
    features, names = random_features()
    plain = assistant_axis(features, names, RAW)
    centered = assistant_axis(features, names, replace(RAW, use_centering=True))
    assert centered.diff == pytest.approx(plain.diff, abs=1e-5) and centered.pc1 == pytest.approx(plain.pc1, abs=1e-5)
    along = centered.roles.space @ centered.diff
    assert along.mean() == pytest.approx(0, abs=1e-6)
    shift = plain.roles.space @ plain.diff - along
    assert shift == pytest.approx(np.full(len(names), shift[0]), abs=1e-5) and abs(shift[0]) > 0.01
    assert not centered.roles.mean.any() and plain.roles.mean == pytest.approx(features.mean(0), abs=1e-6)


def test_log1p_keeps_the_sign_of_negative_values() -> None:
    e = np.e
    x = np.array([[e - 1, 0, 1 - e], [e**2 - 1, -0.0, 1 - e**3]], np.float32)
    assert TRANSFORMS["log1p"](x) == pytest.approx(np.array([[1, 0, -1], [2, 0, -3]]), abs=1e-6)
    assert TRANSFORMS["log1p"](x).dtype == np.float32
    assert np.array_equal(TRANSFORMS["raw"](x), x)


def test_the_axis_lives_in_the_transformed_space() -> None:
    features = np.expm1(FEATURES)
    assert assistant_axis(features, NAMES, PLAIN).diff == pytest.approx([HALF, -HALF], abs=1e-6)
    raw = np.array([np.expm1(3) - np.expm1(1), -np.expm1(4) / 2])
    assert assistant_axis(features, NAMES, RAW).diff == pytest.approx(raw / np.hypot(*raw), abs=1e-6)


def test_a_subset_replaces_the_others_and_unknown_names_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    options = replace(RAW, other_group="roleplay_subset", roleplay_subset=("cook", "wizard", "elf"))
    with caplog.at_level(logging.WARNING):
        axis = assistant_axis(FEATURES, NAMES, options)
    assert axis.diff == pytest.approx([2 / 20**0.5, -4 / 20**0.5])
    (record,) = caplog.records
    assert "axis.roleplay_subset" in record.getMessage() and "wizard, elf" in record.getMessage()
    assert axis.variance_shares == pytest.approx(assistant_axis(FEATURES, NAMES, RAW).variance_shares)


def test_the_assistant_in_the_subset_is_not_held_against_itself() -> None:
    options = replace(RAW, other_group="roleplay_subset", roleplay_subset=("cook", "assistant", "cook"))
    assert axis_roles(NAMES, options).others == [2]


@pytest.mark.parametrize("subset", [(), ("assistant",), ("wizard",)])
def test_a_subset_without_a_role_is_an_error(subset: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="roleplay_subset"):
        assistant_axis(FEATURES, NAMES, replace(RAW, other_group="roleplay_subset", roleplay_subset=subset))


def test_the_assistant_alone_is_an_error() -> None:
    with pytest.raises(UserError, match="no role besides the anchor"):
        assistant_axis(FEATURES[:1], NAMES[:1], RAW)


def test_the_assistant_is_found_trimmed_and_in_any_case() -> None:
    assert axis_roles(["baker", " Assistant"], replace(RAW, anchor=("ASSISTANT ",))).anchors == [1]


def test_an_anchor_named_twice_is_an_error() -> None:
    with pytest.raises(UserError, match="names a role twice"):
        axis_roles(NAMES, replace(RAW, anchor=("cook", "Cook")))
    with pytest.raises(UserError, match="at least one"):
        AxisOptions(anchor=())


@pytest.mark.parametrize(
    ("names", "said"),
    [(["baker", "cook", "elf"], "is not among"), (["assistant", "Assistant", "elf"], "occurs 2 times")],
)
def test_a_missing_or_duplicated_assistant_is_an_error(names: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        assistant_axis(FEATURES, names, RAW)
    assert "axis.anchor" in str(error.value) and "'assistant'" in str(error.value)


def test_roles_that_are_all_alike_give_numbers_and_no_warning() -> None:
    axis = assistant_axis(np.ones((3, 4), np.float32), NAMES, RAW)
    assert not axis.diff.any() and axis.roles.agreement == 0
    assert np.isfinite(axis.pc1).all() and np.isfinite(axis.variance_shares).all()


def test_a_zero_vector_has_no_direction() -> None:
    assert unit(np.array([[0.0, 0.0], [3.0, 4.0]])).tolist() == [[0.0, 0.0], [0.6, 0.8]]


def test_principal_components_are_exact_for_small_differences_on_a_large_mean() -> None:
    features, _ = random_features()
    component, shares = principal_components(features * np.float32(0.01) + np.float32(100))
    expected, expected_shares = principal_components(features)
    assert abs(component @ expected) > 0.999 and shares == pytest.approx(expected_shares, abs=1e-3)
