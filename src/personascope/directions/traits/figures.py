"""Two figures a trait: what its vector says on questions that it was not made from, and what it is made from."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from personascope.directions.traits.evaluation import Evaluation
from personascope.directions.traits.rows import STAGES
from personascope.directions.traits.statistics import cell_of, centered
from personascope.display.figure import BLACK, BLUE, GREY, ORANGE, PALE_BLUE, PALE_GREY, finish, font_text, signed
from personascope.display.paper import PAGE, panel_heading, panel_heading_height, paper_axes, paper_figure, paper_style
from personascope.formats.tables import numbers

LINES: dict[str, tuple[str, str, Any]] = {
    "auc": ("AUC, other questions", BLUE, "-"),
    "split_half": ("split-half reliability", ORANGE, "-"),
    "pair_cosine": ("cosine of the pairs' own vectors", BLACK, "--"),
}
CONDITIONS = {1: ("positive", ORANGE), 0: ("neutral", GREY), -1: ("negative", BLUE)}
HEIGHT = 2.5
PANEL = PAGE / 3 - 0.55  # room for a panel's heading: its axes without the names on their left
Heading = tuple[str, str, str]  # of a panel: title, note, warning


def trait_label(written: dict[str, Any]) -> str:
    """A trait as figures write it: its label, and which end is positive where the file says so in few words."""
    return str(written["label"] or written["trait"])


@paper_style
def draw_evaluation(
    written: dict[str, Any], found: Evaluation, attrition: pd.DataFrame, *, subtitle: str = ""
) -> Figure:
    """Quality by layer; projections of the conditions; projection against the judge's score."""
    title = f"Trait vector, {trait_label(written)}: what it says on questions that it was not made from"
    figure = paper_figure(PAGE, HEIGHT, title, subtitle, notes=notes(written), warning=warning(written))
    grid = figure.add_gridspec(1, 3, wspace=0.08)
    axes = [paper_axes(figure, grid[i]) for i in range(3)]
    headings = [_by_layer(axes[0], found), _conditions(axes[1], found), _judged(axes[2], written, found)]
    _write_headings(axes, headings, PANEL)
    handles = [Line2D([], [], color=color, linestyle=style, label=label) for label, color, style in LINES.values()]
    handles += [
        Line2D([], [], color=color, marker="o", markersize=3, linestyle="", label=f"{name} instruction")
        if sign
        else Line2D([], [], color=color, marker="o", markersize=3, linestyle="", label="no system prompt")
        for sign, (name, color) in CONDITIONS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.4)
    return finish(figure)


def notes(written: dict[str, Any]) -> list[str]:
    """What readers must know of the numbers."""
    kept, couples = written["kept"], written["couples"]
    if written["filter"] == "none":
        made = f"Not filtered by a judge: all {kept} of {couples} couples of responses that have an answer."
    else:
        limits = f"positive ≥ {written['threshold']:g}, negative < {100 - written['threshold']:g}"
        made = f"From {kept} of {couples} couples of responses that a judge let pass ({limits})."
    made += (
        f" Evaluated on {written['evaluation_rows']} responses to {written['evaluation_questions']} other questions."
    )
    polarity = [str(written["polarity"])] if written["polarity"] else []
    return [*polarity, made, _held_out(written["held_out"])]


def _held_out(held_out: dict[str, Any]) -> str:
    if not held_out["splits"]:
        return f"The layer could not be chosen on half of the questions: {held_out['reason']}."
    by = {"r_within": "the judge's r", "separation": "separation"}[held_out["criterion"]]
    r = "" if not math.isfinite(held_out["r_within"]) else f", r {signed(held_out['r_within'], '.2f')}"
    top = ", ".join(f"{layer} ({100 * share:.0f} %)" for layer, share in list(held_out["layers_chosen"].items())[:3])
    return (
        f"Layer chosen by {by} on one half of the questions, on the other half: AUC {held_out['auc']:.2f}, separation "
        f"{held_out['separation']:.1f} sd{r} (mean of {2 * held_out['splits']} halves; layers {top})."
    )


