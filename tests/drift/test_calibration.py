"""Calibration: p-values are valid, the sequential tests keep their false alarms, confounds go and personas stay."""

from typing import Any

import numpy as np
import pytest

from personascope.drift.calibration import Ranked, Sample, calibrate, conformal_p, confound_slopes, fit
from personascope.drift.calibration_report import false_alarm_rate, power_by_role
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference, no_draws
from personascope.drift.result import TurnScores
from personascope.drift.turns import MASS_METRICS

CUSUM = DriftOptions()
BONFERRONI, SPENDING = (DriftOptions.of(sequential_test=name) for name in ("bonferroni", "spending"))
ADJUSTED = DriftOptions.of(confound_adjust=True)
NAMES = ["assistant", "baker", "cook"]


def reference_of(
    scores: list[np.ndarray], n_tokens: list[np.ndarray] | None = None, per_question: int = 1, l2: Any = None
) -> Reference:
    """Responses of the assistant and further roles, `per_question` to each question; mass grows with the length."""
    n_tokens = n_tokens or [np.full(len(values), 100) for values in scores]
    length = np.concatenate(n_tokens)
    mass = {metric: (length * (i + 1.0)).astype(np.float32) for i, metric in enumerate(MASS_METRICS)}
    return Reference(
        scores={"projection": np.concatenate(scores).astype(np.float32)},
        mass=mass if l2 is None else dict.fromkeys(MASS_METRICS, l2),
        role=np.repeat(np.arange(len(scores)), [len(values) for values in scores]),
        prompt_index=np.concatenate([np.arange(len(values)) % per_question for values in scores]),
        question_id=np.concatenate([np.arange(len(values)) // per_question for values in scores]),
        n_tokens=length,
        role_names=NAMES[: len(scores)],
        assistant=0,
        **vars(no_draws(3)),
    )


def turns_of(scores: Any, n_tokens: Any = None) -> TurnScores:
    values = np.asarray(scores, np.float64)
    length = np.full(len(values), 100) if n_tokens is None else np.asarray(n_tokens)
    mass = {metric: np.where(length > 0, length * (i + 1.0), np.nan) for i, metric in enumerate(MASS_METRICS)}
    space = np.zeros((len(values), 3), np.float32)
    return TurnScores(space, space, {"projection": values}, mass, length)


def test_p_values_of_exchangeable_scores_are_uniform() -> None:
    rng = np.random.default_rng(0)
    scores = rng.gumbel(size=(20000, 20))
    p = np.array([conformal_p(row[:1], Ranked.of(row[1:], np.arange(19)))[0] for row in scores])
    counts = np.bincount(np.round(p * 20).astype(int), minlength=21)
    assert counts[0] == 0
    chi_square = np.square(counts[1:] - 1000).sum() / 1000
    assert chi_square < 43.8  # 99.9 % of the chi-square distribution with 19 degrees of freedom


def test_ties_make_p_values_larger_never_smaller() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (20000, 20)).astype(float)
    p = np.array([conformal_p(row[:1], Ranked.of(row[1:], np.arange(19)))[0] for row in scores])
    for level in (0.05, 0.1, 0.3, 0.5):
        assert (p <= level).mean() < level + 3 * np.sqrt(level / len(p))


def test_a_question_counts_once_however_many_responses_it_has() -> None:
    ranked = Ranked.of(np.array([5.0, 1, 2, 3, 4, 0]), np.array([7, 7, 7, 7, 2, 9]))
    assert ranked.n_questions == 3
    p = conformal_p(np.array([-1, 0, 1.5, 4, 9, np.nan]), ranked)
    assert p[:5] == pytest.approx(np.array([1, 2, 2.25, 3.75, 4]) / 4) and np.isnan(p[5])


@pytest.mark.parametrize("alike", [0.0, 0.6, 0.99])
@pytest.mark.parametrize("n_questions", [6, 24])
def test_responses_that_are_alike_within_a_question_raise_no_more_alarms(alike: float, n_questions: int) -> None:
    """Five responses to a question, as five variants of a role give them, and conversations of other questions."""
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(300):
        shared = rng.standard_normal((n_questions, 1))
        own = np.sqrt(alike) * shared + np.sqrt(1 - alike) * rng.standard_normal((n_questions, 5))
        table, onset = calibrate(turns_of(rng.standard_normal(6)), reference_of([own.ravel()], per_question=5), CUSUM)
        assert table["testable"].to_numpy().any()
        alarms.append(onset is not None)
    assert np.mean(alarms) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(alarms))


