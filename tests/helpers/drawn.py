"""What a figure shows: its texts as they are drawn, and whether they can be read."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text

DOTS = 150  # an inch


def drawn_texts(figure: Figure) -> list[Text]:
    """Every text that is drawn, once the figure is laid out."""
    figure.set_dpi(DOTS)
    FigureCanvasAgg(figure).draw()
    return [text for text in _texts(figure) if text.get_visible() and text.get_text().strip()]


def _texts(figure: Figure) -> Iterator[Text]:
    yield from figure.texts
    for legend in figure.legends:
        yield from legend.get_texts()
    for ax in figure.axes:
        yield from (*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label)
        yield from itertools.chain.from_iterable(_tick_labels(axis) for axis in (ax.xaxis, ax.yaxis))


def _tick_labels(axis: Any) -> Iterator[Text]:
    for tick in axis._update_ticks():  # those inside the limits
        yield from (tick.label1, tick.label2)


def words(figure: Figure) -> str:
    """All that a figure says, its lines joined by spaces."""
    return " ".join(text.get_text() for text in drawn_texts(figure))


def unreadable(figure: Figure, points: float = 5) -> list[str]:
    """Texts that are cut off at an edge, lie on one another, or are smaller than so many points."""
    texts = drawn_texts(figure)
    boxes = [
        Text.get_window_extent(text) if isinstance(text, Annotation) else text.get_window_extent() for text in texts
    ]
    whole = figure.bbox.padded(1)
    found = [f"{text.get_text()!r} is too small" for text in texts if float(text.get_fontsize()) < points]
    for text, box in zip(texts, boxes, strict=True):
        if box.x0 < whole.x0 or box.y0 < whole.y0 or box.x1 > whole.x1 or box.y1 > whole.y1:
            found.append(f"{text.get_text()!r} is cut off")
    for (a, one), (b, other) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        width = min(one.x1, other.x1) - max(one.x0, other.x0)
        height = min(one.y1, other.y1) - max(one.y0, other.y0)
        if width > 2 and height > 0.25 * min(one.height, other.height):
            found.append(f"{a.get_text()!r} lies on {b.get_text()!r}")
    return found


def marks(ax: Axes, color: str | None = None, hollow: bool | None = None) -> list[Line2D]:
    """Lines that are symbols, in the order in which they were drawn."""
    found = [line for line in ax.get_lines() if line.get_marker() not in ("None", None, "")]
    if color is not None:
        found = [line for line in found if to_hex(line.get_color()) == color]
    if hollow is not None:
        found = [line for line in found if (str(line.get_markerfacecolor()) in ("none", "white")) == hollow]
    return found


def xy(line: Line2D) -> list[tuple[float, float]]:
    """The points of a line."""
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]
