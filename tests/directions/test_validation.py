"""Simulated responses have the axis that they say, and the measures of quality stand beside the truth."""

import numpy as np
import pytest

from personascope.directions.axis import role_space_of
from personascope.directions.bootstrap import degrees_of_freedom, role_features
from personascope.directions.simulated import SIGNAL, Noise, population, simulated_sums
from personascope.directions.validation import RAW, agreement, axis_quality, role_coverage

SILENT = Noise(0, 0, 0, 0)


def test_without_noise_the_axis_is_the_population_s() -> None:
    people = population(np.random.default_rng(0), 8, 40)
    sums = simulated_sums(np.random.default_rng(1), people, 3, 24, SILENT)
    assert sums["assistant"].counts.tolist() == [[2] * 12] * 3
    roles = role_space_of(role_features(sums, RAW), people.names, RAW)
    assert roles.axis @ people.axis(RAW) == pytest.approx(1, abs=1e-5)
    assert roles.space == pytest.approx(people.means, abs=1e-5)
    gap = people.means[people.roles(RAW).anchors].mean(0) - people.means[people.roles(RAW).others].mean(0)
    assert np.linalg.norm(gap) == pytest.approx(SIGNAL, rel=0.35)


def test_noise_of_sums_is_that_of_as_many_responses() -> None:
    """A role's mean over 3 variants and 24 questions: each part by what it is averaged over."""
    people = population(np.random.default_rng(0), 8, 40)
    parts = {Noise(1, 0, 0, 0): 1 / 3, Noise(0, 1, 0, 0): 1 / 24, Noise(0, 0, 1, 0): 1 / 24, Noise(0, 0, 0, 1): 1 / 72}
    for noise, variance in parts.items():
        rng = np.random.default_rng(2)
        made = [role_features(simulated_sums(rng, people, 3, 24, noise), RAW) - people.means for _ in range(40)]
        assert np.var(made) == pytest.approx(variance, rel=0.12)


@pytest.mark.parametrize(("noise", "expected"), [(Noise(1, 0, 0, 0), 2), (Noise(0, 0, 1, 0), 11)])
def test_degrees_of_freedom_are_those_of_what_varies(noise: Noise, expected: float) -> None:
    """3 variants, 12 blocks."""
    people = population(np.random.default_rng(0), 8, 40)
    freedom = degrees_of_freedom(simulated_sums(np.random.default_rng(1), people, 3, 24, noise), RAW)
    assert freedom == pytest.approx(expected, rel=0.01)


def test_degrees_of_freedom_lie_between_and_one_variant_has_no_part() -> None:
    people = population(np.random.default_rng(0), 8, 40)
    freedom = degrees_of_freedom(simulated_sums(np.random.default_rng(1), people, 5, 24, Noise()), RAW)
    assert 4 < freedom < 15
    one = degrees_of_freedom(simulated_sums(np.random.default_rng(1), people, 1, 24, Noise()), RAW)
    assert one == pytest.approx(11)


def test_quality_beside_the_truth() -> None:
    table = axis_quality(0, 0.04)
    poor, *_, good = table.to_dict("records")
    assert (poor["variants"], good["variants"]) == (2, 10)
    assert poor["cosine"] < 0.4 and poor["split_half"] < 0.3 < 0.6 < poor["split_half_shared"]
    # An axis that has seen the variant looks perfect; one that has not is as good as the truth.
    assert poor["auc_shared"] > 0.9 > 0.8 > poor["auc_true"]
    assert table["auc"].to_numpy() == pytest.approx(table["auc_true"].to_numpy(), abs=0.2)
    assert good["cosine"] > 0.8 and good["split_half"] > 0.5 and good["auc_true"] > 0.99
    assert np.all(table["split_half"].to_numpy() < table["cosine"].to_numpy())


def test_agreement_and_role_intervals_have_a_row_a_cell() -> None:
    found = agreement(0, 0.02)
    assert found["roles"].tolist() == [7, 12, 51] * 2
    assert found["expected"].tolist()[:2] == pytest.approx([6**-0.5, 11**-0.5])
    assert np.all(found["median"].to_numpy() < found["high"].to_numpy())
    cells = role_coverage(0, 0.01)
    assert len(cells) == 4 * 4 * 4 and cells["coverage"].to_numpy().mean() > 0.75
