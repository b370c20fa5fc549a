"""What the axis is worth on each layer: agreement with its null, split-half reliability, and AUC."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from personascope.directions.figures.parts import MOST_NAMED, reasons, warning_line
from personascope.directions.spaces import LEAST_AUC, LEAST_SPLIT_HALF, layer_of, short_label
from personascope.display.figure import BLUE, GREY, ORANGE, PALE_GREY, finish
from personascope.display.paper import COLUMN, PAGE, panel_heading, paper_axes, paper_figure, paper_style
from personascope.formats.tables import numbers

# A panel each: the column, a title, and what the numbers are.
PANELS = {
    "cos_diff_pc1": ("Agreement", "cosine of diff and pc1"),
    "split_half": ("Split-half reliability", "cosine of the axes of halves"),
    "auc": ("Held-out AUC", "AUC, anchor against others"),
}
LEAST = {"split_half": LEAST_SPLIT_HALF, "auc": LEAST_AUC}  # from which on a space may be interpreted
CHANCE = {"auc": 0.5}
LAYER: dict[str, Any] = {"marker": "o", "markersize": 4, "color": BLUE}
OTHER: dict[str, Any] = {"marker": "D", "markersize": 5, "color": ORANGE}
FEW = 4  # spaces that need no wide figure
HEIGHT = 2.4


@dataclass(frozen=True)
class _Spaces:
    """The table, and where each of its rows stands: residual layers at their number, other spaces to their right."""

    table: pd.DataFrame
    layers: np.ndarray
    x: np.ndarray
    refused: np.ndarray

    @property
    def residual(self) -> np.ndarray:
        """Rows of residual layers, by layer."""
        rows = np.flatnonzero(np.isfinite(self.layers))
        return rows[np.argsort(self.layers[rows])]

    @property
    def beside(self) -> np.ndarray:
        return np.flatnonzero(~np.isfinite(self.layers))


@paper_style
def axis_by_layer(agreement: pd.DataFrame, *, subtitle: str = "") -> Figure:
    """The three measures over residual layers, and the SAE space beside them; hollow: not to be interpreted."""
    spaces = _read(agreement)
    notes = [*_halves(agreement), *_missing(agreement)]
    title = "Agreement, reliability and AUC of the assistant axis by layer"
    width = COLUMN if len(agreement) <= FEW else PAGE
    figure = paper_figure(width, HEIGHT, title, subtitle, notes=notes, warning=_warning(reasons(agreement)))
    grid = figure.add_gridspec(1, len(PANELS), wspace=0.08)
    for i, (column, (name, label)) in enumerate(PANELS.items()):
        ax = paper_axes(figure, grid[i])
        panel_heading(ax, width / len(PANELS), name)
        ax.set_ylabel(label)
        _draw(ax, spaces, column)
    figure.legend(handles=_handles(spaces), loc="outside lower center", ncols=4, columnspacing=1.4, handletextpad=0.5)
    return finish(figure)


def _read(agreement: pd.DataFrame) -> _Spaces:
    names = [str(space) for space in agreement["space"]]
    layers = np.array([np.nan if (layer := layer_of(name)) is None else layer for name in names], dtype=float)
    known = layers[np.isfinite(layers)]
    first, last = (known.min(), known.max()) if len(known) else (0, -1)
    step = max((last - first) / 6, 1)
    beside = last + 1.5 * step + step * np.arange(len(names))
    x = layers.copy()
    x[~np.isfinite(layers)] = beside[: np.sum(~np.isfinite(layers))]
    refused = np.array([name in reasons(agreement) for name in names], dtype=bool)
    return _Spaces(agreement, layers, x, refused)


def _draw(ax: Axes, spaces: _Spaces, column: str) -> None:
    values, rows, beside = numbers(spaces.table, column), spaces.residual, spaces.beside
    if column == "cos_diff_pc1":
        _draw_null(ax, spaces)
    for level, style in ((LEAST.get(column), "--"), (CHANCE.get(column), ":")):
        if level is not None:
            ax.axhline(level, color=GREY, linewidth=0.9, linestyle=style, zorder=1)
    ax.plot(spaces.x[rows], values[rows], color=BLUE, zorder=3)
    layer = LAYER if len(rows) <= 20 else {**LAYER, "markersize": 2.5}
    for chosen, style in ((rows, layer), (beside, OTHER)):
        for refused in (False, True):
            some = chosen[spaces.refused[chosen] == refused]
            face = "white" if refused else style["color"]
            ax.plot(spaces.x[some], values[some], linestyle="", markerfacecolor=face, zorder=4, **style)
    bottom = 0.4 if column == "auc" else 0.0
    finite = values[np.isfinite(values)]
    if not len(finite):
        ax.text(0.5, 0.85, "not measured", transform=ax.transAxes, ha="center", color=GREY)
    ax.set_ylim(min([bottom, *(finite - 0.05)]), 1.03)
    _label_spaces(ax, spaces)


def _draw_null(ax: Axes, spaces: _Spaces) -> None:
    """What labels without meaning reach: up to its 95th percentile as a band, its median as a line."""
    high, median = numbers(spaces.table, "agreement_null_high"), numbers(spaces.table, "agreement_null_median")
    rows, half = spaces.residual, _half(spaces)
    alone = [*spaces.beside, *rows[: len(rows) == 1]]
    parts = [(np.array([spaces.x[i] - half, spaces.x[i] + half]), np.array([i, i])) for i in alone]
    parts += [(spaces.x[rows], rows)] if len(rows) > 1 else []
    for x, chosen in parts:
        ax.fill_between(x, 0, high[chosen], color=PALE_GREY, linewidth=0, zorder=0)
        ax.plot(x, median[chosen], color=GREY, linewidth=0.9, linestyle="-.", zorder=1)


def _half(spaces: _Spaces) -> float:
    """Half the width of what belongs to one space alone."""
    return 0.35 * max(np.ptp(spaces.x[spaces.residual]) / 6 if len(spaces.residual) else 0, 1)


def _label_spaces(ax: Axes, spaces: _Spaces) -> None:
    rows, beside, half = spaces.residual, spaces.beside, _half(spaces)
    low, high = spaces.x.min() - 1.6 * half, spaces.x.max() + 1.8 * half
    shown = layer_ticks(spaces.x[rows])
    names = [short_label(str(spaces.table["space"].iloc[i])) for i in beside]
    ax.set_xticks([*shown, *spaces.x[beside]], [*(f"{layer:.0f}" for layer in shown), *names])
    ax.set_xlim(low, high)
    ax.set_xlabel("residual layer" if len(rows) else "space")
    if len(rows) and len(beside):
        ax.axvline((spaces.x[rows].max() + spaces.x[beside].min()) / 2, color=PALE_GREY, linewidth=1, zorder=1)


def layer_ticks(layers: np.ndarray) -> list[float]:
    """Which of the sorted layers are named: all that are not too near to one that is, or round numbers of many."""
    if len(layers) > 7:
        ticks = MaxNLocator(nbins=6, integer=True).tick_values(layers[0], layers[-1])
        return [float(tick) for tick in ticks if layers[0] <= tick <= layers[-1]]
    shown: list[float] = []
    for layer in layers.tolist():
        if not shown or layer - shown[-1] >= 0.12 * np.ptp(layers):
            shown.append(layer)
    return shown


def _handles(spaces: _Spaces) -> list[Artist]:
    handles: list[Artist] = []
    if len(spaces.residual):
        handles.append(Line2D([], [], label="residual stream", **LAYER))
    if len(spaces.beside):
        handles.append(Line2D([], [], label="SAE features", linestyle="", **OTHER))
    if np.isfinite(numbers(spaces.table, "agreement_null_high")).any():
        handles.append(Patch(color=PALE_GREY, label="null, up to 95 %"))
        handles.append(Line2D([], [], color=GREY, linewidth=0.9, linestyle="-.", label="null, median"))
    handles.append(Line2D([], [], color=GREY, linewidth=0.9, linestyle="--", label="threshold to interpret"))
    handles.append(Line2D([], [], color=GREY, linewidth=0.9, linestyle=":", label="chance"))
    if spaces.refused.any():
        hollow: dict[str, Any] = {**LAYER, "linestyle": "", "color": GREY, "markerfacecolor": "white"}
        handles.append(Line2D([], [], label="do not interpret", **hollow))
    return handles


def _warning(refused: dict[str, str]) -> str:
    """The reasons, the spaces of one reason together."""
    named = [f"{short_label(space)} ({reason})" for space, reason in list(refused.items())[:MOST_NAMED]]
    if len(refused) > MOST_NAMED:
        named.append(f"and {len(refused) - MOST_NAMED} more (agreement.csv)")
    return warning_line("; ".join(named)) if named else ""


def _halves(agreement: pd.DataFrame) -> list[str]:
    """What the halves of the split-half reliability are halves of."""
    if "split_half_of" not in agreement:
        return []
    kinds = list(dict.fromkeys(str(kind) for kind in agreement["split_half_of"] if str(kind)))
    if kinds == ["questions"]:
        return ["Split-half: halves of the questions alone, since there is one variant only."]
    return [f"Split-half: halves of {' or of '.join(kinds)}."] if kinds else []


def _missing(agreement: pd.DataFrame) -> list[str]:
    """The measures that no space has."""
    absent = [
        name[0].lower() + name[1:] for column, (name, _) in PANELS.items() if np.isnan(numbers(agreement, column)).all()
    ]
    if np.isnan(numbers(agreement, "agreement_null_high")).all():
        absent.append("null of the agreement")
    return [f"Not measured: {', '.join(absent)}."] if absent else []
