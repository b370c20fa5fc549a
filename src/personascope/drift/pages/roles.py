"""The figure of the roles that each turn is near to."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from personascope.display.figure import BLACK, clean, finish, font_text, is_role, message_figure, turn_ticks
from personascope.display.heat import HEAT_MAP
from personascope.formats.tables import numbers

MOST_ROWS = 25
NEAREST = 3  # ranks that count for how often a role is near


def nearest_roles(
    role_cosines: pd.DataFrame, *, anchors: Sequence[str] = ("default", "assistant"), title: str = ""
) -> Figure:
    """Cosine of each turn with each role, both minus the mean role: a row a role, a column a turn, white at 0.

    The anchors come first, then the roles that are near most often; a dot marks the nearest role of a turn.
    """
    names = [str(name) for name in role_cosines.columns if name != "assistant_turn"]
    cosines = np.array([numbers(role_cosines, name) for name in names], float).reshape(len(names), len(role_cosines)).T
    filled = np.isfinite(cosines).all(1) if len(names) else np.zeros(0, bool)
    if not filled.any():
        return message_figure("No assistant turn has tokens: no roles near to it.", title)
    rows = _shown_rows(names, cosines[filled], anchors)
    shown, count = cosines[:, rows].T, len(cosines)
    figure = Figure(figsize=(float(np.clip(4.2 + 0.3 * count, 6.4, 14)), 1.9 + 0.25 * len(rows)), layout="constrained")
    ax = figure.subplots()
    first = int(numbers(role_cosines, "assistant_turn")[0])
    edges = np.arange(count + 1) + first - 0.5
    limit = max(float(np.nanmax(np.abs(shown))), 0.05)
    mesh = ax.pcolormesh(edges, np.arange(len(rows) + 1) - 0.5, shown, cmap=HEAT_MAP, vmin=-limit, vmax=limit)
    mesh.set(edgecolor="white", linewidth=0.5 if count <= 40 else 0.2)
    best = np.nanargmax(np.where(np.isfinite(cosines), cosines, -2), axis=1)
    places = [(turn + first, rows.index(best[turn])) for turn in np.flatnonzero(filled) if best[turn] in rows]
    dots = np.array(places, float).reshape(-1, 2)
    size = 4.5 if count <= 40 else 2.5
    ax.plot(dots[:, 0], dots[:, 1], "o", color=BLACK, markersize=size, label="nearest role of the turn")
    ax.set_yticks(range(len(rows)), [font_text(names[row], 32) for row in rows], fontsize=9)
    for label, row in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if _is_anchor(names[row], anchors) else "normal")
    ax.invert_yaxis()
    ax.set_facecolor("#eeeeee")
    turn_ticks(ax, edges)
    ax.set_xlim(edges[0], edges[-1])
    ours = sum(_is_anchor(names[row], anchors) for row in rows)
    if 0 < ours < len(rows):
        ax.axhline(ours - 0.5, color=BLACK, linewidth=1)
    hidden = int(filled.sum()) - len(places)
    ax.set_xlabel(_axis_label(len(names) - len(rows), hidden, not filled.all()))
    figure.colorbar(mesh, ax=ax, label="cosine, mean role taken off\n(blue: alike)", fraction=0.04, pad=0.02)
    figure.legend(loc="outside lower left", frameon=False, fontsize=8)
    clean(ax)
    return finish(figure, title)


def _axis_label(left_out: int, hidden: int, gaps: bool) -> str:
    parts = ["assistant turn"]
    parts += [f"{left_out} further roles, near less often, are not shown"] if left_out else []
    parts += [f"one of them is the nearest of {hidden} turns"] if hidden else []
    parts += ["grey: turn without tokens"] if gaps else []
    return "\n".join([parts[0], "; ".join(parts[1:])]).strip()


def _shown_rows(names: Sequence[str], cosines: np.ndarray, anchors: Sequence[str]) -> list[int]:
    """The anchors, then the roles by how often and how near they are among the NEAREST of a turn, then by cosine."""
    order = np.argsort(-cosines, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(names))[None, :], axis=1)
    nearness = np.where(ranks < NEAREST, 1 / (1 + ranks), 0).sum(0)
    keys = [(not _is_anchor(name, anchors), -nearness[i], -cosines[:, i].mean()) for i, name in enumerate(names)]
    return sorted(range(len(names)), key=lambda i: keys[i])[:MOST_ROWS]


def _is_anchor(name: str, anchors: Sequence[str]) -> bool:
    return any(is_role(name, anchor) for anchor in anchors)
