"""Intervals of scores and contributions: they are what they claim, and cover; those of an iid bootstrap would not."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from personascope.directions.axis import RoleSpace, role_space_of, unit
from personascope.directions.block_sums import BlockSums
from personascope.directions.bootstrap import axes_of, bootstrap, draw, role_features
from personascope.drift.intervals import contribution_intervals, spread, token_half_width, turn_intervals
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference, no_draws
from personascope.drift.result import Transition, TurnScores
from personascope.drift.turns import score_vectors
from personascope.errors import UserError
from tests.helpers.block_sums import D_MODEL, NAMES, D, random_sums, sums_of, vectors_by_hand

NO_NOISE = np.full(2, np.nan)


def options_of(**chosen: Any) -> DriftOptions:
    return DriftOptions.of(**{"anchor": ("assistant",)} | chosen)


RAW = options_of(transform="raw")


@pytest.mark.parametrize("score_method", ["projection", "cos_axis", "cos_assistant"])
@pytest.mark.parametrize("use_centering", [False, True])
@pytest.mark.parametrize("center_turns", [False, True])
def test_intervals_are_those_of_turns_scored_in_each_draw(
    score_method: str, use_centering: bool, center_turns: bool
) -> None:
    """Against scoring the turns in every drawn role space; the norm of a centered turn is held, so taken out here."""
    options = options_of(
        score_method=score_method, use_centering=use_centering, center_turns_with_role_mean=center_turns
    )
    sums = random_sums()
    pooled = np.random.default_rng(3).random((2, D)).astype(np.float32)
    roles, turns = turns_in(sums, pooled, options)
    expected = []
    draws = draw(sums, 60, np.random.default_rng(5))
    for v, w in zip(draws.variant_weights, draws.block_weights, strict=True):
        other = role_space_of(vectors_by_hand(sums, v, w, options.axis), NAMES, options.axis)
        scores, mass = score_vectors(pooled, other, options)
        mine, theirs = (
            (unit(r.anchor) if score_method == "cos_assistant" else r.axis).astype(np.float64) for r in (roles, other)
        )
        norms = 1 if score_method == "projection" else mass["turn_l2_space"] / turns.mass["turn_l2_space"]
        expected.append(scores[score_method] * norms / (mine @ theirs))
    low, high = np.percentile(np.array(expected), [2.5, 97.5], axis=0)
    needs = {"assistants": score_method == "cos_assistant", "turn_mean": center_turns}
    drawn = replace(bootstrap(sums, options.axis, 60, seed=5, **needs), freedom=math.inf)
    table = turn_intervals(turns, roles, reference_with(drawn), options, NO_NOISE)
    assert table is not None and table["assistant_turn"].tolist() == [0, 1]
    assert table["axis_low"].to_numpy() == pytest.approx(low, rel=1e-3, abs=1e-4)
    assert table["axis_high"].to_numpy() == pytest.approx(high, rel=1e-3, abs=1e-4)
    assert (drawn.assistants.shape[1] > 0) == (score_method == "cos_assistant")


def turns_in(sums: dict[str, BlockSums], pooled: np.ndarray, options: DriftOptions) -> tuple[RoleSpace, TurnScores]:
    """Role space of the sums, and turns with these pooled vectors."""
    roles = role_space_of(role_features(sums, options.axis), sorted(sums), options.axis)
    scores, mass = score_vectors(pooled, roles, options)
    space = np.log1p(pooled) if options.axis.transform == "log1p" else pooled
    space = space - roles.mean if options.scoring.center_turns_with_role_mean else space
    return roles, TurnScores(pooled, space, scores, mass, np.full(len(pooled), 5))


def reference_with(drawn: Any) -> Reference:
    """A reference of which only the draws matter."""
    none = np.empty(0, np.int32)
    return Reference({}, {}, none, none, none, none, NAMES, none, none, **vars(drawn), split_half=0.0)


def test_turns_without_tokens_have_no_interval_and_no_draws_give_none() -> None:
    sums = random_sums()
    roles, turns = turns_in(sums, np.ones((2, D), np.float32), RAW)
    turns = replace(turns, n_tokens=np.array([0, 4]))
    table = turn_intervals(turns, roles, reference_with(bootstrap(sums, RAW.axis, 20)), RAW, NO_NOISE)
    assert table is not None and table.isna()["score_low"].tolist() == [True, False]
    assert turn_intervals(turns, roles, reference_with(no_draws(D)), RAW, NO_NOISE) is None


def test_a_reference_of_another_width_is_refused() -> None:
    sums = random_sums()
    roles, turns = turns_in(sums, np.ones((2, D), np.float32), RAW)
    residual = options_of(space="residual", layer=5)
    with pytest.raises(UserError, match=f"{D_MODEL} features, the role matrix of {D}"):
        turn_intervals(turns, roles, reference_with(bootstrap(sums, residual.axis, 5)), RAW, NO_NOISE)


def test_contributions_vary_with_the_weights_of_their_features() -> None:
    sums = random_sums()
    drawn = bootstrap(sums, RAW.axis, 300)
    axis = role_space_of(role_features(sums, RAW.axis), NAMES, RAW.axis).axis
    delta = np.linspace(-2, 2, D).astype(np.float32)
    transition = Transition(0, 1, 0.0, 0.0, 0.0, 0.0, 0.0, "", delta, delta * axis)
    result = contribution_intervals(transition, [30, 2, 18], reference_with(drawn))
    assert result is not None
    low, high = result
    assert (low <= high).all() and low[2] == high[2] == 0 == delta[18]
    # Twice the change, twice the interval; a change of the other sign turns it round.
    double = contribution_intervals(replace(transition, delta_x=-2 * delta), [30, 2, 18], reference_with(drawn))
    assert double is not None
    assert double[0] == pytest.approx(-2 * high, rel=1e-5) and double[1] == pytest.approx(-2 * low, rel=1e-5)
    assert contribution_intervals(transition, [1], reference_with(no_draws(D))) is None


def test_the_spread_does_not_shrink_with_the_length_that_noise_takes_from_an_axis() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2000, 400)) * 0.06
    axes = np.eye(400)[0] + noise
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    x = np.zeros(400)
    x[:2] = 3, 1
    assert axes[:, 0].mean() < 0.75
    low, high = spread((axes @ x)[None], axes[:, 0])
    assert low[0] == pytest.approx(3 - 1.96 * 0.06, abs=0.03) and high[0] == pytest.approx(3 + 1.96 * 0.06, abs=0.03)


def test_few_degrees_of_freedom_move_the_ends_away_from_the_median_as_student_s_t_does() -> None:
    draws, cosines = np.random.default_rng(0).normal(5, 1, (3, 20_000)), np.ones(20_000)
    low, high = spread(draws, cosines)
    assert low == pytest.approx(5 - 1.96, abs=0.06) and high == pytest.approx(5 + 1.96, abs=0.06)
    for freedom, quantile in ((1, 12.706), (4, 2.776), (1e9, 1.96)):
        wide_low, wide_high = spread(draws, cosines, freedom)
        assert wide_low == pytest.approx(5 - quantile, rel=0.04) and wide_high == pytest.approx(5 + quantile, rel=0.04)


def test_the_tokens_of_a_turn_widen_its_interval_by_student_s_t() -> None:
    sums = random_sums()
    roles, turns = turns_in(sums, np.ones((2, D), np.float32), RAW)
    turns = replace(turns, n_tokens=np.array([32, 400]))
    reference, noise = reference_with(bootstrap(sums, RAW.axis, 50)), np.array([0.5, np.nan])
    table = turn_intervals(turns, roles, reference, RAW, noise)
    assert table is not None
    # 4 blocks of 8 tokens: 4.5 degrees of freedom, whose 97.5 % quantile is 2.66.
    assert token_half_width(noise, turns.n_tokens)[0] == pytest.approx(0.5 * 2.66, rel=0.01)
    score = turns.scores["projection"]
    below = np.hypot(score - table["axis_low"].to_numpy(), np.array([0.5 * 2.66, 0]))
    assert score - table["score_low"].to_numpy() == pytest.approx(below, rel=0.01)


def simulated(rng: np.random.Generator, variants: int = 10, questions: int = 24) -> np.ndarray:
    """Responses [roles, V, Q, 40]: variant, question and response each add noise of 0.5 to fixed role vectors."""
    means = np.zeros((3, 40))
    means[0, 0], means[1, 1] = 3, 1
    effects = [rng.standard_normal(shape) for shape in ((3, variants, 1, 40), (3, 1, questions, 40))]
    noise = rng.standard_normal((3, variants, questions, 40))
    return means[:, None, None] + 0.5 * (effects[0] + effects[1] + noise)


def iid_axes(y: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Axes [draws, D] of a bootstrap that takes the responses of a role for independent."""
    flat = y.reshape(len(y), -1, y.shape[-1])
    n = flat.shape[1]
    means = rng.multinomial(n, np.full(n, 1 / n), (len(y), draws)) / n @ flat
    axes = means[0] - means[1:].mean(0)
    return axes / np.linalg.norm(axes, axis=1, keepdims=True)


def test_crossed_intervals_cover_where_iid_ones_do_not() -> None:
    x = np.zeros(40)
    x[:6] = 2, 1, 0.7, 0.7, 0.7, 0.7
    scores, crossed, iid = [], [], []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        y = simulated(rng)
        sums = {name: sums_of(role, 2) for name, role in zip(NAMES, y, strict=False)}
        axis = role_space_of(role_features(sums, RAW.axis), sorted(sums), RAW.axis).axis
        scores.append(x @ axis)
        drawn = axes_of(sums, RAW.axis, draw(sums, 200, rng))
        crossed.append(np.ravel(spread((x @ drawn["axes"])[None], drawn["cos_to_axis"])))
        axes = iid_axes(y, 200, rng)
        iid.append(np.ravel(spread((axes @ x)[None], axes @ axis)))
    expected = np.mean(scores)
    covered, iid_covered = (np.mean([low <= expected <= high for low, high in rows]) for rows in (crossed, iid))
    assert covered > 0.85 and iid_covered < 0.6
    width = np.mean([high - low for low, high in crossed])
    assert width == pytest.approx(2 * 1.96 * np.std(scores), rel=0.25)
