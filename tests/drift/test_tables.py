"""The tables of a run: their columns, one row for each thing, and agreement with the result."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from personascope.drift.analysis import analyze
from personascope.drift.calibration import BAND, JUDGED
from personascope.drift.options import SCORE_METHODS, DriftOptions
from personascope.drift.result import DriftResult
from personascope.drift.tables import tables
from personascope.drift.turns import MASS_METRICS
from personascope.formats.tables import write_csv
from tests.helpers.drift_cases import null_of, random_roles, random_tokens, reference_of, to_activations

WIDTH = 200
NAMES = {
    *(
        "turn_meta",
        "role_trace",
        "role_cosines",
        "score_mass_diag",
        "score_mass_pivot",
        "selected_diag",
        "transition_df",
    ),
    *("q2_top_away_contrib", "q2_top_toward_contrib", "q2_deactivated_assistant_features"),
    *("q2_activated_nonassistant_features", "q3_token_localization", "attribution"),
}


def analyzed(
    lengths: list[int], draws: int | None = None, plain_mean: float | None = None, **chosen: Any
) -> DriftResult:
    """An analysis with a reference of so many draws of the axis, or (None) without a reference; plain_mean: what plain
    conversations score, of which the test is made."""
    dense, turn = random_tokens(lengths, WIDTH)
    matrix, names = random_roles(7, WIDTH)
    options = DriftOptions.of(**chosen)
    reference = None if draws is None else reference_of(matrix, names, options, draws)
    null = None if plain_mean is None else null_of(options, plain_mean)
    return analyze(to_activations(dense, turn, len(lengths)), matrix, names, options, reference=reference, null=null)


def made_of(lengths: list[int], draws: int | None = None, **chosen: Any) -> dict[str, Any]:
    return dict(tables(analyzed(lengths, draws, **chosen)))


@pytest.mark.parametrize("lengths", [[], [0], [4], [4, 0, 3], [4, 5, 6]])
@pytest.mark.parametrize("space", ["sae", "residual"])
@pytest.mark.parametrize("draws", [None, 0, 20])
def test_every_table_is_there_with_the_same_columns(
    tmp_path: Path, lengths: list[int], space: str, draws: int | None
) -> None:
    full = made_of([4, 5, 6], draws)
    made = made_of(lengths, draws, space=space)
    assert set(made) == set(full) == NAMES
    for name, table in made.items():
        assert list(table.columns) == list(full[name].columns), name
        write_csv(tmp_path / f"{name}.csv", table)
        assert len(pd.read_csv(tmp_path / f"{name}.csv")) == len(table)


def test_turn_meta_says_where_each_turn_is() -> None:
    result = analyzed([4, 0, 3], score_method="cos_axis")
    meta: Any = tables(result)["turn_meta"]
    assert list(meta.columns[:5]) == ["assistant_turn", "message_index", "start", "end", "n_tokens"]
    assert list(meta.columns[5:14]) == [*SCORE_METHODS, "score", *MASS_METRICS, "repetition"]
    assert list(meta.columns[14:]) == [*JUDGED, "alarm"]
    assert meta["message_index"].tolist() == [1, 3, 5] and meta["n_tokens"].tolist() == [4, 0, 3]
    position = result.tokens.position
    assert meta["start"].tolist() == [position[0], pd.NA, position[4]]
    assert meta["end"].tolist() == [position[3] + 1, pd.NA, position[6] + 1]
    assert meta["score"].dropna().tolist() == meta["cos_axis"].dropna().tolist() and meta["score"].isna().tolist() == [
        0,
        1,
        0,
    ]


def test_with_a_reference_turns_have_intervals_and_calibration() -> None:
    result = analyzed([4, 0, 3], draws=20)
    meta: Any = tables(result)["turn_meta"]
    assert {"percentile_assistant", "percentile_others", "answer_p_value"} <= set(meta.columns)
    inside = meta["score"].between(meta["score_low"], meta["score_high"])
    assert inside.tolist() == [True, False, True]
    assert meta["answer_p_value"].isna().tolist() == [False, True, False]
    assert meta["z"].isna().all() and not meta["alarm"].any()
    table: Any
    for name, table in tables(result).items():
        if name.startswith("q2_"):
            assert table["contrib"].between(table["contrib_low"], table["contrib_high"]).all() and len(table) > 3
            assert (table["contrib_low"] < table["contrib_high"]).all()


def test_with_plain_conversations_turns_have_what_is_expected_of_them() -> None:
    lengths = [4, 5, 6, 3, 7]
    near = analyzed(lengths[:4]).score.mean()
    quiet, low = (analyzed(lengths, plain_mean=near + shift) for shift in (0.0, 9.0))
    meta: Any = tables(low)["turn_meta"]
    assert meta["expected"].between(meta["expected_low"], meta["expected_high"])[:4].all()
    assert meta["z"][:4].tolist() == pytest.approx(
        ((meta["score"] - meta["expected"]) / (meta["expected_high"] - meta["expected_low"]) * 2 * BAND)[:4].tolist()
    )
    assert low.verdict.alarm_turn == int(meta["alarm"].argmax()) and meta["alarm"][low.verdict.alarm_turn : 4].all()
    assert low.verdict.p_value == pytest.approx(1 / 41) and quiet.verdict.alarm_turn is None
    assert meta[["expected", "z", "evidence", "level"]].iloc[4].isna().all(), "longer than the plain conversations"
    assert tables(quiet)["turn_meta"]["alarm"].tolist() == [False] * 5


def test_cosines_have_a_column_a_role() -> None:
    table: Any = made_of([4, 0, 5])["role_cosines"]
    assert list(table.columns) == ["assistant_turn", *random_roles(7, WIDTH)[1]]
    assert table["assistant"].isna().tolist() == [False, True, False] and table["assistant"].abs().max() <= 1


def test_transitions_mark_the_selected_one_and_their_masses_balance() -> None:
    table = made_of([4, 5, 6, 3])["transition_df"]
    assert table["turn"].tolist() == [1, 2, 3] and table["prev_turn"].tolist() == [0, 1, 2]
    (chosen,) = np.flatnonzero(table["selected"])
    assert chosen == table["delta_score"].idxmin()
    assert (table["toward_mass"] - table["away_mass"]).tolist() == pytest.approx(
        table["delta_score"].tolist(), abs=1e-4
    )
    assert table["top_away_share"].between(0, 1).all()


def test_roles_are_ranked_by_cosine_and_no_more_than_there_are() -> None:
    trace = made_of([4, 5], top_k_roles=3)["role_trace"]
    assert trace["rank"].tolist() == [1, 2, 3] * 2 and trace["assistant_turn"].tolist() == [0] * 3 + [1] * 3
    for _, turn in trace.groupby("assistant_turn"):
        assert turn["cosine"].is_monotonic_decreasing and turn["role"].is_unique
    assert len(made_of([4], top_k_roles=99)["role_trace"]) == 7


def test_confound_tables_tell_the_same() -> None:
    result = analyzed([4, 5, 6, 2])
    made: dict[str, Any] = dict(tables(result))
    assert made["score_mass_diag"]["metric"].tolist() == [*MASS_METRICS, "n_tokens", "repetition"]
    assert made["score_mass_diag"]["n"].tolist() == [4] * 6
    assert made["score_mass_diag"].equals(made["selected_diag"])
    assert list(made["score_mass_pivot"].columns) == ["metric", "projection"]
    assert np.array_equal(
        made["score_mass_pivot"]["projection"], made["score_mass_diag"]["corr(score, metric)"], equal_nan=True
    )
    assert made["score_mass_diag"]["corr(score, metric)"].abs().max() == result.max_abs_corr


def test_every_token_has_its_row() -> None:
    result = analyzed([4, 0, 3])
    table: Any = tables(result)["q3_token_localization"]
    assert list(table.columns) == ["assistant_turn", "position", "token_id", "token", "u_k", "u_k_norm", "w"]
    assert table["assistant_turn"].tolist() == [0] * 4 + [2] * 3
    assert table["token"].tolist() == result.tokens.tokens
    for _, turn in table.groupby("assistant_turn"):
        assert turn["u_k_norm"].min() == 0 and turn["u_k_norm"].max() == 1
        assert turn.sort_values("u_k")["u_k_norm"].is_monotonic_increasing


def test_feature_tables_are_ranked_and_each_row_belongs_there() -> None:
    made = made_of([4, 5, 6], top_features=8)
    away, toward = made["q2_top_away_contrib"], made["q2_top_toward_contrib"]
    assert len(away) == 8 and away["contrib"].is_monotonic_increasing and (away["contrib"] < 0).all()
    assert len(toward) == 8 and toward["contrib"].is_monotonic_decreasing and (toward["contrib"] > 0).all()
    assert (toward["share_of_away"] == 0).all()
    lost = made["q2_deactivated_assistant_features"]
    assert (lost["direction"] == "deactivated").all() and (lost["axis_side"] == "assistant_like").all()
    gained = made["q2_activated_nonassistant_features"]
    assert (gained["direction"] == "activated").all() and (gained["axis_side"] == "non_assistant_like").all()
    both: Any = pd.concat([lost, gained])
    assert (both["effect"] == "away_from_assistant").all() and both["contrib"].min() == away["contrib"].iloc[0]


def test_features_are_called_what_they_are_given() -> None:
    result = analyzed([4, 5, 6], top_features=4)
    known = {feature: {"description": f"about {feature}", "url": None} for feature in range(0, WIDTH, 2)}
    plain, named = tables(result), tables(result, known)
    for name in ("q2_top_away_contrib", "q2_top_toward_contrib"):
        ids = named[name]["feature_idx"].tolist()
        expected = [f"about {i}" if i % 2 == 0 else None for i in ids]
        assert named[name]["description"].tolist() == expected
        assert list(named[name].columns) == list(plain[name].columns)
        assert set(plain[name]["description"].tolist()) == {None}
