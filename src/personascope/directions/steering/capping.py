"""What capping does to conversations: the projection by turn with and without a cap, and the share of capped tokens."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from personascope.directions.steering.sweep import interval
from personascope.display.figure import BLACK, BLUE, ORANGE, finish, save_figure, turn_ticks
from personascope.display.paper import (
    PAGE,
    PAPER_DPI,
    panel_heading,
    panel_heading_height,
    paper_axes,
    paper_figure,
    paper_style,
)
from personascope.formats.files import read_json
from personascope.formats.tables import numbers, write_csv

UNCAPPED = "none"
TALK = ["script", "sample"]
COLORS = (BLUE, ORANGE, "#762a83", "#1b7837")
PROJECTION = re.compile(r"projection_(\d+)")


def write_capping(
    turns: Sequence[str], floors: str, table: str, figures: Sequence[str], *, layers: Sequence[int], subtitle: str = ""
) -> None:
    """Write the table and the figure. turns: the tables of `simulate_capped`."""
    rows = pd.concat([pd.read_csv(path, dtype={"cap": str}, keep_default_na=True) for path in turns], ignore_index=True)
    rows["cap"] = rows["cap"].fillna(UNCAPPED)
    capped = capping_table(rows)
    write_csv(table, capped)
    figure = capping_figure(capped, read_json(floors), list(layers), subtitle=subtitle)
    save_figure(figure, *figures, dpi=PAPER_DPI)


def capping_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a condition, cap, turn and measure: mean over conversations, and its change from the same conversation
    without a cap, each with a 95 % interval over conversations.

    rows: a row a conversation, cap and turn. Conversations differ from the first turn on, since answers differ.
    """
    measures = [name for name in rows.columns if name not in (*TALK, "condition", "cap", "turn")]
    talks = list(zip(*(rows[name].tolist() for name in ("condition", "turn", *TALK)), strict=True))
    caps = rows["cap"].tolist()
    plain = {talk: i for i, (talk, cap) in enumerate(zip(talks, caps, strict=True)) if cap == UNCAPPED}
    groups: dict[tuple[str, str, int], list[int]] = {}
    for i, ((condition, turn, *_), cap) in enumerate(zip(talks, caps, strict=True)):
        groups.setdefault((str(condition), cap, int(turn)), []).append(i)
    values = {measure: numbers(rows, measure) for measure in measures}
    made = []
    for (condition, cap, turn), members in sorted(groups.items()):
        before = [plain[talks[i]] for i in members]
        for measure, column in values.items():
            mean, low, high = interval(column[members])
            change, change_low, change_high = interval(column[members] - column[before])
            row = {"condition": condition, "cap": cap, "turn": turn, "measure": measure}
            row |= {"mean": mean, "low": low, "high": high, "n": int(np.isfinite(column[members]).sum())}
            made.append(row | {"change": change, "change_low": change_low, "change_high": change_high})
    return pd.DataFrame(made)


@paper_style
def capping_figure(table: pd.DataFrame, floors: dict[str, Any], layers: list[int], *, subtitle: str = "") -> Figure:
    """Projection, share of capped tokens and perplexity by turn: a column a condition, a line a cap."""
    conditions, last = list(dict.fromkeys(table["condition"])), layers[-1]
    caps = [UNCAPPED, *sorted(set(table["cap"]) - {UNCAPPED}, key=float)]
    band = f"layer {last}" if len(layers) == 1 else f"layers {layers[0]} to {last} ({len(layers)} of them)"
    of = f"{floors['tokens']:,} assistant tokens of {floors['conversations']} plain conversations"
    notes = [f"Floors: percentiles of the projections of {of}. Turns are re-read by"]
    notes[0] += " the uncapped model, projections and perplexity alike; bars: 95 % over conversations."
    figure = paper_figure(PAGE, 4.4, f"Capping the axis from below at {band}", subtitle, notes=notes)
    panels = {
        f"projection_{last}": f"projection, layer {last}",
        f"capped_{last}": "tokens capped",
        "nll": "perplexity",
    }
    grid = figure.add_gridspec(len(panels), len(conditions))
    width = (PAGE - 0.6) / len(conditions) - 0.1
    for column, condition in enumerate(conditions):
        part = table.loc[table["condition"] == condition]
        talks = int(numbers(part, "n").max())
        note = "1 conversation a cap" if talks == 1 else f"{talks} conversations a cap"
        for line, (measure, label) in enumerate(panels.items()):
            ax = paper_axes(figure, grid[line, column])
            if line == 0:
                title = str(condition) or "scripted conversations"
                panel_heading(ax, width, title, note, height=panel_heading_height(width, title, note))
            ax.set_ylabel(label if column == 0 else "")
            _draw(ax, part.loc[part["measure"] == measure], caps, measure, floors["floors"].get(str(last), {}))
            ax.set_xlabel("assistant turn" if line == len(panels) - 1 else "")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(caps))
    return finish(figure)


def _draw(ax: Axes, part: pd.DataFrame, caps: list[str], measure: str, floors: dict[str, float]) -> None:
    scale = np.exp if measure == "nll" else lambda values: values
    for i, cap in enumerate(caps):
        rows = part.loc[part["cap"] == cap]
        x = numbers(rows, "turn") + 0.12 * (i - (len(caps) - 1) / 2)
        y, low, high = (scale(numbers(rows, name)) for name in ("mean", "low", "high"))
        color = BLACK if cap == UNCAPPED else COLORS[(i - 1) % len(COLORS)]
        label = "no cap" if cap == UNCAPPED else f"floor at percentile {cap}"
        ax.errorbar(
            x, y, yerr=[y - low, high - y], color=color, marker="o", markersize=2.5, elinewidth=0.6, label=label
        )
        if measure.startswith("projection_") and cap in floors:
            ax.axhline(floors[cap], color=color, linewidth=0.6, linestyle=":")
    if measure.startswith("capped_"):
        ax.set_ylim(0, 1)
        ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g} %"))
    turn_ticks(ax, numbers(part, "turn"))
