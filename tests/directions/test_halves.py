"""Axes of disjoint halves: each is the plain axis of its half's responses, and halves share nothing."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from personascope.directions.axis import role_space_of
from personascope.directions.halves import half_axes
from personascope.directions.options import AxisOptions
from tests.helpers.block_sums import NAMES, D, random_sums, sums_of, vectors_by_hand

PLAIN = AxisOptions(anchor=("assistant",))


@pytest.mark.parametrize(
    "chosen", [{}, {"axis_method": "pc1"}, {"pooling": "max"}, {"space": "residual", "layer": 5, "transform": "raw"}]
)
def test_each_pair_is_the_axes_of_halves_without_a_common_question_or_variant(chosen: dict[str, Any]) -> None:
    sums, options = random_sums(variants=4, blocks=4, seed=2), replace(PLAIN, **chosen)
    axes = half_axes(sums, options, seed=1, splits=3)
    assert axes.dtype == np.float32 and 0 < axes.shape[1] <= 6 and axes.shape[1] % 2 == 0
    halves = [
        (v, g)
        for v in np.ndindex(2, 2, 2, 2)
        for g in np.ndindex(2, 2, 2, 2)
        if sum(v) == sum(g) == 2 and _complete(sums, v, g)
    ]
    vectors = [vectors_by_hand(sums, np.array(v), np.array(g), options) for v, g in halves]
    known = np.stack([role_space_of(rows, NAMES, options).axis for rows in vectors])
    found = [int(np.argmax(known @ axis)) for axis in axes.T]
    for column, row in enumerate(found):
        assert axes[:, column] == pytest.approx(known[row], abs=2e-5)
    for a, b in zip(found[::2], found[1::2], strict=True):
        assert [x + y for x, y in zip(halves[a][0], halves[b][0], strict=True)] == [1] * 4
        assert [x + y for x, y in zip(halves[a][1], halves[b][1], strict=True)] == [1] * 4


def _complete(sums: Any, v: Any, g: Any) -> bool:
    return all((role.counts * np.outer(v, g)).sum() > 0 for role in sums.values())


def test_one_variant_is_in_both_halves_and_one_block_gives_none() -> None:
    rng = np.random.default_rng(0)
    one = {name: sums_of(rng.random((1, 4, D))) for name in NAMES}
    assert half_axes(one, PLAIN, splits=5).shape == (D, 10)
    single = {name: sums_of(rng.random((3, 1, D))) for name in NAMES}
    assert half_axes(single, PLAIN).shape == (D, 0)


def test_a_split_that_leaves_a_role_silent_is_left_out() -> None:
    rng = np.random.default_rng(0)
    sums = {name: sums_of(rng.random((1, 4, D))) for name in NAMES}
    counts = sums["elf"].counts.copy()
    counts[:, 1:] = 0
    sums["elf"] = replace(sums["elf"], counts=counts)
    assert half_axes(sums, PLAIN).shape == (D, 0)
