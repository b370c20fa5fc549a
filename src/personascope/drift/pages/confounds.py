"""The figure of what goes with the score besides the persona: activation mass, length, repetition."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from personascope.display.figure import BLACK, GREY, ORANGE, clean, finish, message_figure, signed
from personascope.formats.tables import numbers

METRICS = {
    "turn_l2_raw": "L2 norm, before transform",
    "turn_nonzero_raw": "positive features, before transform",
    "turn_l2_space": "L2 norm, after transform",
    "turn_nonzero_space": "positive features, after transform",
    "n_tokens": "tokens of the turn",
    "repetition": "share of repeated 4-grams",
}
SCATTERS = 2


def confounds(
    turn_meta: pd.DataFrame,
    score_mass_diag: pd.DataFrame,
    *,
    warn: float = 0.40,
    high: float = 0.70,
    min_turns: int = 10,
    title: str = "",
) -> Figure:
    """The score of each turn against the two metrics that go with it most, and the correlations with all of them.

    A score that goes with one of them may have moved because the turn is long, strong or repetitive, not because of
    the persona. Of fewer than `min_turns` turns there is no verdict: high correlations are common by chance.
    """
    scores = numbers(turn_meta, "score")
    if not np.isfinite(scores).any():
        return message_figure("No assistant turn has a score.", title)
    found = correlations(score_mass_diag)
    n = int(np.isfinite(scores).sum())
    figure = Figure(figsize=(13, 4.0), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.3))
    turns = numbers(turn_meta, "assistant_turn")
    shades = ScalarMappable(Normalize(np.nanmin(turns), max(np.nanmax(turns), np.nanmin(turns) + 1)), "cividis")
    colors = [to_hex(shade) for shade in shades.to_rgba(turns)]
    strongest = sorted(found, key=lambda metric: -np.nan_to_num(abs(found[metric]), nan=-1))[:SCATTERS]
    for ax, metric in zip((left, middle), strongest, strict=False):
        ax.scatter(numbers(turn_meta, metric), scores, c=colors, s=26, edgecolors="#666666", linewidths=0.4)
        ax.set_xlabel(METRICS.get(metric, metric), fontsize=9)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=4))
    for ax in (left, middle):
        clean(ax)
        ax.set_visible(ax is left or len(strongest) > 1)
    middle.sharey(left)
    middle.tick_params(labelleft=False)
    left.set_ylabel("score (up: toward the assistant)")
    if len(turns) > 1:
        bar = figure.colorbar(shades, ax=[left, middle], label="assistant turn", fraction=0.04, pad=0.01)
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    line, color = verdict(list(found.values()), n, min_turns, warn, high)
    _draw_bars(right, found, warn, high, color)
    right.set_title(f"{line}\n(correlation with the score, n = {n} turns)", loc="left", fontsize=9.5, color=color)
    return finish(figure, title)


def correlations(score_mass_diag: pd.DataFrame) -> dict[str, float]:
    """{metric: its correlation with the score}; NaN where it has none."""
    column = next((name for name in score_mass_diag if str(name).startswith("corr")), "corr")
    metrics = [str(name) for name in score_mass_diag["metric"]] if "metric" in score_mass_diag else []
    return dict(zip(metrics, numbers(score_mass_diag, column).tolist(), strict=True))


def verdict(found: list[float], n: int, min_turns: int, warn: float, high: float) -> tuple[str, str]:
    """What the correlations mean together, and the color of it."""
    known = [abs(value) for value in found if np.isfinite(value)]
    if n < min_turns:
        return f"N/A: n = {n} < {min_turns} turns", GREY
    if not known:
        return "N/A: nothing varies", GREY
    if max(known) >= high:
        return f"HIGH: |r| reaches {max(known):.2f}", ORANGE
    grade = "MODERATE" if max(known) >= warn else "LOW"
    return f"{grade}: |r| up to {max(known):.2f}", BLACK


def _draw_bars(ax: Axes, found: dict[str, float], warn: float, high: float, color: str) -> None:
    """One bar a metric with its number, between -1 and 1; lines where the verdict changes."""
    shown = color if color != BLACK else "#4d7ea8"
    for place, value in enumerate(found.values()):
        known = bool(np.isfinite(value))
        ax.barh(place, value if known else 0, color=shown, height=0.6, zorder=2)
        text = signed(value, ".2f") if known else "does not vary"
        side = -1 if known and value < 0 else 1
        where = (value if known else 0) + 0.04 * side
        style = {"fontsize": 8, "va": "center", "zorder": 3}
        label = ax.text(where, place, text, ha="left" if side > 0 else "right", **style)
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    for limit in (warn, high):
        for side in (-1, 1):
            ax.axvline(side * limit, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    ax.axvline(0, color=BLACK, linewidth=0.9)
    ax.set_yticks(range(len(found)), [METRICS.get(name, name) for name in found], fontsize=8)
    ax.set_ylim(len(found) - 0.4, -0.6)
    ax.set_xlim(-1.45, 1.45)
    ax.set_xticks([-1, 0, 1])
    ax.tick_params(axis="x", labelsize=8)
    ax.set_xlabel(f"Pearson r\n(lines: MODERATE from {warn:g}, HIGH from {high:g})", fontsize=9)
    clean(ax)
