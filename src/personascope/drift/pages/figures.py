"""Figures of one drift run, each drawn from its tables. Blue is toward the assistant, orange away from it.

Colors are safe for color-blind readers and never the only sign. Every figure can be drawn from tables with one
turn, without a transition, or with no row at all; it then says what is missing.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from personascope.display.figure import (
    BLACK,
    BLUE,
    GREY,
    NO_TABLE,
    ORANGE,
    clean,
    finish,
    font_text,
    is_role,
    message_figure,
    signed,
    turn_ticks,
)
from personascope.drift.attribution import FEATURE_TABLES
from personascope.drift.pages.tokens import token_heat
from personascope.drift.pages.trajectory import selected_transition, trajectory
from personascope.formats.tables import numbers

MASS_METRICS = {
    "turn_l2_raw": "L2 norm before the transform",
    "turn_nonzero_raw": "positive features before the transform",
    "turn_l2_space": "L2 norm after the transform",
    "turn_nonzero_space": "positive features after the transform",
}
MOST_ROWS = 20  # of the nearest roles; more are unreadable


def top_features(features: dict[str, pd.DataFrame], *, shown: int = 12, title: str = "") -> Figure:
    """Contributions of single features to a transition: the `shown` largest of each sign, toward on top.

    features: the q2_* tables. contrib_low and contrib_high, where there, are drawn as intervals.
    """
    parts = [features[name] for name in FEATURE_TABLES if name in features and len(features[name])]
    if not parts:
        return message_figure("No transition with features to explain.", title)
    table = pd.concat(parts, ignore_index=True).drop_duplicates("feature_idx").sort_values(by="contrib", kind="stable")
    contrib = numbers(table, "contrib")
    rows = np.flatnonzero(contrib != 0)
    away, toward = rows[contrib[rows] < 0][:shown], rows[contrib[rows] > 0][-shown:]
    table = table.iloc[np.concatenate([away, toward])]
    if not len(table):
        return message_figure("No feature contributes to the transition.", title)
    return finish(_feature_bars(table), title)


def _feature_bars(table: pd.DataFrame) -> Figure:
    contrib, places = numbers(table, "contrib"), np.arange(len(table))
    figure = Figure(figsize=(10, 1.6 + 0.25 * len(table)), layout="constrained")
    ax = figure.subplots()
    deactivated = (
        (table["direction"] == "deactivated").to_numpy() if "direction" in table else np.zeros(len(table), bool)
    )
    handles: list[Artist] = []
    for off, label in ((False, "feature became stronger"), (True, "feature became weaker")):
        rows = deactivated == off
        colors = [BLUE if value > 0 else ORANGE for value in contrib[rows]]
        faces = ["white" if off else color for color in colors]
        ax.barh(places[rows], contrib[rows], color=faces, edgecolor=colors, linewidth=1.4, height=0.72)
        handles.append(Patch(facecolor="white" if off else GREY, edgecolor=GREY, linewidth=1.4, label=label))
    low, high = numbers(table, "contrib_low"), numbers(table, "contrib_high")
    if np.isfinite(low).any():
        ax.hlines(places, low, high, color="white", linewidth=3.6)
        handles.append(ax.hlines(places, low, high, color=BLACK, linewidth=1.3, label="bootstrap interval"))
    ax.axvline(0, color=BLACK, linewidth=1)
    ax.set_yticks(places, [_feature_label(row) for row in table.to_dict("records")], fontsize=8)
    ax.set_ylim(-0.7, len(table) - 0.3)
    ax.set_xlabel("\u2190 away      contribution to the change of the projection      toward the assistant \u2192")
    figure.legend(handles=handles, loc="outside lower right", ncols=3, frameon=False, fontsize=8)
    clean(ax)
    return figure


def _feature_label(row: dict[Any, Any]) -> str:
    """Feature id, and its description; where it has none, the roles that it is strong in."""
    label = font_text(row.get("description"), 60)
    if not label:
        profile = str(row.get("role_profile") or "").replace(" | ", ", ").replace(":", " ")
        label = font_text(profile and f"[{profile}]", 60)
    return f"{label}  {int(row['feature_idx'])}".strip()


def nearest_roles(role_trace: pd.DataFrame, *, assistant: str = "assistant", title: str = "") -> Figure:
    """Which roles a turn is nearest to: a row a role, a column a turn; the color is the cosine, the number its rank.

    Blank: not among the nearest of that turn. The assistant comes first, then the roles that are near most often.
    """
    if not len(role_trace):
        return message_figure("No assistant turn has tokens: no nearest roles.", title)
    rows, left_out, cosines, ranks, first = _role_grid(role_trace, assistant)
    count = cosines.shape[1]
    figure = Figure(figsize=(float(np.clip(3.6 + 0.3 * count, 5, 14)), 1.7 + 0.26 * len(rows)), layout="constrained")
    ax = figure.subplots()
    edges = np.arange(count + 1) + first - 0.5
    mesh = ax.pcolormesh(
        edges, np.arange(len(rows) + 1) - 0.5, cosines, cmap="cividis", edgecolors="white", linewidth=0.6
    )
    _draw_ranks(ax, ranks, first, mesh.norm(cosines), 8 if count <= 30 else 5.5)
    labels = [font_text(name, 32) for name in rows]
    ax.set_yticks(range(len(rows)), labels, fontsize=9)
    for label, name in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if is_role(name, assistant) else "normal")
    ax.invert_yaxis()
    ax.set_facecolor("#f4f4f4")
    turn_ticks(ax, edges)
    ax.set_xlim(edges[0], edges[-1])
    if left_out:
        ax.set_xlabel(f"assistant turn      ({left_out} roles that are rarely near are left out)")
    figure.colorbar(mesh, ax=ax, label="cosine", fraction=0.04, pad=0.02)
    return finish(figure, title)


def _role_grid(role_trace: pd.DataFrame, assistant: str) -> tuple[list[str], int, np.ndarray, np.ndarray, int]:
    """(roles shown, number left out, cosines [roles, turns], ranks [roles, turns], first turn); NaN: not near."""
    names, ranks = [str(name) for name in role_trace["role"]], numbers(role_trace, "rank")
    turns = numbers(role_trace, "assistant_turn").astype(int)
    nearness: dict[str, float] = {}
    for name, rank in zip(names, ranks.tolist(), strict=True):
        nearness[name] = nearness.get(name, 0.0) + 1 / rank
    order = sorted(nearness, key=lambda name: (not is_role(name, assistant), -nearness[name]))
    shown = {name: row for row, name in enumerate(order[:MOST_ROWS])}
    first = int(turns.min())
    grid = np.full((2, len(shown), int(turns.max()) - first + 1), np.nan)
    for name, turn, *cell in zip(names, turns, numbers(role_trace, "cosine"), ranks, strict=True):
        if name in shown:
            grid[:, shown[name], turn - first] = cell
    return list(shown), len(order) - len(shown), grid[0], grid[1], first


def _draw_ranks(ax: Axes, ranks: np.ndarray, first: int, shades: Any, size: float) -> None:
    for row, column in np.argwhere(np.isfinite(ranks)):
        nearest = ranks[row, column] == 1
        color = BLACK if shades[row, column] > 0.55 else "white"
        weight = "bold" if nearest else "normal"
        text = f"{ranks[row, column]:.0f}"
        ax.text(
            column + first, row, text, color=color, fontsize=size, fontweight=weight, ha="center", va="center_baseline"
        )


def confounds(
    turn_meta: pd.DataFrame,
    score_mass_diag: pd.DataFrame,
    *,
    warn: float = 0.40,
    high: float = 0.70,
    title: str = "",
) -> Figure:
    """The score of each turn against four measures of activation mass, with their correlation.

    A score that goes with the mass may have moved because the turn is long or strong, not because of the persona.
    """
    scores = numbers(turn_meta, "score")
    if not np.isfinite(scores).any():
        return message_figure("No assistant turn has a score.", title)
    column = next((name for name in score_mass_diag if str(name).startswith("corr")), "corr")
    metrics = score_mass_diag["metric"].tolist() if "metric" in score_mass_diag else []
    correlations = dict(zip(metrics, numbers(score_mass_diag, column), strict=True))
    figure = Figure(figsize=(11.5, 3.5), layout="constrained")
    turns = numbers(turn_meta, "assistant_turn")
    shades = ScalarMappable(Normalize(np.nanmin(turns), max(np.nanmax(turns), np.nanmin(turns) + 1)), "cividis")
    for ax, (metric, label) in zip(figure.subplots(1, 4, sharey=True), MASS_METRICS.items(), strict=True):
        mass = numbers(turn_meta, metric)
        ax.scatter(mass, scores, c=[to_hex(shade) for shade in shades.to_rgba(turns)], s=24)
        grade, color = verdict(correlations.get(metric, np.nan), warn, high)
        ax.set_title(grade, fontsize=10, color=color)
        ax.set_xlabel(label, fontsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=4))
        clean(ax)
    figure.axes[0].set_ylabel("score (up: toward the assistant)")
    if len(turns) > 1:
        bar = figure.colorbar(shades, ax=figure.axes, label="assistant turn", fraction=0.03, pad=0.01)
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return finish(figure, title)


def verdict(correlation: float, warn: float, high: float) -> tuple[str, str]:
    """What a correlation means, and its color."""
    if not np.isfinite(correlation):
        return "no correlation (N/A)", GREY
    grade = "HIGH" if abs(correlation) >= high else "MODERATE" if abs(correlation) >= warn else "LOW"
    return f"r = {signed(correlation, '.2f')} ({grade})", {"HIGH": ORANGE, "MODERATE": ORANGE, "LOW": BLACK}[grade]


Tables = dict[str, pd.DataFrame]
Context = dict[str, Any]


def _token_heat(tables: Tables, context: Context) -> Figure:
    selected = selected_transition(tables.get("transition_df", NO_TABLE))
    turn = context.get("selected_turn", None if selected is None else int(selected["turn"]))
    return token_heat(tables.get("q3_token_localization", NO_TABLE), turn, title=context.get("title", ""))


def _options(context: Context, *names: str) -> dict[str, Any]:
    return {name: context[name] for name in (*names, "title") if name in context}


# Figures of a drift run. tables: those of the run by name. context, all optional: title, assistant (its role's name),
# references (role, q25, median, q75), selected_turn, warn and high (thresholds of the confound check).
DRIFT_FIGURES: dict[str, Callable[[Tables, Context], Figure]] = {
    "trajectory": lambda tables, context: trajectory(
        tables.get("turn_meta", NO_TABLE),
        tables.get("transition_df", NO_TABLE),
        context.get("references", NO_TABLE),
        **_options(context, "assistant"),
    ),
    "top_features": lambda tables, context: top_features(tables, **_options(context)),
    "token_heat": _token_heat,
    "nearest_roles": lambda tables, context: nearest_roles(
        tables.get("role_trace", NO_TABLE), **_options(context, "assistant")
    ),
    "confounds": lambda tables, context: confounds(
        tables.get("turn_meta", NO_TABLE), tables.get("score_mass_diag", NO_TABLE), **_options(context, "warn", "high")
    ),
}
