"""The tables and arrays of a run have the notebook's columns and rows, ours beside them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from personascope.drift.bundle import arrays, summary, ui_bundle
from personascope.drift.notebook import notebook_tables
from personascope.drift.options import TABLES
from personascope.drift.pages.features import top_features
from personascope.drift.pages.ranking import ranking_figure, ranking_html
from personascope.drift.pages.trajectory import selected_transition, trajectory
from personascope.drift.result import DriftResult
from personascope.drift.summary import overview, summary_table
from personascope.drift.tables import tables
from personascope.formats.files import read_json
from personascope.formats.tables import write_csv
from tests.drift.test_bundle import RUN
from tests.drift.test_tables import analyzed
from tests.helpers.drift_examples import content, make_summary

COLUMNS = {
    "turn_meta": (
        "assistant_turn message_index span_start span_end pool_start pool_end n_tokens_pooled turn_l2_raw turn_l1_raw "
        "turn_nonzero_raw assistant_text score projection cos_axis cos_assistant turn_l2_space turn_nonzero_space"
    ),
    "role_trace": " ".join(["assistant_turn", *(f"top{k}_{what}" for k in range(1, 6) for what in ("role", "sim"))]),
    "transition_df": "turn prev_turn delta score_prev score_now",
    "q3_token_localization": "token_idx token u_k u_k_norm",
    "selected_diag": "metric score_method corr(score,·metric)",
    "score_mass_diag": "metric score_method corr(score,·metric)",
    "score_mass_pivot": "metric projection",
}
FEATURES = (
    "feature_idx delta_x axis_weight contrib share_of_away direction axis_side effect role_profile description url"
)
PUBLISHED = Path(__file__).parents[3] / "shared/data/interpret-personas/run_coding"


def messages(n: int) -> list[dict[str, Any]]:
    said = [{"role": "assistant", "content": f"<think>Hm</think>Answer {i}"} for i in range(n)]
    return [one for answer in said for one in ({"role": "user", "content": "So?"}, answer)]


def made_of(result: DriftResult) -> dict[str, Any]:
    return dict(notebook_tables(result, messages(result.tokens.n_turns)))


@pytest.mark.parametrize("lengths", [[], [0], [4], [4, 0, 3], [4, 5, 6]])
@pytest.mark.parametrize("draws", [None, 20])
def test_the_notebook_s_columns_come_first(tmp_path: Path, lengths: list[int], draws: int | None) -> None:
    made, full = made_of(analyzed(lengths, draws)), made_of(analyzed([4, 5, 6], draws))
    assert set(made) == set(TABLES)
    for name, names in COLUMNS.items():
        expected = [column.replace("·", " ") for column in names.split()]
        assert list(made[name].columns[: len(expected)]) == expected, name
    for name in (name for name in made if name.startswith("q2_")):
        assert set(FEATURES.split()) <= set(made[name].columns)
    for name, table in made.items():
        assert list(table.columns) == list(full[name].columns), name
        write_csv(tmp_path / f"{name}.csv", table)
        assert list(pd.read_csv(tmp_path / f"{name}.csv").columns) == list(table.columns)


def test_a_turn_without_a_token_has_no_row_and_a_turn_says_what_it_is() -> None:
    result = analyzed([4, 0, 3], draws=20)
    meta = made_of(result)["turn_meta"]
    assert meta["assistant_turn"].tolist() == [0, 2] and meta["message_index"].tolist() == [1, 5]
    position = result.tokens.position
    assert meta["span_start"].tolist() == meta["pool_start"].tolist() == [position[0], position[4]]
    assert meta["span_end"].tolist() == meta["pool_end"].tolist() == [position[3] + 1, position[6] + 1]
    assert meta["n_tokens_pooled"].tolist() == [4, 3] and meta["assistant_text"].tolist() == ["Answer 0", "Answer 2"]
    raw = result.turns.raw[[0, 2]].astype(float)
    np.testing.assert_allclose(meta["turn_l1_raw"], np.abs(raw).sum(1))
    np.testing.assert_allclose(meta["turn_l2_raw"], np.linalg.norm(raw, axis=1), rtol=1e-5)
    assert meta["turn_nonzero_raw"].tolist() == (raw > 0).sum(1).tolist()
    assert {"score_low", "score_high", "repetition"} <= set(meta.columns)
    assert not {"start", "end", "n_tokens"} & set(meta.columns)


def test_the_trace_of_roles_has_a_row_a_turn() -> None:
    result = analyzed([4, 0, 5], top_k_roles=3)
    trace = made_of(result)["role_trace"]
    assert trace["assistant_turn"].tolist() == [0, 2] and len(trace.columns) == 7
    for i, (_, part) in enumerate(result.nearest.groupby("assistant_turn")):
        assert [trace[f"top{k}_role"][i] for k in (1, 2, 3)] == part["role"].tolist()
        assert [trace[f"top{k}_sim"][i] for k in (1, 2, 3)] == part["cosine"].tolist()
    assert list(made_of(analyzed([0], top_k_roles=99))["role_trace"].columns)[-1] == "top7_sim"


def test_transitions_have_both_scores() -> None:
    result = analyzed([4, 0, 5, 6])
    steps = made_of(result)["transition_df"]
    assert steps["prev_turn"].tolist() == [0, 2] and steps["turn"].tolist() == [2, 3]
    assert steps["score_prev"].tolist() == result.score[[0, 2]].tolist()
    assert steps["score_now"].tolist() == result.score[[2, 3]].tolist()
    np.testing.assert_allclose(steps["delta"], steps["score_now"] - steps["score_prev"])
    assert steps["delta"].equals(steps["delta_score"].rename("delta"))


@pytest.mark.parametrize("lengths", [[4, 5, 6, 3], [4, 0, 5, 0], [0, 4, 0], [0]])
def test_tokens_are_those_of_the_selected_turn_else_of_the_last(lengths: list[int]) -> None:
    result = analyzed(lengths)
    made, kept = made_of(result), arrays(result)
    turn = next((i for i in (3, 2, 1, 0) if len(lengths) > i and lengths[i]), None)
    if result.selected is not None:
        turn = result.transitions[result.selected].turn
    mine = result.tokens.turn == (-1 if turn is None else turn)
    table = made["q3_token_localization"]
    assert table["token_idx"].tolist() == list(range(mine.sum()))
    assert table["token"].tolist() == np.array(result.tokens.tokens)[mine].tolist()
    assert table["u_k"].tolist() == kept["token_proj"].tolist() == result.token_scores[mine].tolist()
    assert table["u_k_norm"].tolist() == kept["token_norm"].tolist() == result.token_heat[mine].tolist()
    assert len(made["token_scores"]) == len(kept["all_token_proj"]) == len(kept["all_token_turn"]) == sum(lengths)


def rising() -> DriftResult:
    """A conversation whose score only rises."""
    for seed in range(200):
        result = analyzed([4 + seed % 9, 3 + seed // 9])
        if result.no_drop:
            return result
    raise AssertionError


def test_a_score_that_only_rises_has_no_drop() -> None:
    result = rising()
    (step,) = result.transitions
    assert result.selected == 0 and step.delta_score > 0, "the notebook's choice stays: the smallest rise"
    metadata = {"turns": [], "dropped_messages": 0, "conversation": {"metadata": {}}}
    row = overview(result, metadata)
    assert row["largest_drop"] is row["largest_drop_turn"] is None and "no_drop" in row["flags"]
    said = summary(result, RUN, "2026-01-01T00:00:00+00:00")["selection"]
    assert (said["transition"], said["selected_turn"]) == ("no drop", 1)
    assert made_of(result)["transition_df"]["no_drop"].tolist() == [True]
    made = tables(result)
    labels = [line.get_label() for line in trajectory(made["turn_meta"], made["transition_df"]).axes[0].get_lines()]
    assert any(str(label).startswith("no drop") for label in labels)
    figure = top_features(made, selected_transition(made["transition_df"]))
    assert any(ax.get_title(loc="left").startswith("no drop") for ax in figure.axes)
    falls = overview(analyzed([4, 5, 6, 3]), metadata)
    assert falls["largest_drop"] < 0 and "no_drop" not in falls["flags"]


def test_the_ranking_says_no_drop_and_has_the_table_s_ranks(tmp_path: Path) -> None:
    items = [("up", content(p_value=0.2, fall=-1.0, flags=["no_drop"])), ("down", content(p_value=0.1, fall=-2.0))]
    items += [("broken", content("failed", "no good"))]
    table = summary_table([{"conversation": n, "analysis": "default", "content": said} for n, said in items])
    assert table["rank"].tolist() == [1, 2, pd.NA]
    page = ranking_html(table)
    assert page.count("no drop") == 1 and "fall (lowest z)" in page
    figure = ranking_figure(table)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["down", "up (no drop)"]


def test_the_summary_as_csv_has_whole_turns_and_metadata_as_json(tmp_path: Path) -> None:
    made = make_summary(3)
    write_csv(tmp_path / "drift_summary.csv", made)
    read = pd.read_csv(tmp_path / "drift_summary.csv", dtype=str, keep_default_na=False)
    assert read["metadata"].tolist()[0] == '{"domain": "cooking"}'
    assert set(read["alarm_turn"]) == {"7", ""} and set(read["largest_drop_turn"]) == {"4", ""}
    assert {"rank", "fall"} <= set(read.columns) and read["rank"].tolist()[:3] == ["1", "2", "3"]


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published drift run is not on this machine")
def test_the_published_run_has_no_key_that_ours_lacks() -> None:
    result = analyzed([4, 5, 6])
    theirs, ours = read_json(PUBLISHED / "summary.json"), summary(result, RUN, "2026-01-01T00:00:00+00:00")
    for part in ("config", "selection", "diagnostics"):
        assert set(theirs[part]) <= set(ours[part]), part
    for name, table in (("selected_score_diag", "selected_diag"), ("score_mass_diag", "score_mass_diag")):
        (keys,) = {tuple(row) for row in theirs["diagnostics"][name]}
        assert set(keys) <= set(made_of(result)[table].columns)
    bundle = read_json(PUBLISHED / "ui_bundle.json")
    mine = ui_bundle(result, result.roles, {})  # pyright: ignore[reportArgumentType]
    step, other = bundle["q2"]["transitions"][0], mine["q2"]["transitions"][0]
    assert set(step) <= set(other) and set(step["activated"][0]) <= set(other["activated"][0])
    for token in bundle["q3"]["token_localization"]:
        assert set(token) <= set(mine["q3"]["token_localization"][0])