def test_columns_by_hand() -> None:
    reference = reference_of([np.array([1.0, 2, 3, 4]), np.array([0.0, 1, 1, 9, 9])])
    options = DriftOptions.of(alpha=0.9, sequential_test="bonferroni")
    table, onset = calibrate(turns_of([2, 0.5, 9]), reference, options)
    assert table["assistant_turn"].tolist() == table["evidence_since"].tolist() == [0, 1, 2]
    assert table["percentile_assistant"].tolist() == [50, 0, 100]
    assert table["percentile_others"].tolist() == [60, 20, 100]
    assert table["p_value"].tolist() == [3 / 5, 1 / 5, 1]
    assert table["evidence"].tolist() == pytest.approx(-np.log([3 / 5, 1 / 5, 1]))
    assert table["threshold"].tolist() == pytest.approx([-np.log(0.3)] * 3)
    assert table["rejects"].tolist() == [False, True, False] and onset == 1
    assert table["testable"].to_numpy().all()


@pytest.mark.parametrize("options", [CUSUM, BONFERRONI, SPENDING])
def test_conversations_of_the_assistant_raise_alarms_at_the_stated_rate(options: DriftOptions) -> None:
    """Each with a reference of its own: the promise is over references and conversations together."""
    rng = np.random.default_rng(1)
    alarms = []
    for _ in range(500):
        table, onset = calibrate(turns_of(rng.gumbel(size=4)), reference_of([rng.gumbel(size=499)]), options)
        assert table["testable"].to_numpy()[-1]
        alarms.append(onset is not None)
    rate, error = np.mean(alarms), np.sqrt(0.05 * 0.95 / len(alarms))
    assert 0.01 < rate < 0.05 + 3 * error


def test_low_turns_in_a_row_reject_where_none_of_them_does_alone() -> None:
    rng = np.random.default_rng(0)
    reference, scores = reference_of([rng.standard_normal(99)]), [0.5, 1, -1.6, 0.3, -1.6, -1.8, -1.9, 0]
    _, alone = calibrate(turns_of(scores), reference, BONFERRONI)
    table, onset = calibrate(turns_of(scores), reference, CUSUM)
    assert alone is None and onset == 5
    assert table["evidence_since"].tolist() == [0, 1, 2, 2, 2, 2, 2, 2]
    evidence = table["evidence"].tolist()
    assert evidence[:2] == [0, 0] and evidence[3] < evidence[2]


@pytest.mark.parametrize("options", [BONFERRONI, SPENDING])
def test_the_onset_is_the_first_turn_that_has_left_the_assistant(options: DriftOptions) -> None:
    rng = np.random.default_rng(0)
    reference = reference_of([rng.standard_normal(999), rng.standard_normal(999) - 8])
    table, onset = calibrate(turns_of([0.5, -1, -8, 0, -9]), reference, options)
    assert onset == 2
    assert table["rejects"].tolist() == [False, False, True, False, True]


@pytest.mark.parametrize("options", [CUSUM, BONFERRONI, SPENDING])
def test_turns_without_tokens_have_no_values_and_cost_nothing(options: DriftOptions) -> None:
    reference = reference_of([np.arange(999.0), np.arange(10.0)])
    scores = np.array([np.nan, 500, np.nan, -3])
    table, onset = calibrate(turns_of(scores, [0, 100, 0, 100]), reference, options)
    few, _ = calibrate(turns_of(scores[[1, 3]]), reference, options)
    few["evidence_since"] = [1, 3]
    assert onset == 3 and table["rejects"].tolist() == [False, False, False, True]
    numbers = table.drop(columns=["assistant_turn", "rejects", "testable"])
    assert numbers.iloc[[0, 2]].isna().to_numpy().all()
    assert numbers.iloc[[1, 3]].to_numpy() == pytest.approx(few[numbers.columns].to_numpy())
    none, onset = calibrate(turns_of([np.nan], [0]), reference, options)
    assert onset is None and not none["rejects"].to_numpy().any()


def test_a_small_reference_says_that_it_cannot_test() -> None:
    reference = reference_of([np.arange(12.0), np.arange(12.0)])
    table, onset = calibrate(turns_of([-100.0]), reference, BONFERRONI)
    assert table["p_value"].tolist() == [1 / 13] and onset is None
    assert not table["testable"].to_numpy().any() and not table["rejects"].to_numpy().any()
    enough, onset = calibrate(turns_of([-100.0]), reference_of([np.arange(19.0)]), BONFERRONI)
    assert enough["testable"].to_numpy().all() and onset == 0


