"""Where each role of one space lies on the axis, by directions that did not see its responses."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

from personascope.directions.figures.groups import Groups, draw_group_rows
from personascope.directions.figures.parts import of_space, warning_line
from personascope.directions.spaces import space_label
from personascope.display.figure import BLACK, BLUE, GREY, ORANGE, PALE_GREY, finish, font_text, is_role
from personascope.display.paper import COLUMN, paper_axes, paper_figure, paper_style
from personascope.formats.role_groups import groups_of
from personascope.formats.tables import numbers

MOST_ROWS = 60  # roles that all have a row; of more, only those at both ends have one
END_ROWS = 20
ROW, LEAST_ROW = 0.16, 0.128  # inches a row
GAP = 1.6  # rows between both ends
GROUP_ROW = 0.2  # inches a group of roles
BELOW, LEGEND_LINE = 0.65, 0.15  # inches below the rows: the axis, and each line of the legend
DEFAULT = "default"  # the role without a persona
LABEL = 24  # characters of a role's name
# Symbol and color of what a role is; the anchors, and `default` where it is none, stand out.
MARKS: dict[str, dict[str, Any]] = {
    "other": {"marker": "o", "color": BLUE, "markersize": 4.5},
    "anchor": {"marker": "D", "color": ORANGE, "markersize": 5},
    "anchor default": {"marker": "s", "color": ORANGE, "markersize": 5.5},
    "default": {"marker": "s", "color": BLACK, "markersize": 5.5},
}
AWAY, TOWARD = "\u2190 away from the assistant", "toward the assistant \u2192"
BINS = 90  # of the strip: dots in one bin are stacked
NAMES = {"anchor": "anchor", "anchor default": "anchor", "default": "no anchor, not among the others"}


@dataclass(frozen=True)
class _Roles:
    """The roles of one space from the lowest to the highest, all on one scale: names and marks; shown, low, high:
    cross-fitted, with the interval; hollow: in-sample. NaN where there is none."""

    names: list[str]
    marks: list[str]
    shown: np.ndarray
    low: np.ndarray
    high: np.ndarray
    hollow: np.ndarray

    @property
    def crossfitted(self) -> bool:
        return bool(np.isfinite(self.shown).any())

    @property
    def place(self) -> np.ndarray:
        """Where a role stands: by what is cross-fitted, else in-sample."""
        return np.where(np.isfinite(self.shown), self.shown, self.hollow)


@paper_style
def role_projections(
    table: pd.DataFrame, space: str, *, groups: Groups | None = None, reason: str | None = None, subtitle: str = ""
) -> Figure:
    """Projection of every role on the diff axis; above MOST_ROWS roles a strip of all, one of each group, and rows for
    both ends.

    table: role_projections of the space; groups: {label: roles}; reason: why it should not be interpreted, if so.
    """
    roles = _read(of_space(table, space))
    count = len(roles.names)
    rows, places = _rows(count)
    row = min(ROW, max(LEAST_ROW, 7 / max(count, 1)))
    strip = 0.95 if count > MOST_ROWS else 0
    shown = groups_of(roles.names, groups) if groups and strip else {}
    grouped = GROUP_ROW * len(shown)
    body = row * (places.max(initial=0) + 1.4)
    title = f"{count} roles on the assistant axis, {space_label(space)}"
    handles = _handles(roles)
    height = strip + grouped + body + BELOW + LEGEND_LINE * ((len(handles) + 1) // 2)
    notes = _notes(roles) + (["Groups of roles in the order of their medians (the black lines)."] if shown else [])
    figure = paper_figure(COLUMN, height, title, subtitle, notes=notes, warning=warning_line(reason))
    if strip:
        heights = [strip, grouped, body] if shown else [strip, body]
        grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
        ax = paper_axes(figure, grid[len(heights) - 1])
        _draw_strip(paper_axes(figure, grid[0], sharex=ax), roles)
        if shown:
            draw_group_rows(paper_axes(figure, grid[1], sharex=ax), roles.names, roles.place, groups or {})
    else:
        ax = paper_axes(figure)
    _draw_rows(ax, roles, rows, places)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, columnspacing=1.5, handletextpad=0.4)
    return finish(figure)


def _read(table: pd.DataFrame) -> _Roles:
    """The roles of one space, in order.

    In-sample: `in_sample`, the mean of the responses as in `crossfit`; without it `diff`, the role vector, which gets
    the same zero: the mean of the other roles.
    """
    kinds = table["kind"].tolist() if "kind" in table else ["other"] * len(table)
    names = [str(name) for name in table["role"]]
    hollow = numbers(table, "in_sample" if "in_sample" in table else "diff")
    others = hollow[[kind == "other" for kind in kinds]]
    if "in_sample" not in table and len(others):
        hollow = hollow - others.mean()
    shown, low, high = (numbers(table, name) for name in ("crossfit", "crossfit_low", "crossfit_high"))
    order = np.argsort(np.where(np.isfinite(shown), shown, hollow), kind="stable")
    marks = [_mark(name, kind) for name, kind in zip(names, kinds, strict=True)]
    return _Roles([names[i] for i in order], [marks[i] for i in order], *(x[order] for x in (shown, low, high, hollow)))


def _mark(name: str, kind: str) -> str:
    if kind == "anchor":
        return "anchor default" if is_role(name, DEFAULT) else "anchor"
    return kind if kind in MARKS else "other"


def _rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which roles have a row, from the lowest, and where; the two ends are GAP rows apart."""
    rows = np.arange(count)
    if count <= MOST_ROWS:
        return rows, rows.astype(float)
    places = np.arange(2 * END_ROWS) + np.repeat([0, GAP], END_ROWS)
    return np.concatenate([rows[:END_ROWS], rows[-END_ROWS:]]), places


