"""Figures of drift runs: every case is drawn, signs and colors say what the tables say, texts are taken literally."""

import itertools
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.text import Text

from personascope.display import fonts
from personascope.display.figure import BLUE, MISSING_GLYPH, ORANGE, font_text, message_figure, save_figure
from personascope.display.heat import HEAT_STEPS, heat_color, heat_limit, heat_steps
from personascope.drift.calibration import BAND
from personascope.drift.pages.confounds import METRICS, confounds, verdict
from personascope.drift.pages.figures import DRIFT_FIGURES
from personascope.drift.pages.ranking import ranking_figure, ranking_html
from personascope.drift.pages.roles import nearest_roles
from personascope.drift.pages.tokens import token_heat
from personascope.drift.pages.trajectory import EXPECTED, trajectory
from personascope.drift.result import Verdict
from personascope.formats.tables import read_csv, write_csv
from tests.helpers.drift_examples import (
    make_diagnostics,
    make_features,
    make_nulls,
    make_references,
    make_role_cosines,
    make_run,
    make_summary,
    make_tokens,
    make_transitions,
    make_turn_meta,
    make_verdict,
)

NAN = float("nan")
FALLING = [16.0, 15.5, 15.8, 15.0, 14.2, 9.0, 8.5, 8.8, 7.9, 8.1]
RUNS = {
    "plain": make_run(FALLING),
    "one turn": make_run([12.3]),
    "no turn": make_run([]),
    "no tokens": make_run([NAN, NAN]),
    "empty turns": make_run([16.0, NAN, 14.0, NAN, 9.0, 9.5], tested=True, alarm_turn=4),
    "two turns": make_run([15.0, 14.0], tested=True),
    "eighty turns": make_run(np.linspace(16, 5, 80).tolist(), tested=True, alarm_turn=50),
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
    verdict = make_verdict(4) if run == "empty turns" else make_verdict(turns_max=60)
    context = {"references": make_references(), "title": f"{run} \u00b7 default", "verdict": verdict}
    save_figure(DRIFT_FIGURES[name](RUNS[run], context), tmp_path / "a.svg")
    assert ET.fromstring((tmp_path / "a.svg").read_text(encoding="utf-8")).tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("name", DRIFT_FIGURES)
def test_the_same_tables_give_the_same_bytes_also_from_csv(tmp_path: Path, name: str) -> None:
    tables = make_run(FALLING, tested=True, alarm_turn=5)
    context = {"references": make_references(), "verdict": make_verdict(5)}
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
    tables = {**make_run(FALLING, tested=True), **make_features(STRANGE)}
    tables["role_cosines"] = make_role_cosines(10, ["assistant", *(f"{i} {STRANGE}" for i in range(5))])
    tables["q3_token_localization"] = make_tokens(
        [["\u2581$", "x^", "$\u4f60", "\u2581\u05e9", "\x00", "\U0001f642"]] * 10
    )
    references = make_references(["assistant", STRANGE])
    verdict = make_verdict(domain=STRANGE)
    figure = DRIFT_FIGURES[name](tables, {"title": STRANGE, "references": references, "verdict": verdict})
    save_figure(figure, tmp_path / "a.svg")
    ET.fromstring((tmp_path / "a.svg").read_text(encoding="utf-8"))


def test_the_trajectory_shows_scores_gaps_what_is_expected_and_the_selected_drop() -> None:
    scores = [16.0, NAN, 15.0, 9.0, 9.5]
    meta = make_turn_meta(scores, tested=True, alarm_turn=3)
    figure = trajectory(meta, make_transitions(scores), make_references(), verdict=make_verdict(3))
    ax, below, last = (figure.axes[i] for i in (0, 1, 2))
    np.testing.assert_array_equal(line_of(ax, "score of a turn"), [(0, 16.0), (1, NAN), (2, 15.0)])
    np.testing.assert_array_equal(line_of(ax, "score from the alarm on"), [(3, 9.0), (4, 9.5)])
    assert line_of(ax, "turn without tokens")[:, 0].tolist() == [1]
    (band,) = [patch for patch in ax.patches if isinstance(patch, StepPatch)]
    high, _, low = band.get_data()
    assert band.get_label() == EXPECTED and (set(high), set(np.asarray(low))) == ({16.64}, {13.36})
    selected = next(line for line in ax.lines if "transition explained" in str(line.get_label()))
    assert "2 \u2192 3 (\u22126)" in str(selected.get_label()) and to_hex(selected.get_color()) == ORANGE
    np.testing.assert_array_equal(selected.get_xydata(), [(2, 15.0), (3, 9.0)])
    assert "z" in below.get_ylabel() and "evidence" in last.get_ylabel()
    np.testing.assert_array_equal(np.asarray(below.lines[1].get_ydata()), meta["z"])
    assert line_of(last, "alarm level")[:, 1].tolist() == [1.4, 1.4]


def test_the_title_says_the_verdict_and_the_legend_the_measured_rate() -> None:
    meta, steps = make_turn_meta(FALLING, tested=True, alarm_turn=5), make_transitions(FALLING)
    figure = trajectory(meta, steps, verdict=make_verdict(5))
    assert figure.axes[0].get_title(loc="left") == "alarm at turn 5 (evidence since turn 3, set 2\u20134), p = 0.0083"
    said = figure.legends[0].get_title().get_text().replace("\n", " ")
    assert said == (
        "false alarms stated: 5 %; measured on held-out plain conversations of the domain cooking: 4.2 % "
        "(95 % interval 1.4 % to 9.5 %, n = 119)"
    )
    assert {"alarm: turn 5", "where the evidence began: turn 3, set 2\u20134"} <= set(legend_of(figure))
    quiet = trajectory(meta.assign(alarm=False), steps, verdict=make_verdict())
    assert quiet.axes[0].get_title(loc="left") == "no alarm, p = 0.41"
    untested = trajectory(make_turn_meta(FALLING), steps, verdict=Verdict(0.05, reason="no reference conversations"))
    assert untested.axes[0].get_title(loc="left") == "no test: no reference conversations"
    assert len(untested.axes) == 1 and untested.legends[0].get_title().get_text() == ""


def test_turns_behind_the_length_of_the_references_are_marked_as_not_tested() -> None:
    meta, steps = make_turn_meta(FALLING, tested=True), make_transitions(FALLING)
    figure = trajectory(meta, steps, verdict=make_verdict(turns_max=7))
    assert any("not tested" in text for text in legend_of(figure))
    (hatched,) = [patch for patch in figure.axes[0].patches if patch.get_hatch()]
    assert isinstance(hatched, Rectangle) and (hatched.get_x(), hatched.get_width()) == (6.5, 3.0)
    assert not any("not tested" in text for text in legend_of(trajectory(meta, steps, verdict=make_verdict())))


def test_evidence_far_beyond_the_level_does_not_hide_what_happens_around_it() -> None:
    scores = np.linspace(16, 5, 80).tolist()
    meta = make_turn_meta(scores, tested=True, alarm_turn=30)
    ax = trajectory(meta, make_transitions(scores), verdict=make_verdict(30)).axes[2]
    assert ax.get_ylim()[1] < 5 * 1.4
    (label,) = [line.get_label() for line in ax.lines if "evidence above" in str(line.get_label())]
    assert label == f"evidence above 5.6 (largest {meta['evidence'].max():.2g})"


def test_nothing_overlaps_the_edge_of_a_trajectory() -> None:
    for n in (2, 8, 20, 80):
        scores = (15 - np.linspace(0, 6, n)).tolist()
        meta = make_turn_meta(scores, tested=True, alarm_turn=n - 1)
        figure = trajectory(meta, make_transitions(scores), make_references(), verdict=make_verdict(n - 1), title="t")
        figure.draw_without_rendering()
        assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1
        labels = [ax.yaxis.label.get_window_extent() for ax in figure.axes if ax.get_ylabel()]
        assert len(labels) == 3 and not any(a.overlaps(b) for a, b in itertools.combinations(labels, 2))


def test_a_selected_rise_is_blue() -> None:
    scores = [3.0, 5.0]
    ax = trajectory(make_turn_meta(scores), make_transitions(scores)).axes[0]
    selected = next(line for line in ax.lines if "transition explained" in str(line.get_label()))
    assert to_hex(selected.get_color()) == BLUE and "(+2)" in str(selected.get_label())


def test_of_many_reference_roles_the_assistant_is_always_shown() -> None:
    references = make_references(["default", *(f"role {i}" for i in range(40)), "Assistant"])
    panel = trajectory(make_turn_meta(FALLING), make_transitions(FALLING), references).axes[1]
    names = [text.get_text() for text in panel.texts]
    assert len(names) == 12 and names[-1] == "Assistant" and names[:2] == ["default", "role 0"]


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


def test_exact_weights_are_shown_where_there_are_some() -> None:
    q3 = make_tokens([["a", "b"]], [[1.0, -1.0]]).assign(w=[0.25, 0.5])
    figure = token_heat(q3, 0)
    bars = figure.axes[0].collections[0]
    assert isinstance(bars, LineCollection)
    assert [segment[1][1] for segment in np.asarray(bars.get_segments())] == [0.25, 0.5]
    assert figure.axes[0].get_ylabel().startswith("w:") and "the w of a turn add up" in figure.axes[0].get_title(
        loc="left"
    )
    assert token_heat(q3.drop(columns="w"), 0).axes[0].get_ylabel().startswith("u:")


def test_pieces_of_one_character_are_one_text_with_their_mean_or_sum() -> None:
    pieces = ["\u0120a", "\u00c3", "\u00a9", "\u0120b"]
    q3 = make_tokens([pieces], [[1.0, 0.2, 0.4, -1.0]])
    for table, value in ((q3, np.mean([0.2, 0.4])), (q3.assign(w=q3["u_k"]), np.sum([0.2, 0.4]))):
        figure = token_heat(table, 0)
        assert [text.get_text() for text in figure.axes[1].texts] == [" a", "\u00e9", " b"]
        assert len(figure.axes[0].collections[0].get_paths()) == 4
        colors = [to_hex(color) for color in np.asarray(figure.axes[1].collections[0].get_facecolor())]
        assert colors[1] == heat_color(int(heat_steps(np.array([value]), heat_limit(q3["u_k"].to_numpy(float)))[0]))
        assert "share a box" in figure.axes[1].get_title(loc="left")


def test_characters_that_no_font_has_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    without_fallbacks(monkeypatch)
    figure = token_heat(make_tokens([["\u4f60\u597d", "\u2581ok", "\u2581\U0001f642"]]), 0)
    said = figure.axes[1].get_title(loc="left").replace("\n", " ")
    assert "no installed font has 2 CJK (U+4F60, U+597D); 1 symbols (U+1F642)" in said and "token_heat.html" in said
    assert texts_of(figure).startswith(MISSING_GLYPH)
    title = nearest_roles(make_role_cosines(2, ["\u4f60\u597d", "poet"])).get_suptitle()
    assert title == f"{MISSING_GLYPH}: characters that no installed font has"


def test_right_to_left_text_is_said_to_be_in_another_order() -> None:
    figure = token_heat(make_tokens([["\u05e9\u05dc\u05d5\u05dd"]]), 0)
    assert "right-to-left" in figure.axes[1].get_title(loc="left")


def test_nearest_roles_stand_at_their_turn_the_anchors_first() -> None:
    table = pd.DataFrame({"assistant_turn": [0, 1, 2], "poet": [0.4, NAN, 0.7], "Assistant": [0.9, NAN, -0.2]})
    ax = nearest_roles(table.assign(spy=[-0.1, NAN, 0.3]), anchors=["assistant"]).axes[0]
    mesh = next(item for item in ax.collections if isinstance(item, QuadMesh))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Assistant", "poet", "spy"]
    cosines = np.ma.filled(np.ma.asarray(mesh.get_array()), np.nan).reshape(3, 3)
    np.testing.assert_array_equal(cosines, [[0.9, NAN, -0.2], [0.4, NAN, 0.7], [-0.1, NAN, 0.3]])
    assert mesh.norm.vmin == -0.9 and mesh.norm.vmax == 0.9, "white is 0"
    assert line_of(ax, "nearest role of the turn").tolist() == [[0, 0], [2, 1]]
    assert "grey: turn without tokens" in ax.get_xlabel()


def test_rarely_near_roles_are_left_out_and_counted_but_no_anchor() -> None:
    names = [*(f"role {i}" for i in range(200)), "assistant", "default"]
    table = make_role_cosines(60, names)
    table["default"] = -0.9
    ax = nearest_roles(table).axes[0]
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert len(shown) == 25 and set(shown[:2]) == {"assistant", "default"}
    best = table[names].to_numpy().argmax(1)
    hidden = sum(names[role] not in shown for role in best)
    assert "177 further roles" in ax.get_xlabel() and f"the nearest of {hidden} turns" in ax.get_xlabel()


def test_confounds_show_the_strongest_metrics_and_all_correlations() -> None:
    meta = make_turn_meta(FALLING)
    diagnostics = make_diagnostics(meta).set_index("metric")
    figure = confounds(meta, diagnostics.reset_index())
    values: Any = diagnostics["corr(score, metric)"]
    strongest = list(values.abs().sort_values(ascending=False).index[:2])
    assert [ax.get_xlabel() for ax in figure.axes[:2]] == [METRICS[name] for name in strongest]
    np.testing.assert_array_equal(np.asarray(figure.axes[0].collections[0].get_offsets())[:, 1], FALLING)
    bars = [patch.get_width() for patch in figure.axes[2].patches if isinstance(patch, Rectangle)]
    assert bars == pytest.approx(np.nan_to_num(values).tolist()) and len(bars) == 6
    assert [text.get_text() for text in figure.axes[2].texts][4] == "does not vary"
    assert "n = 10 turns" in figure.axes[2].get_title(loc="left")


def test_the_verdict_on_confounds_needs_enough_turns() -> None:
    assert verdict([0.95, -0.2], 5, 10, 0.4, 0.7)[0] == "N/A: n = 5 < 10 turns"
    words = [verdict([r, 0.1], 10, 10, 0.4, 0.7)[0] for r in (-0.7, 0.4, 0.39)]
    assert words == ["HIGH: |r| reaches 0.70", "MODERATE: |r| up to 0.40", "LOW: |r| up to 0.39"]
    assert verdict([NAN], 10, 10, 0.4, 0.7)[0] == "N/A: nothing varies"
    few = FALLING[:5]
    title = confounds(make_turn_meta(few), make_diagnostics(make_turn_meta(few))).axes[2].get_title(loc="left")
    assert title.startswith("N/A: n = 5 < 10 turns") and "HIGH" not in title


def without_fallbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No fonts but matplotlib's own."""
    monkeypatch.setattr(fonts, "_installed", lambda: ())
    for function in (fonts._font_of, fonts._advance):
        function.cache_clear()
        monkeypatch.setattr(fonts, function.__name__, function.__wrapped__)


def test_font_text_drops_what_a_font_cannot_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    without_fallbacks(monkeypatch)
    assert font_text("a\x00b\x1b c\u202ed\n\te") == "a b c d e"
    assert font_text("x \u4f60\u597d\u4e16 y") == f"x {MISSING_GLYPH} y"
    assert font_text("abcdef", 4) == "abc\u2026" and font_text("abcd", 4) == "abcd"
    assert font_text(None) == font_text(NAN) == ""


def test_installed_fonts_draw_what_the_own_one_lacks() -> None:
    if not fonts.can_draw("\u4f60"):
        pytest.skip("no font with Chinese is installed")
    figure = message_figure("\u4f60\u597d", "\u4f60")
    assert font_text("\u4f60\u597d") == "\u4f60\u597d"
    assert all(len(text.get_fontfamily()) == 2 for text in figure.findobj(Text) if "\u4f60" in text.get_text())
    assert fonts.columns("ab") == pytest.approx(2) and 1.5 < fonts.columns("\u4f60") < 2.1
    figure.draw_without_rendering()


def test_the_ranking_shows_p_and_the_lowest_z_beside_the_references(tmp_path: Path) -> None:
    summary, nulls = make_summary(6, ("default",)), make_nulls(("default",))
    figure = ranking_figure(summary, nulls)
    left, right = figure.axes[:2]
    part = summary.loc[summary["status"] == "ok"]
    assert [label.get_text() for label in left.get_yticklabels()] == part["conversation"].tolist()
    weights = [label.get_fontweight() for label in left.get_yticklabels()]
    assert weights == ["bold"] * 2 + ["normal"] * 4
    alarms, quiet = part.iloc[:2], part.iloc[2:]
    for ax, column in ((left, "p_value"), (right, "fall")):
        np.testing.assert_array_equal(line_of(ax, "alarm (name in bold)")[:, 0], alarms[column])
        np.testing.assert_array_equal(line_of(ax, "no alarm")[:, 0], quiet[column])
    assert line_of(left, "stated share of false alarms (5 %)")[:, 0].tolist() == [0.05, 0.05]
    assert left.get_xlim()[0] < 0.05
    (band,) = [patch for patch in right.patches if "plain conversations" in str(patch.get_label())]
    assert isinstance(band, Rectangle) and band.get_x() == -BAND
    assert "on held-out references: 5 % (95 % interval 2 % to 11 %, n = 120)" in right.get_title(loc="left")
    assert "broken: broken.json: no messages" in texts_of(figure)
    save_figure(figure, tmp_path / "a.png", tmp_path / "a.svg")


def test_an_analysis_without_a_test_is_a_line_in_the_ranking() -> None:
    summary = make_summary(4, ("default",)).assign(p_value=NAN, fall=NAN, alarm_turn=pd.NA)
    said = texts_of(ranking_figure(summary, {"default": make_nulls()["cosine"]}))
    assert "4 conversations, not tested: no reference conversations: drift.references is empty" in said


def test_the_ranking_says_which_axis_is_not_to_be_interpreted_and_shows_the_level_however_large_p_is() -> None:
    summary = make_summary(4).assign(p_value=0.6, axis_doubt="")
    summary.loc[summary["analysis"] == "default", "axis_doubt"] = "AUC 0.72 < 0.75"
    figure = ranking_figure(summary, make_nulls(("default",)))
    said = {ax.get_title(loc="left"): figure.axes[i + 1].get_title(loc="left") for i, ax in enumerate(figure.axes[:-1])}
    assert "Do not interpret: AUC 0.72 < 0.75 (of the axis)" in said["analysis default"]
    assert "Do not interpret" not in said["analysis cosine"]
    panel = next(ax for ax in figure.axes if ax.get_title(loc="left") == "analysis default")
    assert panel.get_xlim()[0] < 0.05
    page = ranking_html(summary, make_nulls(("default",)))
    assert page.count("Do not interpret: AUC 0.72 &lt; 0.75 (of the axis)") == 1


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
