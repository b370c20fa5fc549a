"""Figures of the axis stage. Colors are safe for color-blind readers: blue and orange, never red against green."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from personascope.display.figure import BLUE, GREY, LINES, PALE_BLUE, save_figure
from personascope.formats.tables import read_csv


def plot_role_projections(table: pd.DataFrame, assistant: str) -> Figure:
    """Where each role lies on the diff axis, one panel a space; the assistant's bar is dark."""
    spaces = list(table["space"].unique())
    rows = len(set(table["role"]))
    figure = Figure(figsize=(4.6 * len(spaces), 1.2 + 0.19 * rows), layout="constrained")
    for ax, space in zip(np.atleast_1d(figure.subplots(1, len(spaces))), spaces, strict=True):
        part = table.loc[table["space"] == space].sort_values(by="diff")
        colors = [BLUE if role.lower() == assistant.strip().lower() else PALE_BLUE for role in part["role"]]
        ax.barh(part["role"], part["diff"] - part["diff"].mean(), color=colors)
        ax.axvline(0, color=GREY, linewidth=0.8)
        ax.set_title(space)
        ax.set_xlabel("projection on the assistant axis, minus the mean role")
        ax.tick_params(axis="y", labelsize=7)
        ax.margins(y=0.01)
    return figure


def plot_spectrum(table: pd.DataFrame, components: int = 20) -> Figure:
    """Share of the variance between roles on each principal component."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    ax = figure.subplots()
    shown = table[table["component"] <= components]
    styles = zip(itertools.cycle(LINES), itertools.cycle("osD^vPX*"), strict=False)
    for (color, marker), (space, part) in zip(styles, shown.groupby("space", sort=False), strict=False):
        ax.plot(part["component"], part["variance_share"], marker=marker, markersize=4, label=space, color=color)
    ax.set_xlabel("principal component of the role vectors")
    ax.set_ylabel("share of variance")
    ax.set_xticks(range(1, max(shown["component"].tolist()) + 1, 2))
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    return figure


def plot_similarity(table: pd.DataFrame) -> Figure:
    """Cosines between role vectors, similar roles side by side."""
    spaces = list(table["space"].unique())
    rows = len(table) // len(spaces)
    side = max(4.5, 0.16 * rows)
    figure = Figure(figsize=(side * len(spaces) + 1.2, side), layout="constrained")
    for ax, space in zip(np.atleast_1d(figure.subplots(1, len(spaces))), spaces, strict=True):
        part = table[table["space"] == space].drop(columns="space").set_index("role")
        names = list(part.index)
        cosines = part[names].to_numpy()
        order = cluster_order(cosines)
        image = ax.imshow(cosines[np.ix_(order, order)], cmap="cividis", vmax=1)
        ax.set_xticks(range(rows), [names[i] for i in order], rotation=90, fontsize=6)
        ax.set_yticks(range(rows), [names[i] for i in order], fontsize=6)
        ax.set_title(space)
        figure.colorbar(image, ax=ax, shrink=0.7, label="cosine")
    return figure


def cluster_order(cosines: np.ndarray) -> list[int]:
    """Order of the roles in which similar ones stand together (average linkage on 1 - cosine)."""
    if len(cosines) < 3:
        return list(range(len(cosines)))
    distances = np.clip(1 - (cosines + cosines.T) / 2, 0, None)
    np.fill_diagonal(distances, 0)
    return leaves_list(linkage(squareform(distances, checks=False), "average", optimal_ordering=True)).tolist()


# Each figure is drawn from the table of its name and the assistant role.
AXIS_FIGURES: dict[str, Callable[[pd.DataFrame, str], Figure]] = {
    "role_projections": plot_role_projections,
    "pca_spectrum": lambda table, _: plot_spectrum(table),
    "role_similarity": lambda table, _: plot_similarity(table),
}


def draw_axis_figure(figure: str, table: str | Path, assistant: str, *paths: str | Path) -> None:
    """Draw a figure of the axis stage from its table's file, to each path."""
    save_figure(AXIS_FIGURES[figure](read_csv(table), assistant), *paths)