def test_few_questions_need_several_turns() -> None:
    reference = reference_of([np.arange(6.0)])
    table, onset = calibrate(turns_of([-100.0] * 4), reference, CUSUM)
    assert onset == 2 and table["testable"].tolist() == [False, False, True, True]
    short, onset = calibrate(turns_of([-100.0]), reference, CUSUM)
    assert onset is None and not short["testable"].to_numpy().any() and short["threshold"].isna().to_numpy().all()


def test_an_empty_reference_gives_no_verdict_and_no_crash() -> None:
    table, onset = calibrate(turns_of([1.0, 2.0]), reference_of([np.empty(0), np.empty(0)]), ADJUSTED)
    assert onset is None and not table["testable"].to_numpy().any()
    assert table["percentile_assistant"].isna().to_numpy().all() and table["p_value"].tolist() == [1, 1]
    assert table["adjusted_score"].tolist() == [1, 2]


def lengthy(rng: np.random.Generator, n: int = 600) -> Reference:
    """Scores fall by 2 with each doubling of the length; the baker is 6 lower besides, and talks 8 times as much."""
    lengths = [np.exp(rng.normal(np.log(100 * factor), 0.5, n)) for factor in (1, 8)]
    scores = [10 - 6 * i - 2 * np.log2(x / 100) + 0.3 * rng.standard_normal(n) for i, x in enumerate(lengths)]
    return reference_of(scores, lengths)


def test_adjustment_removes_a_length_effect_and_keeps_the_persona() -> None:
    reference = lengthy(np.random.default_rng(0))
    # A long answer of the assistant; one of the baker's as short as an assistant's; one as long as a baker's.
    scores, lengths = [10 - 2 * 3, 4, 4 - 2 * 3], [800, 100, 800]
    plain, _ = calibrate(turns_of(scores, lengths), reference, BONFERRONI)
    adjusted, onset = calibrate(turns_of(scores, lengths), reference, ADJUSTED)
    assert plain["rejects"].tolist() == [True, True, True]
    assert adjusted["rejects"].tolist() == [False, True, True] and onset == 1
    assert adjusted["adjusted_score"].to_numpy() == pytest.approx([10, 4, 4], abs=0.4)
    assert adjusted["adjusted_p_value"].equals(plain["adjusted_p_value"])


