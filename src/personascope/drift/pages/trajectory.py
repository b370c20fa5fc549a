"""The figure of the scores over turns: where the conversation leaves the assistant, and how sure that is."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
from personascope.formats.tables import numbers, truths

MOST_ROLES = 12  # columns of the reference panel


def selected_transition(transition_df: pd.DataFrame) -> dict[Any, Any] | None:
    """The row of the selected transition, or None."""
    rows = transition_df.loc[truths(transition_df, "selected")].to_dict("records")
    return rows[0] if rows else None


def onset_turn(turn_meta: pd.DataFrame) -> int | None:
    """The first turn at which the test rejects "still the assistant", or None."""
    rejecting = numbers(turn_meta, "assistant_turn")[truths(turn_meta, "rejects")]
    return int(rejecting.min()) if len(rejecting) else None


def trajectory(
    turn_meta: pd.DataFrame,
    transition_df: pd.DataFrame,
    references: pd.DataFrame = NO_TABLE,
    *,
    assistant: str = "assistant",
    title: str = "",
) -> Figure:
    """The score over turns, up is toward the assistant; a turn without tokens is a gap.

    references: role, q25, median, q75 of the scores of some roles' own responses. The assistant's middle half is a
    band behind the scores, every role's stands in a panel at the side. With calibration, a panel below shows the
    evidence against "still the assistant" and what of it is enough to reject.
    """
    turns, scores = numbers(turn_meta, "assistant_turn"), numbers(turn_meta, "score")
    if not np.isfinite(scores).any():
        return message_figure("No assistant turn has a score.", title)
    calibrated = np.isfinite(numbers(turn_meta, "evidence")).any()
    roles = _shown_references(references, assistant)
    width = float(np.clip(4.5 + 0.16 * len(turns), 6.5, 13))
    side = 0.5 + 0.27 * len(roles)
    figure = Figure(figsize=(width + (side if len(roles) else 0), 5.8 if calibrated else 4.2), layout="constrained")
    grid = figure.add_gridspec(
        2 if calibrated else 1,
        2 if len(roles) else 1,
        height_ratios=(3, 1.1) if calibrated else None,
        width_ratios=(width, side) if len(roles) else None,
    )
    ax = figure.add_subplot(grid[0, 0])
    _draw_scores(ax, turn_meta, roles, assistant)
    _draw_selected(ax, turn_meta, selected_transition(transition_df))
    if len(roles):
        _draw_references(figure.add_subplot(grid[0, 1], sharey=ax), roles, assistant, room_below=bool(calibrated))
    below = ax
    if calibrated:
        below = figure.add_subplot(grid[1, 0], sharex=ax)
        _draw_evidence(below, turn_meta)
        ax.tick_params(labelbottom=False)
    if (onset := onset_turn(turn_meta)) is not None:
        for panel in dict.fromkeys((ax, below)):
            panel.axvline(onset, color=BLACK, linestyle=(0, (4, 2)), linewidth=1.1, zorder=1)
        label = f"drift onset: turn {onset}{_since(turn_meta, onset)}"
        ax.plot([], [], color=BLACK, linestyle=(0, (4, 2)), linewidth=1.1, label=label)
    turn_ticks(below, turns)
    handles = [handle for panel in figure.axes for handle in panel.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=8)
    return finish(figure, title)


def _since(turn_meta: pd.DataFrame, onset: int) -> str:
    at_onset = numbers(turn_meta, "assistant_turn") == onset
    since = int(numbers(turn_meta, "evidence_since")[at_onset][0])
    return "" if since == onset else f", by evidence since turn {since}"


def _shown_references(references: pd.DataFrame, assistant: str) -> pd.DataFrame:
    """Roles by their median, highest first; of too many, the assistant and some spread over the others."""
    if not len(references):
        return references
    ordered = references.loc[np.isfinite(numbers(references, "median"))].sort_values(by="median", ascending=False)
    ours = np.array([is_role(role, assistant) for role in ordered["role"]], bool)
    others = np.flatnonzero(~ours)
    if len(others) > MOST_ROLES - 1:
        others = others[np.linspace(0, len(others) - 1, MOST_ROLES - 1).round().astype(int)]
    return ordered.iloc[np.sort(np.concatenate([np.flatnonzero(ours), others]))]


def _draw_scores(ax: Axes, turn_meta: pd.DataFrame, roles: pd.DataFrame, assistant: str) -> None:
    turns, scores = numbers(turn_meta, "assistant_turn"), numbers(turn_meta, "score")
    low, high = numbers(turn_meta, "score_low"), numbers(turn_meta, "score_high")
    for row in roles.to_dict("records"):
        if is_role(row["role"], assistant):
            label = "middle half of the assistant's own responses"
            ax.axhspan(row["q25"], row["q75"], color=PALE_BLUE, alpha=0.35, linewidth=0, label=label, zorder=0)
            ax.axhline(row["median"], color=PALE_BLUE, linewidth=1, zorder=0)
    ax.plot(turns, scores, color=BLUE, linewidth=1.6, zorder=3)
    if np.isfinite(low).any():
        ax.fill_between(turns, low, high, color=BLUE, alpha=0.16, linewidth=0, zorder=2)
        ax.vlines(turns, low, high, color=BLUE, linewidth=1, alpha=0.7, label="bootstrap interval", zorder=2)
    rejects, scored = truths(turn_meta, "rejects"), np.isfinite(scores)
    kept = scored & ~rejects
    ax.plot(turns[kept], scores[kept], "o", color=BLUE, markersize=5, label="turn", zorder=5)
    if (scored & rejects).any():
        label = "turn at which the test rejects \u201cstill the assistant\u201d"
        ax.plot(
            turns[scored & rejects], scores[scored & rejects], "D", color=ORANGE, markersize=6, label=label, zorder=5
        )
    if not scored.all():
        across = ax.get_xaxis_transform()
        ax.plot(
            turns[~scored],
            np.full((~scored).sum(), 0.03),
            "x",
            color=GREY,
            transform=across,
            label="turn without tokens",
        )
    bottom, top = ax.get_ylim()
    if bottom < 0 < top:
        ax.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    ax.set_ylabel("score (up: toward the assistant)")
    clean(ax)


def _draw_selected(ax: Axes, turn_meta: pd.DataFrame, selected: dict[Any, Any] | None) -> None:
    """The selected transition: its two turns shaded, the step between them in the color of its sign."""
    if selected is None:
        return
    ends = [int(selected["prev_turn"]), int(selected["turn"])]
    score_of = dict(zip(numbers(turn_meta, "assistant_turn"), numbers(turn_meta, "score"), strict=True))
    change = float(selected["delta_score"])
    label = f"selected transition {ends[0]} \u2192 {ends[1]} ({signed(change, '.3g')})"
    ax.axvspan(ends[0], ends[1], color=PALE_GREY, alpha=0.7, linewidth=0, zorder=0)
    color = ORANGE if change < 0 else BLUE
    ax.plot(ends, [score_of.get(end, np.nan) for end in ends], color=color, linewidth=4, label=label, zorder=4)


def _draw_references(ax: Axes, roles: pd.DataFrame, assistant: str, *, room_below: bool) -> None:
    """Each role's middle half and median, one column a role, on the scores' scale."""
    under = ax.get_xaxis_transform()
    for place, row in enumerate(roles.to_dict("records")):
        color = BLUE if is_role(row["role"], assistant) else GREY
        ax.vlines(place, row["q25"], row["q75"], color=color, linewidth=6, alpha=0.45)
        ax.plot(place, row["median"], "_", color=color, markersize=9, markeredgewidth=2)
        name = ax.text(place, -0.03, font_text(row["role"], 18), rotation=90, fontsize=8, ha="center", transform=under)
        name.set(va="top", color=BLUE if color == BLUE else BLACK, in_layout=not room_below)
    ax.set_xticks([])
    ax.set_xlim(-0.7, len(roles) - 0.3)
    ax.tick_params(axis="y", labelleft=False)
    ax.set_title("roles' own responses", fontsize=8, color=BLACK)
    clean(ax)


def _draw_evidence(ax: Axes, turn_meta: pd.DataFrame) -> None:
    """What speaks against "still the assistant" at each turn, and from where on it is enough to reject."""
    turns, evidence = numbers(turn_meta, "assistant_turn"), numbers(turn_meta, "evidence")
    thresholds = numbers(turn_meta, "threshold")
    ax.vlines(turns, 0, evidence, color=BLUE, linewidth=3, zorder=3)
    ax.plot(turns, evidence, "o", color=BLUE, markersize=4.5, label="evidence", zorder=3)
    top = 1.25 * float(np.nanmax(np.concatenate([evidence, thresholds, [1.0]])))
    if np.isfinite(thresholds).any():
        needed = pd.Series(thresholds).ffill().bfill().to_numpy()
        edges = np.append(turns - 0.5, turns[-1] + 0.5)
        fill = {"fill": True, "color": PALE_ORANGE, "alpha": 0.8, "label": "enough to reject"}
        ax.stairs(needed, edges, baseline=top, zorder=0, **fill)
        ax.stairs(needed, edges, baseline=None, color=ORANGE, linewidth=1.2, zorder=1)
    ax.set_ylim(0, top)
    ax.set_ylabel("evidence against\n\u201cstill the assistant\u201d", fontsize=9)
    if not truths(turn_meta, "testable").any():
        note = "too few questions calibrate: no score could be low enough to reject"
        ax.set_title(note, fontsize=8, loc="left", color=ORANGE)
    clean(ax)
