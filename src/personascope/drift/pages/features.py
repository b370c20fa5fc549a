"""The figure of the features that a transition is made of."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from personascope.display.figure import BLACK, BLUE, GREY, ORANGE, clean, finish, font_text, message_figure, signed
from personascope.drift.attribution import FEATURE_TABLES
from personascope.formats.tables import numbers

FADED = 0.35
PROFILE_WORDS = (
    "In brackets: the roles in which a feature is strongest, and the share of its activity over all roles that each has"
)


def top_features(
    features: dict[str, pd.DataFrame],
    transition: dict[Any, Any] | None = None,
    *,
    shown: int = 12,
    title: str = "",
) -> Figure:
    """Contributions of single features to a transition: the `shown` largest of each sign, toward on top.

    features: the q2_* tables. contrib_low and contrib_high, where there, are drawn as intervals; a feature whose
    interval holds 0 is faded. tokens and description, where there, say what the feature is active on.
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
    return finish(_feature_bars(table, _transition_line(transition)), title)


def _transition_line(transition: dict[Any, Any] | None) -> str:
    if transition is None:
        return ""
    step = f"turn {int(transition['prev_turn'])} \u2192 {int(transition['turn'])}"
    change = signed(float(transition["delta_projection"]), ".3g") if "delta_projection" in transition else "?"
    masses = f"\u2212{float(transition['away_mass']):.3g} away, +{float(transition['toward_mass']):.3g} toward"
    return f"{step}: projection changes by {change} ({masses}, over all features)"


def _feature_bars(table: pd.DataFrame, line: str) -> Figure:
    contrib, places = numbers(table, "contrib"), np.arange(len(table))
    low, high = numbers(table, "contrib_low"), numbers(table, "contrib_high")
    unsure = (low <= 0) & (high >= 0)
    directions = table["direction"].astype(str) if "direction" in table else [""] * len(table)
    weaker = np.array([direction == "deactivated" for direction in directions])
    labels = [feature_label(row) for row in table.to_dict("records")]
    figure = Figure(figsize=(11, 2.1 + 0.27 * len(table)), layout="constrained")
    ax = figure.subplots()
    for place, value, off, faded in zip(places, contrib, weaker, unsure, strict=True):
        color = BLUE if value > 0 else ORANGE
        face = "white" if off else color
        alpha = FADED if faded else 1
        ax.barh(place, value, color=face, edgecolor=color, linewidth=1.3, height=0.7, alpha=alpha)
    handles: list[Artist] = [
        Patch(facecolor=GREY, edgecolor=GREY, label="feature became stronger"),
        Patch(facecolor="white", edgecolor=GREY, linewidth=1.3, label="feature became weaker"),
    ]
    if np.isfinite(low).any():
        ax.hlines(places, low, high, color=BLACK, linewidth=0.9, label="interval", zorder=3)
        handles.append(Line2D([], [], color=BLACK, linewidth=0.9, label="95 % interval over questions and variants"))
    if unsure.any():
        handles.append(Patch(facecolor=GREY, alpha=FADED, label="unsure: the interval holds 0"))
    ax.axvline(0, color=BLACK, linewidth=0.9)
    ax.set_yticks(places, labels, fontsize=8)
    for label, faded in zip(ax.get_yticklabels(), unsure, strict=True):
        label.set_color(GREY if faded else BLACK)
    ax.set_ylim(-0.7, len(table) - 0.3)
    if line:
        ax.set_title(line, loc="left", fontsize=9.5, color=BLACK)
    ax.set_xlabel("\u2190 away      contribution to the change of the projection      toward the assistant \u2192")
    legend = figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=8)
    if any("[" in label for label in labels):
        legend.set_title(PROFILE_WORDS, FontProperties(size=7.5))
        legend.set_alignment("left")
    clean(ax)
    return figure


def feature_label(row: dict[Any, Any]) -> str:
    """ "#1234", and what it stands for: its description, the tokens it is most active on, or its roles."""
    said = [font_text(row.get("description"), 44)]
    tokens = font_text(_listed(row.get("tokens")), 36)
    said.append(tokens and f"on {tokens}")
    if not any(said):
        parts = [part for part in str(row.get("role_profile") or "").split(" | ") if not part.endswith(":0%")]
        profile = ", ".join(parts).replace(":", " ")
        said = [font_text(profile and f"[{profile}]", 56)]
    return "  ".join([f"#{int(row['feature_idx'])}", *(part for part in said if part)])


def _listed(tokens: Any) -> str | None:
    """The tokens of a cell, a text or a list of texts, each in quotes."""
    if tokens is None or isinstance(tokens, float | str):
        return tokens if isinstance(tokens, str) else None
    return " ".join(f"\u201c{token}\u201d" for token in tokens)
