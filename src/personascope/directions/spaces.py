"""The spaces that the axis is made in, and the files of its figures: light, since the workflow reads it too."""

import math
import re
from collections.abc import Iterable

SAE = "sae"
# The figures of the axis stage: those that show all spaces together, and those of which each space has its own.
FIGURES = ("axis_by_layer", "pca_spectrum", "role_similarity")
SPACE_FIGURES = ("role_projections",)
# An axis below these is not to be interpreted: halves of the data do not agree on it, or it does not tell roles apart.
LEAST_SPLIT_HALF, LEAST_AUC = 0.5, 0.75


def below(name: str, value: float, least: float) -> str:
    """What speaks against an axis, "AUC 0.72 < 0.75"; empty where the value is at least `least`."""
    if math.isnan(value):
        return f"{name} cannot be measured"
    return "" if value >= least else f"{name} {value:.2f} < {least:g}"


def axis_spaces(residual_layers: Iterable[int]) -> list[str]:
    """Names of the spaces, as in the tables: "sae", then "residual layer 15" for each layer that is kept."""
    return [SAE, *(f"residual layer {layer}" for layer in residual_layers)]


def layer_of(space: str) -> int | None:
    """The layer of a residual space; None for another one."""
    found = re.fullmatch(r"residual layer (\d+)", space)
    return int(found[1]) if found else None


def space_label(space: str) -> str:
    """A space as readers are told of it: "SAE features", "residual stream, layer 15"."""
    layer = layer_of(space)
    if layer is not None:
        return f"residual stream, layer {layer}"
    return "SAE features" if space == SAE else space


def short_label(space: str) -> str:
    """The same where there is little room: "SAE", "layer 15"."""
    layer = layer_of(space)
    if layer is not None:
        return f"layer {layer}"
    return "SAE" if space == SAE else space


def slug(space: str) -> str:
    """A space as part of a file's name: "residual_layer_15"."""
    return re.sub(r"[^A-Za-z0-9]+", "_", space)


def figure_files(spaces: Iterable[str]) -> dict[str, tuple[str, str]]:
    """{file without suffix: (figure, space)} of all figures; the space is "" where a figure shows all of them."""
    files = {figure: (figure, "") for figure in FIGURES}
    return files | {f"{figure}_{slug(space)}": (figure, space) for space in spaces for figure in SPACE_FIGURES}
