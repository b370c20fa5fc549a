"""What figures share: colors, writing them, texts that a font can draw, and the figure that says why it is empty.

Colors are safe for color-blind readers: blue and orange, never red against green.
"""

import io
import re
import textwrap
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from personascope.display.fonts import can_draw, further_families
from personascope.display.text import HIDDEN
from personascope.formats.files import atomic_path

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "personascope"

ORANGE, PALE_ORANGE, BLACK, PALE_GREY = "#c2570c", "#fdd0a2", "#222222", "#e6e6e6"
MISSING_GLYPH = "\u25a1"
NO_TABLE = pd.DataFrame()
MESSAGE_WIDTH = 76  # characters a line


def font_text(value: Any, width: int | None = None, family: str | None = None) -> str:
    """One line that a figure's font can draw, cut to `width` characters; "" for None and NaN.

    Controls and white space become single spaces, each run of characters without a glyph one MISSING_GLYPH.
    """
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    text = " ".join(HIDDEN.sub(" ", unicodedata.normalize("NFC", str(value))).split())
    drawn = "".join(character if can_draw(character, family) else "\0" for character in text)
    drawn = re.sub("\0+", MISSING_GLYPH, drawn)
    return drawn if width is None or len(drawn) <= width else drawn[: width - 1].rstrip() + "\u2026"


def finish(figure: Figure, title: str = "", *, noted: bool = False) -> Figure:
    """Add the title, take every text literally (a `$` in a role name or description is no formula), and let fonts that
    have them draw characters that the figure's own lacks.

    Where a character is in no font, a line below the title says so; noted: the figure says it itself.
    """
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    missing = not noted and any(MISSING_GLYPH in text.get_text() for text in texts)
    note = f"{MISSING_GLYPH}: characters that no installed font has" if missing else ""
    lines = [font_text(title, int(10 * figure.get_figwidth())), note]
    if any(lines):
        shown = "\n".join(line for line in lines if line)
        style: dict[str, Any] = {"x": 0.01, "ha": "left", "color": BLACK, "multialignment": "left"}
        texts.append(figure.suptitle(shown, fontsize=11 if title else 8, fontweight="bold" if title else None, **style))
    for text in texts:
        text.set_parse_math(False)
        own = text.get_fontfamily()
        if further := further_families(text.get_text(), own[0]):
            text.set_fontfamily([*own, *further])
    return figure


def warn(figure: Figure, warning: str) -> None:
    """Add a line of warning under a finished figure's title, which takes its color."""
    if warning:
        width = int(10 * figure.get_figwidth())
        lines = [figure.get_suptitle(), *textwrap.wrap(font_text(warning, 2 * width), width)]
        style: dict[str, Any] = {
            "x": 0.01,
            "ha": "left",
            "multialignment": "left",
            "fontsize": 11,
            "fontweight": "bold",
        }
        figure.suptitle("\n".join(filter(None, lines)), color=ORANGE, **style).set_parse_math(False)


def message_figure(message: str, title: str = "") -> Figure:
    """A figure that says why there is nothing to draw."""
    figure = Figure(figsize=(6.4, 1.8), layout="constrained")
    ax = figure.subplots()
    ax.set_axis_off()
    lines = textwrap.fill(font_text(message), MESSAGE_WIDTH)
    ax.text(0.5, 0.5, lines, ha="center", va="center", color=BLACK, transform=ax.transAxes)
    return finish(figure, title)


def clean(ax: Axes) -> None:
    """Only the two axes that are read."""
    ax.spines[["top", "right"]].set_visible(False)


def signed(value: float, digits: str) -> str:
    """A number with its sign, the minus as long as the plus."""
    return f"{value:+{digits}}".replace("-", "\u2212")


def turn_ticks(ax: Axes, turns: np.ndarray) -> None:
    """Whole turns on the x axis."""
    ax.set_xlim(turns.min() - 0.6, turns.max() + 0.6)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=20, min_n_ticks=1))
    ax.set_xlabel("assistant turn")


def is_role(name: Any, role: str) -> bool:
    """Whether two names mean one role: compared without case and surrounding space."""
    return str(name).strip().lower() == role.strip().lower()


DPI = 150


BLUE, PALE_BLUE, GREY = "#2166ac", "#9ecae1", "#777777"


def save_figure(figure: Figure, *paths: str | Path, dpi: int = DPI) -> None:
    """Write a figure to each path, the format by its suffix, atomically. It is laid out once for all of them."""
    figure.set_dpi(dpi)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for path in paths:
        with atomic_path(path) as temporary:
            WRITERS[Path(path).suffix](figure, temporary)


def png_bytes(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as a PNG, to be put into a page."""
    figure.set_dpi(dpi)
    with io.BytesIO() as buffer:
        FigureCanvasAgg(figure).print_png(buffer)
        return buffer.getvalue()


def _write_png(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure).print_png(path)


def _write_svg(figure: Figure, path: Path) -> None:
    dpi = figure.get_dpi()
    figure.set_dpi(72)  # an SVG's own unit is the point
    FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
    figure.set_dpi(dpi)


# `savefig` would draw each format twice. The same table gives the same bytes: no date, no random ids.
WRITERS: dict[str, Callable[[Figure, Path], None]] = {".png": _write_png, ".svg": _write_svg}
