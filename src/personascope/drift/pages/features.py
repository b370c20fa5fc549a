"""The figure of the features that a transition is made of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from personascope.display.figure import BLACK, BLUE, GREY, ORANGE, clean, finish, font_text, message_figure, signed
from personascope.display.text import is_byte_level, whole_characters
from personascope.drift.attribution import FEATURE_TABLES
from personascope.formats.tables import numbers

FADED = 0.35
PROFILE_WORDS = (
    "In brackets: the roles in which a feature is strongest, and the share of its activity over all roles that each has"
)
CARRIER_WORDS = "On the right: the tokens of the two turns that carry it, the largest parts first"


def top_features(
    features: dict[str, pd.DataFrame],
    transition: dict[Any, Any] | None = None,
    *,
    shown: int = 12,
    title: str = "",
) -> Figure:
    """Contributions of single features to a transition: the `shown` largest of each sign, toward on top.

    features: the q2_* tables, and `attribution`. contrib_low and contrib_high, where there, are drawn as intervals; a
    feature whose interval holds 0 is faded. description, where there, says what it stands for; attribution, where
    there, which tokens of the two turns carry it.
    """
    parts = [features[name] for name in FEATURE_TABLES if name in features and len(features[name])]
    if not parts:
        return message_figure("No transition with features to explain; a residual analysis has none.", title)
    table = pd.concat(parts, ignore_index=True).drop_duplicates("feature_idx").sort_values(by="contrib", kind="stable")
    contrib = numbers(table, "contrib")
    rows = np.flatnonzero(contrib != 0)
    away, toward = rows[contrib[rows] < 0][:shown], rows[contrib[rows] > 0][-shown:]
    table = table.iloc[np.concatenate([away, toward])]
    if not len(table):
        return message_figure("No feature contributes to the transition.", title)
    tokens = carriers(features["attribution"]) if "attribution" in features else {}
    return finish(_feature_bars(table, tokens, _transition_line(transition)), title)


def _transition_line(transition: dict[Any, Any] | None) -> str:
    if transition is None:
        return ""
    step = f"turn {int(transition['prev_turn'])} \u2192 {int(transition['turn'])}"
    change = signed(float(transition["delta_projection"]), ".3g") if "delta_projection" in transition else "?"
    masses = f"\u2212{float(transition['away_mass']):.3g} away, +{float(transition['toward_mass']):.3g} toward"
    step = f"no drop, the smallest rise: {step}" if transition.get("no_drop") else step
    return f"{step}: projection changes by {change} ({masses}, over all features)"


def _feature_bars(table: pd.DataFrame, tokens: dict[int, list[str]], line: str) -> Figure:
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
    clean(ax)
    if tokens:
        _write_carriers(ax, [tokens.get(int(feature), []) for feature in table["feature_idx"]])
    legend = figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=8)
    words = [PROFILE_WORDS if any("[" in label for label in labels) else "", CARRIER_WORDS if tokens else ""]
    if any(words):
        legend.set_title("\n".join(filter(None, words)), FontProperties(size=7.5))
        legend.set_alignment("left")
    return figure


def feature_label(row: dict[Any, Any]) -> str:
    """ "#1234", and what it stands for: its description, or its roles."""
    said = font_text(row.get("description"), 44)
    if not said:
        parts = [part for part in str(row.get("role_profile") or "").split(" | ") if not part.endswith(":0%")]
        profile = ", ".join(parts).replace(":", " ")
        said = font_text(profile and f"[{profile}]", 56)
    return f"#{int(row['feature_idx'])}  {said}".rstrip()


def carriers(attribution: pd.DataFrame, most: int = 3) -> dict[int, list[str]]:
    """{feature: texts of the tokens that carry it, the largest parts first}, from the table `attribution`."""
    rows = attribution.loc[attribution["feature_idx"].notna()]
    rows = rows.assign(size=np.abs(numbers(rows, "part"))).sort_values(by="size", ascending=False, kind="stable")
    byte_level = is_byte_level([str(token) for token in rows["token"]])
    found: dict[int, list[str]] = {}
    for feature, token in zip(rows["feature_idx"], rows["token"], strict=True):
        texts = found.setdefault(int(feature), [])
        text = "".join(part for part, _ in whole_characters([str(token)], byte_level)).strip()
        if text and text not in texts and len(texts) < most:
            texts.append(text)
    return found


def _write_carriers(ax: Axes, tokens: Sequence[Sequence[str]]) -> None:
    """The tokens of each feature at the right of its bar."""
    side = ax.secondary_yaxis("right")
    texts = [font_text(" ".join(f"\u201c{token}\u201d" for token in row), 40) for row in tokens]
    side.set_yticks(range(len(texts)), texts, fontsize=8, color=GREY)
    side.tick_params(length=0)
    side.spines["right"].set_visible(False)