def warning(written: dict[str, Any]) -> str:
    """Why the vector must not be relied on, and that its judge is not fit."""
    said = [f"do not rely on it: {'; '.join(written['doubts'])}"] if written["doubts"] else []
    judge = written["judge"]
    if judge is not None and judge["verdict"].startswith("not fit"):
        numbers_of = [
            f"{metric} AUC {found['auc']:.2f}, kappa {found['kappa']:.2f}"
            for metric, found in judge["metrics"].items()
            if found.get("auc") is not None and found.get("kappa") is not None
        ]
        said.append(f"judge {judge['name']}: not fit to judge ({'; '.join(numbers_of) or 'not measured'})")
    return "; ".join(said)


def _by_layer(ax: Axes, found: Evaluation) -> Heading:
    table = found.layers
    layer = numbers(table, "layer")
    ax.fill_between(layer, numbers(table, "auc_low"), numbers(table, "auc_high"), color=PALE_BLUE, alpha=0.5, lw=0)
    for column, (_, color, style) in LINES.items():
        ax.plot(layer, numbers(table, column), color=color, linestyle=style, linewidth=1.2)
    ax.axvline(found.selected, color=PALE_GREY, linewidth=3, zorder=0)
    ax.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    lowest = np.nanmin([0, *(np.nanmin([0, *numbers(table, column)]) for column in LINES)])
    ax.set_ylim(min(0, lowest - 0.05), 1.03)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    ax.set_xlabel("layer")
    return "Quality by layer", f"grey: layer {found.selected}; band: 95 % interval of the AUC", ""


def _conditions(ax: Axes, found: Evaluation) -> Heading:
    table = found.projections
    sign, x = numbers(table, "sign"), numbers(table, "projection")
    rng = np.random.default_rng(0)
    for place, (end, (_, color)) in enumerate(reversed(CONDITIONS.items())):
        here = x[sign == end]
        if len(here):
            y = place + rng.uniform(-0.22, 0.22, len(here))
            ax.scatter(here, y, s=7, color=color, alpha=0.6, linewidths=0)
            ax.vlines(here.mean(), place - 0.36, place + 0.36, color=BLACK, linewidth=1.2)
    ax.set_yticks(range(3), [name for name, _ in reversed(CONDITIONS.values())])
    ax.set_ylim(-0.6, 2.6)
    ax.set_xlabel(f"projection on the vector, layer {found.selected}")
    at = found.layers.set_index("layer").loc[found.selected]
    note = f"AUC {at['auc']:.2f} within question ({at['auc_pooled']:.2f} pooled); line: mean"
    return "Each response", note, ""


def _judged(ax: Axes, written: dict[str, Any], found: Evaluation) -> Heading:
    table = found.projections
    x, y, sign = (numbers(table, name) for name in ("projection", "score", "sign"))
    scored = np.isfinite(y)
    if not scored.any():
        ax.set_axis_off()
        return "Against the judge", "the judge has scored none of them" if written["judge"] else "not judged", ""
    cells = cell_of(numbers(table, "question"), sign)[scored]
    dx, dy = centered(x[scored], y[scored], cells)
    for end, (_, color) in CONDITIONS.items():
        here = sign[scored] == end
        ax.scatter(dx[here], dy[here], s=7, color=color, alpha=0.6, linewidths=0)
    ax.axhline(0, color=PALE_GREY, linewidth=0.8, zorder=0)
    ax.axvline(0, color=PALE_GREY, linewidth=0.8, zorder=0)
    ax.set_xlabel("projection, centered")
    ax.set_ylabel("judged score, centered")
    at = found.layers.set_index("layer").loc[found.selected]
    interval = f" [{signed(at['r_low'], '.2f')}, {signed(at['r_high'], '.2f')}]" if np.isfinite(at["r_low"]) else ""
    note = f"r {signed(at['r_within'], '.2f')}{interval} within question and condition"
    note += f"; pooled {signed(at['r_pooled'], '.2f')}"
    unfit = written["judge"]["verdict"].startswith("not fit")
    return "Against the judge", note, "not fit to judge" if unfit else ""


