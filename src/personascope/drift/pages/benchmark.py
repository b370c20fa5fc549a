"""The benchmark as a forest plot, and the files of its stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from personascope.display.figure import BLACK, BLUE, GREY, ORANGE, PALE_GREY, finish, font_text, save_figure
from personascope.display.paper import PAGE, PAPER_DPI, paper_axes, paper_figure, paper_style
from personascope.drift.drift_benchmark import TEST, Files, Judged, benchmark_table, judge_analysis
from personascope.drift.options import DriftOptions
from personascope.formats.tables import write_csv

MOST_PANELS = 6  # in a row
ROW, HEAD = 0.17, 0.75  # inches: of a contrast, and of what else a row of panels needs
GAP = 0.7  # between both groups of contrasts, in rows
NAMES = {
    "persona_known": "persona, one of the roles",
    "persona_new": "persona, none of the roles",
    "plain": "nothing",
    "pressure": "an angry user",
    "genre": "another genre",
    "topic": "another topic",
    "language": "another language",
    "longer": "longer answers",
    "repetition": "repeated questions",
}
METHODS = {
    "projection": "projection",
    "nearest_role": "nearest role",
    "length": "length",
    "repetition": "repetition",
}
TITLE = "Alarms where the model takes a persona, and where something else changes"


def panels_of(table: pd.DataFrame) -> list[list[tuple[str, str]]]:
    """Rows of (analysis, method): the test under each analysis, and the baselines, of which those of the text alone and
    the nearest role stand under the first analysis, and projections under each residual one (the first without)."""
    analyses = list(dict.fromkeys(table["analysis"]))
    first = analyses[0]
    residual = list(dict.fromkeys(table.loc[table["space"] == "residual", "analysis"])) or [first]
    tests = [(name, TEST) for name in analyses]
    others = [
        *((name, "projection") for name in residual),
        *((first, name) for name in METHODS if name != "projection"),
    ]
    return [part[i : i + MOST_PANELS] for part in (tests, others) for i in range(0, len(part), MOST_PANELS)]


@paper_style
def benchmark_figure(table: pd.DataFrame, alpha: float) -> Figure:
    """Share of conversations with an alarm at the onset or later, a row a contrast, from `benchmark_table`.

    Contrasts with a persona, where alarms are right, stand on top in orange; where nothing of the kind happens, below
    in blue. Dashed: how often the method alarms on plain conversations and references.
    """
    places = _places(table)
    rows = panels_of(table)
    height = len(rows) * (ROW * (max(places.values()) + 1) + HEAD)
    notes = [
        "Orange diamonds: the model is asked into a persona, an alarm is right. Blue circles: an alarm is false.",
        "Bars: 95 % by draws of scripts. Dashed: alarms at any turn of plain conversations and references; the simpler "
        f"signals have the level at which that is the test's (stated: {100 * alpha:g} %).",
    ]
    subtitle = "Conversations with an alarm at the onset or later. First the test by analysis, then simpler signals."
    figure = paper_figure(PAGE, height, TITLE, subtitle, notes)
    grid = figure.add_gridspec(len(rows), max(map(len, rows)))
    for i, row in enumerate(rows):
        for j, (analysis, method) in enumerate(row):
            chosen = (table["analysis"] == analysis) & (table["method"] == method)
            ax = paper_axes(figure, grid[i, j])
            _draw_panel(ax, table.loc[chosen], places, labeled=j == 0)
            ax.set_title(_heading(analysis, method), fontsize=7, loc="left")
    figure.supxlabel("share of the contrast's conversations with an alarm", fontsize=7)
    return finish(figure)


def _heading(analysis: str, method: str) -> str:
    first = "test" if method == TEST else METHODS[method]
    return f"{first}\n{font_text(analysis, 22)}"


def _places(table: pd.DataFrame) -> dict[str, float]:
    """{contrast: its place from the top}, personas first and a gap behind them."""
    known = dict(zip(table["contrast"].tolist(), table["is_persona"].tolist(), strict=True))
    order = [name for name in [*NAMES, *sorted(set(known) - set(NAMES))] if name in known]
    personas, others = ([name for name in order if known[name] is wanted] for wanted in (True, False))
    gap = GAP if personas else 0.0
    return {name: float(i) for i, name in enumerate(personas)} | {
        name: len(personas) + gap + i for i, name in enumerate(others)
    }


def _draw_panel(ax: Axes, part: pd.DataFrame, places: Mapping[str, float], labeled: bool) -> None:
    for row in part.to_dict("records"):
        color = ORANGE if row["is_persona"] else BLUE
        place = places[row["contrast"]]
        ax.hlines(place, row["detected_low"], row["detected_high"], color=color, linewidth=1.4)
        ax.plot(row["detected"], place, "D" if row["is_persona"] else "o", color=color, markersize=4, clip_on=False)
    if len(part):
        ax.axvline(part["false_alarm_rate"].iloc[0], color=GREY, linewidth=0.8, linestyle=(0, (3, 2)), zorder=0)
    personas = [places[name] for name in part.loc[part["is_persona"], "contrast"]]
    if personas and len(personas) < len(part):
        ax.axhline(max(personas) + (1 + GAP) / 2, color=PALE_GREY, linewidth=0.8, zorder=0)
    ax.set_xlim(-0.03, 1.03)
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.set_ylim(max(places.values()) + 0.6, -0.6)
    ax.set_yticks(list(places.values()), [font_text(NAMES.get(name, name), 30) for name in places] if labeled else [])
    ax.tick_params(axis="y", length=0, labelcolor=BLACK)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x", color=PALE_GREY, linewidth=0.4, zorder=0)
    ax.set_axisbelow(True)


def write_benchmark(
    analyses: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, Sequence[str]],
    *,
    seed: int,
    table: str,
    png: str,
    svg: str,
) -> None:
    """From the runs of all conversations to the benchmark's table and figure.

    analyses: {name: options}; files: `summaries` and `results` of every analysis, in folders {analysis}/{conversation};
    `nulls` and `matrices`, one an analysis in the same order; `references`, the tokens of reference conversations.
    """
    judged: list[Judged] = []
    options = {name: DriftOptions.of(**flat) for name, flat in analyses.items()}
    for i, (name, chosen) in enumerate(options.items()):
        runs = {
            Path(result).parent.name: (summary, result)
            for summary, result in zip(files["summaries"], files["results"], strict=True)
            if Path(result).parent.parent.name == name
        }
        judged += judge_analysis(
            name, Files(runs, files["references"], files["nulls"][i], files["matrices"][i]), chosen
        )
    made = benchmark_table(judged, seed)
    write_csv(table, made)
    alphas = np.array([chosen.test.alpha for chosen in options.values()])
    save_figure(benchmark_figure(made, float(alphas[0])), png, svg, dpi=PAPER_DPI)
