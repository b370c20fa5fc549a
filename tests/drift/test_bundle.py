"""The JSON and arrays of a run: the identities that others rely on, plain JSON always, and what is in the arrays."""

import hashlib
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from personascope.directions.axis import RoleSpace
from personascope.drift.analysis import analyze
from personascope.drift.bundle import Run, arrays, conversation_hash, run_meta, summary, ui_bundle
from personascope.drift.options import SCORE_METHODS, DriftOptions
from personascope.drift.result import DriftResult
from personascope.formats.files import read_json, write_json
from personascope.formats.tables import load_npz, plain, save_npz
from tests.helpers.drift_cases import PIECES, null_of, random_roles, random_tokens, reference_of, to_activations
from tests.helpers.drift_identities import check_bundle, check_summary

WIDTH = 200
MESSAGES = [{"role": "user", "content": "Hi ✨"}, {"role": "assistant", "content": "Hello"}]
RUN = Run("demo", "Coding", "org/model", "release", "layer_1_width_200", 1, MESSAGES, {"turns": 2, "odd": float("nan")})
TIME = "2026-01-02T03:04:05+00:00"


def analyzed(lengths: list[int], calibrated: bool = False, **chosen: Any) -> DriftResult:
    dense, turn = random_tokens(lengths, WIDTH)
    matrix, names = random_roles(7, WIDTH)
    options = DriftOptions.of(**chosen)
    reference = reference_of(matrix, names, options) if calibrated else None
    null = null_of(options, 20.0) if calibrated else None
    return analyze(to_activations(dense, turn, len(lengths)), matrix, names, options, reference=reference, null=null)


