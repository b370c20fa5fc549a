"""The figure of one turn's tokens: how far each pushes toward the assistant or away from it, and its text."""

import textwrap
import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from personascope.display.figure import BLACK, BLUE, ORANGE, clean, finish, font_text, message_figure
from personascope.display.fonts import columns, missing_note
from personascope.display.heat import HEAT_MAP, heat_color, heat_limit, heat_steps
from personascope.display.text import is_byte_level, whole_characters
from personascope.formats.tables import numbers

TEXT_COLUMNS, TEXT_LINES, MOST_INDENT, WORDS_WIDTH = 120, 40, 16, 130


@dataclass(frozen=True)
class TokenValue:
    """What is shown of tokens: the column, its axis label, what it says, and how the pieces of one character go
    together."""

    column: str
    label: str
    words: str
    merged: str


WEIGHT = TokenValue(
    "w",
    "w: what the token adds",
    "w is what a token adds: the w of a turn add up to its projection (less a constant where turns are centered)",
    "sum",
)
OWN = TokenValue(
    "u_k",
    "u: the token alone on the axis",
    "u is where a token alone would lie on the axis, not what it adds: a turn\u2019s score is in general not the mean "
    "of its u",
    "mean",
)


def shown_value(q3: pd.DataFrame) -> TokenValue:
    """The exact weights of tokens where the result has them, else their own projections."""
    return WEIGHT if "w" in q3 and np.isfinite(numbers(q3, "w")).any() else OWN


def merged_values(values: np.ndarray, runs: list[tuple[str, list[int]]], kind: TokenValue) -> np.ndarray:
    """One value a run of pieces, float64 [len(runs)]."""
    together = np.sum if kind.merged == "sum" else np.mean
    return np.array([together(values[pieces]) for _, pieces in runs], float)


def token_heat(q3: pd.DataFrame, selected_turn: int | None, *, title: str = "") -> Figure:
    """The values of one turn's tokens, and its text on their colors: white at zero, blue toward, orange away.

    selected_turn: None or a turn without tokens shows the first turn that has tokens. The colors' scale is that of
    the whole conversation. Long turns: all bars, the text's first TEXT_LINES lines.
    """
    if not len(q3):
        return message_figure("No assistant turn has tokens.", title)
    turns, kind = numbers(q3, "assistant_turn"), shown_value(q3)
    turn = selected_turn if selected_turn is not None and (turns == selected_turn).any() else int(turns.min())
    part = q3.loc[turns == turn]
    values, limit = numbers(part, kind.column), heat_limit(numbers(q3, kind.column))
    byte_level = is_byte_level([str(token) for token in q3["token"]])
    runs = whole_characters([str(token) for token in part["token"]], byte_level)
    texts = [text for text, _ in runs]
    cells, lines, shown = _text_cells(texts)
    figure = Figure(figsize=(11, 3.6 + 0.19 * lines), layout="constrained")
    bars, text = figure.subplots(2, 1, height_ratios=(1.9, 0.5 + 0.19 * lines))
    _draw_token_bars(bars, values, kind)
    said = textwrap.fill(f"turn {turn}: {len(part):,} tokens. {kind.words}", WORDS_WIDTH)
    bars.set_title(said, fontsize=9, loc="left", color=BLACK)
    _draw_text(text, cells, merged_values(values, runs, kind), limit, lines)
    text.set_title(textwrap.fill(_text_head(shown, runs), WORDS_WIDTH), fontsize=9, loc="left", color=BLACK)
    shades = ScalarMappable(Normalize(-limit, limit), HEAT_MAP)
    bar = figure.colorbar(shades, ax=[bars, text], aspect=7 * figure.get_figheight(), pad=0.01)
    bar.ax.axhline(0, color=BLACK, linewidth=1)
    bar.set_label(f"away \u2190  {kind.label.split(':')[0]}  \u2192 toward the assistant", fontsize=9)
    return finish(figure, title, noted=True)


def _text_head(shown: int, runs: list[tuple[str, list[int]]]) -> str:
    """What a reader must know of the text below: what is left out, put together, or not drawn as it should be."""
    texts, parts = [text for text, _ in runs[:shown]], []
    if shown < len(runs):
        parts.append(f"text of the first {sum(len(pieces) for _, pieces in runs[:shown]):,} tokens")
    if any(len(pieces) > 1 for _, pieces in runs[:shown]):
        parts.append("tokens that are parts of one character share a box")
    if note := missing_note(texts, "monospace"):
        parts.append(f"{note}; token_heat.html has them in the browser\u2019s fonts")
    if any(unicodedata.bidirectional(character) in ("R", "AL") for character in "".join(texts)):
        parts.append("tokens of right-to-left text stand from left to right here, in token_heat.html in their order")
    return "; ".join(parts)


def _text_cells(texts: list[str]) -> tuple[list[tuple[int, int, float, float, str]], int, int]:
    """Lay texts out in monospace lines: [(index, line, column, width, text)], number of lines, number of texts placed.

    Widths are in columns of the monospaced font; characters of other scripts may be wider.
    """
    cells, line, column = [], 0, 0.0
    for index, text in enumerate(texts):
        pieces = text.split("\n")
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            indent = min(len(piece) - len(piece.lstrip()), MOST_INDENT)
            drawn = " " * indent + font_text(piece, TEXT_COLUMNS - MOST_INDENT - 1, "monospace")
            drawn = (drawn if text else " ") + ("" if last else "\u21b5")
            width = columns(drawn)
            if column and column + width > TEXT_COLUMNS:
                line, column = line + 1, 0.0
            if line >= TEXT_LINES:
                return cells, TEXT_LINES, index
            if drawn:
                cells.append((index, line, column, width, drawn))
            column += width
            if not last:
                line, column = line + 1, 0.0
    return cells, min(line + 1, TEXT_LINES), len(texts)


def _draw_token_bars(ax: Axes, values: np.ndarray, kind: TokenValue) -> None:
    """One bar a token, in the strong color of its sign; they reach above and below one zero line."""
    colors = [BLUE if value > 0 else ORANGE for value in values]
    lines = [np.array([(place, 0.0), (place, value)]) for place, value in enumerate(np.nan_to_num(values).tolist())]
    ax.add_collection(LineCollection(lines, colors=colors, linewidths=float(np.clip(560 / len(values), 0.4, 8))))
    ax.set_xlim(-0.7, len(values) - 0.3)
    reach = float(np.nanmax(np.abs(values), initial=1e-9))
    ax.set_ylim(min(-0.15 * reach, np.nanmin(values) * 1.05), max(0.15 * reach, np.nanmax(values) * 1.05))
    ax.axhline(0, color=BLACK, linewidth=0.9)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xlabel("token of the turn", fontsize=9)
    ax.set_ylabel(kind.label.replace(": ", ":\n"), fontsize=8)
    clean(ax)


def _draw_text(ax: Axes, cells: list[Any], values: np.ndarray, limit: float, lines: int) -> None:
    steps = heat_steps(values, limit)
    boxes = [Rectangle((column, line), width, 0.94) for _, line, column, width, _ in cells]
    colors = [heat_color(int(steps[index])) for index, *_ in cells]
    ax.add_collection(PatchCollection(boxes, facecolors=colors, edgecolors="#bbbbbb", linewidths=0.25))
    for _, line, column, _, text in cells:
        ax.text(column, line + 0.47, text, family="monospace", fontsize=8.6, va="center_baseline", in_layout=False)
    ax.set_xlim(0, TEXT_COLUMNS)
    ax.set_ylim(max(lines, 1), 0)
    ax.set_axis_off()
