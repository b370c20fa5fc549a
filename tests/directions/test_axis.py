"""The assistant axis: numbers worked out by hand, its sign, the second method, and what is refused."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from personascope.directions.axis import (
    TRANSFORMS,
    assistant_axis,
    assistant_index,
    axes_of_spaces,
    axis_arrays,
    axis_tables,
    other_indices,
    principal_components,
    role_space,
    unit,
)
from personascope.directions.options import AxisOptions
from personascope.errors import UserError
from personascope.formats.role_matrix import RoleMatrix
from personascope.formats.tables import load_npz, save_npz

RAW = AxisOptions(transform="raw")
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
    assert axis.projections["diff"] == pytest.approx([3 * HALF, HALF, -3 * HALF])
    assert axis.role_names == NAMES and axis.diff.dtype == axis.pc1.dtype == np.float32


def test_pc1_and_agreement_by_hand() -> None:
    axis = assistant_axis(FEATURES, NAMES, RAW)
    eigenvalue = (5 + 13**0.5) / 2
    expected = np.array([1, 1 - eigenvalue]) / np.hypot(1, 1 - eigenvalue)
    assert axis.pc1 == pytest.approx(expected, abs=1e-6)
    assert axis.agreement == pytest.approx(0.88167, abs=1e-5)
    assert axis.variance_shares == pytest.approx([eigenvalue / 5, 1 - eigenvalue / 5])


def test_similarity_by_hand() -> None:
    similarity = assistant_axis(FEATURES, NAMES, RAW).similarity
    off = 1 / 17**0.5
    assert similarity == pytest.approx(np.array([[1, 1, off], [1, 1, off], [off, off, 1]]), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_both_axes_are_unit_and_point_to_the_assistant(seed: int) -> None:
    features, names = random_features(seed=seed)
    axis = assistant_axis(features, names, AxisOptions())
    assert np.linalg.norm(axis.diff) == pytest.approx(1) and np.linalg.norm(axis.pc1) == pytest.approx(1)
    # Not larger than every role's (another can lie further out), but larger than the others' mean, by |diff|.
    others = axis.projections["diff"][1:]
    space = role_space(features, "log1p", False)
    gap = np.linalg.norm(space[0] - space[1:].mean(0))
    assert axis.projections["diff"][0] - others.mean() == pytest.approx(gap, rel=1e-5)
    assert 0 <= axis.agreement <= 1


def test_swapping_the_assistant_turns_the_axis_round() -> None:
    features, _ = random_features(roles=2)
    here = assistant_axis(features, ["assistant", "baker"], RAW)
    there = assistant_axis(features, ["baker", "assistant"], RAW)
    assert here.diff == pytest.approx(-there.diff) and here.pc1 == pytest.approx(-there.pc1, abs=1e-5)
    assert here.agreement == pytest.approx(1)


@pytest.mark.parametrize("shape", [(9, 30), (12, 5)])
def test_principal_components_are_those_of_sklearn(shape: tuple[int, int]) -> None:
    features, names = random_features(*shape)
    axis = assistant_axis(features, names, AxisOptions())
    pca: Any = PCA(svd_solver="full").fit(role_space(features, "log1p", False).astype(np.float64))
    assert abs(axis.pc1 @ pca.components_[0]) == pytest.approx(1, abs=1e-5)
    assert len(axis.variance_shares) == min(shape[0] - 1, shape[1])
    expected = pca.explained_variance_ratio_[: len(axis.variance_shares)]
    assert axis.variance_shares == pytest.approx(expected, abs=1e-6)
    assert axis.variance_shares.sum() == pytest.approx(1)


def test_centering_moves_the_roles_and_leaves_the_axes() -> None:
    features, names = random_features()
    plain = assistant_axis(features, names, RAW)
    centered = assistant_axis(features, names, AxisOptions(transform="raw", use_centering=True))
    assert centered.diff == pytest.approx(plain.diff, abs=1e-5) and centered.pc1 == pytest.approx(plain.pc1, abs=1e-5)
    assert centered.projections["diff"].mean() == pytest.approx(0, abs=1e-6)
    shift = plain.projections["diff"] - centered.projections["diff"]
    assert shift == pytest.approx(np.full(len(names), shift[0]), abs=1e-5) and abs(shift[0]) > 0.01
    assert not np.allclose(plain.similarity, centered.similarity, atol=0.05)


def test_log1p_keeps_the_sign_of_negative_values() -> None:
    e = np.e
    x = np.array([[e - 1, 0, 1 - e], [e**2 - 1, -0.0, 1 - e**3]], np.float32)
    assert TRANSFORMS["log1p"](x) == pytest.approx(np.array([[1, 0, -1], [2, 0, -3]]), abs=1e-6)
    assert TRANSFORMS["log1p"](x).dtype == np.float32
    assert np.array_equal(TRANSFORMS["raw"](x), x)


def test_the_axis_lives_in_the_transformed_space() -> None:
    features = np.expm1(FEATURES)
    assert assistant_axis(features, NAMES, AxisOptions()).diff == pytest.approx([HALF, -HALF], abs=1e-6)
    raw = np.array([np.expm1(3) - np.expm1(1), -np.expm1(4) / 2])
    assert assistant_axis(features, NAMES, RAW).diff == pytest.approx(raw / np.hypot(*raw), abs=1e-6)


def test_a_subset_replaces_the_others_and_unknown_names_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    options = AxisOptions(transform="raw", other_group="roleplay_subset", roleplay_subset=("cook", "wizard", "elf"))
    with caplog.at_level(logging.WARNING):
        axis = assistant_axis(FEATURES, NAMES, options)
    assert axis.diff == pytest.approx([2 / 20**0.5, -4 / 20**0.5])
    (record,) = caplog.records
    assert "axis.roleplay_subset" in record.getMessage() and "wizard, elf" in record.getMessage()
    assert axis.variance_shares == pytest.approx(assistant_axis(FEATURES, NAMES, RAW).variance_shares)


def test_the_assistant_in_the_subset_is_not_held_against_itself() -> None:
    assert other_indices(NAMES, 0, "roleplay_subset", ["cook", "assistant", "cook"]) == [2]


@pytest.mark.parametrize("subset", [(), ("assistant",), ("wizard",)])
def test_a_subset_without_a_role_is_an_error(subset: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="roleplay_subset"):
        assistant_axis(FEATURES, NAMES, AxisOptions(other_group="roleplay_subset", roleplay_subset=subset))


def test_the_assistant_alone_is_an_error() -> None:
    with pytest.raises(UserError, match="no role besides the assistant"):
        assistant_axis(FEATURES[:1], NAMES[:1], RAW)


def test_the_assistant_is_found_trimmed_and_in_any_case() -> None:
    assert assistant_index(["baker", " Assistant"], "ASSISTANT ") == 1


@pytest.mark.parametrize(
    ("names", "said"),
    [(["baker", "cook", "elf"], "is not among"), (["assistant", "Assistant", "elf"], "occurs 2 times")],
)
def test_a_missing_or_duplicated_assistant_is_an_error(names: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        assistant_axis(FEATURES, names, RAW)
    assert "axis.assistant_role" in str(error.value) and "'assistant'" in str(error.value)


def test_roles_that_are_all_alike_give_numbers_and_no_warning() -> None:
    axis = assistant_axis(np.ones((3, 4), np.float32), NAMES, RAW)
    assert not axis.diff.any() and axis.agreement == 0
    assert np.isfinite(axis.pc1).all() and np.isfinite(axis.variance_shares).all()


def test_a_zero_vector_has_no_direction() -> None:
    assert unit(np.array([[0.0, 0.0], [3.0, 4.0]])).tolist() == [[0.0, 0.0], [0.6, 0.8]]


def test_principal_components_are_exact_for_small_differences_on_a_large_mean() -> None:
    features, _ = random_features()
    component, shares = principal_components(features * np.float32(0.01) + np.float32(100))
    expected, expected_shares = principal_components(features)
    assert abs(component @ expected) > 0.999 and shares == pytest.approx(expected_shares, abs=1e-3)


@pytest.fixture
def matrices(tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    features, names = random_features()
    vectors = np.random.default_rng(5).standard_normal((9, 2, 6)).astype(np.float32)
    counts = np.full(9, 4, np.int64)
    RoleMatrix(features, names, counts).save(tmp_path / "mean.npz")
    RoleMatrix(vectors, names, counts).save(tmp_path / "residual.npz", layers=np.array([3, 15], np.int32))
    return tmp_path / "mean.npz", tmp_path / "residual.npz", vectors


def test_residual_space_has_an_axis_a_layer_and_is_never_transformed(matrices: tuple[Path, Path, np.ndarray]) -> None:
    mean, residual, vectors = matrices
    axes = axes_of_spaces(mean, residual, AxisOptions())
    assert list(axes) == ["sae", "residual layer 3", "residual layer 15"]
    assert axes["residual layer 15"].diff == pytest.approx(unit(vectors[0, 1] - vectors[1:, 1].mean(0)), abs=1e-6)
    assert list(axes_of_spaces(mean, None, AxisOptions())) == ["sae"]


def test_axis_arrays_are_named_and_saved_without_pickle(
    matrices: tuple[Path, Path, np.ndarray], tmp_path: Path
) -> None:
    axes = axes_of_spaces(matrices[0], matrices[1], AxisOptions())
    arrays: dict[str, Any] = axis_arrays(axes)
    save_npz(tmp_path / "axis.npz", **arrays)
    names = ["role_names", "diff_sae", "pc1_sae", "diff_residual_layer_3", "pc1_residual_layer_15"]
    role_names, diff, pc1, diff_3, pc1_15 = load_npz(tmp_path / "axis.npz", *names)
    assert role_names.tolist() == axes["sae"].role_names
    assert diff.shape == pc1.shape == (30,) and diff_3.shape == pc1_15.shape == (6,)
    assert diff.dtype == diff_3.dtype == np.float32


def test_tables_hold_every_space_role_and_component(matrices: tuple[Path, Path, np.ndarray]) -> None:
    axes = axes_of_spaces(matrices[0], matrices[1], AxisOptions())
    tables = axis_tables(axes)
    assert tables["agreement"]["space"].tolist() == list(axes)
    assert tables["agreement"]["cos_diff_pc1"].tolist() == [axis.agreement for axis in axes.values()]
    for space, part in tables["pca_spectrum"].groupby("space"):
        assert part["component"].tolist() == list(range(1, len(axes[str(space)].variance_shares) + 1))
        assert part["cumulative"].iloc[-1] == pytest.approx(1)
        assert part["variance_share"].is_monotonic_decreasing
    for space, part in tables["role_projections"].groupby("space"):
        assert part["diff"].is_monotonic_decreasing and len(part) == 9
        by_name = dict(zip(axes[str(space)].role_names, axes[str(space)].projections["pc1"], strict=True))
        assert dict(zip(part["role"], part["pc1"], strict=True)) == by_name
    square = tables["role_similarity"].query("space == 'sae'").set_index("role")
    assert square.loc["role3", "role5"] == square.loc["role5", "role3"] == axes["sae"].similarity[3, 5]