@paper_style
def draw_screen(written: dict[str, Any], found: Evaluation, attrition: pd.DataFrame, *, subtitle: str = "") -> Figure:
    """What else the vector may be; which couples made it; whether its pairs agree."""
    title = f"Trait vector, {trait_label(written)}: what it is made from (layer {found.selected})"
    figure = paper_figure(PAGE, HEIGHT, title, subtitle, notes=notes(written)[-2:-1], warning=warning(written))
    grid = figure.add_gridspec(1, 3, wspace=0.1)
    axes = [paper_axes(figure, grid[i]) for i in range(3)]
    headings = [_nuisances(axes[0], found), _attrition(axes[1], written, attrition), _pairs(axes[2], found)]
    _write_headings(axes, headings, PANEL - 0.15)
    return finish(figure)


def _nuisances(ax: Axes, found: Evaluation) -> Heading:
    table = found.nuisances
    share, shuffled = 100 * numbers(table, "share"), 100 * numbers(table, "shuffled")
    places = np.arange(len(table))[::-1]
    at = found.layers.set_index("layer").loc[found.selected]
    if not np.isfinite(share).any():
        ax.set_axis_off()
        return "Nuisances", "too few rows for the regression", ""
    ax.barh(places, np.nan_to_num(share), height=0.6, color=BLUE)
    for place, high in zip(places, shuffled, strict=True):
        ax.vlines([-high, high], place - 0.36, place + 0.36, color=ORANGE, linewidth=1.3)
    ax.axvline(0, color=BLACK, linewidth=0.6)
    most = max(10.0, 1.1 * float(np.nanmax(np.abs([share, shuffled]))))
    ax.set_xlim(-most, most)
    ax.set_yticks(places, [font_text(name) for name in table["nuisance"]])
    ax.set_xlabel("% of the vector, along itself")
    total, chance = 100 * at["nuisance_share"], 100 * at["nuisance_share_shuffled"]
    note = (
        f"together {signed(total, '.0f')} % (shuffled ±{chance:.0f} %); without them cosine "
        f"{at['cosine_adjusted']:.2f}, AUC {at['auc_adjusted']:.2f}; orange: 95 % of shuffled ones"
    )
    return "Nuisances", note, ""


def _attrition(ax: Axes, written: dict[str, Any], attrition: pd.DataFrame) -> Heading:
    filtered, judged = written["filter"] != "none", written["judge"] is not None
    stages = STAGES if judged else STAGES[:2]
    counts = attrition[list(stages)].to_numpy()
    shares = counts.T / np.maximum(counts[:, 0], 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    for i, j in np.ndindex(*shares.shape):
        ax.text(j, i, str(counts[j, i]), ha="center", va="center", color=BLACK, fontsize=6.5)
    ax.set_yticks(range(len(stages)), list(stages))
    ax.set_xticks(range(len(counts)), [str(pair) for pair in attrition["pair"]])
    ax.set_xlabel("instruction pair")
    _bare(ax)
    if filtered:
        return "Couples left", "after each filter; filtering selects on the outcome", ""
    return "Couples left", "after each filter, if it were one; all answered ones are kept" if judged else "", ""


def _pairs(ax: Axes, found: Evaluation) -> Heading:
    names = list(dict.fromkeys(found.pairs["first"]))
    cosines = numbers(found.pairs, "cosine").reshape(len(names), len(names))
    ax.imshow(cosines, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    for i, j in np.ndindex(*cosines.shape):
        color = "white" if abs(cosines[i, j]) > 0.6 else BLACK
        ax.text(j, i, signed(float(cosines[i, j]), ".2f"), ha="center", va="center", color=color, fontsize=6.5)
    for ticks in (ax.set_xticks, ax.set_yticks):
        ticks(range(len(names)), [str(name) for name in names])
    ax.set_xlabel("instruction pair")
    _bare(ax)
    note = "of the pairs' own vectors; low: an unreliable vector" if len(names) > 1 else "one pair only"
    return "Cosines of pairs", note, ""


def _bare(ax: Axes) -> None:
    """Cells with numbers in them need no lines around."""
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def _write_headings(axes: list[Axes], headings: list[Heading], width: float) -> None:
    """Titles, notes and warnings of panels side by side, at one height."""
    texts = [(width, title, note, warned) for title, note, warned in headings]
    height = max(panel_heading_height(*text) for text in texts)
    for ax, text in zip(axes, texts, strict=True):
        panel_heading(ax, *text, height=height)
