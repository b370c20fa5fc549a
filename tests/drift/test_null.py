"""The null of an analysis: strata, held-out rates, what is said where there is none, and its file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personascope.directions.axis import role_space_of
from personascope.drift.calibration import judge
from personascope.drift.null import (
    BOOTSTRAPS,
    Null,
    References,
    fit_null,
    held_out_rates,
    load_null,
    read_references,
    save_null,
    turns_of,
    write_null,
)
from personascope.drift.options import DriftOptions
from personascope.drift.result import TurnScores
from personascope.drift.turns import MASS_METRICS
from personascope.errors import UserError
from personascope.formats.files import read_json
from personascope.formats.tables import save_npz
from personascope.formats.tokens import TokenBlock, token_writer
from tests.drift.test_sequential import simulated

OPTIONS = DriftOptions()


def references(n: int, turns: int = 6, domains: int = 3, seed: int = 0, apart: float = 0.0) -> References:
    """n conversations, two a script, scripts dealt over domains; those of the first lie `apart` lower."""
    made = simulated(np.random.default_rng(seed), n, turns, 0.5)
    of = [f"domain{(i // 2) % domains}" for i in range(n)]
    made.scores[np.array(of) == "domain0"] -= apart
    return References(made, [f"talk{i}" for i in range(n)], [f"script{i // 2}" for i in range(n)], of)


def conversation(scores: Any, n_tokens: int = 50) -> TurnScores:
    scores = np.asarray(scores, float)
    counts = np.where(np.isnan(scores), 0, n_tokens)
    nothing = np.zeros((len(scores), 0), np.float32)
    mass = {metric: np.full(len(scores), 3.0) for metric in MASS_METRICS}
    named: dict[str, np.ndarray] = dict.fromkeys(("projection", "cos_axis", "cos_assistant"), scores)
    return TurnScores(raw=nothing, space=nothing, scores=named, mass=mass, n_tokens=counts)


def test_a_domain_with_enough_references_is_a_stratum_of_its_own() -> None:
    null = fit_null(references(80, domains=3), OPTIONS)
    assert set(null.strata) == {"", "domain0", "domain1", "domain2"}
    assert null.counts == {"": 80, "domain0": 28, "domain1": 26, "domain2": 26}
    assert null.stratum("domain2") == "domain2" and null.stratum("cooking") == null.stratum(None) == ""
    few = fit_null(references(80, domains=5), OPTIONS)
    assert set(few.strata) == {""} and few.stratum("domain2") == ""
    assert all(len(standards) == BOOTSTRAPS for standards in null.bootstraps.values())


@pytest.mark.parametrize(
    ("n", "options", "said"),
    [
        (0, {}, "drift.references is empty"),
        (18, {}, "at least 19"),
        (36, {}, "of 18 scripts"),
        (40, {"baseline_turns": 6}, "baseline_turns 6"),
    ],
)
def test_what_cannot_be_tested_says_why(n: int, options: dict[str, Any], said: str) -> None:
    null = fit_null(references(n), OPTIONS.changed(**options))
    assert said in null.reason and not null.strata
    table, verdict = judge(conversation([1, 0, -5]), null, OPTIONS, None)
    assert verdict.reason == null.reason and verdict.p_value is None and verdict.alarm_turn is None
    assert np.isnan(table["z"].to_numpy()).all() and not table["alarm"].to_numpy().any() and len(table) == 3
    assert judge(conversation([1.0]), None, OPTIONS, None)[1].reason == "no reference conversations were given"


def test_the_rate_of_a_domain_that_lies_lower_is_higher_and_its_own_stratum_mends_it() -> None:
    """Poems among advice: the marginal test alarms at them, the test within the domain as often as it says."""
    made = references(240, domains=3, apart=2.0)
    rates = held_out_rates(made, 0.05, np.random.default_rng(0))
    assert rates["domain0"]["rate"] > 0.1 > rates["domain1"]["rate"]
    assert rates[""]["n"] == 240 and rates["domain0"]["n"] == 80
    assert 0.02 <= rates[""]["rate"] <= 0.09 and rates[""]["low"] < rates[""]["rate"] < rates[""]["high"]
    null = fit_null(made, OPTIONS)
    fresh = references(240, domains=3, seed=1, apart=2.0)
    rows = [i for i, domain in enumerate(fresh.domains) if domain == "domain0"]
    evidence = null.strata["domain0"].standard.evidence(fresh.turns[np.array(rows)])
    assert (evidence.max(1) > null.strata["domain0"].level(0.05)).mean() <= 0.12
    # A verdict says how often the test that was made alarms, not the one over all domains.
    within = judge(conversation([0.0] * 6), null, OPTIONS, "domain0")[1].false_alarm_rate
    assert within == null.false_alarms_within["domain0"] and within["n"] == 80 and within["rate"] <= 0.12
    assert judge(conversation([0.0] * 6), null, OPTIONS, None)[1].false_alarm_rate == null.false_alarms[""]


def test_a_conversation_without_a_tested_turn_is_not_tested() -> None:
    null = fit_null(references(60, domains=1), OPTIONS.changed(baseline_turns=3))
    table, verdict = judge(conversation([1.0]), null, OPTIONS.changed(baseline_turns=3), None)
    assert "no turn has a score" in verdict.reason and verdict.p_value is None
    assert np.isnan(table["evidence"].to_numpy()).all() and len(table) == 1


def test_a_verdict_names_the_turn_of_the_alarm_and_where_its_evidence_began() -> None:
    null = fit_null(references(120), OPTIONS)
    expected = fit_null(references(120), OPTIONS).strata[""].standard
    plain = turns_of([conversation(np.zeros(6))], OPTIONS, 6)
    mean, sigma = (part[0] for part in expected.expected(plain))
    scores = mean + sigma * np.array([0.5, 0.8, -4, -4, -4, 0.5])
    table, verdict = judge(conversation(scores), null, OPTIONS, "domain9")
    assert verdict.p_value == pytest.approx(1 / 121) and verdict.onset == 2
    assert verdict.alarm_turn is not None and 2 <= verdict.alarm_turn <= 4
    assert verdict.onset_set is not None and verdict.onset_set[0] <= 2 <= verdict.onset_set[1]
    assert verdict.references == {"n": 120, "domain": "", "turns_max": 6} and verdict.reason == ""
    assert table["z"].to_numpy() == pytest.approx([0.5, 0.8, -4, -4, -4, 0.5], abs=1e-6)
    # It does not retract, although the last turn is back.
    assert table["alarm"].tolist() == [False] * verdict.alarm_turn + [True] * (6 - verdict.alarm_turn)
    assert table["expected"].to_numpy() == pytest.approx(mean) and (table["expected_low"].to_numpy() < mean).all()
    quiet = judge(conversation(mean), null, OPTIONS, None)[1]
    assert quiet.alarm_turn is None and quiet.onset is None and quiet.onset_set is None and quiet.p_value == 1


def test_turns_behind_the_references_and_turns_without_tokens_are_not_tested() -> None:
    null = fit_null(references(60, turns=4), OPTIONS)
    table, verdict = judge(conversation([4, np.nan, 4, 4, -99, -99]), null, OPTIONS, None)
    assert verdict.alarm_turn is None and table["z"].isna().tolist() == [False, True, False, False, True, True]
    assert table["evidence"].notna().tolist() == [True] * 4 + [False] * 2
    short = judge(conversation([-99.0]), null, OPTIONS, None)[1]
    assert short.alarm_turn == 0 and short.onset == 0


def test_a_baseline_hides_what_was_there_from_the_start() -> None:
    options = OPTIONS.changed(baseline_turns=2)
    made = references(120)
    null = fit_null(replace(made, turns=made.turns.minus_baseline(2)), options)
    low = np.full(6, -30.0)
    assert judge(conversation(low), null, options, None)[1].alarm_turn is None
    low[4:] -= 20
    table, verdict = judge(conversation(low), null, options, None)
    assert verdict.alarm_turn == verdict.onset == 4
    assert table["z"].isna().tolist() == [True, True, False, False, False, False]
    # What is expected stands on the scale of the scores.
    assert abs(table["expected"].iloc[3] - low[3]) < 5


def test_confounds_can_be_expected_too() -> None:
    """A score that only follows the activation mass is no drift once that is expected of it."""
    made = references(120)
    mass = np.random.default_rng(8).normal(size=(120, 6, 4))
    made.turns.scores[:] += 3 * mass[..., 0]
    regressors = np.concatenate([made.turns.regressors, mass], axis=2)
    adjusted = References(type(made.turns)(made.turns.scores, regressors), made.names, made.scripts, made.domains)
    assert fit_null(adjusted, OPTIONS).strata[""].standard.location[4] == pytest.approx(3, abs=0.2)
    columns = turns_of([conversation([1, 2])], OPTIONS.changed(confound_adjust=True), 2).regressors
    assert columns.shape == (1, 2, 5) and columns[0, 0] == pytest.approx(np.log1p([50, 3, 3, 3, 3]))


def test_a_saved_null_judges_alike(tmp_path: Path) -> None:
    null = fit_null(references(50, domains=2), OPTIONS)
    save_null(null, tmp_path / "null.npz")
    again = load_null(tmp_path / "null.npz")
    assert again.counts == null.counts and again.false_alarms == null.false_alarms and again.reason == ""
    talk = conversation([0, -3, -9, -9, 0, 1])
    for domain in ("domain1", None):
        (table, verdict), (other_table, other) = (judge(talk, one, OPTIONS, domain) for one in (null, again))
        assert verdict == other and table.equals(other_table)
    save_null(Null(reason="none"), tmp_path / "none.npz")
    assert load_null(tmp_path / "none.npz").reason == "none"
    np.savez(tmp_path / "other.npz", x=1)
    with pytest.raises(UserError, match=r"other\.npz: not a null of this version"):
        load_null(tmp_path / "other.npz")


def test_references_of_another_model_and_truncated_ones_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    metadata: dict[str, Any] = {"d_sae": 4, "residual_layers": [], "error": None, "model": "org/Small-2"}
    block = TokenBlock(
        position=np.arange(2, dtype=np.int32),
        turn=np.array([0, 1], np.int32),
        token_id=np.arange(2, dtype=np.int32),
        tokens=["a", "b"],
        offsets=np.array([0, 1, 2]),
        indices=np.array([0, 1], np.int32),
        values=np.ones(2, np.float32),
        residuals=np.empty((2, 0, 1), np.float32),
    )
    turns = [{"message_index": 2 * turn + 1, "start": 0, "end": 0, "special_tokens": False} for turn in range(2)]
    paths = []
    for i, said in enumerate(({"model": "small-2"}, {"model": "Large-9"}, {}, {})):
        conversation = {"name": f"talk{i}", "messages": [], "metadata": said}
        metadata["dropped_messages"] = 4 if i == 3 else 0
        paths.append(tmp_path / f"talk{i}.parquet")
        with token_writer(paths[-1], metadata | {"conversation": conversation, "turns": turns}, 1) as write:
            write(block)
    roles = role_space_of(rng.random((3, 4)).astype(np.float32), ["default", "assistant", "poet"], OPTIONS.axis)
    used, left_out = read_references(paths, roles, OPTIONS)
    assert used.names == ["talk0", "talk2"]
    assert left_out[0] == "talk1: the answers are of Large-9, not of org/Small-2"
    assert left_out[1].startswith("talk3: its first 4 messages are cut off") and len(left_out) == 2
    features = rng.random((3, 4)).astype(np.float32)
    names = ["assistant", "default", "poet"]
    save_npz(tmp_path / "matrix.npz", features=features, role_names=np.array(names), n_responses=np.ones(3, int))
    files = {"null": str(tmp_path / "null.npz"), "report": str(tmp_path / "null.json")}
    write_null([str(paths[1])], str(tmp_path / "matrix.npz"), OPTIONS, seed=0, **files)
    reason = load_null(files["null"]).reason
    assert reason.startswith("none of 1 reference conversations can be used (talk1: the answers are of Large-9")
    assert read_json(files["report"])["left_out"] == left_out[:1]
