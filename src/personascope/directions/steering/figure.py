"""The figure of a sweep: what each arm does at each coefficient, and at equal distance from the unsteered model."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from personascope.display.figure import BLACK, BLUE, GREY, ORANGE, finish
from personascope.display.paper import PAGE, panel_heading, panel_heading_height, paper_axes, paper_figure, paper_style
from personascope.formats.tables import numbers

ROW = 1.75  # inches
STYLES: dict[str, dict[str, Any]] = {
    "direction": {"color": BLUE, "marker": "o", "markersize": 3},
    "orthogonal": {"color": ORANGE, "marker": "s", "markersize": 2.5, "linestyle": (0, (4, 2))},
    "random": {"color": GREY, "linewidth": 0.7, "marker": ".", "markersize": 2},
    "prompt": {"color": BLACK, "linestyle": ":", "linewidth": 1},
    "star": {"color": BLACK, "linestyle": "none", "marker": "*", "markersize": 7},
}
LABELS = {
    "direction": "along the direction",
    "orthogonal": "orthogonal to it",
    "random": "random, each a line",
    "prompt": "a prompt that asks for it",
}
PANELS = {
    "trait": ("Judged trait", "change, points"),
    "coherence": ("Judged coherence", "points"),
    "kl": ("KL from the unsteered model", "nats a token"),
    "nll": ("Perplexity, unsteered model", "perplexity"),
    "repetition": ("Repeated 4-grams", "share"),
}


@paper_style
def dose_figure(table: pd.DataFrame, equal: pd.DataFrame, summary: dict[str, Any], *, subtitle: str = "") -> Figure:
    """table, equal, summary: of `report`."""
    measures = [*_effects(table, summary), *(m for m in ("coherence", "kl", "nll", "repetition") if _has(table, m))]
    panels = [*measures, "equal"]
    lines = -(-len(panels) // 3)
    notes = [_sentence(summary), summary["judge"] and f"Judge: {summary['judge']}."]
    title = f"Steering along {summary['direction']} at {_layers(summary['layers'])}"
    figure = paper_figure(PAGE, ROW * lines + 0.3, title, subtitle, notes=[note for note in notes if note])
    grid = figure.add_gridspec(lines, 3)
    heads = {panel: _heading(panel, summary) for panel in panels}
    width = PAGE / 3 - 0.55
    height = max(panel_heading_height(width, title, note) for title, note, _ in heads.values())
    for i, panel in enumerate(panels):
        ax = paper_axes(figure, grid[i // 3, i % 3])
        title, note, label = heads[panel]
        panel_heading(ax, width, title, note, height=height)
        ax.set_ylabel(label)
        if panel == "equal":
            _draw_equal(ax, table, summary)
        else:
            _draw_measure(ax, table.loc[table["measure"] == panel], panel, summary)
    arms = list(dict.fromkeys(_family(arm) for arm in table["arm"] if arm != "none"))
    handles: list[Any] = [Line2D([], [], **STYLES[arm], label=LABELS[arm]) for arm in STYLES if arm in arms]
    if "prompt" in arms:
        dotted = handles.pop()
        handles.append((dotted, Line2D([], [], **STYLES["star"])))
    labels = [LABELS[arm] for arm in STYLES if arm in arms]
    pairs = {tuple: HandlerTuple(ndivide=None)}
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), handler_map=pairs)
    return finish(figure)


def _family(arm: str) -> str:
    return "random" if arm.startswith("random") else arm


def _has(table: pd.DataFrame, measure: str) -> bool:
    return bool(table.loc[table["measure"] == measure, "mean"].notna().any())


def _effects(table: pd.DataFrame, summary: dict[str, Any]) -> list[str]:
    """The judged trait, and the projection at the first layer behind the steered ones and at the last one read."""
    last = f"projection_{summary['read_layers'][-1]}"
    wanted = dict.fromkeys(["trait", summary["primary"], last])
    return [measure for measure in wanted if _has(table, measure)]


def _layers(layers: list[int]) -> str:
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {', '.join(map(str, layers))}"


def _heading(panel: str, summary: dict[str, Any]) -> tuple[str, str, str]:
    """Title, note and name of the y axis."""
    if panel == "equal":
        return f"At equal KL, {_short(summary['primary'])}", "hollow: negative coefficients", "change where meant"
    if panel.startswith("projection_"):
        return f"Projection at {_short(panel)}", "re-read without hooks", "change"
    return PANELS[panel][0], "", PANELS[panel][1]


def _short(measure: str) -> str:
    return f"layer {measure.removeprefix('projection_')}"


def _draw_measure(ax: Axes, table: pd.DataFrame, measure: str, summary: dict[str, Any]) -> None:
    changes = measure == "trait" or measure.startswith("projection_")
    names = ("change", "change_low", "change_high") if changes else ("mean", "low", "high")
    scale = np.exp if measure == "nll" else lambda values: values
    arms, coefficients = table["arm"].tolist(), numbers(table, "coefficient")
    values = [scale(numbers(table, name)) for name in names]
    for arm in dict.fromkeys(arms):
        if arm == "none":
            continue
        if arm == "prompt":
            ax.axhline(float(values[0][arms.index("prompt")]), **STYLES["prompt"])
            continue
        chosen = np.flatnonzero([one in (arm, "none") for one in arms])
        chosen = chosen[np.argsort(coefficients[chosen])]
        ax.plot(coefficients[chosen], values[0][chosen], **STYLES[_family(arm)], zorder=3 if arm == "direction" else 2)
        if arm == "direction":
            band: dict[str, Any] = {"color": BLUE, "alpha": 0.15, "linewidth": 0}
            ax.fill_between(coefficients[chosen], values[1][chosen], values[2][chosen], **band)
    if measure == "repetition":
        ax.set_ylim(0, min(1, 1.1 * float(np.nan_to_num(values[2]).max()) or 1))
    if changes:
        ax.axhline(0, color=GREY, linewidth=0.5, zorder=1)
    if measure == "nll":
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
    ax.set_xlabel("coefficient, mean residual norms" if summary["units"] == "residual_norm" else "coefficient")


def _draw_equal(ax: Axes, table: pd.DataFrame, summary: dict[str, Any]) -> None:
    kl, effect = _by_point(table, "kl", "mean"), _by_point(table, summary["primary"], "change")
    for arm in dict.fromkeys(arm for arm, _ in kl):
        family = _family(arm)
        for side in (1, -1):
            points = sorted((kl[key], side * effect[key]) for key in kl if key[0] == arm and side * key[1] > 0)
            if points:
                x, y = np.array([(0.0, 0.0), *points]).T
                style: dict[str, Any] = STYLES[family] | ({} if side > 0 else {"markerfacecolor": "white"})
                ax.plot(x, y, **style, zorder=3 if arm == "direction" else 2)
    if ("prompt", 0.0) in kl:
        sign = summary["prompt_sign"]
        ax.plot(kl["prompt", 0.0], sign * effect["prompt", 0.0], **STYLES["star"], zorder=4)
    ax.axhline(0, color=GREY, linewidth=0.5, zorder=1)
    ax.set_xlabel("KL, nats a token")


def _by_point(table: pd.DataFrame, measure: str, column: str) -> dict[tuple[str, float], float]:
    """{(arm, coefficient): value} of a measure."""
    part = table.loc[table["measure"] == measure]
    keys = zip(part["arm"].tolist(), numbers(part, "coefficient").tolist(), strict=True)
    return dict(zip(keys, numbers(part, column).tolist(), strict=True))


def _sentence(summary: dict[str, Any]) -> str:
    """What the figure's reader must know, and the inverted U where there is one."""
    said = f"{summary['questions']} questions, {summary['samples']} responses a point; shaded: 95 % over questions."
    turned = [row for row in summary["turning_points"] if row["inverted_u"]]
    for row in turned:
        what = "the judged trait" if row["measure"] == "trait" else f"the projection at {_short(row['measure'])}"
        said += f" Inverted U: {what} is largest at {row['peak']:g} and less at {row['largest']:g}."
    if not turned:
        few = "cannot be seen with one coefficient a side" if not summary["turning_points"] else "is not shown"
        said += f" An inverted U {few}."
    return said
