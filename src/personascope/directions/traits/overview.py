"""The figure of all traits: reliability by layer, and cosines at one layer."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from personascope.directions.traits.figures import trait_label
from personascope.display.figure import BLACK, BLUE, GREY, ORANGE, PALE_BLUE, PALE_ORANGE, finish, font_text, signed
from personascope.display.paper import PAGE, panel_heading, paper_axes, paper_figure, paper_style
from personascope.formats.tables import numbers

COLORS = (BLUE, ORANGE, BLACK, GREY, PALE_BLUE, PALE_ORANGE)
STYLES = ("-", "--", ":", "-.")
MOST_TRAITS, MOST_ROLES = 12, 8
HEIGHT = 2.8


@paper_style
def draw_overview(
    cosines: pd.DataFrame, quality: pd.DataFrame, written: Mapping[str, dict[str, Any]], *, subtitle: str = ""
) -> Figure:
    """Left: split-half reliability of each trait by layer, dots at selected layers. Right: cosines at one layer."""
    traits = list(written)[:MOST_TRAITS]
    layer = shown_layer(cosines, written)
    notes = [f"The first {MOST_TRAITS} of {len(written)} traits; all are in traits.csv."] * (len(written) > MOST_TRAITS)
    if any(one["filter"] == "none" for one in written.values()):
        notes.append(
            "Not filtered by a judge: the vectors say how instructed answers differ, whether they show it or not."
        )
    doubtful = [trait_label(written[trait]) for trait in traits if written[trait]["doubts"]]
    warning = f"do not rely on: {', '.join(doubtful)}" if doubtful else ""
    figure = paper_figure(PAGE, HEIGHT, "Trait vectors side by side", subtitle, notes=notes, warning=warning)
    grid = figure.add_gridspec(1, 2, wspace=0.08, width_ratios=[1, 1.3])
    _reliability(paper_axes(figure, grid[0]), quality, written, traits)
    _cosines(paper_axes(figure, grid[1]), cosines, quality, written, traits, layer)
    handles = [
        Line2D([], [], label=font_text(trait_label(written[trait]), 40), **_style(i)) for i, trait in enumerate(traits)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(traits), 3), columnspacing=1.4)
    return finish(figure)


def shown_layer(cosines: pd.DataFrame, written: Mapping[str, dict[str, Any]]) -> int:
    """The layer of the cosines that are shown: of those that axis and roles have (else traits), the one nearest to the
    middle of the traits' selected layers."""
    middle = float(np.median([one["selected_layer"] for one in written.values()]))
    rows = cosines.to_dict("records")
    beside = {int(row["layer"]) for row in rows if row["kind"] != "trait"}
    layers = sorted(beside or {int(row["layer"]) for row in rows} or {int(middle)})
    return min(layers, key=lambda layer: abs(layer - middle))


def _style(i: int) -> dict[str, Any]:
    return {"color": COLORS[i % len(COLORS)], "linestyle": STYLES[(i // len(COLORS)) % len(STYLES)]}


def _reliability(ax: Axes, quality: pd.DataFrame, written: Mapping[str, dict[str, Any]], traits: list[str]) -> None:
    for i, trait in enumerate(traits):
        of_trait = np.asarray(quality["trait"]) == trait
        layer, value = numbers(quality, "layer")[of_trait], numbers(quality, "split_half")[of_trait]
        ax.plot(layer, value, **_style(i))
        at = layer == written[trait]["selected_layer"]
        ax.plot(layer[at], value[at], marker="o", markersize=4, linestyle="", color=_style(i)["color"])
    ax.set_ylim(min(0, np.nanmin([0, *numbers(quality, "split_half")]) - 0.05), 1.03)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    ax.set_xlabel("layer")
    ax.set_ylabel("cosine of the vectors of halves")
    panel_heading(ax, PAGE / 2 - 0.3, "Split-half reliability", "halves of questions and pairs; dot: selected layer")


def _cosines(
    ax: Axes,
    cosines: pd.DataFrame,
    quality: pd.DataFrame,
    written: Mapping[str, dict[str, Any]],
    traits: list[str],
    layer: int,
) -> None:
    here = [row for row in cosines.to_dict("records") if row["layer"] == layer]
    known = {(row["first"], row["kind"], row["second"]): float(row["cosine"]) for row in here}
    own = [row for row in quality.to_dict("records") if row["layer"] == layer]
    known |= {(row["trait"], "trait", row["trait"]): float(row["split_half"]) for row in own}
    strength: dict[tuple[str, str], float] = {}
    for (_, kind, name), cosine in known.items():
        strength[kind, name] = max(abs(cosine), strength.get((kind, name), 0.0))
    every = sorted((one for one in strength if one[0] == "role"), key=lambda one: -strength[one])
    columns = [("trait", trait) for trait in traits]
    columns += [one for one in strength if one[0] == "axis"] + every[:MOST_ROLES]
    values = np.array([[known.get((trait, *column), np.nan) for column in columns] for trait in traits], dtype=float)
    ax.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            same = columns[j] == ("trait", traits[i])
            shown = signed(value, ".2f")
            text = "" if np.isnan(value) else f"({shown})" if same else shown
            ax.text(j, i, text, ha="center", va="center", fontsize=6, color="white" if abs(value) > 0.6 else BLACK)
    ax.set_yticks(range(len(traits)), [font_text(trait, 22) for trait in traits])
    labels = [{"axis": "assistant axis", "role": f"role {name}"}.get(kind, name) for kind, name in columns]
    ax.set_xticks(range(len(columns)), [font_text(label, 22) for label in labels], rotation=40, ha="right")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    note = "in brackets: a vector's own split-half reliability, which limits its cosines"
    if len(every) > MOST_ROLES:
        note += f"; the {MOST_ROLES} strongest roles"
    panel_heading(ax, PAGE / 2, f"Cosines, layer {layer}", note)
