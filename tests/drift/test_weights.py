"""Token weights and the feature x token table: against path integrals taken numerically on dense tokens, and sums."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personascope.drift.analysis import analyze
from personascope.drift.bundle import run_meta, ui_bundle
from personascope.drift.options import SCORE_METHODS, DriftOptions
from personascope.drift.result import DriftResult
from personascope.drift.tables import tables
from personascope.drift.weights import LEFT_OUT, MEAN_SLOPES
from personascope.errors import UserError
from personascope.formats.files import read_json, write_json
from tests.drift.test_bundle import RUN
from tests.helpers.drift_cases import random_roles, random_tokens, to_activations

WIDTH, LENGTHS = 90, [4, 0, 6, 1, 5]
# Gauss-Legendre on [0, 1]: exact to rounding for the smooth integrands here.
NODES, NODE_WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(60))
NODES = NODES + 0.5


def signed_tokens(lengths: list[int], seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Tokens with activations of both signs; feature 7 is off in the last turn, 8 alike in all, 9 off everywhere."""
    dense, turn = random_tokens(lengths, WIDTH, seed)
    dense = dense * np.random.default_rng(seed).choice([1, 1, -1], dense.shape).astype(np.float32)
    dense[turn == turn.max(initial=0), 7] = 0
    dense[:, 8], dense[:, 9] = 2.5, 0
    return dense, turn


def analyzed(dense: np.ndarray, turn: np.ndarray, n_turns: int = len(LENGTHS), **chosen: Any) -> DriftResult:
    matrix, names = random_roles(6, WIDTH)
    return analyze(to_activations(dense, turn, n_turns), matrix, names, DriftOptions.of(**chosen))


def derivative(x: np.ndarray, transform: str) -> np.ndarray:
    """Of the transform, by central differences."""
    step = 1e-5
    phi = {"raw": lambda v: v, "log1p": lambda v: np.sign(v) * np.log1p(np.abs(v))}[transform]
    return (phi(x + step) - phi(x - step)) / (2 * step)


def pooled_dense(tokens: np.ndarray, pooling: str) -> tuple[np.ndarray, np.ndarray]:
    """(pooled value [D], its split over the tokens [n, D]) of one turn."""
    if pooling == "mean":
        return tokens.mean(0), tokens / len(tokens)
    split, columns = np.zeros_like(tokens), np.arange(tokens.shape[1])
    best = np.abs(tokens).argmax(0)
    split[best, columns] = tokens[best, columns]
    return tokens[best, columns], split


def integrated(tokens: np.ndarray, before: np.ndarray, axis: np.ndarray, pooling: str, transform: str) -> np.ndarray:
    """The score's gradient, integrated along the straight line from `before` [D], times the tokens' split [n, D]."""
    end, split = pooled_dense(tokens.astype(np.float64), pooling)
    gradients = [
        weight * axis * derivative(before + at * (end - before), transform)
        for at, weight in zip(NODES, NODE_WEIGHTS, strict=True)
    ]
    return split * np.sum(gradients, axis=0)


CASES = list(itertools.product(["mean", "max"], ["raw", "log1p"], [False, True], SCORE_METHODS, [False, True]))


@pytest.mark.parametrize(("pooling", "transform", "center", "method", "l2"), CASES)
def test_weights_are_the_path_integral_and_add_up(
    pooling: str, transform: str, center: bool, method: str, l2: bool
) -> None:
    dense, turn = random_tokens(LENGTHS, WIDTH)
    result = analyzed(
        dense,
        turn,
        pooling=pooling,
        transform=transform,
        center_turns_with_role_mean=center,
        score_method=method,
        use_l2_normalize=l2,
    )
    axis, weights = result.roles.axis.astype(np.float64), result.weights
    for index in (0, 2, 3, 4):
        tokens = dense[turn == index]
        parts = integrated(tokens, np.zeros(WIDTH), axis, pooling, transform)
        np.testing.assert_allclose(weights.w[turn == index], parts.sum(1), rtol=1e-6, atol=1e-8)
        plain = result.turns.space[index].astype(np.float64) @ axis
        total = weights.w[turn == index].sum() + weights.constant[index]
        assert total == pytest.approx(plain, rel=1e-6, abs=1e-6)
        assert (weights.constant[index] != 0) == center
        norm = np.linalg.norm(result.turns.space[index])
        assert weights.scale[index] == pytest.approx(1 if method == "projection" and not l2 else norm)
        if method != "cos_assistant":
            assert total / weights.scale[index] == pytest.approx(result.score[index], rel=1e-5, abs=1e-6)
        else:
            own = weights.w_assistant[turn == index].sum() + weights.assistant_constant[index]
            assert own / weights.scale[index] == pytest.approx(result.score[index], rel=1e-5, abs=1e-6)
    assert weights.constant[1] == 0 and weights.scale[1] == 1