def _notes(roles: _Roles) -> list[str]:
    if not roles.crossfitted:
        return ["No cross-fitted projections were made: these are in-sample, which exaggerates the anchor's distance."]
    return [] if np.isfinite(roles.low).any() else ["No intervals: they need several variants and questions."]


def _draw_rows(ax: Axes, roles: _Roles, rows: np.ndarray, places: np.ndarray) -> None:
    ax.hlines(places, 0, 1, transform=ax.get_yaxis_transform(), color=PALE_GREY, linewidth=0.5, zorder=0)
    ax.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    ax.hlines(places, roles.low[rows], roles.high[rows], color=[MARKS[roles.marks[i]]["color"] for i in rows], zorder=2)
    for i, place in zip(rows, places, strict=True):
        mark = MARKS[roles.marks[i]]
        ax.plot(roles.hollow[i], place, linestyle="", zorder=3, **_hollow(mark))
        ax.plot(roles.shown[i], place, linestyle="", zorder=4, markeredgecolor="white", markeredgewidth=0.4, **mark)
    ax.set_yticks(places, [font_text(roles.names[i], LABEL) for i in rows])
    for label, i in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_fontsize(7 if len(rows) <= 50 else 6.5)
        if roles.marks[i] != "other":
            label.set_fontweight("bold")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(-0.7, places.max(initial=0) + 0.7)
    ax.set_xlabel(f"projection minus the mean of the other roles (activation units)\n{AWAY}{' ' * 30}{TOWARD}")
    if len(rows) < len(roles.names):
        middle = END_ROWS - 1 + (GAP + 1) / 2
        left = len(roles.names) - len(rows)
        across = blended_transform_factory(ax.transAxes, ax.transData)
        ax.text(0.5, middle, f"{left} roles between", transform=across, ha="center", va="center", color=GREY)


def _draw_strip(ax: Axes, roles: _Roles) -> None:
    """All roles on the same scale, a dot a role, stacked where they are as near as a dot is wide."""
    low, high = roles.place.min(), roles.place.max()
    bins = np.floor((roles.place - low) / ((high - low) / BINS or 1)).astype(int)
    heights = np.array([np.sum(bins[:i] == bins[i]) for i in range(len(bins))])
    for i, mark in enumerate(roles.marks):
        style = MARKS[mark] if mark != "other" else {"marker": "o", "color": BLUE, "markersize": 2.6}
        ax.plot(roles.place[i], heights[i], linestyle="", markeredgewidth=0, **style)
    ax.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    ax.set_yticks([0], ["all roles"])
    ax.tick_params(axis="both", length=0, labelbottom=False)
    ax.set_ylim(-1.2, max(heights.max() + 1, 8))
    ax.spines[:].set_visible(False)


def _hollow(mark: dict[str, Any]) -> dict[str, Any]:
    """The same symbol, empty and so large that it is seen around the full one."""
    size = mark["markersize"] + 1.2
    return mark | {"markersize": size, "markerfacecolor": "none", "markeredgecolor": GREY, "markeredgewidth": 0.7}


def _handles(roles: _Roles) -> list[Artist]:
    """The legend: each symbol that there is, with the names of those that stand out."""
    handles: list[Artist] = []
    for mark, style in MARKS.items():
        named = [font_text(name, LABEL) for name, own in zip(roles.names, roles.marks, strict=True) if own == mark]
        if named:
            label = "other roles" if mark == "other" else f"{', '.join(reversed(named))} ({NAMES[mark]})"
            shown = style if roles.crossfitted else _hollow(style)
            handles.append(Line2D([], [], linestyle="", label=label, **shown))
    if roles.crossfitted:
        label = "in-sample: the axis has seen the responses"
        handles.append(Line2D([], [], linestyle="", label=label, **_hollow(MARKS["other"])))
    if np.isfinite(roles.low).any():
        handles.append(Line2D([], [], color=BLUE, label="95 % interval (questions and variants)"))
    return handles
