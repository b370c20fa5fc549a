"""Figure of a direction's decomposition: the share that few features give, beside that of random directions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from personascope.directions.decompose import decomposition_table
from personascope.display.figure import BLUE, GREY, ORANGE, PALE_BLUE, finish, font_text, save_figure, signed
from personascope.display.paper import (
    PAPER_DPI,
    panel_heading,
    panel_heading_height,
    paper_axes,
    paper_figure,
    paper_style,
)
from personascope.formats.decomposition import Fit, Targets
from personascope.formats.descriptions import described, with_descriptions
from personascope.formats.tables import numbers, read_csv, write_csv

PANEL, CURVE, BARS = 2.3, 2.1, 1.7  # inches: width of a column, heights of its curve and its features
SHOWN, LABEL = 10, 34  # features with a bar, and characters of what they are called
TITLES = {
    ("decoder", "along"): "decoder rows along it",
    ("decoder", "against"): "decoder rows against it",
    ("encoder", "both"): "features that differ most",
}
# The random directions that a share is held against: columns, color, and what they are called, in short and in full.
NULLS = {
    "halves": (ORANGE, "random parts", "differences between random parts of each role's responses"),
    "random": (GREY, "isotropic", "isotropic random directions"),
}


def write_decomposition(
    targets: str | Path,
    fit: str | Path,
    descriptions: Sequence[str] = (),
    *,
    table: str | Path,
    figures: Sequence[str | Path],
    name: str,
    subtitle: str,
) -> None:
    """From targets.npz and fit.npz of a named direction to its table, and the figure at all paths. descriptions: the
    file of what features are called, where there is one."""
    made = decomposition_table(Targets.load(targets), Fit.load(fit))
    write_csv(table, with_descriptions(made, described(descriptions), feature="feature"))
    save_figure(decomposition(read_csv(table), name, subtitle=subtitle), *figures, dpi=PAPER_DPI)


@paper_style
def decomposition(table: pd.DataFrame, name: str, *, subtitle: str = "") -> Figure:
    """A column a method and side: the share of the squared norm after k features, and the first features."""
    parts = {key: _part(table, *key) for key in TITLES}
    parts = {key: part for key, part in parts.items() if len(part)}
    notes = [
        "Share of the direction's squared norm that few features give; bands: 95 % of random directions, fitted "
        "alike. Few features give much of any difference between responses: the excess over random parts of them is "
        "the result."
    ]
    if ("encoder", "both") not in parts:
        notes.append("No feature means are kept for this direction, so that there is no contrast of features.")
    figure = paper_figure(PANEL * len(parts), CURVE + BARS + 1.0, f"{name} in SAE features", subtitle, notes)
    grid = figure.add_gridspec(2, len(parts), height_ratios=[CURVE, BARS])
    headings = {key: (TITLES[key], excess_text(part), warning_text(part)) for key, part in parts.items()}
    height = max(panel_heading_height(PANEL - 0.45, *heading) for heading in headings.values())
    top = np.nanmax([numbers(part, name).max() for part in parts.values() for name in ("share", "halves_high")])
    for column, (key, part) in enumerate(parts.items()):
        ax = paper_axes(figure, grid[0, column])
        _draw_curve(ax, part)
        ax.set_ylim(0, min(1.0, 1.15 * top + 0.05))
        ax.tick_params(labelleft=column == 0)
        ax.set_ylabel("share explained" if column == 0 else "")
        panel_heading(ax, PANEL - 0.45, *headings[key], height=height)
        _draw_features(paper_axes(figure, grid[1, column]), part, key[0])
    columns = 3 if len(parts) > 2 else 1
    figure.legend(handles=_handles(table), loc="outside lower center", ncols=columns, columnspacing=1.4)
    return finish(figure)


def _part(table: pd.DataFrame, method: str, side: str) -> pd.DataFrame:
    """The rows of one method and side that have a feature, by k."""
    part = table.loc[(table["method"] == method) & (table["side"] == side)]
    part = part.loc[np.isfinite(numbers(part, "feature"))]
    return part.assign(k=part["k"].astype(int)).sort_values("k")


def excess_text(part: pd.DataFrame) -> str:
    """What the last row says: the share, and by how much it is more than that of random directions."""
    last = part.tail(1)
    words = [f"{len(part)} features: {numbers(last, 'share')[0]:.2f}"]
    for null, (_, short, _) in NULLS.items():
        excess, low, high = (numbers(last, f"excess_{null}{end}")[0] for end in ("", "_low", "_high"))
        if np.isfinite(excess):
            words.append(f"{signed(excess, '.2f')} ({signed(low, '.2f')} to {signed(high, '.2f')}) over {short}")
    return "; ".join(words)


def warning_text(part: pd.DataFrame) -> str:
    """Where random parts of the responses do as well, the features are not those of the direction."""
    low = numbers(part.tail(1), "excess_halves_low")[0]
    return "no more than random parts" if low <= 0 else ""


def _draw_curve(ax: Axes, part: pd.DataFrame) -> None:
    k = numbers(part, "k")
    for null, (color, _, _) in NULLS.items():
        low, median, high = (numbers(part, f"{null}_{name}") for name in ("low", "median", "high"))
        if np.isfinite(median).any():
            ax.fill_between(k, low, high, color=color, alpha=0.2, linewidth=0)
            ax.plot(k, median, color=color, linewidth=0.9)
    ax.plot(k, numbers(part, "share"), color=BLUE, marker="o", markersize=2)
    ax.set_xlim(0, len(k) + 0.7)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g} %"))
    ax.set_xlabel("features")


def _draw_features(ax: Axes, part: pd.DataFrame, method: str) -> None:
    """The first features by name and how much each counts: its weight, or the difference of its means."""
    shown = part.head(SHOWN)
    column = "weight" if method == "decoder" else "difference"
    values = numbers(shown, column)
    ax.barh(range(len(values)), values, height=0.7, color=PALE_BLUE)
    ax.set_yticks(range(len(values)), [str(int(float(feature))) for feature in shown["feature"]], fontsize=6)
    # Over the bars: at their side, three columns of names would leave no room for the bars.
    for i, text in enumerate(shown["description"].fillna("")):
        place = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 6}
        ax.text(0.02, i, font_text(str(text), LABEL), **place)
    ax.set_ylim(len(values) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    if (values < 0).any():
        ax.axvline(0, color=GREY, linewidth=0.5)
    ax.set_xlabel("weight in the fit" if method == "decoder" else "difference of means")


def _handles(table: pd.DataFrame) -> list[Artist]:
    handles: list[Artist] = [Line2D([], [], color=BLUE, marker="o", markersize=2, label="this direction")]
    for null, (color, _, label) in NULLS.items():
        if np.isfinite(numbers(table, f"{null}_median")).any():
            handles.append(Line2D([], [], color=color, label=label))
    return handles
