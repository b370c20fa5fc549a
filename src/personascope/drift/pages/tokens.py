"""The figure of one turn's tokens: how far each pushes toward the assistant or away from it, and its text."""

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
from personascope.display.heat import HEAT_MAP, heat_color, heat_limit, heat_steps
from personascope.display.text import is_byte_level, piece_text
from personascope.formats.tables import numbers

TEXT_COLUMNS, TEXT_LINES, MOST_INDENT = 120, 40, 16


def token_heat(q3: pd.DataFrame, selected_turn: int | None, *, title: str = "") -> Figure:
    """u_k over the tokens of one turn, and its text on these colors: white at zero, blue toward, orange away.

    selected_turn: None or a turn without tokens shows the first turn that has tokens. The colors' scale is that of
    the whole conversation. Long turns: all bars, the text's first TEXT_LINES lines.
    """
    if not len(q3):
        return message_figure("No assistant turn has tokens.", title)
    turns = numbers(q3, "assistant_turn")
    turn = selected_turn if selected_turn is not None and (turns == selected_turn).any() else int(turns.min())
    part = q3.loc[turns == turn]
    values, limit = numbers(part, "u_k"), heat_limit(numbers(q3, "u_k"))
    byte_level = is_byte_level([str(token) for token in q3["token"]])
    cells, lines, shown = _text_cells(piece_text([str(token) for token in part["token"]], byte_level))
    figure = Figure(figsize=(11, 3.3 + 0.17 * lines), layout="constrained")
    bars, text = figure.subplots(2, 1, height_ratios=(1.9, 0.4 + 0.17 * lines))
    _draw_token_bars(bars, values, limit)
    bars.set_title(f"turn {turn}: {len(part):,} tokens", fontsize=9, loc="left", color=BLACK)
    _draw_text(text, cells, values, limit, lines)
    if shown < len(part):
        text.set_title(f"text of the first {shown:,} tokens", fontsize=9, loc="left", color=BLACK)
    shades = ScalarMappable(Normalize(-limit, limit), HEAT_MAP)
    bar = figure.colorbar(shades, ax=[bars, text], aspect=7 * figure.get_figheight(), pad=0.01)
    bar.ax.axhline(0, color=BLACK, linewidth=1)
    bar.set_label("away \u2190  u  \u2192 toward the assistant", fontsize=9)
    return finish(figure, title)


def _text_cells(texts: list[str]) -> tuple[list[tuple[int, int, int, str]], int, int]:
    """Lay tokens out in monospace lines: [(token, line, column, text)], number of lines, number of tokens placed."""
    cells, line, column = [], 0, 0
    for index, text in enumerate(texts):
        pieces = text.split("\n")
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            indent = min(len(piece) - len(piece.lstrip()), MOST_INDENT)
            drawn = " " * indent + font_text(piece, TEXT_COLUMNS - MOST_INDENT - 1, "monospace")
            drawn = (drawn if text else " ") + ("" if last else "\u21b5")
            if column and column + len(drawn) > TEXT_COLUMNS:
                line, column = line + 1, 0
            if line >= TEXT_LINES:
                return cells, TEXT_LINES, index
            if drawn:
                cells.append((index, line, column, drawn))
            column += len(drawn)
            if not last:
                line, column = line + 1, 0
    return cells, min(line + 1, TEXT_LINES), len(texts)


def _draw_token_bars(ax: Axes, values: np.ndarray, limit: float) -> None:
    """One bar a token, in the strong color of its sign; they reach above and below one zero line."""
    colors = [BLUE if value > 0 else ORANGE for value in values]
    lines = [np.array([(place, 0.0), (place, value)]) for place, value in enumerate(np.nan_to_num(values).tolist())]
    ax.add_collection(LineCollection(lines, colors=colors, linewidths=float(np.clip(560 / len(values), 0.4, 8))))
    ax.set_xlim(-1, len(values))
    ax.set_ylim(min(-0.3 * limit, np.nanmin(values) * 1.05), max(0.3 * limit, np.nanmax(values) * 1.05))
    ax.axhline(0, color=BLACK, linewidth=0.9)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xlabel("token of the turn", fontsize=9)
    ax.set_ylabel("u", rotation=0, labelpad=10)
    clean(ax)


def _draw_text(ax: Axes, cells: list[tuple[int, int, int, str]], values: np.ndarray, limit: float, lines: int) -> None:
    steps = heat_steps(values, limit)
    boxes = [Rectangle((column, line), len(text), 0.94) for _, line, column, text in cells]
    colors = [heat_color(steps[index]) for index, *_ in cells]
    ax.add_collection(PatchCollection(boxes, facecolors=colors, edgecolors="#bbbbbb", linewidths=0.25))
    for _, line, column, text in cells:
        ax.text(column, line + 0.47, text, family="monospace", fontsize=8.6, va="center_baseline", in_layout=False)
    ax.set_xlim(0, TEXT_COLUMNS)
    ax.set_ylim(max(lines, 1), 0)
    ax.set_axis_off()
