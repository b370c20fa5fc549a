"""Figures as a paper takes them: at the size at which they are printed, under a heading that says what is shown.

Sizes are in inches, those of text in points. A page's text is PAGE wide; nothing is smaller than 5 points.
"""

import functools
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.gridspec import SubplotSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import text_to_path

from personascope.display.figure import BLACK, GREY, ORANGE, font_text

PAGE, COLUMN = 7.2, 5.2
PAPER_DPI = 300
POINTS = 72  # an inch

_STYLE: dict[Any, Any] = {
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
}
# Size, weight and color of the lines of a heading, and of that of a panel.
_TITLE: dict[str, Any] = {"fontsize": 9, "fontweight": "bold", "color": BLACK}
_NOTE: dict[str, Any] = {"fontsize": 7, "fontweight": "normal", "color": GREY}
_WARNING: dict[str, Any] = {"fontsize": 8, "fontweight": "bold", "color": ORANGE}
_PANEL: dict[str, Any] = {"fontsize": 7.5, "fontweight": "bold", "color": BLACK}
_ABOVE_PANEL = 3.0  # points between a panel and its heading
_PANEL_WARNING = _WARNING | {"fontsize": 6.5}
_LINE, _MARGIN = 1.35, 0.06  # a line's height in sizes of its text; around the heading, in inches
# As a decorator of a function that draws: the style holds for all that it makes.
paper_style = matplotlib.rc_context(_STYLE)


def paper_figure(
    width: float, height: float, title: str, subtitle: str = "", notes: Sequence[str] = (), warning: str = ""
) -> Figure:
    """An empty figure: a heading, and room of `width` x `height` for axes, which a constrained layout fills.

    warning: what keeps readers from interpreting the figure; it stands out. notes: what else they must know.
    """
    texts = [(title, _TITLE), (warning, _WARNING), (subtitle, _NOTE), *((note, _NOTE) for note in notes)]
    lines = [(line, style) for text, style in texts for line in _fold(text, width - 2 * _MARGIN, style)]
    heading = 2 * _MARGIN + sum(style["fontsize"] for _, style in lines) * _LINE / POINTS
    figure = Figure(figsize=(width, height + heading))
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, 0, 1, height / (height + heading))))
    down = _MARGIN
    for line, style in lines:
        figure.text(_MARGIN / width, 1 - down / (height + heading), line, va="top", **style)
        down += style["fontsize"] * _LINE / POINTS
    return figure


def panel_heading(
    ax: Axes, width: float, title: str, note: str = "", warning: str = "", height: float | None = None
) -> None:
    """Write a panel's title, warning and note above it, at most `width` wide.

    height: that of the highest heading of its row, whose titles then stand side by side.
    """
    up = POINTS * (panel_heading_height(width, title, note, warning) if height is None else height)
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
    for line, style in _panel_lines(width, title, note, warning):
        ax.annotate(line, (0, 1), (0, up), annotation_clip=False, **place, **style)
        up -= style["fontsize"] * _LINE


def panel_heading_height(width: float, title: str, note: str = "", warning: str = "") -> float:
    """The height of what `panel_heading` writes."""
    sizes = [style["fontsize"] for _, style in _panel_lines(width, title, note, warning)]
    return (_ABOVE_PANEL + sum(sizes) * _LINE) / POINTS


def _panel_lines(width: float, title: str, note: str, warning: str) -> list[tuple[str, dict[str, Any]]]:
    texts = [(title, _PANEL), (warning, _PANEL_WARNING), (note, _NOTE)]
    return [(line, style) for text, style in texts for line in _fold(text, width, style)]


def _fold(text: str, width: float, style: dict[str, Any]) -> list[str]:
    """A text as lines that are at most `width` wide; only a word that is wider by itself is cut."""

    def fits(line: str) -> bool:
        return text_width(line, style["fontsize"], style["fontweight"]) <= width

    lines = [""]
    for word in font_text(text).split():
        if lines[-1] and not fits(f"{lines[-1]} {word}"):
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
        while len(lines[-1]) > 1 and not fits(lines[-1]):
            cut = next(n for n in range(len(lines[-1]) - 1, 0, -1) if n == 1 or fits(lines[-1][:n]))
            lines[-1:] = [lines[-1][:cut], lines[-1][cut:]]
    return [line for line in lines if line]


@functools.cache
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """How wide a line of text is, at a size in points, with room for what a PNG's whole pixels add."""
    font = FontProperties(size=size, weight=weight)
    return 1.04 * text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / POINTS


def paper_axes(figure: Figure, cell: SubplotSpec | None = None, **options: Any) -> Axes:
    """New axes in a cell of the figure's grid. Ticks are made when a figure is written, so their style is told here."""
    ax = figure.add_subplot(cell if cell is not None else 111, **options)
    ax.tick_params(labelsize=7, width=0.6, length=2.5)
    return ax
