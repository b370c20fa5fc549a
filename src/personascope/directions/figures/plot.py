"""The figures of the axis stage, drawn from its tables to their files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from personascope.directions.figures.groups import Groups
from personascope.directions.figures.layers import axis_by_layer
from personascope.directions.figures.order import write_order
from personascope.directions.figures.parts import reasons, spaces_of
from personascope.directions.figures.projections import role_projections
from personascope.directions.figures.similarity import role_similarity
from personascope.directions.figures.spectrum import pca_spectrum
from personascope.directions.spaces import figure_files
from personascope.display.figure import save_figure
from personascope.display.paper import PAPER_DPI
from personascope.formats.tables import read_csv

Tables = Mapping[str, pd.DataFrame]


def _projections(tables: Tables, space: str, groups: Groups, subtitle: str) -> Figure:
    reason = reasons(tables["agreement"]).get(space)
    return role_projections(tables["role_projections"], space, groups=groups, reason=reason, subtitle=subtitle)


def _similarity(tables: Tables, _: str, groups: Groups, subtitle: str) -> Figure:
    roles, cosines = tables["role_projections"], tables["role_similarity"]
    marked = set(roles.loc[roles["kind"] != "other", "role"]) if "kind" in roles else set()
    return role_similarity(cosines, tables["agreement"], marked=marked, groups=groups, subtitle=subtitle)


# Each figure is drawn from the stage's tables, the space that it shows ("" where it shows all), groups of roles, and a
# subtitle.
AXIS_FIGURES: dict[str, Callable[[Tables, str, Groups, str], Figure]] = {
    "axis_by_layer": lambda tables, _, __, subtitle: axis_by_layer(tables["agreement"], subtitle=subtitle),
    "pca_spectrum": lambda tables, _, __, subtitle: pca_spectrum(
        tables["pca_spectrum"], tables["agreement"], subtitle=subtitle
    ),
    "role_projections": _projections,
    "role_similarity": _similarity,
}


def draw_axis_figures(
    tables: Sequence[str | Path],
    paths: Sequence[str | Path],
    *,
    order: str | Path,
    groups: Groups | None = None,
    subtitle: str = "",
) -> None:
    """Draw figures of the axis stage from its tables, each figure to all paths that have its file's name.

    order: where to write the order of the roles in role_similarity, which has no room for many names; groups:
    {label: roles}, shown where the roles are many.
    """
    read = {Path(table).stem: read_csv(table) for table in tables}
    files = figure_files(spaces_of(read["agreement"]))
    for stem in dict.fromkeys(Path(path).stem for path in paths):
        figure, space = files[stem]
        drawn = AXIS_FIGURES[figure](read, space, groups or {}, subtitle)
        save_figure(drawn, *(path for path in paths if Path(path).stem == stem), dpi=PAPER_DPI)
    write_order(order, read["role_similarity"])
