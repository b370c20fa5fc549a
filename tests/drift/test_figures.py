"""Figures of drift runs: every case is drawn, signs and colors say what the tables say, texts are taken literally."""

import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from personascope.display.figure import BLUE, MISSING_GLYPH, ORANGE, font_text, save_figure
from personascope.display.heat import HEAT_STEPS, heat_color, heat_limit, heat_steps
from personascope.drift.pages.figures import DRIFT_FIGURES, confounds, nearest_roles, top_features, verdict
from personascope.drift.pages.ranking import ranked, ranking_figure
from personascope.drift.pages.tokens import token_heat
from personascope.drift.pages.trajectory import onset_turn, trajectory
from personascope.formats.tables import read_csv, write_csv
from tests.helpers.drift_examples import (
    make_diagnostics,
    make_features,
    make_references,
    make_role_trace,
    make_run,
    make_summary,
    make_tokens,
    make_transitions,
    make_turn_meta,
)

NAN = float("nan")
FALLING = [16.0, 15.5, 15.8, 15.0, 14.2, 9.0, 8.5, 8.8, 7.9, 8.1]
RUNS = {
    "plain": make_run(FALLING),
    "one turn": make_run([12.3]),
    "no turn": make_run([]),
    "no tokens": make_run([NAN, NAN]),
    "empty turns": make_run([16.0, NAN, 14.0, NAN, 9.0, 9.5], calibrated=True),
    "sixty turns": make_run(np.linspace(16, 5, 60).tolist(), calibrated=True, rejects=(40, 41)),
    "no tables": {},
}
STRANGE = (
    "pay $5 or $x_^2\\frac{ \x00\x1b[31m \u202elatot\u202c \u05e9\u05dc\u05d5\u05dd \u4f60\u597d \U0001f642"
    + " long" * 200
)


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def texts_of(figure: Figure) -> str:
    return "\n".join(text.get_text() for ax in figure.axes for text in ax.texts)


def line_of(ax: Axes, label: str) -> np.ndarray:
    return np.asarray(next(line for line in ax.lines if line.get_label() == label).get_xydata())


