"""How many directions the roles differ in: the PCA spectrum beside that of roles whose labels are shuffled."""

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from personascope.directions.figures.parts import of_space, reasons, spaces_of, spread, warning_line
from personascope.directions.spaces import space_label
from personascope.display.figure import BLACK, BLUE, ORANGE, PALE_BLUE, finish
from personascope.display.paper import panel_heading, panel_heading_height, paper_axes, paper_figure, paper_style
from personascope.formats.tables import numbers

COMPONENTS = 20
MOST_PANELS, COLUMNS = 9, 3
PANEL_WIDTH, PANEL_HEIGHT, SCALE = 2.4, 2.3, 0.65  # inches; SCALE: for the names of the y axes


@paper_style
def pca_spectrum(table: pd.DataFrame, agreement: pd.DataFrame, *, subtitle: str = "") -> Figure:
    """Share of the variance between roles on each component, a panel a space, and above it the cumulative share."""
    every = spaces_of(table)
    spaces = spread(every, MOST_PANELS)
    columns = 2 if len(spaces) == 4 else min(len(spaces), COLUMNS)
    lines, width = -(-len(spaces) // columns), max(PANEL_WIDTH * columns, 3.6)
    notes = [f"{len(spaces)} of {len(every)} spaces; all are in pca_spectrum.csv."] if len(spaces) < len(every) else []
    if np.isnan(numbers(table, "shuffled_high")).all():
        notes.append("No shuffled baseline was made.")
    title = "Principal components of the role vectors"
    figure = paper_figure(width, PANEL_HEIGHT * lines + 0.5, title, subtitle, notes=notes)
    grid = figure.add_gridspec(2 * lines, columns, height_ratios=[0.5, 1] * lines)
    refused = reasons(agreement)
    highest = np.nanmax([*numbers(table, "variance_share"), *numbers(table, "shuffled_high"), 0.01])
    headings = {
        space: ((width - SCALE) / columns - 0.1, space_label(space), count_above(of_space(table, space)), warning)
        for space in spaces
        for warning in [warning_line(refused.get(space))]
    }
    heights = [panel_heading_height(*heading) for heading in headings.values()]
    for i, space in enumerate(spaces):
        part = of_space(table, space).sort_values(by="component")
        line, column = divmod(i, columns)
        bottom = paper_axes(figure, grid[2 * line + 1, column])
        top = paper_axes(figure, grid[2 * line, column], sharex=bottom)
        _draw_panel(top, bottom, part)
        bottom.set_ylim(0, 1.06 * highest)
        for ax, label in ((top, "cumulative"), (bottom, "share of variance")):
            ax.tick_params(labelleft=column == 0)
            ax.set_ylabel(label if column == 0 else "")
        bottom.set_xlabel("principal component" if i + columns >= len(spaces) else "")
        panel_heading(top, *headings[space], height=max(heights[columns * line : columns * (line + 1)]))
    legend_columns = {1: 1, 2: 2, 3: 4}[columns]
    figure.legend(handles=_handles(table), loc="outside lower center", ncols=legend_columns, columnspacing=1.4)
    return finish(figure)


def components_above(part: pd.DataFrame) -> int:
    """How many first components of one space have more of the variance than the baseline, up to one that has not."""
    above = numbers(part, "variance_share") > numbers(part, "shuffled_high")
    return int(np.cumprod(above).sum())


def count_above(part: pd.DataFrame) -> str:
    """That number in words; "" where there is no baseline."""
    if np.isnan(numbers(part, "shuffled_high")).all():
        return ""
    count = components_above(part)
    return f"{count or 'no'} component{'' if count == 1 else 's'} above the baseline"


def _draw_panel(top: Axes, bottom: Axes, part: pd.DataFrame) -> None:
    """One space: cumulative share on top; below, shares and, across each bar, what shuffled roles reach."""
    above, shown = components_above(part), part.head(COMPONENTS)
    component, share = numbers(shown, "component"), numbers(shown, "variance_share")
    colors = [BLUE if i < above else PALE_BLUE for i in range(len(shown))]
    bottom.bar(component, share, width=0.8, color=colors)
    bottom.hlines(numbers(shown, "shuffled_high"), component - 0.45, component + 0.45, color=ORANGE, linewidth=1.3)
    top.plot(component, numbers(shown, "cumulative"), color=BLACK, marker="o", markersize=2)
    top.set_ylim(0, 1.05)
    top.tick_params(labelbottom=False)
    top.set_yticks([0, 0.5, 1])
    bottom.set_xlim(0.3, max(len(shown), 3) + 0.7)
    bottom.set_xticks(range(1, len(shown) + 1) if len(shown) <= 10 else [1, *range(5, len(shown) + 1, 5)])
    bottom.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    for ax in (top, bottom):
        ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g} %"))


def _handles(table: pd.DataFrame) -> list[Artist]:
    handles: list[Artist] = [Line2D([], [], color=BLACK, marker="o", markersize=2, label="cumulative share")]
    if np.isnan(numbers(table, "shuffled_high")).all():
        return [*handles, Patch(color=PALE_BLUE, label="component")]
    return [
        *handles,
        Patch(color=BLUE, label="component above the baseline"),
        Patch(color=PALE_BLUE, label="other component"),
        Line2D([], [], color=ORANGE, linewidth=1.3, label="baseline: shuffled roles, 95th percentile"),
    ]
