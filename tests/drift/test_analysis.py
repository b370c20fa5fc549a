"""The analysis of one conversation: against the dense method, by hand, and where there is little to analyze."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from personascope.directions.axis import AxisRoles, RoleSpace, pc1_axis, role_space_of, unit
from personascope.drift.analysis import analyze, analyze_in, confound_verdict, pearson, repetition, token_heat
from personascope.drift.attribution import effect_strength, smallest
from personascope.drift.options import SCORE_METHODS, DriftOptions
from personascope.drift.tables import tables
from personascope.drift.turns import MASS_METRICS, score_sparse, score_vectors
from personascope.errors import UserError
from personascope.formats.tokens import TokenActivations
from tests.helpers.dense_drift import dense_drift
from tests.helpers.drift_cases import random_roles, random_tokens, to_activations

WIDTH = 240
HALF = 0.5**0.5
CHOICES = {
    "pooling": ["mean", "max"],
    "transform": ["raw", "log1p"],
    "use_centering": [False, True],
    "center_turns_with_role_mean": [False, True],
    "use_l2_normalize": [False, True],
    "axis_method": ["diff", "pc1"],
    "score_method": list(SCORE_METHODS),
}
EVERY = [
    DriftOptions.of(**dict(zip(CHOICES, values, strict=True)), top_features=12)
    for values in itertools.product(*CHOICES.values())
]


def close(measured: Any, expected: Any) -> None:
    np.testing.assert_allclose(measured, expected, rtol=2e-4, atol=2e-5)


def same_entries(ours: list[dict[str, Any]], dense: list[dict[str, Any]]) -> None:
    assert [entry["feature_idx"] for entry in ours] == [entry["feature_idx"] for entry in dense]
    for mine, other in zip(ours, dense, strict=True):
        for key, value in other.items():
            if isinstance(value, float):
                assert mine[key] == pytest.approx(value, rel=2e-4, abs=1e-6), key
            else:
                assert mine[key] == value, key


def label(options: DriftOptions) -> str:
    return "-".join(str(options.flat()[knob]) for knob in CHOICES)


@pytest.mark.parametrize("options", EVERY, ids=label)
def test_every_number_is_that_of_the_dense_method(options: DriftOptions) -> None:
    dense, turn = random_tokens([5, 1, 9, 4], WIDTH)
    matrix, names = random_roles(8, WIDTH)
    truth = dense_drift(np.split(dense, np.flatnonzero(np.diff(turn)) + 1), matrix, names, options)
    result = analyze(to_activations(dense, turn, 4), matrix, names, options)
    close(result.turns.raw, truth["raw"])
    close(result.turns.space, truth["space"])
    for method in SCORE_METHODS:
        close(result.turns.scores[method], truth["scores"][method])
    close(result.score, truth["scores"][options.scoring.score_method])
    for metric in MASS_METRICS:
        close(result.turns.mass[metric], truth["mass"][metric])
    close(result.confounds["corr"][: len(MASS_METRICS)], truth["corr"])
    roles = [names[role] for role in truth["nearest"].ravel()]
    assert result.nearest["role"].tolist() == roles
    close(result.token_scores, truth["u"])
    close(result.token_heat, truth["heat"])
    assert result.selected == truth["selected"]
    for transition, other in zip(result.transitions, truth["transitions"], strict=True):
        close(transition.contrib, other["contrib"])
        close([transition.away_mass, transition.toward_mass], [other["away_mass"], other["toward_mass"]])
    for name, rows in truth["tables"].items():
        same_entries(result.features[name].to_dict("records"), rows)


@pytest.mark.parametrize("options", EVERY[::3], ids=label)
def test_sparse_rows_score_like_dense_ones(options: DriftOptions) -> None:
    dense, _ = random_tokens([70], WIDTH, seed=3)
    dense[[0, 40, 69]] = 0
    matrix, names = random_roles(8, WIDTH)
    roles = role_space_of(matrix, names, options.axis)
    rows = to_activations(dense, np.zeros(70), 1)
    sparse = score_sparse(rows.offsets, rows.indices, rows.values, roles, options)
    for ours, truth in zip(sparse, score_vectors(dense, roles, options), strict=True):
        assert set(ours) == set(truth)
        for name, values in truth.items():
            np.testing.assert_allclose(ours[name], values, rtol=1e-5, atol=2e-6)


def test_sparse_rows_count_what_a_negative_mean_makes_positive() -> None:
    options = DriftOptions.of(transform="raw", center_turns_with_role_mean=True)
    dense, _ = random_tokens([20], WIDTH)
    matrix = np.random.default_rng(6).standard_normal((8, WIDTH)).astype(np.float32)
    roles = role_space_of(matrix, random_roles(8, WIDTH)[1], options.axis)
    rows = to_activations(dense, np.zeros(20), 1)
    _, mass = score_sparse(rows.offsets, rows.indices, rows.values, roles, options)
    positive = (dense - matrix.mean(0) > 0).sum(1)
    assert mass["turn_nonzero_space"].tolist() == positive.tolist() and positive.min() > WIDTH / 4


def test_sparse_rows_are_scored_on_another_axis() -> None:
    options = DriftOptions.of(center_turns_with_role_mean=True)
    dense, _ = random_tokens([9], WIDTH)
    matrix, names = random_roles(8, WIDTH)
    roles = role_space_of(matrix, names, options.axis)
    other = role_space_of(matrix, names, replace(options.axis, axis_method="pc1")).axis
    rows = to_activations(dense, np.zeros(9), 1)
    scores, _ = score_sparse(rows.offsets, rows.indices, rows.values, roles, options, axis=other)
    truth, _ = score_vectors(dense, replace(roles, axis=other), options)
    close(scores["projection"], truth["projection"])


@pytest.mark.parametrize("shape", [(9, 40), (12, 5)])
def test_pc1_is_that_of_sklearn_and_points_to_the_assistant(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(2).normal(100, 1, shape).astype(np.float32)
    matrix[0] += 2
    axis = pc1_axis(matrix, AxisRoles([0], list(range(1, len(matrix))), list(range(len(matrix)))))
    pca: Any = PCA(svd_solver="full").fit(matrix.astype(np.float64))
    assert abs(axis @ pca.components_[0]) == pytest.approx(1, abs=1e-5)
    assert axis @ (matrix[0] - matrix[1:].mean(0)) > 0 and axis.dtype == np.float32


# By hand: the axis is [1, -1, 0] / sqrt(2). Turn 0 is the mean of [2, 0, 0] and [4, 0, 2], turn 1 is [0, 1, 4].
NAMES = ["assistant", "baker"]
MATRIX = np.array([[2, 0, 1], [0, 2, 1]], np.float32)
RAW = DriftOptions.of(transform="raw", anchor=["assistant"])
TOKENS = np.array([[2, 0, 0], [4, 0, 2], [0, 1, 4]], np.float32)


def test_scores_transition_and_tokens_by_hand() -> None:
    result = analyze(to_activations(TOKENS, [0, 0, 1], 2), MATRIX, NAMES, RAW)
    assert result.turns.space.tolist() == [[3, 0, 1], [0, 1, 4]]
    assert result.turns.scores["projection"] == pytest.approx([3 * HALF, -HALF])
    assert result.turns.scores["cos_axis"] == pytest.approx([3 * HALF / 10**0.5, -HALF / 17**0.5])
    assert result.turns.scores["cos_assistant"] == pytest.approx([7 / 50**0.5, 4 / 85**0.5])
    assert result.turns.mass["turn_nonzero_raw"].tolist() == [2, 2]
    assert result.token_scores == pytest.approx([2 * HALF, 4 * HALF, -HALF])
    (step,) = result.transitions
    assert (step.prev_turn, step.turn, result.selected) == (0, 1, 0)
    assert step.delta_x.tolist() == [-3, 1, 3] and step.contrib == pytest.approx([-3 * HALF, -HALF, 0])
    assert (step.away_mass, step.toward_mass) == pytest.approx((4 * HALF, 0))
    assert step.delta_score == pytest.approx(-4 * HALF) and step.effect_strength == "STRONG"
    assert result.nearest["role"].tolist() == ["assistant", "baker", "baker", "assistant"]
    assert result.roles.agreement == pytest.approx(1)


def test_feature_tables_by_hand_and_a_weight_of_zero_drives_nothing() -> None:
    descriptions = {0: {"description": "calm", "url": "https://neuronpedia.org/m/s/0"}, 1: {"description": None}}
    result = analyze(to_activations(TOKENS, [0, 0, 1], 2), MATRIX, NAMES, RAW, descriptions=descriptions)
    ids = {name: table["feature_idx"].tolist() for name, table in result.features.items()}
    assert ids == {
        "q2_top_away_contrib": [0, 1],
        "q2_top_toward_contrib": [],
        "q2_deactivated_assistant_features": [0],
        "q2_activated_nonassistant_features": [1],
    }
    table = result.features["q2_top_away_contrib"]
    assert table["share_of_away"].tolist() == pytest.approx([0.75, 0.25])
    assert table["share_of_change"].tolist() == pytest.approx([3 / 7, 1 / 7])
    assert table["role_profile"].tolist() == ["assistant:100% | baker:0%", "baker:100% | assistant:0%"]
    assert table["description"].tolist() == ["calm", None]
    assert table["url"].tolist() == ["https://neuronpedia.org/m/s/0", None]
    assert list(result.features["q2_top_toward_contrib"]) == list(table)


def random_result(lengths: list[int], options: DriftOptions, seed: int = 0) -> Any:
    dense, turn = random_tokens(lengths, WIDTH, seed)
    matrix, names = random_roles(8, WIDTH)
    return analyze(to_activations(dense, turn, len(lengths)), matrix, names, options)


def test_an_empty_turn_in_the_middle_is_stepped_over() -> None:
    options = DriftOptions.of(center_turns_with_role_mean=True)
    whole, without = random_result([4, 0, 6, 3], options), random_result([4, 6, 3], options)
    steps = [(step.prev_turn, step.turn) for step in whole.transitions]
    assert steps == [(0, 2), (2, 3)] and whole.selected == without.selected
    assert np.isnan(whole.score[1]) and not whole.turns.space[1].any()
    assert all(np.isnan(whole.turns.mass[metric][1]) for metric in MASS_METRICS)
    close(whole.score[[0, 2, 3]], without.score)
    pd.testing.assert_frame_equal(whole.confounds, without.confounds)
    assert whole.nearest["assistant_turn"].unique().tolist() == [0, 2, 3]
    for name, table in whole.features.items():
        pd.testing.assert_frame_equal(table, without.features[name])


@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0]])
def test_no_token_at_all_is_no_crash(lengths: list[int]) -> None:
    result = random_result(lengths, DriftOptions.of(center_turns_with_role_mean=True))
    assert result.selected is None and result.transitions == [] and np.isnan(result.score).all()
    assert result.max_abs_corr is None and result.confound_verdict == "N/A"
    assert len(result.nearest) == len(result.token_scores) == len(result.token_heat) == 0
    assert len(tables(result)["turn_meta"]) == len(lengths)


@pytest.mark.parametrize("lengths", [[6], [0, 6], [6, 0]])
@pytest.mark.parametrize("pick", [{}, {"transition_pick": "manual", "manual_turn": 7}])
def test_one_turn_with_tokens_has_scores_and_tokens_and_no_transition(lengths: list[int], pick: dict) -> None:
    result = random_result(lengths, DriftOptions.of(**pick))
    assert result.selected is None and result.transitions == [] and result.confound_verdict == "N/A"
    assert np.isfinite(result.score).sum() == 1 and np.isfinite(result.token_scores).all()
    assert all(table.empty for table in result.features.values()) and len(result.features) == 4


def test_the_largest_drop_is_selected_and_manual_overrides_it() -> None:
    result = random_result([5] * 6, DriftOptions())
    drops = np.diff(result.score)
    assert result.transitions[result.selected].turn == np.argmin(drops) + 1
    manual = int(np.argmax(drops)) + 1
    other = random_result([5] * 6, DriftOptions.of(transition_pick="manual", manual_turn=manual))
    assert other.transitions[other.selected].turn == manual
    assert not other.features["q2_top_away_contrib"].equals(result.features["q2_top_away_contrib"])


@pytest.mark.parametrize(
    ("lengths", "manual", "said"),
    [
        ([3] * 5, 9, "transition_pick: manual_turn 9 is outside 1..4"),
        ([3] * 5, 5, "manual_turn 5 is outside 1..4"),
        ([3] * 5, 0, "manual_turn 0 is outside 1..4"),
        ([3] * 5, -1, "manual_turn -1 is outside 1..4"),
        ([3] * 5, None, "transition_pick: manual needs manual_turn"),
        ([3, 0, 3], 1, "no transition leads to manual_turn 1: it has no tokens"),
        ([0, 3, 3], 1, "no transition leads to manual_turn 1: it is the first with tokens"),
    ],
)
def test_a_manual_turn_that_cannot_be_explained_is_an_error(lengths: list[int], manual: int | None, said: str) -> None:
    with pytest.raises(UserError) as error:
        random_result(lengths, DriftOptions.of(transition_pick="manual", manual_turn=manual))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("pooling", "median"),
        ("transform", "sqrt"),
        ("axis_method", "pc2"),
        ("other_group", "friends"),
        ("score_method", "dot"),
        ("transition_pick", "first"),
        ("space", "logits"),
        ("top_features", 0),
        ("top_k_roles", 0),
        ("token_heat_percentiles", (95.0, 5.0)),
    ],
)
def test_an_option_that_does_not_exist_is_named(option: str, value: Any) -> None:
    with pytest.raises(UserError, match=option):
        random_result([3, 3], DriftOptions.of(**{option: value}))


def test_an_empty_role_subset_is_an_error() -> None:
    with pytest.raises(UserError, match="roleplay_subset"):
        random_result([3, 3], DriftOptions.of(other_group="roleplay_subset", roleplay_subset=("wizard",)))


def test_a_role_subset_moves_the_axis() -> None:
    subset = random_result([3, 3], DriftOptions.of(other_group="roleplay_subset", roleplay_subset=("role1", "role2")))
    assert subset.roles.others == [1, 2]
    assert not np.allclose(subset.score, random_result([3, 3], DriftOptions()).score, rtol=1e-3)


def test_activations_that_do_not_fit_the_roles_or_are_not_finite_are_errors() -> None:
    matrix, names = random_roles(8, WIDTH)
    dense, turn = random_tokens([4, 4], WIDTH - 1)
    with pytest.raises(UserError, match="239 features, the role matrix 240"):
        analyze(to_activations(dense, turn, 2), matrix, names, DriftOptions())
    dense, turn = random_tokens([4, 4], WIDTH)
    dense[dense > 0] = np.inf
    with pytest.raises(UserError, match="not finite"):
        analyze(to_activations(dense, turn, 2), matrix, names, DriftOptions())


def residual_case(pooling: str) -> tuple[Any, np.ndarray]:
    rng = np.random.default_rng(4)
    dense = rng.standard_normal((12, 16)).astype(np.float32)
    options = DriftOptions.of(space="residual", layer=3, transform="raw", pooling=pooling, anchor=["assistant"])
    matrix = rng.standard_normal((5, 16)).astype(np.float32)
    activations = to_activations(dense, np.repeat([0, 1, 2], 4), 3)
    return analyze(activations, matrix, ["assistant", "a", "b", "c", "d"], options), dense.reshape(3, 4, 16)


def test_residual_space_has_scores_roles_and_tokens_but_no_features() -> None:
    result, dense = residual_case("mean")
    close(result.score, dense.mean(1) @ result.roles.axis)
    close(result.token_scores, dense.reshape(12, 16) @ result.roles.axis)
    assert len(result.transitions) == 2 and len(result.nearest) == 15
    assert all(table.empty for table in result.features.values())
    assert {step.effect_strength for step in result.transitions} == {"N/A"}


def signed_case(**chosen: Any) -> tuple[Any, np.ndarray]:
    """A conversation of three turns with SAE activations of both signs, and its dense activations [turn, token, D]."""
    dense, turn = random_tokens([4, 4, 4], WIDTH)
    dense *= np.random.default_rng(3).choice([-1, 1], dense.shape).astype(np.float32)
    dense[:, 5], dense[turn == 1, 5] = -2.0, -0.5  # never above 0
    matrix, names = random_roles(6, WIDTH)
    return analyze(to_activations(dense, turn, 3), matrix, names, DriftOptions.of(**chosen)), dense.reshape(3, 4, -1)


def test_the_maximum_is_by_magnitude_and_keeps_its_sign() -> None:
    result, dense = signed_case(pooling="max", transform="log1p")
    expected = np.take_along_axis(dense, np.abs(dense).argmax(1)[:, None], 1)[:, 0]
    close(result.turns.raw, expected)
    assert expected[:, 5].tolist() == [-2.0, -0.5, -2.0]
    close(result.turns.space, np.sign(expected) * np.log1p(np.abs(expected)))
    close(result.score, result.turns.space @ result.roles.axis)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_activations_below_0_are_active(pooling: str) -> None:
    result, dense = signed_case(pooling=pooling)
    active = (dense != 0).any(1).sum(1)
    for stage in ("raw", "space"):
        assert result.turns.mass[f"turn_nonzero_{stage}"].tolist() == active.tolist()
    raw = result.turns.raw
    rows, indices = np.nonzero(raw)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=3))])
    scores, mass = score_sparse(offsets, indices, raw[rows, indices], result.roles, result.options)
    for name, values in result.turns.mass.items():
        close(mass[name], values)
    close(scores["projection"], result.turns.scores["projection"])


def test_in_the_residual_stream_positive_values_are_counted() -> None:
    result, dense = residual_case("mean")
    assert result.turns.mass["turn_nonzero_raw"].tolist() == (dense.mean(1) > 0).sum(1).tolist()


def test_log1p_in_residual_space_keeps_signs() -> None:
    result, dense = residual_case("mean")
    assert isinstance(result.roles, RoleSpace) and isinstance(result.tokens, TokenActivations)
    signed = analyze_in(result.roles, result.tokens, result.options.changed(transform="log1p"))
    means = dense.mean(1)
    close(signed.turns.space, np.sign(means) * np.log1p(np.abs(means)))


def test_ties_go_to_the_smaller_feature() -> None:
    keys = np.array([2.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    assert smallest(keys, keys < 5, 3).tolist() == [3, 1, 2]
    assert smallest(keys, keys == 1, 9).tolist() == [1, 2, 4, 5]
    assert smallest(keys, keys > 9, 2).tolist() == []


@pytest.mark.parametrize(("share", "name"), [(0.6, "STRONG"), (0.59, "MODERATE"), (0.35, "MODERATE"), (0.34, "WEAK")])
def test_effect_strength_has_inclusive_thresholds(share: float, name: str) -> None:
    assert effect_strength(share) == name


@pytest.mark.parametrize(("largest", "verdict"), [(None, "N/A"), (0.39, "LOW"), (0.4, "MODERATE"), (0.7, "HIGH")])
def test_confound_verdict_has_inclusive_thresholds(largest: float | None, verdict: str) -> None:
    assert confound_verdict(largest, 10, DriftOptions()) == verdict
    assert confound_verdict(largest, 9, DriftOptions()) == "N/A", "of so few turns it would be chance"
    assert confound_verdict(largest, 2, DriftOptions.of(confound_min_turns=2)) == verdict


def test_length_and_repetition_are_confounds_too() -> None:
    result = random_result([12, 4, 9, 6, 30], DriftOptions())
    table = result.confounds.set_index("metric")
    assert table.index.tolist() == [*MASS_METRICS, "n_tokens", "repetition"] and set(table["n"]) == {5}
    assert table.loc["n_tokens", "corr"] == pytest.approx(np.corrcoef(result.score, [12, 4, 9, 6, 30])[0, 1])
    tokens = replace(result.tokens, token_ids=np.array([*[1, 2, 3, 4] * 3, *range(49)], np.int32))
    assert repetition(tokens).tolist() == [pytest.approx(1 - 4 / 9), 0, 0, 0, 0]


@pytest.mark.parametrize("use_centering", [False, True])
@pytest.mark.parametrize("center_turns_with_role_mean", [False, True])
def test_role_cosines_are_those_of_vectors_minus_the_mean_role(
    use_centering: bool, center_turns_with_role_mean: bool
) -> None:
    dense, turn = random_tokens([5, 0, 9], WIDTH)
    matrix, names = random_roles(8, WIDTH)
    options = DriftOptions.of(use_centering=use_centering, center_turns_with_role_mean=center_turns_with_role_mean)
    turn = np.where(turn == 1, 2, turn)
    result = analyze(to_activations(dense, turn, 3), matrix, names, options)
    roles = np.log1p(matrix.astype(np.float64))
    turns = np.log1p(np.stack([dense[turn == t].mean(0) for t in (0, 2)]))
    expected = unit(turns - roles.mean(0)) @ unit(roles - roles.mean(0)).T
    assert result.role_cosines.dtype == np.float32 and result.role_cosines.shape == (3, 8)
    np.testing.assert_allclose(result.role_cosines[[0, 2]], expected, atol=1e-5)
    assert np.isnan(result.role_cosines[1]).all()


@pytest.mark.filterwarnings("error")
def test_correlation_has_no_value_where_nothing_varies() -> None:
    assert pearson(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])) == pytest.approx(1)
    assert math.isnan(pearson(np.array([1.0]), np.array([2.0]))) and math.isnan(pearson(np.ones(0), np.ones(0)))
    assert math.isnan(pearson(np.array([1.0, 2.0]), np.array([3.0, 3.0])))


def test_token_heat_is_clipped_at_its_own_percentiles() -> None:
    scores = np.arange(-10, 11, dtype=np.float32)
    heat = token_heat(scores, (10.0, 90.0))
    assert heat[:3].tolist() == [0, 0, 0] and heat[-3:].tolist() == [1, 1, 1] and heat[10] == pytest.approx(0.5)
    assert token_heat(np.full(4, 3, np.float32), (5.0, 95.0)).tolist() == [0, 0, 0, 0]
    assert token_heat(scores[:0], (5.0, 95.0)).tolist() == []
