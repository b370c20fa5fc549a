"""The crossed bootstrap: its draws are what they claim, its intervals cover, and an iid one's would not."""

from dataclasses import replace
from typing import Any

import numpy as np
import personascope.drift.bootstrap as module
import pytest

from personascope.directions.axis import RoleSpace, role_space_of
from personascope.directions.block_sums import BlockSums, deal_questions
from personascope.directions.bootstrap import Draws, axes_of, bootstrap, complete, draw, role_features
from personascope.drift.intervals import contribution_intervals, spread, turn_intervals
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference, no_draws
from personascope.drift.result import Transition, TurnScores
from personascope.drift.turns import score_vectors
from personascope.errors import UserError

NAMES = ["assistant", "baker", "cook", "elf"]
D, D_MODEL = 37, 11
RAW = DriftOptions(transform="raw")
SPACES = [
    {},
    {"axis_method": "pc1"},
    {"transform": "raw", "other_group": "roleplay_subset", "roleplay_subset": ("elf", "cook")},
    {"pooling": "max"},
    {"pooling": "max", "axis_method": "pc1", "transform": "raw"},
    {"space": "residual", "layer": 5},
    {"space": "residual", "layer": 3, "axis_method": "pc1", "transform": "raw"},
]


def sums_of(y: np.ndarray, questions_per_block: int = 1, peaks: np.ndarray | None = None) -> BlockSums:
    """The sums of responses y [V, Q, D], question q in block q // questions_per_block."""
    variants, questions, width = y.shape
    blocks = np.arange(questions, dtype=np.int32) // questions_per_block
    cells = y.reshape(variants, -1, questions_per_block, width).sum(2).astype(np.float32)
    return BlockSums(
        variants=np.arange(variants, dtype=np.int32),
        blocks=np.unique(blocks),
        question_ids=np.arange(questions, dtype=np.int32),
        question_blocks=blocks,
        counts=np.full(cells.shape[:2], questions_per_block),
        sums=cells,
        peaks=cells if peaks is None else peaks,
        residual_sums=np.empty((*cells.shape[:2], 0, 0), np.float32),
        layers=np.empty(0, np.int32),
    )


def random_sums(variants: int = 3, blocks: int = 4, seed: int = 0) -> dict[str, BlockSums]:
    """Sparse features, signed residuals on layers 3 and 5, and counts that differ from cell to cell and may be 0."""
    rng = np.random.default_rng(seed)
    roles = {}
    for name in NAMES:
        counts = rng.integers(0, 4, (variants, blocks))
        active = (rng.random((variants, blocks, D)) < 0.5) & (counts > 0)[:, :, None]
        peaks = np.where(active, rng.random((variants, blocks, D)) * 3, 0).astype(np.float32)
        residuals = rng.standard_normal((variants, blocks, 2, D_MODEL)) * counts[:, :, None, None]
        ids, dealt = deal_questions(np.arange(2 * blocks), blocks)
        roles[name] = BlockSums(
            np.arange(variants, dtype=np.int32),
            np.arange(blocks, dtype=np.int32),
            ids,
            dealt,
            counts,
            (peaks * counts[:, :, None] / 2).astype(np.float32),
            peaks,
            residuals.astype(np.float32),
            np.array([3, 5], np.int32),
        )
    return roles


def weights(sums: dict[str, BlockSums], variants: Any, blocks: Any) -> Draws:
    first = sums[NAMES[0]]
    return Draws(first.variants, first.blocks, np.atleast_2d(variants), np.atleast_2d(blocks))


def vectors_by_hand(sums: dict[str, BlockSums], v: np.ndarray, w: np.ndarray, options: DriftOptions) -> np.ndarray:
    rows = []
    for name in sorted(sums):
        role = sums[name]
        repeated = [(p, g) for p in range(len(v)) for g in range(len(w)) for _ in range(v[p] * w[g])]
        at = tuple(np.array(repeated).T)
        if options.space == "residual":
            layer = [3, 5].index(options.layer or 0)
            rows.append(role.residual_sums[at][:, layer].sum(0) / role.counts[at].sum())
        elif options.pooling == "max":
            rows.append(role.peaks[at].max(0))
        else:
            rows.append(role.sums[at].sum(0) / role.counts[at].sum())
    return np.stack(rows).astype(np.float32)


@pytest.mark.parametrize("knobs", SPACES)
def test_all_weights_one_give_the_plain_axis(knobs: dict[str, Any]) -> None:
    sums, options = random_sums(), DriftOptions(**knobs)
    plain = role_space_of(role_features(sums, options), NAMES, options)
    drawn = axes_of(sums, options, weights(sums, np.ones(3, int), np.ones(4, int)))
    assert drawn["axes"][:, 0] == pytest.approx(plain.axis, abs=2e-6)
    assert drawn["agreement"][0] == pytest.approx(plain.agreement, abs=1e-5)
    assert drawn["cos_to_axis"][0] == pytest.approx(1, abs=1e-5) and drawn["axes"].dtype == np.float32


