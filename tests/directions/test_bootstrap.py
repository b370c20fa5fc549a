"""The crossed bootstrap: each draw is the axis of the cells that it repeats, by the one definition of the axis."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import personascope.directions.bootstrap as module
from personascope.directions.axis import role_space_of
from personascope.directions.block_sums import BlockSums
from personascope.directions.bootstrap import Draws, axes_of, bootstrap, complete, draw, role_features
from personascope.directions.halves import half_axes, split_half
from personascope.directions.options import AxisOptions
from personascope.errors import UserError
from tests.helpers.block_sums import NAMES, D, random_sums, sums_of, vectors_by_hand

PLAIN = AxisOptions(anchor=("assistant",))
RAW = replace(PLAIN, transform="raw")
SPACES = [
    {},
    {"axis_method": "pc1"},
    {"anchor": ("assistant", "elf")},
    {"transform": "raw", "other_group": "roleplay_subset", "roleplay_subset": ("elf", "cook")},
    {"pooling": "max"},
    {"pooling": "max", "axis_method": "pc1", "transform": "raw"},
    {"space": "residual", "layer": 5},
    {"space": "residual", "layer": 3, "axis_method": "pc1", "transform": "raw"},
]


def reliability(sums: dict[str, BlockSums]) -> float:
    return split_half(half_axes(sums, RAW))


def weights(sums: dict[str, BlockSums], variants: Any, blocks: Any) -> Draws:
    first = sums[NAMES[0]]
    return Draws(first.variants, first.blocks, np.atleast_2d(variants), np.atleast_2d(blocks))


@pytest.mark.parametrize("chosen", SPACES)
def test_all_weights_one_give_the_plain_axis(chosen: dict[str, Any]) -> None:
    sums, options = random_sums(), replace(PLAIN, **chosen)
    plain = role_space_of(role_features(sums, options), NAMES, options)
    drawn = axes_of(sums, options, weights(sums, np.ones(3, int), np.ones(4, int)))
    assert drawn["axes"][:, 0] == pytest.approx(plain.axis, abs=2e-6)
    assert drawn["agreement"][0] == pytest.approx(plain.agreement, abs=1e-5)
    assert drawn["cos_to_axis"][0] == pytest.approx(1, abs=1e-5) and drawn["axes"].dtype == np.float32


@pytest.mark.parametrize("chosen", SPACES)
def test_a_draw_is_the_axis_of_its_cells_repeated(chosen: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over several batches of draws and chunks of features, the last of them shorter."""
    monkeypatch.setattr(module, "BATCH_DRAWS", 3)
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    sums, options = random_sums(), replace(PLAIN, **chosen)
    full = role_space_of(role_features(sums, options), NAMES, options)
    draws = draw(sums, 8, np.random.default_rng(1))
    result = axes_of(sums, options, draws)
    for b, (v, w) in enumerate(zip(draws.variant_weights, draws.block_weights, strict=True)):
        roles = role_space_of(vectors_by_hand(sums, v, w, options), NAMES, options)
        assert result["axes"][:, b] == pytest.approx(roles.axis, abs=2e-5)
        assert result["agreement"][b] == pytest.approx(roles.agreement, abs=1e-4)
        assert result["cos_to_axis"][b] == pytest.approx(roles.axis @ full.axis, abs=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_features_of_both_signs_are_transformed_with_their_sign(pooling: str) -> None:
    sums, options = random_sums(), replace(PLAIN, pooling=pooling)
    signs = np.random.default_rng(6).choice([-4, 4], sums[NAMES[0]].sums.shape).astype(np.float32)
    sums = {name: replace(one, sums=one.sums * signs, max_sums=one.max_sums * signs) for name, one in sums.items()}
    draws = draw(sums, 8, np.random.default_rng(1))
    result = axes_of(sums, options, draws)
    for b, (v, w) in enumerate(zip(draws.variant_weights, draws.block_weights, strict=True)):
        roles = role_space_of(vectors_by_hand(sums, v, w, options), NAMES, options)
        assert result["axes"][:, b] == pytest.approx(roles.axis, abs=2e-5)


def test_variants_and_blocks_are_drawn_once_for_all_roles_and_crossed() -> None:
    sums = random_sums(variants=5, blocks=12)
    draws = draw(sums, 400, np.random.default_rng(0))
    assert (draws.variant_weights.sum(1) == 4).all() and (draws.block_weights.sum(1) == 11).all()
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
    assert one.axes == pytest.approx(again.axes, abs=1e-6)
    assert not np.allclose(one.axes, other.axes)


def test_residuals_need_means_and_a_layer_that_was_kept() -> None:
    sums = random_sums()
    with pytest.raises(UserError, match=r"layer 4 are kept.*3, 5"):
        bootstrap(sums, replace(PLAIN, space="residual", layer=4), 5)
    with pytest.raises(UserError, match="pooling: mean"):
        bootstrap(sums, replace(PLAIN, space="residual", layer=5, pooling="max"), 5)


def test_the_spread_of_a_mean_is_its_standard_error_however_few_variants_there_are() -> None:
    """Two variants that differ, and many questions that do not: drawing two of two would show half of the variance."""
    y = np.zeros((2, 8, D), np.float32)
    y[0], y[1] = 1, 3
    sums = {"elf": sums_of(y)}
    weights_of = draw(sums, 4000, np.random.default_rng(0)).cell_weights(sums["elf"])
    means = weights_of @ sums["elf"].sums[:, :, 0].ravel() / weights_of.sum(1)
    assert means.var() == pytest.approx(np.var([1, 3], ddof=1) / 2, rel=0.05)


def test_a_role_outside_the_axis_has_no_part_in_it() -> None:
    sums = random_sums()
    options = replace(RAW, axis_method="pc1")
    draws = draw(sums, 6, np.random.default_rng(3))
    expected = axes_of(sums, options, draws)
    odd = {"default": replace(sums["elf"], sums=100 * sums["baker"].sums)}
    assert axes_of(sums | odd, options, draws)["axes"] == pytest.approx(expected["axes"], abs=1e-6)


def test_split_half_is_near_one_for_a_clear_axis_near_zero_for_noise_and_missing_for_one_block() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((3, 4, 12, 200))
    clear = noise.copy()
    clear[0, :, :, 0] += 30
    halves = []
    for y in (clear, noise):
        halves.append(reliability({name: sums_of(role) for name, role in zip(NAMES, y, strict=False)}))
    assert halves[0] > 0.97 and abs(halves[1]) < 0.15
    one = {name: sums_of(role[:, :3], 3) for name, role in zip(NAMES, noise, strict=False)}
    assert np.isnan(reliability(one))


def test_halves_do_not_share_what_the_variants_say() -> None:
    """Each variant has a direction of its own in every role, and questions say nothing: nothing is reliable."""
    rng = np.random.default_rng(1)
    y = np.repeat(rng.standard_normal((3, 4, 1, 400)), 12, axis=2)
    sums = {name: sums_of(role) for name, role in zip(NAMES, y, strict=False)}
    assert abs(reliability(sums)) < 0.15
    one_variant = {name: sums_of(role[:1]) for name, role in zip(NAMES, y, strict=False)}
    assert reliability(one_variant) == pytest.approx(1, abs=1e-4)
