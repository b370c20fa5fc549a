"""What must hold in every UI bundle of a drift run, whoever wrote it."""

import math
from typing import Any

import numpy as np
import pytest

RUN_META = {"model_name", "sae_id", "assistant_role", "score_method", "conversation_hash"}
STEP = {"prev_turn", "turn", "delta_score"}
ENTRY = {
    *("feature_idx", "direction", "delta_x", "axis_weight", "contrib", "axis_side", "effect"),
    *("share_of_change", "share_of_away", "role_profile"),
}
CONFIG = {
    *("model_name", "sae_release", "sae_id", "target_layer", "pooling", "transform", "use_centering"),
    *("center_turns_with_role_mean", "use_l2_normalize", "axis_method", "other_group", "assistant_role"),
    *("score_method", "top_k_roles", "transition_pick", "manual_turn", "top_features", "token_heat_percentiles"),
    *("confound_warn_abs_corr", "confound_high_abs_corr"),
}
EVENT = {*STEP - {"turn"}, "selected_turn", "away_mass", "toward_mass", "top_away_share", "effect_strength"}


def check_bundle(bundle: dict[str, Any], plain_projection: bool) -> None:
    """The identities of a UI bundle; plain_projection: scores are projections without normalization."""
    assert bundle["version"] == 1 and set(bundle["run_meta"]) >= RUN_META
    scores = {row["assistant_turn"]: row["score"] for row in bundle["q1"]["turn_scores"]}
    assert list(scores) == list(range(len(scores)))
    steps = [(step["prev_turn"], step["turn"]) for step in bundle["q1"]["transitions"]]
    assert steps == [(step["prev_turn"], step["turn"]) for step in bundle["q2"]["transitions"]]
    for step in bundle["q1"]["transitions"] + bundle["q2"]["transitions"]:
        assert set(step) >= STEP
        change = scores[step["turn"]] - scores[step["prev_turn"]]
        assert step["delta_score"] == pytest.approx(change, abs=1e-5, rel=1e-6)
    for step in bundle["q2"]["transitions"]:
        check_transition(step, bundle["q2"]["top_features_per_direction"], plain_projection)
    assert [row["assistant_turn"] for row in bundle["q3"]["token_localization"]] == list(scores)
    for row in bundle["q3"]["token_localization"]:
        assert len(row["tokens"]) == len(row["u_k"]) == len(row["u_k_norm"])
        assert all(0 <= heat <= 1 for heat in row["u_k_norm"])


def check_transition(step: dict[str, Any], top: int, plain_projection: bool) -> None:
    """One q2 transition: masses, order, and every entry."""
    away = step["away_mass"]
    if plain_projection:
        assert step["toward_mass"] - away == pytest.approx(step["delta_score"], abs=2e-5, rel=1e-5)
    for direction, sign in (("activated", 1), ("deactivated", -1)):
        changes = [sign * entry["delta_x"] for entry in step[direction]]
        assert len(changes) <= top and changes == sorted(changes, reverse=True) and all(x > 0 for x in changes)
        assert len({entry["feature_idx"] for entry in step[direction]}) == len(changes)
        for entry in step[direction]:
            assert set(entry) >= ENTRY and entry["direction"] == direction
            check_entry(entry, away)
    assert sum(entry["share_of_away"] for entry in step["activated"] + step["deactivated"]) <= 1 + 1e-6


def check_entry(entry: dict[str, Any], away_mass: float) -> None:
    """One feature of a transition."""
    product = np.float32(entry["delta_x"]) * np.float32(entry["axis_weight"])
    assert product.tobytes() == np.float32(entry["contrib"]).tobytes() and float(product) == entry["contrib"]
    assert entry["share_of_away"] == max(-entry["contrib"], 0) / max(away_mass, 1e-12)
    assert entry["axis_side"] == ("assistant_like" if entry["axis_weight"] > 0 else "non_assistant_like")
    assert entry["effect"] == ("away_from_assistant" if entry["contrib"] < 0 else "toward_assistant")
    assert 0 < entry["share_of_change"] <= 1 + 1e-9
    if entry["role_profile"] != "no positive role mass":
        shares = [int(part.rpartition(":")[2].removesuffix("%")) for part in entry["role_profile"].split(" | ")]
        assert shares == sorted(shares, reverse=True) and sum(shares) <= 101 and len(shares) <= 3


def check_summary(summary: dict[str, Any], bundle: dict[str, Any]) -> None:
    """A summary has its fields, and says what the bundle says."""
    assert set(summary) >= {"run_name", "timestamp_utc", "config", "selection", "diagnostics", "files"}
    assert set(summary["config"]) >= CONFIG
    for key in ("model_name", "sae_id", "assistant_role", "score_method"):
        assert summary["config"][key] == bundle["run_meta"][key]
    assert summary["config"]["top_features"] == bundle["q2"]["top_features_per_direction"]
    diagnostics = summary["diagnostics"]
    values = [row["corr(score, metric)"] for row in diagnostics["selected_score_diag"]]
    largest = max((abs(value) for value in values if value is not None), default=None)
    assert diagnostics["max_abs_corr_selected_score"] == largest and len(values) in (4, 6)
    event, selection = diagnostics["feature_event_summary"], summary["selection"]
    assert set(event) >= EVENT
    assert (event["prev_turn"], event["selected_turn"]) == (
        selection["selected_prev_turn"],
        selection["selected_turn"],
    )
    if selection["selected_turn"] is None:
        assert bundle["q1"]["transitions"] == [] and selection["selected_delta_score"] is None
        return
    (step,) = [step for step in bundle["q2"]["transitions"] if step["turn"] == selection["selected_turn"]]
    for key in ("prev_turn", "delta_score", "away_mass", "toward_mass"):
        assert event[key] == pytest.approx(step[key], rel=1e-5)
    assert math.isfinite(selection["selected_delta_projection"])