@pytest.mark.parametrize("knobs", SPACES)
def test_a_draw_is_the_axis_of_its_cells_repeated(knobs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over several batches of draws and chunks of features, the last of them shorter."""
    monkeypatch.setattr(module, "BATCH_DRAWS", 3)
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    sums, options = random_sums(), DriftOptions(**knobs)
    full = role_space_of(role_features(sums, options), NAMES, options)
    draws = draw(sums, 8, np.random.default_rng(1))
    result = axes_of(sums, options, draws)
    for b, (v, w) in enumerate(zip(draws.variant_weights, draws.block_weights, strict=True)):
        roles = role_space_of(vectors_by_hand(sums, v, w, options), NAMES, options)
        assert result["axes"][:, b] == pytest.approx(roles.axis, abs=2e-5)
        assert result["agreement"][b] == pytest.approx(roles.agreement, abs=1e-4)
        assert result["cos_to_axis"][b] == pytest.approx(roles.axis @ full.axis, abs=1e-4)


@pytest.mark.parametrize("score_method", ["projection", "cos_axis", "cos_assistant"])
@pytest.mark.parametrize("use_centering", [False, True])
@pytest.mark.parametrize("center_turns", [False, True])
def test_intervals_are_those_of_turns_scored_in_each_draw(
    score_method: str, use_centering: bool, center_turns: bool
) -> None:
    """Against scoring the turns in every drawn role space; the norm of a centered turn is held, hence taken out here."""
    options = DriftOptions(
        score_method=score_method, use_centering=use_centering, center_turns_with_role_mean=center_turns
    )
    sums = random_sums()
    pooled = np.random.default_rng(3).random((2, D)).astype(np.float32)
    roles, turns = turns_in(sums, pooled, options)
    expected = []
    draws = draw(sums, 60, np.random.default_rng(5))
    for v, w in zip(draws.variant_weights, draws.block_weights, strict=True):
        other = role_space_of(vectors_by_hand(sums, v, w, options), NAMES, options)
        scores, mass = score_vectors(pooled, other, options)
        mine, theirs = (
            (r.directions[0] if score_method == "cos_assistant" else r.axis).astype(np.float64) for r in (roles, other)
        )
        norms = 1 if score_method == "projection" else mass["turn_l2_space"] / turns.mass["turn_l2_space"]
        expected.append(scores[score_method] * norms / (mine @ theirs))
    low, high = np.percentile(np.array(expected), [2.5, 97.5], axis=0)
    drawn = bootstrap(sums, options, 60, seed=5)
    table = turn_intervals(turns, roles, reference_with(drawn), options)
    assert table is not None and table["assistant_turn"].tolist() == [0, 1]
    assert table["score_low"].to_numpy() == pytest.approx(low, rel=1e-3, abs=1e-4)
    assert table["score_high"].to_numpy() == pytest.approx(high, rel=1e-3, abs=1e-4)
    assert (drawn.assistants.shape[1] > 0) == (score_method == "cos_assistant")


def turns_in(sums: dict[str, BlockSums], pooled: np.ndarray, options: DriftOptions) -> tuple[RoleSpace, TurnScores]:
    """Role space of the sums, and turns with these pooled vectors."""
    roles = role_space_of(role_features(sums, options), sorted(sums), options)
    scores, mass = score_vectors(pooled, roles, options)
    space = np.log1p(pooled) if options.transform == "log1p" else pooled
    space = space - roles.mean if options.center_turns_with_role_mean else space
    return roles, TurnScores(pooled, space, scores, mass, np.full(len(pooled), 5))


def reference_with(drawn: Any) -> Reference:
    """A reference of which only the draws matter."""
    none = np.empty(0, np.int32)
    return Reference({}, {}, none, none, none, none, NAMES, 0, **vars(drawn))


def test_turns_without_tokens_have_no_interval_and_no_draws_give_none() -> None:
    sums = random_sums()
    roles, turns = turns_in(sums, np.ones((2, D), np.float32), RAW)
    turns = replace(turns, n_tokens=np.array([0, 4]))
    table = turn_intervals(turns, roles, reference_with(bootstrap(sums, RAW, 20)), RAW)
    assert table is not None and table.isna()["score_low"].tolist() == [True, False]
    assert turn_intervals(turns, roles, reference_with(no_draws(D)), RAW) is None


def test_a_reference_of_another_width_is_refused() -> None:
    sums = random_sums()
    roles, turns = turns_in(sums, np.ones((2, D), np.float32), RAW)
    residual = DriftOptions(space="residual", layer=5)
    with pytest.raises(UserError, match=f"{D_MODEL} features, the role matrix of {D}"):
        turn_intervals(turns, roles, reference_with(bootstrap(sums, residual, 5)), RAW)


def test_contributions_vary_with_the_weights_of_their_features() -> None:
    sums = random_sums()
    drawn = bootstrap(sums, RAW, 300)
    axis = role_space_of(role_features(sums, RAW), NAMES, RAW).axis
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


def test_variants_and_blocks_are_drawn_once_for_all_roles_and_crossed() -> None:
    sums = random_sums(variants=5, blocks=12)
    draws = draw(sums, 400, np.random.default_rng(0))
    assert (draws.variant_weights.sum(1) == 5).all() and (draws.block_weights.sum(1) == 12).all()
    assert np.unique(draws.variant_weights, axis=0).shape[0] > 50
    cells = draws.cell_weights(sums["cook"]).reshape(400, 5, 12)
    assert np.array_equal(cells, draws.variant_weights[:, :, None] * draws.block_weights[:, None])
    assert np.array_equal(cells, draws.cell_weights(sums["assistant"]).reshape(400, 5, 12))


def test_a_role_of_fewer_variants_has_the_weights_of_its_own() -> None:
    sums = random_sums()
    few = sums["cook"]
    sums["cook"] = replace(few, variants=few.variants[[2]], counts=few.counts[[2]], sums=few.sums[[2]])
    draws = draw(sums, 50, np.random.default_rng(0))
    assert (draws.variant_weights[:, 2] > 0).all() and complete(sums, draws).all()
    drawn = draws.cell_weights(sums["cook"])
    assert np.array_equal(drawn, draws.variant_weights[:, [2]] * draws.block_weights)
    assert axes_of(sums, RAW, draws)["axes"].shape == (D, 50)


def test_a_draw_never_leaves_a_role_without_a_response() -> None:
    sums = random_sums()
    counts = np.zeros((3, 4), int)
    counts[1, 2] = 3
    sums["elf"] = replace(sums["elf"], counts=counts)
    draws = draw(sums, 200, np.random.default_rng(0))
    assert len(draws) == 200 and (draws.variant_weights[:, 1] > 0).all() and (draws.block_weights[:, 2] > 0).all()
    sums["elf"] = replace(sums["elf"], counts=np.zeros((3, 4), int))
    with pytest.raises(UserError, match="too few"):
        draw(sums, 5, np.random.default_rng(0))


def test_the_same_seed_gives_the_same_draws() -> None:
    sums = random_sums()
    one, again, other = (bootstrap(sums, RAW, 20, seed) for seed in (4, 4, 5))
    assert np.array_equal(one.axes, again.axes) and one.split_half == again.split_half
    assert not np.allclose(one.axes, other.axes)


def test_residuals_need_means_and_a_layer_that_was_kept() -> None:
    sums = random_sums()
    with pytest.raises(UserError, match=r"layer 4 are kept.*3, 5"):
        bootstrap(sums, DriftOptions(space="residual", layer=4), 5)
    with pytest.raises(UserError, match="pooling: mean"):
        bootstrap(sums, DriftOptions(space="residual", layer=5, pooling="max"), 5)


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
        axis = role_space_of(role_features(sums, RAW), sorted(sums), RAW).axis
        scores.append(x @ axis)
        drawn = axes_of(sums, RAW, draw(sums, 200, rng))
        crossed.append(np.ravel(spread((x @ drawn["axes"])[None], drawn["cos_to_axis"])))
        axes = iid_axes(y, 200, rng)
        iid.append(np.ravel(spread((axes @ x)[None], axes @ axis)))
    expected = np.mean(scores)
    covered, iid_covered = (np.mean([low <= expected <= high for low, high in rows]) for rows in (crossed, iid))
    assert covered > 0.85 and iid_covered < 0.6
    width = np.mean([high - low for low, high in crossed])
    assert width == pytest.approx(2 * 1.96 * np.std(scores), rel=0.25)


def test_split_half_is_near_one_for_a_clear_axis_near_zero_for_noise_and_missing_for_one_block() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((3, 4, 12, 200))
    clear = noise.copy()
    clear[0, :, :, 0] += 30
    halves = []
    for y in (clear, noise):
        halves.append(bootstrap({name: sums_of(role) for name, role in zip(NAMES, y, strict=False)}, RAW, 2).split_half)
    assert halves[0] > 0.97 and abs(halves[1]) < 0.15
    one = {name: sums_of(role[:, :3], 3) for name, role in zip(NAMES, noise, strict=False)}
    assert np.isnan(bootstrap(one, RAW, 2).split_half)
