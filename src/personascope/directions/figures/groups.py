"""Groups of roles in figures of many: their colors, a strip of them beside rows, and a row of dots for each group."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from personascope.display.figure import BLACK, GREY, PALE_GREY, font_text
from personascope.formats.role_groups import OTHERS, groups_of

Groups = Mapping[str, Sequence[str]]

# Okabe and Ito's colors, then darker ones; the legend or the row's name says the same, and gray is what is in no group.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#5e3c99", "#843c39", "#2f4b7c")
COLORS += ("#5c8a3a", "#00a1a7")
LABEL = 30  # characters
BINS = 90  # across a row of dots: those in one bin are stacked
LEGEND_COLUMNS = 4


def group_colors(groups: Groups) -> dict[str, str]:
    """{label: its color}, the same in every figure of an experiment."""
    colors = dict(zip(groups, COLORS, strict=False))
    return {label: colors.get(label, GREY) for label in [*groups, OTHERS]}


def role_colors(names: Sequence[str], groups: Groups) -> list[str]:
    """The color of each role's group; gray for a role that is in none."""
    colors = group_colors(groups)
    own = {role: colors[label] for label, roles in groups.items() for role in roles}
    return [own.get(name, GREY) for name in names]


def group_handles(names: Sequence[str], groups: Groups) -> list[Artist]:
    """A legend of the groups that some of the roles are in."""
    colors = group_colors(groups)
    return [
        Line2D([], [], linestyle="", marker="s", markersize=5, color=colors[label], label=font_text(label, LABEL))
        for label in groups_of(names, groups)
    ]


def draw_strip(ax: Axes, names: Sequence[str], groups: Groups) -> None:
    """A column of colors, a cell a role, from the top."""
    for row, color in enumerate(role_colors(names, groups)):
        ax.axhspan(row - 0.5, row + 0.5, color=color, linewidth=0)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def draw_group_rows(ax: Axes, names: Sequence[str], values: np.ndarray, groups: Groups) -> None:
    """A row of dots for each group, a dot a role, from the lowest median to the highest; the line is the median.

    values: [R], on the scale of the axes beside.
    """
    found, colors = groups_of(names, groups), group_colors(groups)
    place = {name: float(value) for name, value in zip(names, values, strict=True)}
    inside = {label: np.sort([place[role] for role in roles]) for label, roles in found.items()}
    labels = sorted(inside, key=lambda label: float(np.median(inside[label])))
    width = float(np.ptp(values)) / BINS or 1.0
    for row, label in enumerate(labels):
        own = inside[label]
        bins = np.floor((own - values.min()) / width).astype(int)
        above = np.array([np.sum(bins[:i] == bins[i]) for i in range(len(own))])
        count = np.array([np.sum(bins == b) for b in bins])
        ax.axhline(row, color=PALE_GREY, linewidth=0.5, zorder=0)
        heights = row + 0.17 * (above - (count - 1) / 2)
        ax.plot(own, heights, "o", markersize=2.6, markeredgewidth=0, color=colors[label], zorder=2)
        ax.plot([np.median(own)] * 2, [row - 0.36, row + 0.36], color=BLACK, linewidth=1.0, zorder=3)
    ax.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    ax.set_yticks(range(len(labels)), [f"{font_text(label, LABEL)} ({len(inside[label])})" for label in labels])
    ax.tick_params(axis="both", length=0, labelbottom=False)
    ax.set_ylim(-0.7, len(labels) - 0.3)
    ax.spines[:].set_visible(False)
