"""The causal test's statistics: intervals against scipy's own, the verdict's rule case by case, the arms' choice."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from personascope.drift.causal import (
    LOSSY,
    NOT_SUPPORTED,
    SUPPORTED,
    UNDERPOWERED,
    SAEShare,
    Totals,
    judge_totals,
    paired_effect,
    sae_share,
    seeds_needed,
    token_effect,
)
from personascope.drift.causal_arms import FeatureFacts, balance, feature_patches, top_features, vector_patches


def test_paired_effect_is_the_one_sample_t_interval_over_pairs_with_tokens() -> None:
    values = np.random.default_rng(0).normal(0.4, 1.0, 9)
    effect = paired_effect(np.append(values, np.nan))
    assert effect is not None and effect.n == 9
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (effect.low, effect.high) == pytest.approx((expected.low, expected.high))
    assert effect.d == pytest.approx(values.mean() / np.std(values, ddof=1))
    assert paired_effect(np.array([np.nan])) is None
    single = paired_effect(np.array([1.5]))
    assert single is not None and (single.mean, single.low, single.n) == (1.5, None, 1)


def test_seeds_needed_are_those_of_a_paired_test_with_power_0_8() -> None:
    assert [seeds_needed(d) for d in (1.0, 0.5, 0.25, -0.5)] == [8, 31, 126, 31]
    assert seeds_needed(0.0) is None and seeds_needed(5.0) == 2
    # Many tests of normal differences with d = 0.5: about four in five find the effect.
    tested: Any = stats.ttest_1samp(np.random.default_rng(1).normal(0.5, 1, (4000, 31)), 0, axis=1)
    found = tested.pvalue < 0.05
    assert 0.75 < found.mean() < 0.8


def test_token_effects_have_wider_intervals_where_neighbors_are_alike() -> None:
    rng = np.random.default_rng(2)
    plain, alike = rng.normal(size=512), np.repeat(rng.normal(size=64), 8)
    found = [token_effect(values) for values in (plain, alike)]
    widths = [
        effect.high - effect.low for effect in found if effect and effect.high is not None and effect.low is not None
    ]
    independent = 2 * stats.sem(plain) * stats.t.ppf(0.975, 511)
    assert widths[0] == pytest.approx(independent, rel=0.25) and widths[1] > 1.8 * widths[0]
    short = token_effect(np.ones(3))
    assert short is not None and (short.mean, short.low) == (1, None)


KNOWN = SAEShare(-4.0, -3.6, 0.9)


def totals(effect: float, matched: list[float], spread: float = 0.5, n: int = 12, random: float = 0.0) -> Totals:
    """Paired readings whose mean differences are exactly these."""
    rng = np.random.default_rng(3)

    def around(mean: float) -> np.ndarray:
        noise = rng.normal(size=n)
        return mean + spread * (noise - noise.mean()) / noise.std(ddof=1)

    plain = rng.normal(size=n)
    arms = {"features": [effect], "matched": matched, "random_direction": [random, -random]}
    return Totals(plain, {arm: np.stack([plain + around(mean) for mean in means]) for arm, means in arms.items()})


SINGLE = Totals(np.zeros(1), {"features": np.full((1, 1), 3.0), "matched": np.zeros((1, 1))})


def test_more_than_every_control_is_supported() -> None:
    judged = judge_totals(totals(1.0, [0.0, 0.1, -0.2]), 2.0, KNOWN)
    assert judged.verdict == SUPPORTED and judged.relevant == 0.5
    # d = 1 / 0.5: two standard deviations; what would matter is one.
    assert judged.seeds == {"used": 12, "observed": 2, "relevant": 8}


@pytest.mark.parametrize(
    ("given", "fall", "share", "verdict", "reason"),
    [
        (totals(1.0, [0.0]), 2.0, sae_share(-4.0, -1.0), LOSSY, "keeps 25%"),
        (totals(1.0, [0.0]), 2.0, sae_share(-4.0, -8.0), LOSSY, "keeps 0%"),
        (totals(1.0, [0.0]), -0.1, KNOWN, NOT_SUPPORTED, "nothing to restore"),
        (totals(0.05, [0.0], 0.3), 2.0, KNOWN, NOT_SUPPORTED, "the effect is below 25%"),
        (totals(-1.0, [0.0]), 2.0, KNOWN, NOT_SUPPORTED, "the effect is below 25%"),
        (totals(0.0, [0.0], 0.0), 2.0, KNOWN, NOT_SUPPORTED, "the effect is below 25%"),
        (totals(1.0, [1.0, 0.9], 0.2), 2.0, KNOWN, NOT_SUPPORTED, "beyond matched features is below"),
        (totals(1.0, [1.3, 0.0, 0.0], 0.2), 2.0, KNOWN, NOT_SUPPORTED, "controls do as much: 1 of 3 draws of matched"),
        (totals(1.0, [0.0], random=1.2), 2.0, KNOWN, NOT_SUPPORTED, "1 of 2 draws of random_direction"),
        (totals(0.4, [0.0], 2.0), 2.0, KNOWN, UNDERPOWERED, "the interval of the effect holds both"),
        (SINGLE, 2.0, KNOWN, UNDERPOWERED, "the interval of the effect"),
        (totals(1.0, [0.0]), 2.0, SAEShare(reason="not kept"), SUPPORTED, "more than with any draw"),
    ],
)
def test_the_rule_of_the_verdict(given: Totals, fall: float, share: SAEShare, verdict: str, reason: str) -> None:
    judged = judge_totals(given, fall, share)
    assert judged.verdict == verdict and reason in judged.reason


def test_without_a_matched_control_there_is_no_support() -> None:
    alone = Totals(np.zeros(9), {"features": np.ones((1, 9))})
    assert judge_totals(alone, 2.0, KNOWN).verdict == UNDERPOWERED


def facts(seed: int = 0, width: int = 600) -> FeatureFacts:
    """Features half of which changed; the first ten carry the fall, five fallen and five risen."""
    rng = np.random.default_rng(seed)
    before, now = rng.gamma(1.0, 1.0, (2, width)) * (rng.random(width) < 0.5)
    before[:5], now[:5] = 3.0, 0.5
    before[5:10], now[5:10] = 0.5, 3.0
    delta = (np.log1p(now) - np.log1p(before)).astype(np.float32)
    axis = rng.normal(size=width).astype(np.float32) * 0.1
    axis[:5], axis[5:10] = 2.0, -2.0
    density, norm = rng.uniform(0.01, 0.5, width), rng.uniform(0.8, 1.2, width)
    return FeatureFacts(delta, delta * axis, before, now, density, norm, rng.normal(size=width) * 0.1)


def test_the_arms_are_what_they_say() -> None:
    given = facts()
    patches: dict[Any, Any] = {(patch.arm, patch.draw): patch for patch in feature_patches(given, 10, 4, seed=1)}
    top = patches["features", 0].features
    assert set(top) == set(range(10)) and np.array_equal(top, top_features(given, 10))
    assert set(patches["fell", 0].features) == set(range(5)) and set(patches["rose", 0].features) == set(range(5, 10))
    for patch in patches.values():
        np.testing.assert_array_equal(patch.values, given.before[patch.features])
    others = patches["largest_change", 0].features
    left = np.setdiff1d(np.arange(600), top)
    assert set(others) == set(left[np.argsort(-np.abs(given.delta_x[left]))][:10])
    matched = [patches["matched", draw].features for draw in range(4)]
    assert all(len(set(m)) == 10 and not set(m) & set(top) for m in matched)
    assert len({tuple(sorted(m)) for m in matched}) == 4
    again = feature_patches(given, 10, 4, seed=1)
    assert all(np.array_equal(patch.features, patches[patch.arm, patch.draw].features) for patch in again)


def test_matched_features_are_nearer_in_every_respect_than_features_drawn_at_random() -> None:
    given = facts()
    rows = balance(given, feature_patches(given, 10, 5, seed=2))
    own = next(row for row in rows if row["arm"] == "features")
    changed = np.setdiff1d(np.flatnonzero(given.change > 0), np.arange(10))
    for name in ("change", "density", "along"):
        values = given.change if name == "change" else getattr(given, name)
        found = np.mean([abs(float(row[name]) - float(own[name])) for row in rows if row["arm"] == "matched"])
        assert found < abs(values[changed].mean() - float(own[name])) + 0.3 * values[changed].std(), name
    change = np.mean([float(row["change"]) for row in rows if row["arm"] == "matched"])
    assert change > 1.5 * given.change[changed].mean()


def test_random_directions_have_the_norm_and_differ() -> None:
    vectors = [patch.vector for patch in vector_patches(2.5, 64, 3, seed=0)]
    assert [float(np.linalg.norm(v)) for v in vectors if v is not None] == pytest.approx([2.5] * 3, rel=1e-5)
    assert abs(np.corrcoef(np.stack([v for v in vectors if v is not None]))[0, 1]) < 0.5
