"""How alike the roles are: cosines of their vectors without the mean role, all spaces in one order."""

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.cluster.hierarchy import fcluster

from personascope.directions.figures.groups import LEGEND_COLUMNS, Groups, draw_strip, group_handles
from personascope.directions.figures.order import cluster_tree, cosines_of, leaves, ordering_space
from personascope.directions.figures.parts import reasons, spaces_of, spread, warning_line
from personascope.directions.spaces import space_label
from personascope.display.figure import BLACK, GREY, finish, font_text
from personascope.display.paper import (
    PAGE,
    POINTS,
    panel_heading,
    panel_heading_height,
    paper_figure,
    paper_style,
    text_width,
)

FEW, MOST_LABELS = 20, 60  # roles: so few are named on both sides, more than these on none
LABEL = 24  # characters of a role's name
SMALL, SMALL_FEW = 4, 3  # panels below the large one, at most; of few roles, whose panel is narrower
GROUPS, LEAST_GROUP = 12, 40  # cut of the tree where no role is named; the part of all that a group to name must be
COLORS = LinearSegmentedColormap.from_list(
    "unlike_alike", ["#8c3b04", "#d9760f", "#fdc98b", "#ffffff", "#a9cfe8", "#3f8fc5", "#12457f"], N=257
).with_extremes(bad="#bdbdbd")
# Inches: sides of the large panel; from the left the tree and the panel; what is below and between panels.
SIDE, SIDE_FEW, CELL_FEW = 5.1, 3.6, 0.26
EDGE, TREE, GAP, LEADER = 0.1, 0.5, 0.03, 0.22
BELOW, BETWEEN, BAR = 0.36, 0.14, 0.55
STRIP, LEGEND_LINE = 0.09, 0.145  # the colors of groups beside the tree, and a line of their legend


@paper_style
def role_similarity(
    table: pd.DataFrame,
    agreement: pd.DataFrame,
    *,
    marked: Collection[str] = (),
    groups: Groups | None = None,
    subtitle: str = "",
) -> Figure:
    """Cosines between roles: a large panel of the space that orders them, and the others small, in the same order.

    marked: roles whose names stand out, the anchors; groups: {label: roles}, shown beside more than MOST_LABELS roles.
    """
    first = ordering_space(table)
    others = [space for space in spaces_of(table) if space != first]
    square = cosines_of(table, first)
    tree = cluster_tree(square.to_numpy(float))
    names = [str(square.index[i]) for i in leaves(tree, len(square))]
    labels = _labels(names, square.loc[names, names].to_numpy(float), tree, marked)
    shown = [first, *spread(others, SMALL_FEW if len(names) <= FEW else SMALL)]
    cosines = {space: _masked(cosines_of(table, space).loc[names, names].to_numpy(float)) for space in shown}
    refused = {space: warning_line(reason) for space, reason in reasons(agreement).items()}
    headings = [(space_label(first) if space == first else space, "", refused.get(space, "")) for space in shown]
    handles = group_handles(names, groups) if groups and len(names) > MOST_LABELS else []
    sheet = _Sheet.of(len(names), labels, headings, len(handles))

    notes = _notes(len(names), first, len(shown), 1 + len(others))
    figure = paper_figure(sheet.width, sheet.height, f"Similarity of {len(names)} roles", subtitle, notes=notes)
    figure.set_layout_engine("none")
    _draw_tree(sheet.axes(figure, sheet.tree), tree, len(names))
    if groups and handles:
        left, top, _, height = sheet.panels[0]
        draw_strip(sheet.axes(figure, (left - STRIP - GAP, top, STRIP, height)), names, groups)
        figure.legend(handles=handles, loc="lower left", ncols=LEGEND_COLUMNS, columnspacing=1.2, handletextpad=0.3)
    for i, space in enumerate(shown):
        ax = sheet.axes(figure, sheet.panels[i])
        _draw_square(ax, cosines[space], _limit(cosines))
        panel_heading(ax, sheet.panels[i][2], *headings[i], height=sheet.above[min(i, 1)])
        if i == 0:
            _write_labels(ax, labels, len(names), sheet.panels[0][2])
    _draw_bar(sheet.axes(figure, sheet.bar), cosines)
    return finish(figure)


Place = tuple[float, float, float, float]  # left, top, width and height of axes