def written(result: DriftResult, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """UI bundle and summary after a round trip through the files, which refuse NaN."""
    assert isinstance(result.roles, RoleSpace)
    write_json(folder / "ui_bundle.json", ui_bundle(result, result.roles, run_meta(RUN, result.options)))
    write_json(folder / "summary.json", summary(result, RUN, TIME))
    return read_json(folder / "ui_bundle.json"), read_json(folder / "summary.json")


@pytest.mark.parametrize("score_method", SCORE_METHODS)
@pytest.mark.parametrize(
    ("transform", "use_l2_normalize", "center", "axis_method"),
    itertools.product(["raw", "log1p"], [False, True], [False, True], ["diff", "pc1"]),
)
def test_the_identities_hold(
    tmp_path: Path, transform: str, use_l2_normalize: bool, center: bool, axis_method: str, score_method: str
) -> None:
    result = analyzed(
        [4, 7, 1, 5],
        transform=transform,
        use_l2_normalize=use_l2_normalize,
        center_turns_with_role_mean=center,
        axis_method=axis_method,
        score_method=score_method,
        top_features=9,
    )
    bundle, outline = written(result, tmp_path)
    check_bundle(bundle, plain_projection=score_method == "projection" and not use_l2_normalize)
    check_summary(outline, bundle)
    assert len(bundle["q2"]["transitions"]) == 3 and len(bundle["q2"]["transitions"][0]["activated"]) == 9
    assert outline["selection"]["transition"] == ("no drop" if result.no_drop else "largest_drop")


@pytest.mark.parametrize("lengths", [[0], [5], [0, 0], [5, 0], [5, 0, 4], [1, 1, 1]])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("calibrated", [False, True])
def test_short_and_empty_turns_give_json_without_nan(
    tmp_path: Path, lengths: list[int], center: bool, calibrated: bool
) -> None:
    bundle, outline = written(analyzed(lengths, calibrated, center_turns_with_role_mean=center), tmp_path)
    check_bundle(bundle, plain_projection=True)
    check_summary(outline, bundle)
    scores = [row["score"] for row in bundle["q1"]["turn_scores"]]
    assert [score is None for score in scores] == [length == 0 for length in lengths]
    assert [len(row["tokens"]) for row in bundle["q3"]["token_localization"]] == lengths
    if sum(length > 0 for length in lengths) < 2:
        assert outline["selection"]["transition"] == "none"
        assert outline["diagnostics"]["feature_event_summary"]["effect_strength"] == "N/A"


def test_the_selected_event_covers_what_its_table_covers(tmp_path: Path) -> None:
    result = analyzed([4, 7, 5], top_features=5)
    _, outline = written(result, tmp_path)
    shares = result.features["q2_top_away_contrib"]["share_of_away"]
    event = outline["diagnostics"]["feature_event_summary"]
    assert len(shares) == 5 and event["top_away_share"] == pytest.approx(shares.sum(), rel=1e-5)


def test_tokens_are_kept_as_they_are(tmp_path: Path) -> None:
    bundle, _ = written(analyzed([len(PIECES), 2]), tmp_path)
    assert bundle["q3"]["token_localization"][0]["tokens"] == PIECES


def test_values_in_the_bundle_are_the_float32_values_exactly(tmp_path: Path) -> None:
    result = analyzed([4, 7, 5])
    bundle, _ = written(result, tmp_path)
    u_k = [value for row in bundle["q3"]["token_localization"] for value in row["u_k"]]
    assert np.array_equal(np.array(u_k, np.float32), result.token_scores)
    (entry, *_) = bundle["q2"]["transitions"][1]["deactivated"]
    assert entry["delta_x"] == result.transitions[1].delta_x.min()


def test_in_residual_space_there_are_no_features_to_show(tmp_path: Path) -> None:
    bundle, outline = written(analyzed([4, 7], space="residual", layer=3), tmp_path)
    check_bundle(bundle, plain_projection=True)
    check_summary(outline, bundle)
    (step,) = bundle["q2"]["transitions"]
    assert step["activated"] == step["deactivated"] == []
    assert outline["diagnostics"]["feature_event_summary"]["top_away_share"] is None


def test_summary_says_what_was_run_and_keeps_the_conversations_metadata(tmp_path: Path) -> None:
    _, outline = written(analyzed([4, 7], space="residual", layer=3), tmp_path)
    assert outline["conversation_name"] == "Coding" and outline["timestamp_utc"] == TIME
    assert outline["config"]["layer"] == 3 and outline["config"]["token_heat_percentiles"] == [5, 95]
    assert outline["metadata"] == {"turns": 2, "odd": None}
    assert outline["calibration"]["p_value"] is None and "no reference" in outline["calibration"]["reason"]
    assert outline["files"]["ui_bundle"] == "ui_bundle.json"


def test_summary_tells_the_verdict_and_the_evidence_of_every_turn(tmp_path: Path) -> None:
    result = analyzed([4, 0, 7], calibrated=True)
    _, outline = written(result, tmp_path)
    calibration = outline["calibration"]
    assert (calibration["alpha"], calibration["p_value"]) == (0.05, pytest.approx(1 / 41))
    assert calibration["alarm_turn"] == result.verdict.alarm_turn == 0 and calibration["onset_set"] == [0, 0]
    assert calibration["references"] == {"n": 40, "domain": "", "turns_max": 4} and calibration["q_value"] is None
    assert 0 <= calibration["false_alarm_rate"]["rate"] <= 1 and calibration["reason"] == ""
    assert [turn["assistant_turn"] for turn in calibration["turns"]] == [0, 1, 2]
    assert [turn["alarm"] for turn in calibration["turns"]] == [True, True, True]
    assert calibration["turns"][1]["z"] is None and calibration["turns"][0]["score_low"] is not None


def test_conversation_hash_is_the_sha1_of_sorted_json() -> None:
    text = '[{"content": "Hi \\u2728", "role": "user"}, {"content": "Hello", "role": "assistant"}]'
    assert conversation_hash(MESSAGES) == hashlib.sha1(text.encode()).hexdigest()[:10]
    swapped = [dict(reversed(list(message.items()))) for message in MESSAGES]
    assert conversation_hash(swapped) == conversation_hash(MESSAGES) != conversation_hash(MESSAGES[:1])
    assert re.fullmatch("[0-9a-f]{10}", conversation_hash([]))


def test_plain_leaves_only_json() -> None:
    odd = {
        1: [np.float32(0.5), np.int64(3), float("inf"), pd.NA, None, np.bool_(True)],
        "a": np.array([1.0, np.nan]),
        "b": (1, "x", pd.DataFrame({"c": [np.nan]})["c"].iloc[0]),
    }
    assert plain(odd) == {"1": [0.5, 3, None, None, None, True], "a": [1.0, None], "b": [1, "x", None]}
    json.dumps(plain(odd), allow_nan=False)


def test_arrays_hold_the_numbers_and_load_without_pickle(tmp_path: Path) -> None:
    result = analyzed([4, 0, 7, 5])
    save_npz(tmp_path / "arrays.npz", **arrays(result))
    names = (
        *("score", "projection", "cos_axis", "cos_assistant", "score_delta", "axis_unit", "turn_vectors_raw"),
        *("turn_vectors_space", "turn_vectors_unit", "delta_x", "contrib", "token_proj", "token_norm", "role_names"),
    )
    loaded = dict(zip(names, load_npz(tmp_path / "arrays.npz", *names), strict=True))
    assert np.array_equal(loaded["score"], loaded["projection"], equal_nan=True)
    assert np.isnan(loaded["score_delta"]).tolist() == [True, True, False]
    assert np.linalg.norm(loaded["axis_unit"]) == pytest.approx(1)
    assert np.linalg.norm(loaded["turn_vectors_unit"], axis=1) == pytest.approx([1, 0, 1, 1])
    filled = [0, 2, 3]
    cosines = loaded["turn_vectors_unit"] @ loaded["axis_unit"]
    assert cosines[filled] == pytest.approx(loaded["cos_axis"][filled], abs=1e-6)
    assert np.array_equal(loaded["contrib"], loaded["delta_x"] * loaded["axis_unit"])
    assert result.selected is not None
    assert len(loaded["token_proj"]) == len(loaded["token_norm"]) == result.turns.n_tokens[2 + result.selected]
    assert loaded["role_names"].tolist() == result.roles.role_names


def test_arrays_of_a_single_turn_have_no_transition() -> None:
    content = arrays(analyzed([4]))
    assert content["delta_x"].shape == content["contrib"].shape == (0,) and content["score_delta"].shape == (0,)


def test_another_conversation_has_another_hash_in_the_head_of_the_bundle() -> None:
    head = run_meta(RUN, DriftOptions())
    other = run_meta(replace(RUN, conversation=MESSAGES[1:]), DriftOptions())
    assert head == {**other, "conversation_hash": conversation_hash(MESSAGES)} and head != other
