"""The figure of the scores over turns: where the conversation leaves the assistant, and how sure that is."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from personascope.display.figure import (
    BLACK,
    BLUE,
    GREY,
    NO_TABLE,
    ORANGE,
    PALE_BLUE,
    PALE_GREY,
    PALE_ORANGE,
    clean,
    finish,
    font_text,
    is_role,
    message_figure,
    signed,
    turn_ticks,
)
from personascope.drift.calibration import BAND
from personascope.drift.pages.words import rate_line, verdict_line
from personascope.drift.result import Verdict
from personascope.formats.tables import numbers, truths

MOST_ROLES = 12  # columns of the panel of the roles' own responses
EXPECTED = "middle 90 % of plain conversations at that turn and length"
EVIDENCE_CUT = 4.0  # times the level: evidence beyond it would hide what happens around the level
CHARACTERS = 13.5  # of the verdict's line an inch


def selected_transition(transition_df: pd.DataFrame) -> dict[Any, Any] | None:
    """The row of the selected transition, or None."""
    rows = transition_df.loc[truths(transition_df, "selected")].to_dict("records")
    return rows[0] if rows else None


def trajectory(
    turn_meta: pd.DataFrame,
    transition_df: pd.DataFrame,
    references: pd.DataFrame = NO_TABLE,
    *,
    verdict: Verdict | None = None,
    anchors: Sequence[str] = ("default", "assistant"),
    title: str = "",
) -> Figure:
    """The score over turns, up is toward the assistant; a turn without tokens is a gap.

    Where the test was made, the band behind the scores is what plain conversations score, and two panels below show
    the scores in standard deviations from that, and the evidence that they add up to. references: role, q25, median,
    q75 of the scores of some roles' own responses, which stand in a panel at the side.
    """
    turns, scores = numbers(turn_meta, "assistant_turn"), numbers(turn_meta, "score")
    if not np.isfinite(scores).any():
        return message_figure("No assistant turn has a score.", title)
    tested = bool(np.isfinite(numbers(turn_meta, "evidence")).any())
    roles = _shown_references(references, anchors)
    width = float(np.clip(4.5 + 0.16 * len(turns), 7, 13))
    side = 0.6 + 0.27 * len(roles)
    size = (width + (side if len(roles) else 0), 7.2 if tested else 4.4)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(
        3 if tested else 1,
        2 if len(roles) else 1,
        height_ratios=(3, 1.1, 1.1) if tested else None,
        width_ratios=(width, side) if len(roles) else None,
    )
    panels = [figure.add_subplot(grid[0, 0])]
    panels += [figure.add_subplot(grid[row, 0], sharex=panels[0]) for row in ((1, 2) if tested else ())]
    _draw_scores(panels[0], turn_meta)
    _draw_selected(panels[0], turn_meta, selected_transition(transition_df))
    if len(roles):
        _draw_references(figure.add_subplot(grid[0, 1], sharey=panels[0]), roles, anchors, room_below=tested)
    if tested:
        _draw_standardized(panels[1], turn_meta)
        _draw_evidence(panels[2], turn_meta)
    if verdict is not None:
        _draw_verdict(panels, turns, verdict)
        line = textwrap.fill(font_text(verdict_line(verdict)), int(CHARACTERS * width))
        color = BLACK if verdict.alarm_turn is None else ORANGE
        panels[0].set_title(line, loc="left", fontsize=10, color=color)
    for panel in panels[:-1]:
        panel.tick_params(labelbottom=False)
    turn_ticks(panels[-1], turns)
    handles = [handle for panel in figure.axes for handle in panel.get_legend_handles_labels()[0]]
    note = "" if verdict is None else textwrap.fill(font_text(rate_line(verdict)), int(17 * size[0]))
    legend = figure.legend(handles=handles, loc="outside lower left", ncols=2 if size[0] < 13 else 3, frameon=False)
    legend.set_title(note, FontProperties(size=7.5))
    legend.set_alignment("left")
    for text in legend.get_texts():
        text.set_fontsize(8)
    return finish(figure, title)


def _shown_references(references: pd.DataFrame, anchors: Sequence[str]) -> pd.DataFrame:
    """Roles by their median, highest first; of too many, the anchors and some spread over the others."""
    if not len(references):
        return references
    ordered = references.loc[np.isfinite(numbers(references, "median"))].sort_values(by="median", ascending=False)
    ours = np.array([_is_anchor(role, anchors) for role in ordered["role"]], bool)
    others, kept = np.flatnonzero(~ours), MOST_ROLES - int(ours.sum())
    if len(others) > kept:
        others = others[np.linspace(0, len(others) - 1, max(kept, 2)).round().astype(int)]
    return ordered.iloc[np.sort(np.concatenate([np.flatnonzero(ours), others]))]


def _is_anchor(role: Any, anchors: Sequence[str]) -> bool:
    return any(is_role(role, anchor) for anchor in anchors)


def _steps(ax: Axes, turns: np.ndarray, low: np.ndarray, high: np.ndarray, **style: Any) -> None:
    """A band that is as wide as its turns, so that a single turn has one too."""
    edges = np.append(turns - 0.5, turns[-1] + 0.5)
    ax.stairs(high, edges, baseline=low, fill=True, linewidth=0, zorder=0, **style)


def _draw_scores(ax: Axes, turn_meta: pd.DataFrame) -> None:
    turns, scores = numbers(turn_meta, "assistant_turn"), numbers(turn_meta, "score")
    expected = numbers(turn_meta, "expected")
    if np.isfinite(expected).any():
        low, high = numbers(turn_meta, "expected_low"), numbers(turn_meta, "expected_high")
        _steps(ax, turns, low, high, color=PALE_BLUE, alpha=0.45, label=EXPECTED)
        ax.plot(turns, expected, "_", color="#5b9bc4", markersize=9, markeredgewidth=1.4, label="their mean", zorder=1)
    low, high = numbers(turn_meta, "score_low"), numbers(turn_meta, "score_high")
    ax.plot(turns, scores, color=BLUE, linewidth=1.6, zorder=3)
    if np.isfinite(low).any():
        label = "95 % interval (questions, variants, the turn's tokens)"
        ax.vlines(turns, low, high, color=BLUE, linewidth=1.1, alpha=0.8, label=label, zorder=2)
    alarm, scored = truths(turn_meta, "alarm"), np.isfinite(scores)
    _draw_turns(ax, turns, scores, alarm, "score of a turn", "score from the alarm on")
    if not scored.all():
        style = {"color": GREY, "transform": ax.get_xaxis_transform(), "label": "turn without tokens"}
        ax.plot(turns[~scored], np.full((~scored).sum(), 0.03), "x", **style)
    bottom, top = ax.get_ylim()
    if bottom < 0 < top:
        ax.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    ax.set_ylabel("score\n(up: toward the assistant)")
    clean(ax)


def _draw_turns(ax: Axes, turns: np.ndarray, values: np.ndarray, alarm: np.ndarray, *labels: str | None) -> None:
    """Blue circles before the alarm, orange diamonds from it on."""
    size = float(np.clip(200 / max(len(turns), 1), 2.5, 5.5))
    for rows, marker, color, label in zip((~alarm, alarm), "oD", (BLUE, ORANGE), labels, strict=True):
        if (rows & np.isfinite(values)).any():
            ax.plot(turns[rows], values[rows], marker, color=color, markersize=size, label=label, zorder=5)


def _draw_selected(ax: Axes, turn_meta: pd.DataFrame, selected: dict[Any, Any] | None) -> None:
    """The selected transition: the step between its two turns, in the color of its sign."""
    if selected is None:
        return
    ends = [int(selected["prev_turn"]), int(selected["turn"])]
    score_of = dict(zip(numbers(turn_meta, "assistant_turn"), numbers(turn_meta, "score"), strict=True))
    change = float(selected["delta_score"])
    what = "no drop; the smallest rise is" if selected.get("no_drop") else "transition"
    label = f"{what} explained in top_features: {ends[0]} \u2192 {ends[1]} ({signed(change, '.3g')})"
    color = ORANGE if change < 0 else BLUE
    values = [score_of.get(end, np.nan) for end in ends]
    ax.plot(ends, values, color=color, linewidth=5, alpha=0.45, solid_capstyle="round", label=label, zorder=4)


def _draw_references(ax: Axes, roles: pd.DataFrame, anchors: Sequence[str], *, room_below: bool) -> None:
    """Each role's middle half and median, one column a role, on the scores' scale."""
    under = ax.get_xaxis_transform()
    for place, row in enumerate(roles.to_dict("records")):
        color = BLUE if _is_anchor(row["role"], anchors) else GREY
        ax.vlines(place, row["q25"], row["q75"], color=color, linewidth=6, alpha=0.45)
        ax.plot(place, row["median"], "_", color=color, markersize=9, markeredgewidth=2)
        name = ax.text(place, -0.03, font_text(row["role"], 18), rotation=90, fontsize=8, ha="center", transform=under)
        name.set(va="top", color=BLUE if color == BLUE else BLACK, in_layout=not room_below)
    ax.set_xticks([])
    ax.set_xlim(-0.7, len(roles) - 0.3)
    ax.tick_params(axis="y", labelleft=False)
    ax.set_title("single answers in each role\n(middle half, median)", fontsize=8, color=BLACK)
    clean(ax)


def _draw_standardized(ax: Axes, turn_meta: pd.DataFrame) -> None:
    """The scores in standard deviations from what is expected of them."""
    turns, z = numbers(turn_meta, "assistant_turn"), numbers(turn_meta, "z")
    reach = np.where(np.isfinite(numbers(turn_meta, "evidence")), BAND, np.nan)
    _steps(ax, turns, -reach, reach, color=PALE_BLUE, alpha=0.45)
    ax.axhline(0, color="#5b9bc4", linewidth=1, zorder=1)
    ax.plot(turns, z, color=BLUE, linewidth=1.2, zorder=3)
    _draw_turns(ax, turns, z, truths(turn_meta, "alarm"), None, None)
    low, high = np.nanmin(z), np.nanmax(z)
    ax.set_ylim(min(low, -BAND) - 0.6, max(high, BAND) + 0.6)
    ax.set_ylabel("z\n(sd)", fontsize=9)
    clean(ax)


def _draw_evidence(ax: Axes, turn_meta: pd.DataFrame) -> None:
    """The evidence that has added up by each turn, and the level that it must pass for an alarm."""
    turns, evidence = numbers(turn_meta, "assistant_turn"), numbers(turn_meta, "evidence")
    level = numbers(turn_meta, "level")
    level = float(np.nanmax(level)) if np.isfinite(level).any() else np.nan
    alarm = truths(turn_meta, "alarm")
    top = 1.2 * float(np.nanmax([*evidence, level, 1.0]))
    cut = EVIDENCE_CUT * level if np.isfinite(level) and top > EVIDENCE_CUT * level else np.inf
    beyond = evidence > cut
    if beyond.any():
        top = 1.06 * cut
        label = f"evidence above {cut:.2g} (largest {np.nanmax(evidence):.2g})"
        ax.plot(turns[beyond], np.full(beyond.sum(), cut), "^", color=ORANGE, markersize=4, label=label, zorder=5)
    evidence, shown = np.minimum(evidence, cut), np.where(beyond, np.nan, evidence)
    colors = [ORANGE if passed else BLUE for passed in alarm]
    ax.vlines(turns, 0, evidence, colors=colors, linewidth=float(np.clip(120 / len(turns), 1.2, 4)), zorder=3)
    _draw_turns(ax, turns, shown, alarm, None, None)
    if np.isfinite(level):
        ax.axhspan(level, top, color=PALE_ORANGE, alpha=0.45, linewidth=0, zorder=0)
        ax.axhline(level, color=ORANGE, linewidth=1.2, linestyle=(0, (4, 2)), label="alarm level", zorder=1)
    ax.set_ylim(0, top)
    ax.set_ylabel("evidence\n(S / h)", fontsize=9)
    clean(ax)


def _draw_verdict(panels: list[Axes], turns: np.ndarray, verdict: Verdict) -> None:
    """The alarm, where its evidence began, and turns that are not tested, in every panel."""
    last, turns_max = turns.max() + 0.5, verdict.references.get("turns_max") or 0
    for panel in panels:
        first = panel is panels[0]
        if verdict.alarm_turn is not None:
            label = f"alarm: turn {verdict.alarm_turn}" if first else None
            panel.axvline(verdict.alarm_turn, color=ORANGE, linewidth=1.3, label=label, zorder=1)
        if verdict.onset_set is not None:
            low, high = verdict.onset_set
            label = f"where the evidence began: turn {verdict.onset}, set {low}\u2013{high}" if first else None
            panel.axvspan(low - 0.5, high + 0.5, color=PALE_GREY, alpha=0.8, linewidth=0, label=label, zorder=-1)
        if verdict.onset is not None:
            panel.axvline(verdict.onset, color=BLACK, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
        if not verdict.reason and turns_max - 0.5 < turns.max():
            label = "not tested: longer than the plain conversations" if first else None
            style = {"facecolor": "none", "edgecolor": "#bbbbbb", "hatch": "///", "linewidth": 0}
            panel.axvspan(turns_max - 0.5, last, label=label, zorder=-1, **style)
