"""The map of features as a figure: which role each prefers, and how far that is the same in halves of the responses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from personascope.display.figure import BLACK, finish, font_text, message_figure, save_figure
from personascope.display.paper import (
    PAPER_DPI,
    panel_heading,
    panel_heading_height,
    paper_axes,
    paper_figure,
    paper_style,
)
from personascope.explorer.layout import QUALITY
from personascope.formats.tables import load_all_npz

SIDE = 3.5  # inches of a panel
LABEL = 24  # characters of a role's name
OTHER = "#c9c9c9"
# Told apart with any kind of color vision (Okabe and Ito); the roles with the most features have one each.
ROLE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STABILITY = LinearSegmentedColormap.from_list("stability", ["#f0c9a0", "#dddddd", "#12457f"])
UNRELIABLE = 0.5  # of a median stability


def draw_atlas(layout: str | Path, paths: Sequence[str | Path], subtitle: str = "") -> None:
    """Draw the map of layout.npz to each path."""
    save_figure(atlas_figure(load_all_npz(layout), subtitle=subtitle), *paths, dpi=PAPER_DPI)


@paper_style
def atlas_figure(arrays: Mapping[str, np.ndarray], *, subtitle: str = "") -> Figure:
    """Two panels of one map, by preferred role and by stability; arrays: of `layout.write_layout`, all features."""
    fitted = len(arrays["umap"]) > 0
    places, n = arrays["umap"] if fitted else arrays["pca"], len(arrays["feature_ids"])
    title = f"Map of {n:,} features by their activation over {len(arrays['role_names'])} roles"
    if n < 2:
        return message_figure("Fewer than two features are active: there is nothing to map.", title)
    overlap = float(arrays["knn_overlap"])
    notes = [
        f"{'UMAP' if fitted else 'PCA (too few roles or features for UMAP)'}. For finding one's way: of a feature's "
        f"{QUALITY} most similar, {100 * overlap:.0f} % are among its {QUALITY} nearest here. Selected features "
        "are large.",
    ]
    stability, selected = arrays["stability"], arrays["selected"]
    middle = float(np.median(stability[selected])) if selected.any() else 0.0
    warning = f"Half of the selected features have a stability below {middle:.2f}: which role they prefer is uncertain"
    figure = paper_figure(2 * SIDE, SIDE + 0.35, title, subtitle, notes, warning if middle < UNRELIABLE else "")
    grid = figure.add_gridspec(1, 2)
    left, right = (paper_axes(figure, grid[0, column]) for column in range(2))
    size = np.where(selected, 7.0, 1.5) * min(1.0, (4000 / n) ** 0.5)
    _draw_roles(left, arrays, places, size)
    _draw_stability(right, places, stability, size)
    said = f"median of the selected: {middle:.2f}".replace("-", "\u2212")
    if not arrays["centered"]:
        said += "; not centered, so that what all roles share counts as agreement"
    texts = (("preferred role", _coverage(arrays)), ("stability", said))
    height = max(panel_heading_height(SIDE - 0.3, *text) for text in texts)
    for ax, text in zip((left, right), texts, strict=True):
        panel_heading(ax, SIDE - 0.3, *text, height=height)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlabel("UMAP 1" if fitted else "component 1")
        ax.set_ylabel("UMAP 2" if fitted else "component 2")
        ax.set_rasterization_zorder(1.5)
    return finish(figure)


def _named(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Roles that have a color: those that the most selected features prefer."""
    chosen = arrays["preferred_role"][arrays["selected"]]
    counts = np.bincount(chosen, minlength=len(arrays["role_names"]))
    order = np.argsort(-counts, kind="stable")[: len(ROLE_COLORS)]
    return order[counts[order] > 0]


def _coverage(arrays: Mapping[str, np.ndarray]) -> str:
    named, chosen = _named(arrays), arrays["preferred_role"][arrays["selected"]]
    if len(np.unique(chosen)) <= len(named):
        return ""
    return f"the {len(named)} that most features prefer, {100 * np.isin(chosen, named).mean():.0f} % of the selected"


def _draw_roles(ax: Axes, arrays: Mapping[str, np.ndarray], places: np.ndarray, size: np.ndarray) -> None:
    role, named = arrays["preferred_role"], _named(arrays)
    colors = np.full(len(role), OTHER, dtype=object)
    for k, one in enumerate(named):
        colors[role == one] = ROLE_COLORS[k]
    colors[~arrays["selected"] & ~np.isin(role, named)] = OTHER
    drawn: dict[str, Any] = {"linewidths": 0, "alpha": 0.7, "zorder": 1}
    order = np.argsort(size, kind="stable")
    ax.scatter(*places[order].T, s=size[order], c=colors[order].tolist(), **drawn)
    outline = [withStroke(linewidth=2.2, foreground="white")]
    for k, one in enumerate(named):
        x, y = _center(places[(role == one) & arrays["selected"]])
        name = font_text(str(arrays["role_names"][one]), LABEL)
        text = ax.text(x, y, name, fontsize=7.5, fontweight="bold", color=ROLE_COLORS[k], zorder=3)
        text.set(ha="center", va="bottom", path_effects=outline)


def _center(points: np.ndarray) -> np.ndarray:
    """The place of the points [n, 2] where they are densest, of a coarse grid: a mean may lie where none of them is."""
    counts, x, y = np.histogram2d(*points.T, bins=12)
    i, j = np.unravel_index(counts.argmax(), counts.shape)
    return np.array([x[i : i + 2].mean(), y[j : j + 2].mean()])


def _draw_stability(ax: Axes, places: np.ndarray, stability: np.ndarray, size: np.ndarray) -> None:
    scale = Normalize(-1.0 if stability.min() < 0 else 0.0, 1.0)
    order = np.argsort(size, kind="stable")
    ax.scatter(
        *places[order].T,
        s=size[order],
        c=stability[order],
        cmap=STABILITY,
        norm=scale,
        linewidths=0,
        alpha=0.8,
        zorder=1,
    )
    bar = ax.figure.colorbar(
        ScalarMappable(scale, STABILITY), ax=ax, location="bottom", shrink=0.5, aspect=25, pad=0.02
    )
    bar.ax.tick_params(length=2, labelsize=6, color=BLACK)
    bar.set_label("cosine between halves of the responses", fontsize=6.5)