@dataclass(frozen=True)
class _Sheet:
    """Where everything is, in inches from the left and from the upper end of the room for axes.

    panels: the large one and the small ones; above: the height of the heading of the large one, and of the small ones.
    """

    width: float
    height: float
    tree: Place
    panels: list[Place]
    above: tuple[float, float]
    bar: Place

    @classmethod
    def of(cls, roles: int, labels: "list[_Label]", headings: list[tuple[str, str, str]], groups: int) -> "_Sheet":
        few, columns = roles <= FEW, SMALL_FEW if roles <= FEW else SMALL
        side = float(np.clip(CELL_FEW * roles, 2.6, SIDE_FEW)) if few else SIDE
        longest = max(text_width(label.text, _label_size(roles, side), "bold") for label in labels)
        left, right = (
            EDGE + TREE + GAP + (STRIP + GAP if groups else 0),
            longest + (LEADER if roles > MOST_LABELS else 0.05) + EDGE,
        )
        side = min(side, PAGE - left - right)
        width = left + side + right
        small = (width - 2 * EDGE - (columns - 1) * BETWEEN) / columns
        above = panel_heading_height(side, *headings[0])
        above_small = max((panel_heading_height(small, *heading) for heading in headings[1:]), default=0)
        top = above + side + (longest + 0.15 if few else BELOW) + above_small
        lefts = [EDGE + i * (small + BETWEEN) for i in range(columns + 1)]
        others = len(headings) - 1
        end = top + small + 0.15 if others else top
        if 0 < others < columns:  # the color bar stands in the row of the small panels
            height, bar = end, (lefts[others] + 0.1, top + small - 0.45, small - 0.2, 0.09)
        else:
            height, bar = end + BAR, (left, end + 0.1, min(side, 2.6), 0.09)
        height += LEGEND_LINE * -(-groups // LEGEND_COLUMNS) + (0.08 if groups else 0)
        panels = [(left, above, side, side), *((x, top, small, small) for x in lefts[:others])]
        return cls(width, height, (EDGE, above, TREE, side), panels, (above, above_small), bar)

    def axes(self, figure: Figure, place: Place) -> Axes:
        left, top, width, height = place
        whole_width, whole_height = figure.get_size_inches()
        bottom = (self.height - top - height) / whole_height
        ax = figure.add_axes((left / whole_width, bottom, width / whole_width, height / whole_height))
        ax.tick_params(length=0, labelsize=7, pad=2)
        return ax


def _notes(roles: int, first: str, shown: int, spaces: int) -> list[str]:
    order = "one order" if shown == 1 else "one order in all panels"
    notes = [
        "Cosines between role vectors minus the mean role; the diagonal is masked. Rows and columns are in "
        f"{order}: average linkage on 1 \u2212 cosine, {space_label(first)}."
    ]
    if roles > MOST_LABELS:
        notes.append(f"{roles} roles, order in role_order.csv; larger clusters are named by their most typical role.")
    if shown < spaces:
        notes.append(f"{shown} of {spaces} spaces; all are in role_similarity.csv.")
    return notes


def _masked(cosines: np.ndarray) -> np.ndarray:
    """Without the diagonal, which is 1 by definition."""
    return np.where(np.eye(len(cosines), dtype=bool), np.nan, cosines)


def _limit(squares: dict[str, np.ndarray]) -> float:
    """Where the color is full, at both ends alike: the 99th percentile of |cosine|, rounded up to a twentieth."""
    sizes = np.abs(np.concatenate([square.ravel() for square in squares.values()]))
    sizes = sizes[np.isfinite(sizes)]
    return float(np.clip(np.ceil(np.percentile(sizes, 99) * 20) / 20, 0.05, 1)) if len(sizes) else 1.0


def _draw_square(ax: Axes, cosines: np.ndarray, limit: float) -> None:
    # No interpolation: an SVG then holds the cells themselves.
    ax.imshow(cosines, cmap=COLORS, vmin=-limit, vmax=limit, interpolation="none", aspect="auto")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(True)


@dataclass(frozen=True)
class _Label:
    """A name beside rows from `first` to `last`, or a group of them."""

    text: str
    first: int
    last: int
    bold: bool = False


def _labels(names: list[str], cosines: np.ndarray, tree: np.ndarray, marked: Collection[str]) -> list[_Label]:
    """Every role; where these are too many, those that stand out, and the larger groups by their most typical role."""
    shown = [font_text(name, LABEL) for name in names]
    if len(names) <= MOST_LABELS:
        return [_Label(text, i, i, names[i] in marked) for i, text in enumerate(shown)]
    found = [_Label(text, i, i, True) for i, text in enumerate(shown) if names[i] in marked]
    for first, last in _groups(tree, len(names)):
        size = last - first + 1
        if size >= len(names) / LEAST_GROUP:
            group = np.nan_to_num(cosines[first : last + 1, first : last + 1])
            own = np.array([name not in marked for name in names[first : last + 1]])
            typical = shown[first + int(np.argmax(np.where(own, group.sum(0), -np.inf)))]
            found.append(_Label(f"{typical} and {size - 1} more", first, last))
    return sorted(found, key=lambda label: label.first + label.last)


def _groups(tree: np.ndarray, roles: int) -> list[tuple[int, int]]:
    """First and last row of the groups that the tree is cut into."""
    group = fcluster(tree, GROUPS, "maxclust")[leaves(tree, roles)]
    starts = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), roles]
    return [(start, end - 1) for start, end in itertools.pairwise(starts)]


