"""The published drift run: the identities hold in it, and what can be rebuilt from it comes out the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personascope.directions.axis import RoleSpace
from personascope.drift.analysis import confound_verdict, select_transition, token_heat
from personascope.drift.attribution import changed_features, effect_strength, share_of_away
from personascope.drift.bundle import conversation_hash
from personascope.drift.options import DriftOptions
from personascope.drift.result import Transition
from personascope.formats.files import read_json
from tests.helpers.drift_identities import check_bundle, check_summary

PUBLISHED = Path(__file__).parents[3] / "shared/data/interpret-personas/run_coding"
WIDTH = 65536

pytestmark = pytest.mark.skipif(not PUBLISHED.exists(), reason="the published drift run is not on this machine")


@pytest.fixture(scope="module")
def bundle() -> dict[str, Any]:
    return read_json(PUBLISHED / "ui_bundle.json")


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    return read_json(PUBLISHED / "summary.json")


@pytest.fixture(scope="module")
def options(summary: dict[str, Any]) -> DriftOptions:
    names = DriftOptions().flat()
    return DriftOptions.of(**{name: value for name, value in summary["config"].items() if name in names})


def test_the_identities_hold_in_it(bundle: dict[str, Any], summary: dict[str, Any]) -> None:
    check_bundle(bundle, plain_projection=True)
    check_summary(summary, bundle)


def test_its_hash_is_that_of_its_conversation(bundle: dict[str, Any]) -> None:
    messages = read_json(PUBLISHED / "conversation.json")["conversation"]
    assert conversation_hash(messages) == bundle["run_meta"]["conversation_hash"]
    turns = sum(message["role"] == "assistant" for message in messages)
    assert turns == len(bundle["q3"]["token_localization"])


def test_its_heat_comes_from_its_token_scores(bundle: dict[str, Any], options: DriftOptions) -> None:
    for row in bundle["q3"]["token_localization"]:
        heat = token_heat(np.array(row["u_k"], np.float32), options.display.token_heat_percentiles)
        np.testing.assert_allclose(heat, row["u_k_norm"], atol=1e-5)


def rebuilt(step: dict[str, Any]) -> tuple[Transition, np.ndarray]:
    """A transition that has only the published features of it, and the axis where they show it."""
    entries = step["activated"] + step["deactivated"]
    ids = [entry["feature_idx"] for entry in entries]
    delta, axis = np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    delta[ids] = [entry["delta_x"] for entry in entries]
    axis[ids] = [entry["axis_weight"] for entry in entries]
    numbers = {key: step[key] for key in ("prev_turn", "turn", "delta_score", "away_mass", "toward_mass")}
    projection = {"delta_projection": step["delta_score"], "top_away_share": 0.0, "effect_strength": "WEAK"}
    return Transition(**numbers, **projection, delta_x=delta, contrib=delta * axis), axis


def test_its_features_come_out_the_same(bundle: dict[str, Any], options: DriftOptions) -> None:
    nothing = np.zeros((1, WIDTH), np.float32)
    for step in bundle["q2"]["transitions"]:
        transition, axis = rebuilt(step)
        roles = RoleSpace(axis, nothing[0], nothing[0], [0], [], ["assistant"], 1.0, nothing, nothing, [0], nothing[0])
        ours = changed_features(transition, roles, options)
        for direction, entries in ours.items():
            # What needs the other 65,496 features, or the roles, cannot be rebuilt.
            unknown = ("share_of_change", "role_profile")
            for mine, theirs in zip(entries, step[direction], strict=True):
                assert {key: mine[key] for key in mine if key not in unknown} == {
                    key: theirs[key] for key in theirs if key not in unknown
                }
                assert share_of_away(theirs["contrib"], step["away_mass"]) == theirs["share_of_away"]


def test_its_axis_is_one_axis(bundle: dict[str, Any]) -> None:
    weights: dict[int, float] = {}
    for step in bundle["q2"]["transitions"]:
        for entry in step["activated"] + step["deactivated"]:
            assert weights.setdefault(entry["feature_idx"], entry["axis_weight"]) == entry["axis_weight"]
    assert 0 < np.linalg.norm(list(weights.values())) <= 1


def test_its_transition_and_verdicts_are_ours(
    bundle: dict[str, Any], summary: dict[str, Any], options: DriftOptions
) -> None:
    transitions = [rebuilt(step)[0] for step in bundle["q2"]["transitions"]]
    selected = select_transition(transitions, len(bundle["q1"]["turn_scores"]), options)
    assert selected is not None and transitions[selected].turn == summary["selection"]["selected_turn"]
    diagnostics = summary["diagnostics"]
    notebook, n = options.changed(confound_min_turns=2), len(bundle["q1"]["turn_scores"])
    verdict = confound_verdict(diagnostics["max_abs_corr_selected_score"], n, notebook)
    assert verdict == diagnostics["confound_verdict"]
    event = diagnostics["feature_event_summary"]
    assert effect_strength(event["top_away_share"]) == event["effect_strength"]
