"""The null of effect_strength: pairs of the assistant's answers, from files, against dense sorting; its p-value."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personascope.directions.axis import role_space_of
from personascope.drift.analysis import analyze
from personascope.drift.bundle import summary
from personascope.drift.calibration_report import calibration_report
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference
from personascope.drift.strength import MOST_FEATURES, Null, PairShares, strength_table
from personascope.drift.summary import overview
from personascope.drift.tables import transition_df
from tests.drift.test_bundle import RUN, TIME
from tests.drift.test_reference import BLOCKS, D_SAE, NAMES, QUESTIONS, VARIANTS, Corpus
from tests.helpers.drift_cases import random_roles, random_tokens, reference_of, to_activations


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    rng = np.random.default_rng(0)
    shape = (VARIANTS * QUESTIONS, D_SAE)
    return Corpus(
        tmp_path, {name: (rng.random(shape) * (rng.random(shape) < 0.3)).astype(np.float32) for name in NAMES}
    )


@pytest.mark.parametrize("chosen", [{}, {"pooling": "max", "axis_method": "pc1"}, {"transform": "raw"}])
def test_a_pair_is_the_two_answers_to_a_question_on_an_axis_without_it(corpus: Corpus, chosen: dict[str, Any]) -> None:
    options = DriftOptions.of(anchor=["assistant"], **chosen)
    pairs = corpus.build(options).pairs
    # Row 4, to question 4 under variant 0, is empty: its question has one answer left.
    assert pairs.question_id.tolist() == [0, 1, 2, 3, 5, 6] and pairs.shares.shape == (6, 2, MOST_FEATURES)
    rows = corpus.rows("assistant", options)
    for question, shares in zip(pairs.question_id.tolist(), pairs.shares, strict=True):
        kept = {
            name: corpus.rows(name, options)[
                (corpus.question % BLOCKS != question % BLOCKS) & (corpus.n_tokens[name] > 0)
            ]
            for name in NAMES
        }
        vectors = [part.mean(0) for part in kept.values()]
        axis = role_space_of(np.stack(vectors).astype(np.float32), NAMES, options.axis).axis
        a, b = rows[question], rows[QUESTIONS + question]
        space = (np.log1p(a) - np.log1p(b)) if options.axis.transform == "log1p" else a - b
        contrib = space * axis
        contrib = contrib if contrib.sum() < 0 else -contrib
        for order, sign in ((0, 1), (1, -1)):
            away = sorted(np.clip(-sign * contrib, 0, None).tolist(), reverse=True)
            for k in (1, 3, 20):
                assert shares[order, k - 1] == pytest.approx(sum(away[:k]) / sum(away), rel=1e-4)


def test_there_are_no_pairs_in_residual_space_or_with_one_variant(tmp_path: Path, corpus: Corpus) -> None:
    residual = corpus.build(DriftOptions.of(space="residual", layer=5, transform="raw", anchor=["assistant"]))
    assert len(residual.pairs.shares) == 0 and residual.pairs.null(20, False) is None
    one = Corpus(tmp_path, {name: np.ones((2, 4), np.float32) for name in NAMES}, empty=None)
    assert len(one.build(DriftOptions.of(anchor=["assistant"]), n_blocks=2).pairs.shares) == 0


def test_a_question_counts_once_however_many_pairs_it_has() -> None:
    shares = np.array([0.1, 0.2, 0.9, 0.9, 0.9, 0.9, 0.3, 0.4])
    weights = np.array([1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 4, 1 / 4, 1, 1])
    null = Null(shares, weights)
    assert null.p_value(0.95) == pytest.approx(1 / 5) and null.p_value(0.9) == pytest.approx(2 / 5)
    assert null.p_value(0.2) == pytest.approx(4.5 / 5) and null.p_value(0.0) == 1
    assert null.quantile(0.5) == 0.3 and null.quantile(0.95) == 0.9


def test_the_p_value_is_at_most_alpha_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(2000):
        level = rng.normal(0, 1, 20)
        shares = level[:, None] + rng.normal(0, 0.3, (20, 3))
        null = Null(shares[:19].ravel(), np.full(57, 1 / 3))
        hits += null.p_value(shares[19, 0]) <= 0.1
    assert hits / 2000 <= 0.1 + 3 * (0.09 / 2000) ** 0.5


def result_with(pairs: PairShares | None, **chosen: Any) -> Any:
    dense, turn = random_tokens([4, 5, 6], 200)
    matrix, names = random_roles(7, 200)
    options = DriftOptions.of(anchor=["assistant"], **chosen)
    reference = None
    if pairs is not None:
        made = reference_of(matrix, names, options, 0)
        reference = Reference(**{**vars(made), "pairs": pairs})
    return analyze(to_activations(dense, turn, 3), matrix, names, options, reference=reference)


def synthetic_pairs() -> PairShares:
    """Of 40 questions: falls cover more than rises."""
    rng = np.random.default_rng(0)
    shares = np.sort(rng.random((40, 2, MOST_FEATURES)), axis=2)
    shares[:, 1] *= 0.5
    return PairShares(shares.astype(np.float32), np.arange(40, dtype=np.int32))


def test_transitions_are_held_against_pairs_that_move_as_they_do() -> None:
    pairs = synthetic_pairs()
    result = result_with(pairs, top_features=7)
    table = transition_df(result)
    assert {step.contrib.sum() > 0 for step in result.transitions} == {True, False}
    for step, row in zip(result.transitions, table.to_dict("records"), strict=True):
        null = pairs.shares[:, int(step.contrib.sum() > 0), 6]
        assert row["top_away_share_p_value"] == pytest.approx((1 + (null >= step.top_away_share).sum()) / 41)
        assert row["top_away_share_null_median"] == pytest.approx(np.sort(null)[19])
        assert row["top_away_share_null_high"] == pytest.approx(np.sort(null)[37])


def test_the_summary_of_a_run_has_the_null_of_its_transition() -> None:
    result = result_with(synthetic_pairs(), top_features=7)
    row: Any = transition_df(result).iloc[result.selected]
    event = summary(result, RUN, TIME)["diagnostics"]["feature_event_summary"]
    assert event["top_away_share_null"]["median"] == row["top_away_share_null_median"]
    assert event["top_away_share_null"]["high"] == row["top_away_share_null_high"]
    metadata = {"turns": [], "dropped_messages": 0, "conversation": {"metadata": {}}}
    assert overview(result, metadata)["top_away_share_p_value"] == event["top_away_share_p_value"] > 0
    without = summary(result_with(None), RUN, TIME)["diagnostics"]["feature_event_summary"]
    assert without["top_away_share_null"] == {"median": None, "high": None}
    assert without["top_away_share_p_value"] is overview(result_with(None), metadata)["top_away_share_p_value"] is None


def test_without_a_null_the_columns_are_empty() -> None:
    for result in (result_with(None), result_with(PairShares()), result_with(synthetic_pairs(), top_features=101)):
        table: Any = transition_df(result)
        assert table["top_away_share_null_median"].isna().all() and table["top_away_share_p_value"].isna().all()
    residual = result_with(synthetic_pairs(), space="residual", layer=3)
    assert strength_table(residual.transitions, synthetic_pairs(), residual.options)["turn"].tolist() == [1, 2]
    assert np.isnan(transition_df(residual)["top_away_share_p_value"].to_numpy()).all()


def test_the_null_is_in_the_references_file_and_its_report(tmp_path: Path, corpus: Corpus) -> None:
    reference = corpus.build(DriftOptions.of(anchor=["assistant"]))
    reference.save(tmp_path / "reference.npz")
    again = Reference.load(tmp_path / "reference.npz").pairs
    assert np.array_equal(again.shares, reference.pairs.shares) and again.shares.dtype == np.float32
    assert np.array_equal(again.question_id, reference.pairs.question_id)
    lengths = corpus.n_tokens["assistant"].reshape(VARIANTS, QUESTIONS)[:, again.question_id]
    assert np.sort(again.n_tokens, axis=1).tolist() == np.sort(lengths.T, axis=1).tolist()
    report = calibration_report(reference, DriftOptions())["top_away_share_null"]
    assert [(row["top_features"], row["direction"]) for row in report][:2] == [(10, "fall"), (10, "rise")]
    assert all(0 < row["median"] <= row["high"] <= 1 and row["pairs"] == 6 for row in report)