def _label_size(roles: int, side: float) -> float:
    """In points: as large as a row, where each has its name."""
    return 7.0 if roles > MOST_LABELS else min(7.0, 0.88 * side / roles * POINTS)


def _write_labels(ax: Axes, labels: list[_Label], roles: int, side: float) -> None:
    """The labels on the right of the large panel, and below it where the roles are few."""
    if roles > MOST_LABELS:
        _point_at(ax, labels, roles, side)
        return
    size = _label_size(roles, side)
    ax.yaxis.tick_right()
    ax.set_yticks(range(roles), [label.text for label in labels], fontsize=size)
    texts = [ax.get_yticklabels()]
    if roles <= FEW:
        ax.set_xticks(range(roles), [label.text for label in labels], fontsize=size, rotation=90)
        texts.append(ax.get_xticklabels())
    for side_texts in texts:
        for label, text in zip(labels, side_texts, strict=True):
            text.set_fontweight("bold" if label.bold else "normal")


def _point_at(ax: Axes, labels: list[_Label], roles: int, side: float) -> None:
    """Each label with a line to its rows, as far from the others as it takes to be read."""
    step, unit = 0.125 * roles / side, roles / side
    edge, bracket, text = roles - 0.5, roles - 0.5 + 0.06 * unit, roles - 0.5 + LEADER * unit
    for label, place in zip(labels, apart([(label.first + label.last) / 2 for label in labels], step), strict=True):
        middle, color = (label.first + label.last) / 2, BLACK if label.bold else GREY
        start = edge if label.bold else bracket
        ax.plot([start, text - 0.03 * unit], [middle, place], color=color, linewidth=0.6, clip_on=False)
        if not label.bold:
            ax.plot(
                [bracket] * 2,
                [label.first - 0.5 + 0.015 * unit, label.last + 0.5 - 0.015 * unit],
                color=color,
                linewidth=1.2,
                clip_on=False,
            )
        weight = "bold" if label.bold else "normal"
        ax.text(text, place, label.text, va="center", fontweight=weight, color=BLACK)
    ax.set_xlim(-0.5, roles - 0.5)
    ax.set_ylim(roles - 0.5, -0.5)


def apart(places: Sequence[float], step: float) -> np.ndarray:
    """Sorted places moved as little as it takes to be at least `step` from each other, each kept near its own."""
    moved = np.array(places, dtype=float)
    for _ in range(200):
        short = step - np.diff(moved)
        if not (short > 1e-9).any():
            break
        push = np.maximum(short, 0) / 2
        moved[1:] += push
        moved[:-1] -= push
    return moved


def _draw_tree(ax: Axes, tree: np.ndarray, roles: int) -> None:
    """The dendrogram, its leaves at the rows; how far apart two groups are is read below."""
    place = {leaf: float(row) for row, leaf in enumerate(leaves(tree, roles))}
    height = dict.fromkeys(place, 0.0)
    lines = []
    for i, (left, right, distance, _) in enumerate(tree):
        a, b, top = int(left), int(right), float(distance)
        lines.append([(height[a], place[a]), (top, place[a]), (top, place[b]), (height[b], place[b])])
        place[roles + i], height[roles + i] = (place[a] + place[b]) / 2, top
    ax.add_collection(LineCollection(lines, colors=BLACK, linewidths=0.6 if roles <= MOST_LABELS else 0.35))
    ax.set_ylim(roles - 0.5, -0.5)
    ax.set_xlim(1.02 * max([*height.values(), 0.1]), 0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(2))
    ax.tick_params(axis="x", length=2, labelsize=6)
    ax.set_xlabel("1 \u2212 cosine", fontsize=6, labelpad=1)


def _draw_bar(ax: Axes, cosines: dict[str, np.ndarray]) -> None:
    limit, values = _limit(cosines), np.concatenate([square.ravel() for square in cosines.values()])
    beyond: dict[tuple[bool, bool], Any] = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    extend = beyond.get((bool((values < -limit).any()), bool((values > limit).any())), "both")
    mappable = ScalarMappable(Normalize(-limit, limit), COLORS)
    bar = ax.figure.colorbar(mappable, cax=ax, orientation="horizontal", extend=extend, ticks=[-limit, 0, limit])
    bar.outline.set_linewidth(0.6)
    ax.tick_params(length=2, labelsize=7)
    bar.set_label("cosine between roles")