@pytest.mark.parametrize("transform", ["raw", "log1p"])
@pytest.mark.parametrize("signed", [False, True])
def test_parts_of_a_transition_are_the_path_integral_between_its_turns(transform: str, signed: bool) -> None:
    dense, turn = signed_tokens(LENGTHS) if signed else random_tokens(LENGTHS, WIDTH)
    result = analyzed(dense, turn, transform=transform)
    axis = result.roles.axis.astype(np.float64)
    steps = [(step.prev_turn, step.turn) for step in result.transitions]
    assert steps == [(0, 2), (2, 3), (3, 4)]
    for step in result.transitions:
        now, before = dense[turn == step.turn], dense[turn == step.prev_turn]
        # The kink of log1p at zero costs the numerical integral digits where the line crosses it.
        close: dict[str, Any] = {"rtol": 2e-2, "atol": 2e-2} if signed else {"rtol": 1e-6, "atol": 1e-7}
        forth = integrated(now, before.mean(0, dtype=np.float64), axis, "mean", transform).sum(1)
        back = integrated(before, now.mean(0, dtype=np.float64), axis, "mean", transform).sum(1)
        np.testing.assert_allclose(result.weights.as_turn[turn == step.turn], forth, **close)
        np.testing.assert_allclose(result.weights.as_prev[turn == step.prev_turn], -back, **close)


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("transform", ["raw", "log1p"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("space", ["sae", "residual"])
def test_parts_sum_to_the_change_of_the_plain_projection(
    pooling: str, transform: str, signed: bool, space: str
) -> None:
    dense, turn = signed_tokens(LENGTHS) if signed else random_tokens(LENGTHS, WIDTH)
    place = {"space": space, "layer": 3 if space == "residual" else None}
    for method in SCORE_METHODS:
        result = analyzed(
            dense,
            turn,
            pooling=pooling,
            transform=transform,
            score_method=method,
            center_turns_with_role_mean=True,
            **place,
        )
        plain = result.turns.space.astype(np.float64) @ result.roles.axis
        for step in result.transitions:
            forth, back = result.weights.as_turn[turn == step.turn], result.weights.as_prev[turn == step.prev_turn]
            assert forth.sum() + back.sum() == pytest.approx(plain[step.turn] - plain[step.prev_turn], abs=2e-6)
        assert not result.weights.as_turn[turn == 0].any() and not result.weights.as_prev[turn == 4].any()
        assert len(result.attribution) == 0 if space == "residual" else len(result.attribution) > 3


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("transform", ["raw", "log1p"])
def test_the_whole_table_has_the_features_and_the_tokens_as_its_sums(pooling: str, transform: str) -> None:
    dense, turn = signed_tokens(LENGTHS)
    result = analyzed(dense, turn, pooling=pooling, transform=transform, attribution_share=1.0)
    assert result.selected is not None
    step = result.transitions[result.selected]
    table: Any = result.attribution
    assert (table["n_entries"] == 1).all() and not table.duplicated(["feature_idx", "turn", "token_idx"]).any()
    features = np.bincount(table["feature_idx"], table["part"], WIDTH)
    np.testing.assert_allclose(features, step.contrib, rtol=1e-5, atol=1e-6)
    for place, parts in ((step.turn, result.weights.as_turn), (step.prev_turn, result.weights.as_prev)):
        here = table[table["turn"] == place]
        sums = np.bincount(here["token_idx"], here["part"], LENGTHS[place])
        np.testing.assert_allclose(sums, parts[turn == place], rtol=1e-9, atol=1e-12)
    assert table["part"].abs().is_monotonic_decreasing


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_what_the_table_leaves_out_is_stated_by_turn_and_sign(share: float) -> None:
    dense, turn = signed_tokens(LENGTHS)
    whole: Any = analyzed(dense, turn, attribution_share=1.0).attribution
    result = analyzed(dense, turn, attribution_share=share)
    table: Any = result.attribution
    listed, rest = table[table["token_idx"] != LEFT_OUT], table[table["token_idx"] == LEFT_OUT]
    total = whole["part"].abs().sum()
    assert listed["part"].abs().sum() >= share * total > listed["part"].abs()[:-1].sum()
    assert table["n_entries"].sum() == len(whole) and table["part"].sum() == pytest.approx(whole["part"].sum())
    small = whole.iloc[len(listed) :]
    for row in rest.to_dict("records"):
        same = small[(small["turn"] == row["turn"]) & (np.sign(small["part"]) == np.sign(row["part"]))]
        assert row["n_entries"] == len(same) and row["part"] == pytest.approx(same["part"].sum())
    csv: Any = tables(result)["attribution"]
    assert csv["feature_idx"].isna().sum() == csv["token_idx"].isna().sum() == len(rest) > 0
    first = csv.iloc[0]
    texts = np.array(result.tokens.tokens)[turn == first["turn"]]
    assert first["token"] == texts[first["token_idx"]]
    assert first["effect"] == ("away_from_assistant" if first["part"] < 0 else "toward_assistant")


def test_where_the_pooled_value_does_not_change_the_derivative_counts() -> None:
    slope = MEAN_SLOPES["log1p"]
    m = np.array([0.0, 1.0, 3.0, -3.0, 2.0, -1.0, 1e-30])
    close = m * (1 + 1e-9)
    expected = 1 / (1 + np.abs(m))
    np.testing.assert_allclose(slope(m, m), expected, rtol=1e-12)
    np.testing.assert_allclose(slope(m, close), expected, rtol=1e-8)
    assert slope(np.array([2.0]), np.array([-1.0])) == pytest.approx((np.log(3) + np.log(2)) / 3)
    assert slope(np.array([0.0]), np.array([-4.0])) == pytest.approx(np.log(5) / 4)


def test_equal_turns_exchange_their_tokens_parts() -> None:
    dense, _ = random_tokens([3], WIDTH)
    result = analyzed(np.concatenate([dense, dense[::-1]]), np.repeat([0, 1], 3), 2)
    weights = result.weights
    np.testing.assert_allclose(weights.as_turn[3:], -weights.as_prev[:3][::-1], rtol=1e-12)
    assert weights.as_turn[3:].any() and weights.as_turn[3:].sum() == pytest.approx(-weights.as_prev[:3].sum())


def test_a_maximum_belongs_to_the_first_token_that_has_it() -> None:
    dense = np.zeros((3, WIDTH), np.float32)
    dense[:, 5] = [1, 4, 4]
    dense[2, 6], dense[0, 11] = 2, -3
    result = analyzed(dense, np.zeros(3, int), 1, pooling="max", transform="raw")
    axis = result.roles.axis.astype(np.float64)
    np.testing.assert_allclose(result.weights.w, [-3 * axis[11], 4 * axis[5], 2 * axis[6]], rtol=1e-9)


@pytest.mark.parametrize("lengths", [[], [0], [5], [0, 5, 0]])
def test_without_a_transition_there_are_weights_and_no_parts(lengths: list[int]) -> None:
    dense, turn = random_tokens(lengths, WIDTH)
    result = analyzed(dense, turn, len(lengths), center_turns_with_role_mean=True)
    assert len(result.weights.w) == len(dense) and len(result.weights.constant) == len(lengths)
    assert not result.weights.as_turn.any() and not result.weights.as_prev.any()
    assert result.attribution.empty and list(tables(result)["attribution"])[:3] == ["feature_idx", "turn", "token_idx"]


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", SCORE_METHODS)
def test_the_bundle_has_the_weights_beside_the_notebooks_fields(tmp_path: Path, method: str, center: bool) -> None:
    dense, turn = random_tokens(LENGTHS, WIDTH)
    result: Any = analyzed(dense, turn, score_method=method, center_turns_with_role_mean=center)
    write_json(tmp_path / "b.json", ui_bundle(result, result.roles, run_meta(RUN, result.options)))
    bundle = read_json(tmp_path / "b.json")
    plain = result.turns.space.astype(np.float64) @ result.roles.axis
    for row in bundle["q3"]["token_localization"]:
        assert len(row["w"]) == len(row["tokens"]) == len(row["u_k"])
        assert sum(row["w"]) + row["w_constant"] == pytest.approx(plain[row["assistant_turn"]], abs=2e-6)
        assert ("w_assistant" in row) == (method == "cos_assistant")
    for step in bundle["q2"]["transitions"]:
        parts = step["token_parts"]
        lengths = [len(bundle["q3"]["token_localization"][step[name]]["w"]) for name in ("prev_turn", "turn")]
        assert [len(parts["prev"]), len(parts["turn"])] == lengths
        change = plain[step["turn"]] - plain[step["prev_turn"]]
        assert sum(parts["prev"]) + sum(parts["turn"]) == pytest.approx(change, abs=2e-6)


@pytest.mark.parametrize(("method", "l2"), [*itertools.product(SCORE_METHODS, [False, True])])
@pytest.mark.parametrize("center", [False, True])
def test_features_explain_the_selected_score(method: str, l2: bool, center: bool) -> None:
    dense, turn = random_tokens(LENGTHS, WIDTH)
    result = analyzed(
        dense,
        turn,
        score_method=method,
        use_l2_normalize=l2,
        center_turns_with_role_mean=center,
        top_features=WIDTH,
    )
    assert result.selected is not None
    step = result.transitions[result.selected]
    table = result.features["q2_top_away_contrib"]
    if method == "projection" and not l2:
        assert step.score_contrib is None and table["score_contrib"].tolist() == table["contrib"].tolist()
        return
    own = step.score_contrib
    assert own is not None and own.sum(dtype=np.float64) == pytest.approx(step.delta_score, abs=1e-6)
    # By another route: a feature of the turn's unit vector taken out takes its part of the score with it.
    anchor = result.roles.anchor / np.linalg.norm(result.roles.anchor)
    scored = anchor if result.options.scoring.score_method == "cos_assistant" else result.roles.axis
    space = result.turns.space.astype(np.float64)
    unit = space / np.linalg.norm(space, axis=1, keepdims=True).clip(1e-8)
    for row in table.head(5).to_dict("records"):
        without = unit.copy()
        without[:, row["feature_idx"]] = 0
        moved = (unit - without) @ scored
        assert row["score_contrib"] == pytest.approx(moved[step.turn] - moved[step.prev_turn], rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(UserError, match="attribution_share"):
        DriftOptions.of(attribution_share=share)
