"""Features chosen by one half of the questions and estimated by the other: by hand, and where choosing flatters."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from personascope.directions.axis import role_space_of, unit
from personascope.directions.bootstrap import role_features
from personascope.directions.halves import half_axes
from personascope.drift.analysis import analyze
from personascope.drift.attribution import FEATURE_TABLES
from personascope.drift.options import DriftOptions
from personascope.drift.result import Transition
from personascope.drift.stability import with_stability
from tests.helpers.block_sums import NAMES, sums_of
from tests.helpers.drift_cases import random_roles, random_tokens, reference_of, to_activations

WIDTH = 200


def step_of(delta: np.ndarray, axis: np.ndarray) -> Transition:
    contrib = delta * axis
    return Transition(0, 1, 0.0, 0.0, 0.0, 0.0, 0.0, "WEAK", delta, contrib)


def every_feature(delta: np.ndarray) -> dict[str, pd.DataFrame]:
    """Tables with a row for each feature that changed, so that nothing is hidden."""
    return {name: pd.DataFrame({"feature_idx": np.flatnonzero(delta)}) for name in FEATURE_TABLES}


def test_shares_and_estimates_are_those_of_a_loop_over_halves() -> None:
    rng = np.random.default_rng(0)
    axis = unit(rng.normal(size=WIDTH)).astype(np.float32)
    delta = (rng.normal(size=WIDTH) * (rng.random(WIDTH) < 0.5)).astype(np.float32)
    halves = unit(axis + rng.normal(0, 0.05, (6, WIDTH))).astype(np.float32)
    tables = with_stability(every_feature(delta), step_of(delta, axis), axis, halves.T, 9)
    chosen: dict[int, list[float]] = {int(feature): [] for feature in np.flatnonzero(delta)}
    for half, other in ((0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4)):
        contrib = {feature: float(delta[feature] * halves[half, feature]) for feature in chosen}
        away = sorted((feature for feature in chosen if contrib[feature] < 0), key=contrib.__getitem__)
        for feature in away[:9]:
            cosine = sum(float(a) * float(b) for a, b in zip(axis, halves[other], strict=True))
            chosen[feature].append(float(delta[feature] * halves[other, feature]) / cosine)
    rows: Any = tables["q2_top_away_contrib"].to_dict("records")
    for row in rows:
        estimates = chosen[row["feature_idx"]]
        assert row["chosen_share"] == pytest.approx(len(estimates) / 6)
        if estimates:
            assert row["contrib_held_out"] == pytest.approx(np.mean(estimates), rel=1e-4)
        else:
            assert np.isnan(row["contrib_held_out"])
    lost: Any = tables["q2_deactivated_assistant_features"]
    assert lost["chosen_share"].sum() == pytest.approx(9) and (lost["chosen_share"] <= 1).all()


def test_choosing_promises_too_much_and_the_other_half_does_not() -> None:
    """Noise of responses with a known axis: the top features' own contributions are too large by their luck."""
    rng = np.random.default_rng(4)
    width, questions, options = 1500, 12, DriftOptions.of(transform="raw", top_features=15, anchor=["assistant"])
    promised, estimated, true_of_chosen, true_of_top = [], [], [], []
    for _ in range(12):
        means = {name: rng.normal(0, 0.25, width) for name in NAMES}
        sums = {
            name: sums_of(mean + rng.normal(0, 2, (2, questions, width)).astype(np.float32))
            for name, mean in means.items()
        }
        truth = unit(means[NAMES[0]] - np.mean([means[name] for name in NAMES[1:]], axis=0))
        roles = role_space_of(role_features(sums, options.axis), NAMES, options.axis)
        # What a unit axis of as many responses has of the true one: its length is partly noise.
        length = float(truth @ roles.axis)
        delta = rng.normal(size=width).astype(np.float32)
        step = step_of(delta, roles.axis)
        halves = half_axes(sums, options.axis, seed=0)
        table: Any = with_stability(every_feature(delta), step, roles.axis, halves, 15)["q2_top_away_contrib"]
        top = np.argsort(step.contrib)[:15]
        promised.append(step.contrib[top].sum())
        true_of_top.append((delta * truth)[top].sum() * length)
        estimated.append(np.nansum(table["chosen_share"] * table["contrib_held_out"]))
        true_of_chosen.append((table["chosen_share"] * (delta * truth)).sum() * length)
    assert float(np.mean(promised)) < 1.3 * float(np.mean(true_of_top)) < 0
    error = np.array(estimated) - np.array(true_of_chosen)
    assert abs(error.mean()) < 3 * error.std() / len(error) ** 0.5 + 0.02 * abs(np.mean(true_of_chosen))


@pytest.mark.parametrize("lengths", [[5], [5, 6, 4]])
def test_the_tables_of_an_analysis_have_them_where_the_reference_has_halves(lengths: list[int]) -> None:
    dense, turn = random_tokens(lengths, WIDTH)
    matrix, names = random_roles(7, WIDTH)
    options = DriftOptions.of(top_features=8)
    plain = reference_of(matrix, names, options)
    axis = role_space_of(matrix, names, options.axis).axis
    halves = unit(axis + np.random.default_rng(0).normal(0, 0.01, (8, WIDTH))).T.astype(np.float32)
    tokens = to_activations(dense, turn, len(lengths))
    result = analyze(tokens, matrix, names, options, reference=replace(plain, half_axes=halves))
    for table in result.features.values():
        assert list(table.columns[-2:]) == ["chosen_share", "contrib_held_out"]
    without = analyze(tokens, matrix, names, options, reference=plain)
    assert "chosen_share" not in without.features["q2_top_away_contrib"]
    if len(lengths) > 1:
        away = result.features["q2_top_away_contrib"]
        assert away["chosen_share"].iloc[0] == 1 and away["contrib_held_out"].iloc[0] < 0
