"""What a judge is worth: its scores of responses whose label is known, a panel a metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from personascope.directions.judges import HIGH, of_rows
from personascope.display.figure import BLUE, GREY, ORANGE, save_figure
from personascope.display.paper import (
    PAPER_DPI,
    panel_heading,
    panel_heading_height,
    paper_axes,
    paper_figure,
    paper_style,
)
from personascope.formats.judgements import SCALES, read_judgements, read_labeled, read_worth, verdict

PANEL_WIDTH, PANEL_HEIGHT = 2.3, 2.3
SPREAD = 0.28  # how far the points of one label are spread
ADHERENCE_LABELS = {0: "0\ndeclines", 1: "1\nitself", 2: "2\nin part", 3: "3\nin role"}


def draw_worth(
    *, labeled: str | Path, judgements: str | Path, retest: str | Path, worth: str | Path, paths: Sequence[str | Path]
) -> None:
    """Draw the figure from the labeled responses, their judgements in both wordings and the judge's worth.json."""
    (first, described), (second, _) = read_judgements(judgements), read_judgements(retest)
    scores = first["score"].to_numpy(float), second["score"].to_numpy(float)
    title = f"Is {described['judge']} ({Path(described['model']).name}) fit to judge?"
    rows = of_rows(read_labeled(labeled), first, labeled, judgements)
    save_figure(worth_figure(rows, *scores, read_worth(worth), title), *paths, dpi=PAPER_DPI)


@paper_style
def worth_figure(
    rows: Sequence[dict[str, Any]], scores: np.ndarray, retest: np.ndarray, worth: dict[str, Any], title: str
) -> Figure:
    """Scores [n] of labeled responses by label, in the rubric's wording and in a second one."""
    metrics = [metric for metric in SCALES if metric in worth["metrics"]]
    said = verdict(worth)
    figure = paper_figure(
        PANEL_WIDTH * len(metrics),
        PANEL_HEIGHT + 0.3,
        title,
        "Each point is a labeled response: filled in the rubric's own wording, hollow in a second one. "
        "Line: the mean of its label.",
        warning="" if worth["fit"] else said,
    )
    grid = figure.add_gridspec(1, len(metrics))
    headings = {metric: (PANEL_WIDTH - 0.6, metric, _numbers(worth["metrics"][metric])) for metric in metrics}
    height = max(panel_heading_height(*heading) for heading in headings.values())
    for column, metric in enumerate(metrics):
        ax = paper_axes(figure, grid[0, column])
        chosen = np.array([row["metric"] == metric for row in rows], bool)
        labels = np.array([row["label"] for row in rows], float)[chosen]
        _draw_panel(ax, metric, labels, scores[chosen], retest[chosen])
        panel_heading(ax, *headings[metric], height=height)
    return figure


def _numbers(found: dict[str, Any]) -> str:
    """AUC and kappa in one line, and how many responses have no score."""
    unscored = round((1 - found["scored"]) * found["n"])
    parts = [_with_interval("AUC", found["auc"], found["auc_interval"])]
    parts.append(_with_interval("kappa", found["kappa"], found["kappa_interval"]))
    return "; ".join(parts) + f"; {unscored} of {found['n']} without a score"


def _with_interval(name: str, value: float | None, ends: Sequence[float | None]) -> str:
    if value is None or ends[0] is None or ends[1] is None:
        return f"{name}: none"
    shown = [f"{round(number, 2) + 0.0:.2f}" for number in (value, ends[0], ends[1])]  # no minus before 0.00
    return f"{name} {shown[0]} [{shown[1]}, {shown[2]}]"


def _draw_panel(ax: Axes, metric: str, labels: np.ndarray, scores: np.ndarray, retest: np.ndarray) -> None:
    """Points of each label side by side, its mean across them."""
    kinds = sorted(set(labels.tolist()))
    for place, label in enumerate(kinds):
        own = labels == label
        color = BLUE if label >= HIGH[metric] else ORANGE
        across = place + SPREAD * (np.linspace(-1, 1, int(own.sum())) if own.sum() > 1 else np.zeros(1))
        ax.scatter(across, retest[own], s=7, facecolors="none", edgecolors=GREY, linewidths=0.4)
        ax.scatter(across, scores[own], s=7, color=color, linewidths=0)
        if np.isfinite(scores[own]).any():
            ax.hlines(np.nanmean(scores[own]), place - 0.4, place + 0.4, color=color, linewidth=1.2)
    names = [ADHERENCE_LABELS.get(int(kind), str(kind)) for kind in kinds] if metric == "adherence" else []
    ax.set_xticks(range(len(kinds)), names or ["low" if kind < HIGH[metric] else "high" for kind in kinds])
    ax.set_xlim(-0.6, len(kinds) - 0.4)
    ax.set_ylim(-0.04 * SCALES[metric], 1.04 * SCALES[metric])
    ax.set_xlabel("label")
    ax.set_ylabel(f"score of the judge, 0 to {SCALES[metric]}")