def test_slopes_are_within_roles() -> None:
    """Across roles the baker's lower score would pass for an effect of its length."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, 500), rng.normal(5, 1, 500)])
    role = np.repeat([0, 1], 500)
    sample = Sample(-3.0 * role + 0.5 * x, x[:, None], role, np.arange(1000), role == 0)
    assert confound_slopes(sample) == pytest.approx([0.5])
    across = np.polyfit(x, sample.scores, 1)[0]
    assert across < 0


def test_regressors_that_say_the_same_or_nothing_are_safe() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(200)
    role = np.repeat([0, 1], 100)
    regressors = np.column_stack([x, x, np.ones(200), 3 * role, 1e6 * x])
    sample = Sample(2 * x, regressors, role, np.arange(200), role == 0)
    slopes = confound_slopes(sample)
    assert np.isfinite(slopes).all() and regressors @ slopes == pytest.approx(2 * x, abs=1e-6)
    assert slopes[2] == slopes[3] == 0


def test_adjusted_reference_scores_are_out_of_sample() -> None:
    """Few responses and no effect: in-sample residuals would be too narrow for the turns that they judge."""
    rng = np.random.default_rng(0)
    inside, outside, adjusted = [], [], []
    for _ in range(500):
        x, y = rng.standard_normal((15, 5)), rng.standard_normal(15)
        sample = Sample(y, x, role=np.zeros(15, int), question_id=np.arange(15), is_assistant=np.ones(15, bool))
        calibrator = fit(sample)
        adjusted.append(calibrator.adjusted_assistant.scores.var())
        inside.append(calibrator.adjust(y, x).var())
        outside.append(calibrator.adjust(rng.standard_normal(50), rng.standard_normal((50, 5))).var())
    assert np.mean(inside) < 0.6 * np.mean(outside)
    assert np.mean(outside) < 1.1 * np.mean(adjusted)


def exchangeable(rng: np.random.Generator, n: int = 1200, per_question: int = 5) -> Reference:
    return reference_of([rng.gumbel(size=n) for _ in NAMES], per_question=per_question)


@pytest.mark.parametrize("options", [CUSUM, BONFERRONI, SPENDING])
def test_measured_false_alarms_are_near_alpha_and_the_interval_says_how_near(options: DriftOptions) -> None:
    options = DriftOptions.of(alpha=0.2, sequential_test=options.scoring.sequential_test)
    results = [false_alarm_rate(exchangeable(np.random.default_rng(seed)), options, turns=6) for seed in range(12)]
    rates = [result["rate"] for result in results]
    assert 0.5 * 0.2 < np.mean(rates) < 0.2 + 0.03
    assert sum(result["rate_low"] <= 0.2 for result in results) >= 11
    for result in results:
        assert result["n_conversations"] == 100 and result["reason"] is None
        assert result["rate_low"] < result["rate"] < result["rate_high"] < result["rate"] + 0.12
        assert result["adjusted_rate"] == pytest.approx(result["rate"], abs=0.1)


def test_no_question_calibrates_and_tests() -> None:
    """Responses to a question all score alike: were the lowest question in both halves, nothing could reject."""
    scores = np.repeat(np.random.default_rng(0).standard_normal(200), 6)
    result = false_alarm_rate(reference_of([scores], per_question=6), BONFERRONI, turns=4)
    assert result["rate"] > 0.05


def test_false_alarms_of_one_seed_are_the_same() -> None:
    reference = exchangeable(np.random.default_rng(0), n=400)
    one, again, other = (false_alarm_rate(reference, CUSUM, turns=3, seed=seed) for seed in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize(
    ("n", "turns", "options", "said"),
    [
        (12, 1, BONFERRONI, "too few to tell any conversation"),
        (120, 90, BONFERRONI, "too few to tell any conversation"),
        (0, 4, SPENDING, "too few to tell any conversation"),
        (160, 90, SPENDING, "fewer than 90 responses"),
        (400, 8, BONFERRONI, None),
    ],
)
def test_too_few_responses_give_no_rate_and_a_reason(
    n: int, turns: int, options: DriftOptions, said: str | None
) -> None:
    rng = np.random.default_rng(0)
    result = false_alarm_rate(reference_of([rng.random(n), rng.random(n)]), options, turns=turns)
    rates = [value for name, value in result.items() if "rate" in name]
    assert len(rates) == 6
    if said is None:
        assert result["reason"] is None and all(isinstance(rate, float) for rate in rates)
    else:
        assert said in result["reason"] and rates == [None] * 6


def test_power_tells_a_distant_role_from_one_like_the_assistant() -> None:
    rng = np.random.default_rng(0)
    reference = reference_of([rng.standard_normal(1200), rng.standard_normal(1200), rng.standard_normal(1200) - 6])
    table = power_by_role(reference, BONFERRONI, turns=6, change=2).set_index("role")
    assert table.index.tolist() == ["cook", "baker"] and set(table["reason"]) == {""}
    assert table.loc["cook", "detection_rate"] > 0.9 and table.loc["baker", "detection_rate"] < 0.15
    assert 0 <= table.loc["cook", "delay_mean"] < 0.3
    for prefix in ("", "adjusted_"):
        low, rate, high = (table[f"{prefix}detection_{name}"] for name in ("low", "rate", "high"))
        assert ((low <= rate) & (rate <= high)).to_numpy().all()
    at_once = power_by_role(reference, BONFERRONI, turns=6, change=0).set_index("role")
    assert at_once.loc["cook", "detection_rate"] > 0.99 and at_once.loc["cook", "n_conversations"] == 100


def test_power_of_a_weak_role_grows_and_its_delay_shrinks_with_distance() -> None:
    rng = np.random.default_rng(0)
    tables = []
    for distance in (1.5, 3.0):
        reference = reference_of([rng.standard_normal(1200), rng.standard_normal(1200) - distance])
        tables.append(power_by_role(reference, BONFERRONI, turns=8, change=2).iloc[0])
    assert tables[0]["detection_rate"] < tables[1]["detection_rate"]
    assert tables[0]["delay_mean"] > tables[1]["delay_mean"]


def test_power_without_enough_responses_has_reasons_in_place_of_rates() -> None:
    rng = np.random.default_rng(0)
    small = power_by_role(reference_of([rng.random(12), rng.random(12)]), BONFERRONI)
    assert small["detection_rate"].isna().to_numpy().all() and "too few to tell any conversation" in small["reason"][0]
    lopsided = power_by_role(reference_of([rng.random(800), rng.random(800), rng.random(2)]), BONFERRONI)
    assert lopsided.set_index("role").loc["cook", "reason"] == "too few responses of cook"
    assert np.isfinite(lopsided.set_index("role").loc["baker", "detection_rate"])
