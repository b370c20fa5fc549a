"""How good an axis is, on data whose truth is known; and cross-fitting."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from personascope.directions.axis import axis_roles
from personascope.directions.crossfit import response_scores
from personascope.directions.options import AxisOptions
from personascope.directions.quality import auc_of, axis_quality, role_intervals, shuffled
from personascope.errors import UserError
from tests.helpers.block_sums import sums_of

ROLES = ("assistant", "baker", "cook", "default", "elf", "fool", "guru")
RAW = AxisOptions(transform="raw")


def responses(signal: float, seed: int = 0, variants: int = 4, questions: int = 12, d: int = 300) -> np.ndarray:
    """[R, V, Q, d]: noise of 1, a question's own direction, and the anchors' along the first feature."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((len(ROLES), variants, questions, d)) + rng.standard_normal((1, 1, questions, d))
    for name in RAW.anchor:
        y[ROLES.index(name), ..., 0] += signal
    return y


def cross_fitted(y: np.ndarray) -> pd.DataFrame:
    """The table of `crossfit.response_scores`, by hand: each question out in turn."""
    parts = axis_roles(ROLES, RAW)
    rows = []
    for question in range(y.shape[2]):
        rest = np.delete(y, question, axis=2).mean((1, 2))
        axis = rest[parts.anchors].mean(0) - rest[parts.others].mean(0)
        along = y[:, :, question] @ (axis / np.linalg.norm(axis))
        for (role, variant), score in np.ndenumerate(along):
            rows.append((ROLES[role], variant, question, score, score))
    return pd.DataFrame(rows, columns=["role", "prompt_index", "question_id", "crossfit", "in_sample"])


def test_noise_is_not_to_be_interpreted_and_a_clear_axis_is() -> None:
    for signal, good in ((0.0, False), (12.0, True)):
        y = responses(signal)
        sums = {name: sums_of(role) for name, role in zip(ROLES, y, strict=True)}
        quality = axis_quality(sums, cross_fitted(y), RAW, 0)
        assert (quality.reason == "") is good
        assert quality.split_half_of == "questions and variants"
        if good:
            assert quality.split_half > 0.8 and quality.auc > 0.95
        else:
            assert abs(quality.split_half) < 0.3 and 0.3 < quality.auc < 0.7
            assert "split-half" in quality.reason and "AUC" in quality.reason


def test_the_null_of_the_agreement_is_what_noise_gives() -> None:
    """About 1 / sqrt(R - 1) for R roles; a clear axis lies above nearly all of it."""
    noise = {name: sums_of(role) for name, role in zip(ROLES, responses(0.0), strict=True)}
    agreement, shares = shuffled(noise, RAW, np.random.default_rng(0))
    assert np.median(np.abs(agreement)) == pytest.approx(6**-0.5, abs=0.15)
    assert shares.shape == (100, 6) and shares.sum(1) == pytest.approx(np.ones(100))
    clear = {name: sums_of(role) for name, role in zip(ROLES, responses(8.0), strict=True)}
    mixed, mixed_shares = shuffled(clear, RAW, np.random.default_rng(0))
    assert np.percentile(mixed, 95) < 0.95
    # Labels are permuted: the first component carries far less than it does with them.
    spectrum = np.linalg.eigvalsh(np.cov(responses(8.0).mean((1, 2))))[::-1]
    assert mixed_shares[:, 0].max() < spectrum[0] / spectrum.sum()


def test_cells_that_a_role_lacks_are_not_shuffled_and_one_alone_gives_nothing() -> None:
    sums = {name: sums_of(role) for name, role in zip(ROLES, responses(1.0, variants=2, questions=3), strict=True)}
    few = sums["cook"]
    counts = few.counts.copy()
    counts[0] = 0
    counts[1, :2] = 0
    sums["cook"] = replace(few, counts=counts, sums=few.sums * (counts > 0)[..., None])
    agreement, shares = shuffled(sums, RAW, np.random.default_rng(0))
    assert np.isnan(agreement).all() and np.isnan(shares).all()


@pytest.mark.parametrize(
    ("above", "below", "auc"), [([3, 4], [1, 2], 1), ([1], [1], 0.5), ([1, 3], [2], 0.5), ([0], [1], 0)]
)
def test_auc_by_hand(above: list[float], below: list[float], auc: float) -> None:
    assert auc_of(np.array(above, float), np.array(below, float)) == pytest.approx(auc)
    assert np.isnan(auc_of(np.array([]), np.array([1.0])))


@pytest.mark.parametrize(("variants", "questions"), [(3, 12), (5, 24)])
def test_intervals_of_roles_cover_their_mean_over_all_questions_and_variants(variants: int, questions: int) -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        score = (
            rng.normal(size=(variants, 1)) + rng.normal(size=(1, questions)) + rng.normal(size=(variants, questions))
        )
        v, q = np.indices((variants, questions))
        table = {"role": "elf", "prompt_index": v.ravel(), "question_id": q.ravel()}
        (row,) = role_intervals(pd.DataFrame(table | {"crossfit": np.ravel(score), "in_sample": 0.0})).to_dict(
            "records"
        )
        covered.append(row["crossfit_low"] <= 0 <= row["crossfit_high"])
    assert 0.90 <= np.mean(covered) <= 0.985


def test_one_variant_has_no_interval() -> None:
    table = {"role": "elf", "prompt_index": 0, "question_id": range(5), "crossfit": 1.0, "in_sample": 2.0}
    (row,) = role_intervals(pd.DataFrame(table)).to_dict("records")
    assert np.isnan(row["crossfit_low"]) and row["crossfit"] == 1 and row["in_sample"] == 2 and row["n_responses"] == 5


def test_one_question_is_too_few_to_judge_an_axis_by() -> None:
    sums = {name: sums_of(role[:, :1]) for name, role in zip(ROLES, responses(1.0), strict=True)}
    with pytest.raises(UserError, match="questions: one is too few"):
        response_scores(dict.fromkeys(ROLES, "unread.parquet"), sums, RAW)