@pytest.fixture(autouse=True)
def no_warnings():
    """A glyph that the font lacks, a formula that cannot be read or a layout that fails is a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("name", DRIFT_FIGURES)
@pytest.mark.parametrize("run", RUNS)
def test_every_figure_of_every_run_is_drawn(tmp_path: Path, run: str, name: str) -> None:
    context = {"references": make_references(), "title": f"{run} \u00b7 default"}
    save_figure(DRIFT_FIGURES[name](RUNS[run], context), tmp_path / "a.svg")
    assert ET.fromstring((tmp_path / "a.svg").read_text(encoding="utf-8")).tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("name", DRIFT_FIGURES)
def test_the_same_tables_give_the_same_bytes_also_from_csv(tmp_path: Path, name: str) -> None:
    tables = make_run(FALLING, calibrated=True, rejects=(5, 6, 8))
    context = {"references": make_references()}
    save_figure(DRIFT_FIGURES[name](tables, context), tmp_path / "a.png", tmp_path / "a.svg")
    for table, content in tables.items():
        write_csv(tmp_path / f"{table}.csv", content)
    read = {table: read_csv(tmp_path / f"{table}.csv") for table in tables}
    save_figure(DRIFT_FIGURES[name](read, context), tmp_path / "b.png", tmp_path / "b.svg")
    assert (tmp_path / "a.png").read_bytes().endswith(b"IEND\xaeB`\x82")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("name", DRIFT_FIGURES)
def test_strange_names_and_texts_are_drawn_literally(tmp_path: Path, name: str) -> None:
    tables = {**make_run(FALLING, calibrated=True), **make_features(STRANGE)}
    tables["role_trace"] = make_role_trace(10, ["assistant", *(f"{i} {STRANGE}" for i in range(5))])
    tables["q3_token_localization"] = make_tokens(
        [["\u2581$", "x^", "$\u4f60", "\u2581\u05e9", "\x00", "\U0001f642"]] * 10
    )
    references = make_references(["assistant", STRANGE])
    figure = DRIFT_FIGURES[name](tables, {"title": STRANGE, "references": references})
    save_figure(figure, tmp_path / "a.svg")
    ET.fromstring((tmp_path / "a.svg").read_text(encoding="utf-8"))


def test_the_trajectory_shows_scores_gaps_onset_and_the_selected_drop() -> None:
    scores = [16.0, NAN, 15.0, 9.0, 9.5]
    figure = trajectory(
        make_turn_meta(scores, calibrated=True, rejects=(3,)), make_transitions(scores), make_references()
    )
    ax = figure.axes[0]
    path = np.asarray(ax.lines[1].get_xydata())
    np.testing.assert_array_equal(path, np.column_stack([range(5), scores]))
    np.testing.assert_array_equal(line_of(ax, "turn"), [(0, 16.0), (2, 15.0), (4, 9.5)])
    assert line_of(ax, "turn without tokens")[:, 0].tolist() == [1]
    selected = next(line for line in ax.lines if str(line.get_label()).startswith("selected"))
    assert selected.get_label() == "selected transition 2 \u2192 3 (\u22126)" and to_hex(selected.get_color()) == ORANGE
    np.testing.assert_array_equal(selected.get_xydata(), [(2, 15.0), (3, 9.0)])
    assert "drift onset: turn 3" in legend_of(figure)


def test_a_selected_rise_is_blue() -> None:
    scores = [3.0, 5.0]
    ax = trajectory(make_turn_meta(scores), make_transitions(scores)).axes[0]
    selected = next(line for line in ax.lines if str(line.get_label()).startswith("selected"))
    assert to_hex(selected.get_color()) == BLUE and "(+2)" in str(selected.get_label())


def test_onset_is_the_first_rejection_also_where_the_table_comes_from_csv() -> None:
    meta = make_turn_meta(FALLING, calibrated=True, rejects=(5, 8))
    assert onset_turn(meta) == 5
    assert onset_turn(meta.assign(rejects=meta["rejects"].astype(str))) == 5
    assert onset_turn(make_turn_meta(FALLING, calibrated=True)) is None
    assert onset_turn(make_turn_meta(FALLING)) is None


def test_a_test_that_cannot_reject_is_said_to() -> None:
    meta = make_turn_meta(FALLING, calibrated=True)
    titles = [ax.get_title(loc="left") for ax in trajectory(meta, make_transitions(FALLING)).axes]
    assert not any(titles)
    meta["testable"] = False
    titles = [ax.get_title(loc="left") for ax in trajectory(meta, make_transitions(FALLING)).axes]
    assert any("too few questions" in title for title in titles)


def test_of_many_reference_roles_the_assistant_is_always_shown() -> None:
    references = make_references([f"role {i}" for i in range(40)] + ["Assistant"])
    panel = trajectory(make_turn_meta(FALLING), make_transitions(FALLING), references).axes[1]
    names = [text.get_text() for text in panel.texts]
    assert len(names) == 12 and names[-1] == "Assistant" and names[0] == "role 0"


def test_bars_go_to_the_side_of_their_sign_in_its_color_and_carry_their_feature() -> None:
    features = make_features(None)
    figure = top_features(features, shown=5)
    ax = figure.axes[0]
    bars = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    drawn = {round(bar.get_y() + bar.get_height() / 2): bar for bar in bars}
    labels = [label.get_text() for label in ax.get_yticklabels()]
    every = pd.concat(features.values()).drop_duplicates("feature_idx").set_index("feature_idx")
    shown = [int(label.split()[-1]) for label in labels]
    values = every.loc[shown, "contrib"]
    assert [drawn[i].get_width() for i in range(10)] == pytest.approx(values.tolist())
    assert values.tolist() == sorted(every["contrib"])[:5] + sorted(every["contrib"])[-5:]
    assert [to_hex(drawn[i].get_edgecolor()) for i in range(10)] == [ORANGE] * 5 + [BLUE] * 5
    filled = [to_hex(drawn[i].get_facecolor()) != "#ffffff" for i in range(10)]
    assert filled == (every.loc[shown, "direction"] == "activated").tolist()
    assert labels[0].startswith("[poet 12%, ghost 8%, spy 5%]")
    intervals = next(item for item in ax.collections if item.get_label() == "bootstrap interval")
    assert isinstance(intervals, LineCollection)
    ends = [(segment[0][0], segment[1][0]) for segment in np.asarray(intervals.get_segments())]
    assert ends == pytest.approx(every.loc[shown, ["contrib_low", "contrib_high"]].to_numpy())


def test_long_descriptions_are_cut() -> None:
    ax = top_features(make_features("a very long description " * 50)).axes[0]
    assert max(len(label.get_text()) for label in ax.get_yticklabels()) < 70


def test_heat_keeps_the_sign_and_only_zero_is_white() -> None:
    values = np.array([-50.0, -1.0, -1e-9, 0.0, 1e-9, 0.5, 1.0, 50.0, NAN])
    steps = heat_steps(values, limit=1.0)
    assert steps.tolist() == [-10, -10, -1, 0, 1, 5, 10, 10, 0]
    for step in range(-HEAT_STEPS, HEAT_STEPS + 1):
        red, _, blue = to_rgb(heat_color(step))
        assert np.sign(round(blue - red, 3)) == np.sign(step)
    assert heat_color(0) == "#ffffff"


def test_black_text_can_be_read_on_every_heat_color() -> None:
    for step in range(-HEAT_STEPS, HEAT_STEPS + 1):
        channels = np.array(to_rgb(heat_color(step)))
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        assert (linear @ [0.2126, 0.7152, 0.0722] + 0.05) / 0.05 > 4.5


def test_the_limit_of_heat_ignores_an_outlier_and_is_never_zero() -> None:
    assert heat_limit(np.r_[np.linspace(-1, 1, 1000), 500.0]) == pytest.approx(0.98, abs=0.02)
    assert heat_limit(np.zeros(5)) == heat_limit(np.array([])) == heat_limit(np.array([NAN])) == 1.0
    assert heat_limit(np.r_[np.zeros(100), 3.0]) == 3.0


def test_token_bars_have_sign_color_and_a_zero_line() -> None:
    q3 = make_tokens([["a", "b"], ["\u2581Hello", ",", "\u2581you"]], [[1.0, 1.0], [0.7, -0.4, 0.2]])
    figure = token_heat(q3, 1)
    bars = figure.axes[0].collections[0]
    assert isinstance(bars, LineCollection)
    assert [segment[1][1] for segment in np.asarray(bars.get_segments())] == [0.7, -0.4, 0.2]
    assert [to_hex(color) for color in np.asarray(bars.get_colors())] == [BLUE, ORANGE, BLUE]
    assert any(set(np.atleast_1d(line.get_ydata())) == {0} for line in figure.axes[0].lines)
    assert [text.get_text() for text in figure.axes[1].texts] == [" Hello", ",", " you"]
    colors = [to_hex(color) for color in np.asarray(figure.axes[1].collections[0].get_facecolor())]
    assert colors == [
        heat_color(step) for step in heat_steps(np.array([0.7, -0.4, 0.2]), heat_limit(q3["u_k"].to_numpy(float)))
    ]


def test_a_turn_without_tokens_or_no_transition_shows_the_first_turn_that_has_some() -> None:
    q3 = make_tokens([[], ["a"], ["b"]])
    for selected in (None, 0, 7):
        assert texts_of(token_heat(q3, selected)) == "a"
    assert texts_of(token_heat(q3, 2)) == "b"


def test_long_turns_show_all_bars_and_say_how_much_of_the_text() -> None:
    figure = token_heat(make_tokens([["\u2581wordwordword"] * 3000]), 0)
    assert len(figure.axes[0].collections[0].get_paths()) == 3000
    shown = len(figure.axes[1].texts)
    assert 200 < shown < 3000 and f"first {shown:,} tokens" in figure.axes[1].get_title(loc="left")


def test_indented_code_keeps_its_lines_and_indent() -> None:
    q3 = make_tokens([["def", "\u2581f", "():", "\n", "\u2581\u2581\u2581\u2581", "return", "\u25811", "\n\n", "x"]])
    assert [text.get_text() for text in token_heat(q3, 0).axes[1].texts] == [
        *("def", " f", "():", "\u21b5", "    ", "return", " 1", "\u21b5", "\u21b5", "x"),
    ]


def test_nearest_roles_stand_at_their_turn_with_cosine_and_rank() -> None:
    trace = pd.DataFrame(
        [(0, 1, "Assistant", 0.9), (0, 2, "poet", 0.4), (2, 1, "poet", 0.7), (2, 2, "spy", 0.3)],
        columns=["assistant_turn", "rank", "role", "cosine"],
    )
    ax = nearest_roles(trace).axes[0]
    mesh = next(item for item in ax.collections if isinstance(item, QuadMesh))
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["Assistant", "poet", "spy"]
    cosines = np.ma.filled(np.ma.asarray(mesh.get_array()), np.nan).reshape(3, 3)
    np.testing.assert_array_equal(cosines, [[0.9, NAN, NAN], [0.4, NAN, 0.7], [NAN, NAN, 0.3]])
    ranks = {
        (round(text.get_position()[0]), names[round(text.get_position()[1])]): text.get_text() for text in ax.texts
    }
    assert ranks == {(0, "Assistant"): "1", (0, "poet"): "2", (2, "poet"): "1", (2, "spy"): "2"}


def test_rarely_near_roles_are_left_out_and_counted() -> None:
    trace = make_role_trace(60, ["assistant", *(f"role {i}" for i in range(200))])
    ax = nearest_roles(trace).axes[0]
    assert len(ax.get_yticklabels()) == 20
    assert f"({trace['role'].nunique() - 20} roles" in ax.get_xlabel()


def test_confounds_show_the_tables_correlation_and_its_grade() -> None:
    meta = make_turn_meta(FALLING)
    diagnostics = make_diagnostics(meta)
    figure = confounds(meta, diagnostics, warn=0.3, high=0.9)
    for ax, value in zip(figure.axes, diagnostics["corr(score, metric)"], strict=False):
        assert f"{abs(value):.2f}" in ax.get_title() and ("HIGH" in ax.get_title()) == (abs(value) >= 0.9)
    assert verdict(-0.95, 0.4, 0.7)[0] == "r = \u22120.95 (HIGH)"
    assert [verdict(r, 0.4, 0.7)[0].split()[-1] for r in (0.7, 0.4, 0.39, NAN)] == [
        *("(HIGH)", "(MODERATE)", "(LOW)", "(N/A)"),
    ]


def test_font_text_drops_what_a_font_cannot_draw() -> None:
    assert font_text("a\x00b\x1b c\u202ed\n\te") == "a b c d e"
    assert font_text("x \u4f60\u597d\u4e16 y") == f"x {MISSING_GLYPH} y"
    assert font_text("abcdef", 4) == "abc\u2026" and font_text("abcd", 4) == "abcd"
    assert font_text(None) == font_text(NAN) == ""


def test_conversations_with_an_onset_come_first_then_the_larger_fall_and_failures_last() -> None:
    summary = make_summary()
    kept, failed = ranked(summary)
    assert failed["conversation"].tolist() == ["broken"]
    for _, part in kept.groupby("analysis"):
        onset = part["onset"].notna().tolist()
        assert onset == sorted(onset, reverse=True) and sum(onset) == 2
        for drifts in (True, False):
            falls = part["fall"].to_numpy(float)[np.array(onset) == drifts]
            assert (np.diff(falls) >= 0).all()


def test_the_ranking_is_drawn_from_the_first_to_the_lowest_score(tmp_path: Path) -> None:
    summary = make_summary(6, ("default",))
    figure = ranking_figure(summary)
    ax = figure.axes[0]
    part = ranked(summary)[0]
    labels = [label.get_text().split()[0] for label in ax.get_yticklabels()]
    assert labels == part["conversation"].tolist()
    np.testing.assert_array_equal(line_of(ax, "first turn")[:, 0], part["score_first"])
    np.testing.assert_array_equal(line_of(ax, "lowest turn")[:, 0], part["score_min"])
    assert "broken: broken.json: no messages" in texts_of(figure)
    save_figure(figure, tmp_path / "a.png", tmp_path / "a.svg")


@pytest.mark.parametrize("which", ["none", "failed", "many", "strange"])
def test_any_ranking_is_drawn(tmp_path: Path, which: str) -> None:
    summary = make_summary(60)
    summary = {
        "none": summary.iloc[:0],
        "failed": summary.loc[summary["status"] != "ok"],
        "many": summary,
        "strange": summary.assign(conversation=STRANGE, reason=STRANGE),
    }[which]
    save_figure(ranking_figure(summary), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
