"""Figures of persona vectors: how alike they are, with and without the mean role, and their principal components."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from personascope.directions.figures.groups import LEGEND_COLUMNS, Groups, group_handles, role_colors
from personascope.directions.figures.order import cluster_order, cosines_of
from personascope.directions.figures.parts import spaces_of, spread
from personascope.directions.figures.similarity import COLORS
from personascope.directions.persona_vectors import RAW
from personascope.directions.spaces import space_label
from personascope.display.figure import BLACK, BLUE, ORANGE, PALE_BLUE, finish, font_text, save_figure
from personascope.display.paper import (
    PAPER_DPI,
    POINTS,
    panel_heading,
    panel_heading_height,
    paper_axes,
    paper_figure,
    paper_style,
    text_width,
)
from personascope.formats.tables import numbers, read_csv

MOST_LAYERS = 3  # that one figure shows
MOST_NAMED = 40  # roles: of more, only those far from the mean role are named
LABEL = 24  # characters
SIDE, WIDE, HEIGHT, SHARES = 2.9, 4.4, 3.1, 1.9  # inches: of a square, a scatter and its shares
ALIKE = LinearSegmentedColormap.from_list("alike", ["#ffffff", "#a9cfe8", "#3f8fc5", "#12457f"])
UNRELIABLE = 0.5  # split-half: below it, halves of the responses do not agree on where a role lies


def draw_persona_figures(
    cosine: str | Path,
    pca: str | Path,
    roles: str | Path,
    paths: Sequence[str | Path],
    *,
    groups: Groups | None = None,
    subtitle: str = "",
) -> None:
    """Draw `cosine` and `pca` from their tables, each to all paths that have its name. groups: {label: roles}, by which
    many roles are colored."""
    table = read_csv(roles)
    figures = {
        "cosine": lambda: persona_cosines(read_csv(cosine), subtitle=subtitle),
        "pca": lambda: persona_components(read_csv(pca), table, groups=groups, subtitle=subtitle),
    }
    for stem in dict.fromkeys(Path(path).stem for path in paths):
        save_figure(figures[stem](), *(path for path in paths if Path(path).stem == stem), dpi=PAPER_DPI)


# ---- cosines ---------------------------------------------------------------------------------------------------------


@paper_style
def persona_cosines(table: pd.DataFrame, *, subtitle: str = "") -> Figure:
    """A row a layer: cosines without the mean role, and of the vectors as they are, in one order."""
    every = [space for space in spaces_of(table) if not space.endswith(RAW)]
    spaces = spread(every, MOST_LAYERS)
    first = cosines_of(table, spaces[-1])
    names = [str(first.index[i]) for i in cluster_order(first.to_numpy(float))]
    notes = [
        "Left: without the mean role, what tells roles apart. Right: the vectors as they are, on a color scale of "
        f"their own. Both in one order: average linkage on 1 \u2212 cosine, {space_label(spaces[-1])}; no diagonal."
    ]
    if len(spaces) < len(every):
        notes.append(f"{len(spaces)} of {len(every)} layers; all are in cosine.csv.")
    size = min(7.0, 0.88 * SIDE / len(names) * POINTS)
    margin = max(text_width(font_text(name, LABEL), 7) for name in names) if size >= 3.5 else 0.1
    width = 2 * SIDE + margin + 0.5
    figure = paper_figure(
        width, (SIDE + 0.95) * len(spaces) + 0.1, f"Persona vectors of {len(names)} roles", subtitle, notes
    )
    grid = figure.add_gridspec(len(spaces), 2)
    for row, space in enumerate(spaces):
        for column, name in enumerate((space, space + RAW)):
            ax = paper_axes(figure, grid[row, column])
            square = cosines_of(table, name).loc[names, names].to_numpy(float)
            _draw_square(ax, square, centered=column == 0)
            _name_rows(ax, names, size, named=column == 0)
            panel_heading(ax, SIDE, f"{space_label(space)}{'' if column == 0 else ': raw'}", _range(square))
    return finish(figure)


def _range(square: np.ndarray) -> str:
    others = square[~np.eye(len(square), dtype=bool)]
    low, high = others.min(), others.max()
    digits = 2 if high - low > 0.1 else 4
    return f"cosines {low:.{digits}f} to {high:.{digits}f}".replace("-", "\u2212")


def _draw_square(ax: Axes, square: np.ndarray, centered: bool) -> None:
    shown = np.where(np.eye(len(square), dtype=bool), np.nan, square)
    if centered:
        colors, low, high = COLORS, -1.0, 1.0
    else:
        colors, low, high = ALIKE.with_extremes(bad="#bdbdbd"), float(np.nanmin(shown)), 1.0
    ax.imshow(shown, cmap=colors, vmin=low, vmax=high, interpolation="none", aspect="equal")
    ax.spines[:].set_visible(True)
    mappable = ScalarMappable(Normalize(low, high), colors)
    bar = ax.figure.colorbar(mappable, ax=ax, location="bottom", shrink=0.6, aspect=25, pad=0.02, ticks=[low, high])
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}".replace("-", "\u2212")))
    bar.ax.tick_params(length=2, labelsize=6)


def _name_rows(ax: Axes, names: list[str], size: float, named: bool) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    if named and size >= 3.5:
        ax.set_yticks(range(len(names)), [font_text(name, LABEL) for name in names], fontsize=max(size, 5))
    ax.tick_params(length=0)


# ---- components ------------------------------------------------------------------------------------------------------


@paper_style
def persona_components(
    table: pd.DataFrame, roles: pd.DataFrame, *, groups: Groups | None = None, subtitle: str = ""
) -> Figure:
    """A row a layer: the roles on the first two components, with parts of their responses, and shares of variance.
    groups: {label: roles}, which color more than MOST_NAMED roles."""
    every = [int(layer) for layer in dict.fromkeys(table["layer"])]
    layers = [int(space) for space in spread([str(layer) for layer in every], MOST_LAYERS)]
    parts = sum(name.startswith("part_") for name in table.columns)
    kind = "quarter" if parts == 4 else "half"
    notes = [
        f"Principal components of the vectors without the mean role. Thin lines lead to the same from each {kind} of "
        "the role's responses: where they are as long as the distances between roles, the places are noise."
    ]
    if len(layers) < len(every):
        notes.append(f"{len(layers)} of {len(every)} layers; all are in pca.csv.")
    names = [str(role) for role in dict.fromkeys(table["role"])]
    handles = group_handles(names, groups) if groups and len(names) > MOST_NAMED else []
    below = 0.15 * -(-len(handles) // LEGEND_COLUMNS)
    height = (HEIGHT + 0.75) * len(layers) + below
    title = "Principal components of persona vectors"
    figure = paper_figure(WIDE + SHARES + 0.4, height, title, subtitle, notes)
    grid = figure.add_gridspec(len(layers), 2, width_ratios=[WIDE, SHARES])
    for row, layer in enumerate(layers):
        of_layer = table.loc[table["layer"].astype(int) == layer]
        agreement = numbers(roles.loc[roles["layer"].astype(int) == layer], "split_half")
        heading = f"split-half of roles: {np.nanmedian(agreement):.2f} (median)" if np.isfinite(agreement).any() else ""
        weak = bool(np.nanmedian(agreement) < UNRELIABLE) if heading else True
        warning = "halves of the responses do not agree on where the roles lie" if weak else ""
        texts = (f"residual stream, layer {layer}", heading.replace("-0", "\u22120"), warning)
        height = panel_heading_height(WIDE - 0.4, *texts)
        scatter, shares = (paper_axes(figure, grid[row, column]) for column in range(2))
        _draw_roles(scatter, of_layer, groups if handles else None)
        panel_heading(scatter, WIDE - 0.4, *texts, height=height)
        _draw_shares(shares, of_layer)
        panel_heading(shares, SHARES, "shares of the variance", height=height)
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=LEGEND_COLUMNS, columnspacing=1.2)
    return finish(figure)


def _draw_roles(ax: Axes, table: pd.DataFrame, groups: Groups | None) -> None:
    """Roles on components 1 and 2 and lines to their parts; names where there is room."""
    first, second = (table.loc[table["component"].astype(int) == k] for k in (1, 2))
    names = [str(role) for role in first["role"]]
    if second.empty:
        second = first.assign(**{name: 0.0 for name in first.columns if name.startswith(("part_", "coordinate"))})
    x, y = numbers(first, "coordinate"), numbers(second, "coordinate")
    lines = []
    for part in (name for name in table.columns if name.startswith("part_")):
        ends = np.stack([numbers(first, part), numbers(second, part)], axis=1)
        lines += [[(x[i], y[i]), tuple(end)] for i, end in enumerate(ends) if np.isfinite(end).all()]
    ax.add_collection(LineCollection(lines, colors=PALE_BLUE, linewidths=0.5, zorder=1))
    colors = role_colors(names, groups) if groups else BLUE
    ax.scatter(x, y, s=9 if len(x) <= MOST_NAMED else 5, c=colors, linewidths=0, zorder=2)
    ax.axhline(0, color="#cccccc", linewidth=0.5, zorder=0)
    ax.axvline(0, color="#cccccc", linewidth=0.5, zorder=0)
    points = np.array([point for line in lines for point in line] + list(zip(x, y, strict=True)))
    low, high = points.min(0), points.max(0)
    room = np.maximum(0.08 * (high - low), 1e-9)
    ax.set_xlim(low[0] - room[0], high[0] + 2 * room[0])
    ax.set_ylim(low[1] - room[1], high[1] + room[1])
    ax.set_xlabel("component 1")
    ax.set_ylabel("component 2")
    _name_points(ax, names, x, y)


def _name_points(ax: Axes, names: list[str], x: np.ndarray, y: np.ndarray) -> None:
    """Names beside their points, those farthest out first; one that would lie on another is left out."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    to_inches = np.array([(WIDE - 0.5) / (right - left), HEIGHT / (top - bottom)])
    places = (np.stack([x, y], axis=1) - (left, bottom)) * to_inches
    taken: list[tuple[float, float, float, float]] = []
    order = np.argsort(-np.hypot(*(np.stack([x, y]) * to_inches[:, None])))
    for i in order[: len(order) if len(order) <= MOST_NAMED else MOST_NAMED]:
        text = font_text(names[i], LABEL)
        width, height = text_width(text, 6.5), 0.11
        for dx, dy in (
            (0.05, -height / 2),
            (-0.05 - width, -height / 2),
            (-width / 2, 0.05),
            (-width / 2, -0.05 - height),
        ):
            px, py = places[i] + (dx, dy)
            box = (px, py, px + width, py + height)
            inside = px >= 0 and py >= 0 and box[2] <= WIDE - 0.5 and box[3] <= HEIGHT
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                at = np.array([px, py]) / to_inches + (left, bottom)
                ax.text(at[0], at[1], text, fontsize=6.5, color=BLACK, va="bottom", ha="left", zorder=3)
                break


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def _draw_shares(ax: Axes, table: pd.DataFrame) -> None:
    shares = table.drop_duplicates("component")
    component, share = numbers(shares, "component"), numbers(shares, "variance_share")
    ax.bar(component, share, width=0.8, color=PALE_BLUE)
    ax.plot(component, np.cumsum(share), color=ORANGE, marker="o", markersize=2)
    ax.annotate(
        "cumulative",
        (component[-1], np.cumsum(share)[-1]),
        (0, -12),
        textcoords="offset points",
        ha="right",
        va="top",
        color=ORANGE,
        fontsize=6.5,
    )
    ax.set_ylim(0, 1.05)
    ax.set_xlim(0.3, max(len(component), 3) + 0.7)
    ax.set_xticks(component[:: 1 if len(component) <= 6 else 3])
    ax.set_xlabel("component")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g} %"))
