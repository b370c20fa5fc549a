"""Figures of one drift run, each drawn from its tables. Blue is toward the assistant, orange away from it.

Colours are safe for colour-blind readers and never the only sign. Every figure can be drawn from tables with one
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
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from personascope.drift.attribution import FEATURE_TABLES
from personascope.drift.canvas import (
    BLACK,
    ORANGE,
    PALE_GREY,
    PALE_ORANGE,
    clean,
    finish,
    font_text,
    message_figure,
    signed,
)
from personascope.drift.display import numbers, truths
from personascope.drift.token_figure import token_heat
from personascope.figures import BLUE, GREY, PALE_BLUE

NO_TABLE = pd.DataFrame()
MASS_METRICS = {
    "turn_l2_raw": "L2 norm before the transform",
    "turn_nonzero_raw": "positive features before the transform",
    "turn_l2_space": "L2 norm after the transform",
    "turn_nonzero_space": "positive features after the transform",
}
MOST_ROLES = 12  # columns of the reference panel, and more rows of nearest roles are unreadable
MOST_ROWS = 20


def _turn_ticks(ax: Axes, turns: np.ndarray) -> None:
    ax.set_xlim(turns.min() - 0.6, turns.max() + 0.6)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=20, min_n_ticks=1))
    ax.set_xlabel("assistant turn")


def selected_transition(transition_df: pd.DataFrame) -> dict[Any, Any] | None:
    """The row of the selected transition, or None."""
    rows = transition_df.loc[truths(transition_df, "selected")].to_dict("records")
    return rows[0] if rows else None


def onset_turn(turn_meta: pd.DataFrame) -> int | None:
    """The first turn at which the test rejects "still the assistant", or None."""
    rejecting = numbers(turn_meta, "assistant_turn")[truths(turn_meta, "rejects")]
    return int(rejecting.min()) if len(rejecting) else None


def trajectory(
    turn_meta: pd.DataFrame,
    transition_df: pd.DataFrame,
    references: pd.DataFrame = NO_TABLE,
    *,
    assistant: str = "assistant",
    title: str = "",
) -> Figure:
    """The score over turns, up is toward the assistant; a turn without tokens is a gap.

    references: role, q25, median, q75 of the scores of some roles' own responses. The assistant's middle half is a
    band behind the scores, every role's stands in a panel at the side. With calibration, a panel below shows the
    p-values of "still the assistant" against the threshold of each turn.
    """
    turns, scores = numbers(turn_meta, "assistant_turn"), numbers(turn_meta, "score")
    if not np.isfinite(scores).any():
        return message_figure("No assistant turn has a score.", title)
    calibrated = np.isfinite(numbers(turn_meta, "p_value")).any()
    roles = _shown_references(references, assistant)
    width = float(np.clip(4.5 + 0.16 * len(turns), 6.5, 13))
    side = 0.5 + 0.27 * len(roles)
    figure = Figure(figsize=(width + (side if len(roles) else 0), 5.8 if calibrated else 4.2), layout="constrained")
    grid = figure.add_gridspec(
        2 if calibrated else 1,
        2 if len(roles) else 1,
        height_ratios=(3, 1.1) if calibrated else None,
        width_ratios=(width, side) if len(roles) else None,
    )
    ax = figure.add_subplot(grid[0, 0])
    _draw_scores(ax, turn_meta, roles, assistant)
    _draw_selected(ax, turn_meta, selected_transition(transition_df))
    if len(roles):
        _draw_references(figure.add_subplot(grid[0, 1], sharey=ax), roles, assistant, room_below=bool(calibrated))
    below = ax
    if calibrated:
        below = figure.add_subplot(grid[1, 0], sharex=ax)
        _draw_p_values(below, turn_meta)
        ax.tick_params(labelbottom=False)
    if (onset := onset_turn(turn_meta)) is not None:
        for panel in {ax, below}:
            panel.axvline(onset, color=BLACK, linestyle=(0, (4, 2)), linewidth=1.1, zorder=1)
        ax.plot([], [], color=BLACK, linestyle=(0, (4, 2)), linewidth=1.1, label=f"drift onset: turn {onset}")
    _turn_ticks(below, turns)
    handles = [handle for panel in figure.axes for handle in panel.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=8)
    return finish(figure, title)


def _shown_references(references: pd.DataFrame, assistant: str) -> pd.DataFrame:
    """Roles by their median, highest first; of too many, the assistant and some spread over the others."""
    if not len(references):
        return references
    ordered = references.loc[np.isfinite(numbers(references, "median"))].sort_values(by="median", ascending=False)
    ours = np.array([is_role(role, assistant) for role in ordered["role"]], bool)
    others = np.flatnonzero(~ours)
    if len(others) > MOST_ROLES - 1:
        others = others[np.linspace(0, len(others) - 1, MOST_ROLES - 1).round().astype(int)]
    return ordered.iloc[np.sort(np.concatenate([np.flatnonzero(ours), others]))]


def is_role(name: Any, role: str) -> bool:
    """Whether two names mean one role: compared without case and surrounding space."""
    return str(name).strip().lower() == role.strip().lower()


def _draw_scores(ax: Axes, turn_meta: pd.DataFrame, roles: pd.DataFrame, assistant: str) -> None:
    turns, scores = numbers(turn_meta, "assistant_turn"), numbers(turn_meta, "score")
    low, high = numbers(turn_meta, "score_low"), numbers(turn_meta, "score_high")
    for row in roles.to_dict("records"):
        if is_role(row["role"], assistant):
            label = "middle half of the assistant's own responses"
            ax.axhspan(row["q25"], row["q75"], color=PALE_BLUE, alpha=0.35, linewidth=0, label=label, zorder=0)
            ax.axhline(row["median"], color=PALE_BLUE, linewidth=1, zorder=0)
    ax.plot(turns, scores, color=BLUE, linewidth=1.6, zorder=3)
    if np.isfinite(low).any():
        ax.fill_between(turns, low, high, color=BLUE, alpha=0.16, linewidth=0, zorder=2)
        ax.vlines(turns, low, high, color=BLUE, linewidth=1, alpha=0.7, label="bootstrap interval", zorder=2)
    rejects, scored = truths(turn_meta, "rejects"), np.isfinite(scores)
    kept = scored & ~rejects
    ax.plot(turns[kept], scores[kept], "o", color=BLUE, markersize=5, label="turn", zorder=5)
    if (scored & rejects).any():
        label = "turn at which the test rejects \u201cstill the assistant\u201d"
        ax.plot(
            turns[scored & rejects], scores[scored & rejects], "D", color=ORANGE, markersize=6, label=label, zorder=5
        )
    if not scored.all():
        across = ax.get_xaxis_transform()
        ax.plot(
            turns[~scored],
            np.full((~scored).sum(), 0.03),
            "x",
            color=GREY,
            transform=across,
            label="turn without tokens",
        )
    bottom, top = ax.get_ylim()
    if bottom < 0 < top:
        ax.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    ax.set_ylabel("score (up: toward the assistant)")
    clean(ax)


def _draw_selected(ax: Axes, turn_meta: pd.DataFrame, selected: dict[Any, Any] | None) -> None:
    """The selected transition: its two turns shaded, the step between them in the colour of its sign."""
    if selected is None:
        return
    ends = [int(selected["prev_turn"]), int(selected["turn"])]
    score_of = dict(zip(numbers(turn_meta, "assistant_turn"), numbers(turn_meta, "score"), strict=True))
    change = float(selected["delta_score"])
    label = f"selected transition {ends[0]} \u2192 {ends[1]} ({signed(change, '.3g')})"
    ax.axvspan(ends[0], ends[1], color=PALE_GREY, alpha=0.7, linewidth=0, zorder=0)
    colour = ORANGE if change < 0 else BLUE
    ax.plot(ends, [score_of.get(end, np.nan) for end in ends], color=colour, linewidth=4, label=label, zorder=4)


def _draw_references(ax: Axes, roles: pd.DataFrame, assistant: str, *, room_below: bool) -> None:
    """Each role's middle half and median, one column a role, on the scores' scale."""
    under = ax.get_xaxis_transform()
    for place, row in enumerate(roles.to_dict("records")):
        colour = BLUE if is_role(row["role"], assistant) else GREY
        ax.vlines(place, row["q25"], row["q75"], color=colour, linewidth=6, alpha=0.45)
        ax.plot(place, row["median"], "_", color=colour, markersize=9, markeredgewidth=2)
        name = ax.text(place, -0.03, font_text(row["role"], 18), rotation=90, fontsize=8, ha="center", transform=under)
        name.set(va="top", color=BLUE if colour == BLUE else BLACK, in_layout=not room_below)
    ax.set_xticks([])
    ax.set_xlim(-0.7, len(roles) - 0.3)
    ax.tick_params(axis="y", labelleft=False)
    ax.set_title("roles' own responses", fontsize=8, color=BLACK)
    clean(ax)


def _draw_p_values(ax: Axes, turn_meta: pd.DataFrame) -> None:
    turns, thresholds = numbers(turn_meta, "assistant_turn"), numbers(turn_meta, "threshold")
    series = {"p_value": ("o", BLUE, "p"), "adjusted_p_value": ("s", "none", "p, confounds taken out")}
    values = [numbers(turn_meta, column) for column in series]
    for (marker, face, label), p in zip(series.values(), values, strict=True):
        if np.isfinite(p).any():
            ax.plot(turns, p, marker, color=BLUE, markerfacecolor=face, markersize=4.5, label=label, zorder=3)
    positive = np.concatenate([*values, thresholds])
    bottom = float(np.nanmin(positive[positive > 0], initial=1.0)) / 3
    if np.isfinite(thresholds).any():
        spent = pd.Series(thresholds).ffill().bfill().to_numpy()
        edges = np.append(turns - 0.5, turns[-1] + 0.5)
        fill = {"fill": True, "color": PALE_ORANGE, "alpha": 0.8, "label": "p small enough to reject"}
        ax.stairs(spent, edges, baseline=bottom, zorder=0, **fill)
        ax.stairs(spent, edges, baseline=None, color=ORANGE, linewidth=1.2, zorder=1)
    ax.set_yscale("log")
    ax.set_ylim(bottom, 1.5)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda p, _: f"{p:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylabel("p of \u201cstill\nthe assistant\u201d", fontsize=9)
    untestable = "testable" in turn_meta and (~truths(turn_meta, "testable") & np.isfinite(values[0])).any()
    if untestable:
        ax.set_title(
            "too few reference responses for a p-value below the threshold", fontsize=8, loc="left", color=ORANGE
        )
    clean(ax)


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
        colours = [BLUE if value > 0 else ORANGE for value in contrib[rows]]
        faces = ["white" if off else colour for colour in colours]
        ax.barh(places[rows], contrib[rows], color=faces, edgecolor=colours, linewidth=1.4, height=0.72)
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
    told = font_text(row.get("description"), 60)
    if not told:
        profile = str(row.get("role_profile") or "").replace(" | ", ", ").replace(":", " ")
        told = font_text(profile and f"[{profile}]", 60)
    return f"{told}  {int(row['feature_idx'])}".strip()


def nearest_roles(role_trace: pd.DataFrame, *, assistant: str = "assistant", title: str = "") -> Figure:
    """Which roles a turn is nearest to: a row a role, a column a turn; the colour is the cosine, the number its rank.

    Blank: not among the nearest of that turn. The assistant comes first, then the roles that are near most often.
    """
    if not len(role_trace):
        return message_figure("No assistant turn has tokens: no nearest roles.", title)
    names = role_trace["role"].astype(str)
    weight = (1 / numbers(role_trace, "rank")).tolist()
    order = pd.Series(weight, index=names).groupby(level=0).sum().sort_values(ascending=False, kind="stable")
    ranked = sorted(order.index, key=lambda name: not is_role(name, assistant))
    rows = {name: row for row, name in enumerate(ranked[:MOST_ROWS])}
    turns = numbers(role_trace, "assistant_turn").astype(int)
    first, count = int(turns.min()), int(np.ptp(turns)) + 1
    cosines, ranks = np.full((2, len(rows), count), np.nan)
    for name, turn, cosine, rank in zip(
        names, turns, numbers(role_trace, "cosine"), numbers(role_trace, "rank"), strict=True
    ):
        if name in rows:
            cosines[rows[name], turn - first], ranks[rows[name], turn - first] = cosine, rank
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
    _turn_ticks(ax, turns)
    ax.set_xlim(edges[0], edges[-1])
    left_out = len(ranked) - len(rows)
    if left_out:
        ax.set_xlabel(f"assistant turn      ({left_out} roles that are rarely near are left out)")
    figure.colorbar(mesh, ax=ax, label="cosine", fraction=0.04, pad=0.02)
    return finish(figure, title)


def _draw_ranks(ax: Axes, ranks: np.ndarray, first: int, shades: Any, size: float) -> None:
    for row, column in np.argwhere(np.isfinite(ranks)):
        nearest = ranks[row, column] == 1
        colour = BLACK if shades[row, column] > 0.55 else "white"
        weight = "bold" if nearest else "normal"
        text = f"{ranks[row, column]:.0f}"
        ax.text(
            column + first, row, text, color=colour, fontsize=size, fontweight=weight, ha="center", va="center_baseline"
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
        told, colour = verdict(correlations.get(metric, np.nan), warn, high)
        ax.set_title(told, fontsize=10, color=colour)
        ax.set_xlabel(label, fontsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=4))
        clean(ax)
    figure.axes[0].set_ylabel("score (up: toward the assistant)")
    if len(turns) > 1:
        bar = figure.colorbar(shades, ax=figure.axes, label="assistant turn", fraction=0.03, pad=0.01)
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return finish(figure, title)


def verdict(correlation: float, warn: float, high: float) -> tuple[str, str]:
    """What a correlation means, and its colour."""
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
