"""Groups in figures of many roles: the right roles in the right row and color, and none where roles are few."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from personascope.directions.figures.groups import COLORS, draw_strip, group_colors, role_colors
from personascope.directions.figures.projections import role_projections
from personascope.directions.figures.similarity import role_similarity
from personascope.display.figure import GREY
from tests.helpers.axis_tables import role_names, simulated_tables
from tests.helpers.drawn import unreadable, words

NAMES = role_names(276)
TABLES = simulated_tables(NAMES)
# Three groups, one role in none.
GROUPS = {"Firsts": NAMES[0:90], "Seconds": NAMES[90:180], "Thirds": NAMES[180:275]}


def group_row_axes(figure: Figure) -> Axes:
    return next(ax for ax in figure.axes if any("Firsts" in label.get_text() for label in ax.get_yticklabels()))


def test_colors_are_those_of_the_group_whatever_the_experiment_has() -> None:
    assert role_colors([NAMES[200], NAMES[3], NAMES[275]], GROUPS) == [COLORS[2], COLORS[0], GREY]
    assert role_colors([NAMES[200]], {"Firsts": [], "Seconds": [], "Thirds": NAMES[180:275]}) == [COLORS[2]]
    assert len(set(COLORS)) == 12 and group_colors({str(i): [] for i in range(12)})["11"] == COLORS[11]


def test_each_group_has_a_row_of_its_roles_in_the_order_of_medians() -> None:
    figure = role_projections(TABLES["role_projections"], "sae", groups=GROUPS)
    assert unreadable(figure) == []
    table = TABLES["role_projections"].query("space == 'sae'").set_index("role")["crossfit"]
    inside = {label: table.loc[roles].to_numpy() for label, roles in GROUPS.items()}
    inside["Other roles"] = table.loc[NAMES[275:]].to_numpy()
    order = sorted(inside, key=lambda label: float(np.median(inside[label])))
    ax = group_row_axes(figure)
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        f"{label} ({len(inside[label])})" for label in order
    ]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    colors = group_colors(GROUPS)
    for line, label in zip(dots, order, strict=True):
        np.testing.assert_allclose(np.sort(np.asarray(line.get_xdata(), float)), np.sort(inside[label]))
        assert to_hex(line.get_color()) == colors[label]
    rows = [np.asarray(line.get_ydata(), float) for line in dots]
    assert all(abs(np.median(y) - row) < 0.5 for row, y in enumerate(rows)), "each in its own row"


@pytest.mark.parametrize("size", [12, 51])
def test_few_roles_have_names_of_their_own_and_no_groups(size: int) -> None:
    names = role_names(size)
    tables, groups = simulated_tables(names), {"Firsts": names[:5], "Seconds": names[5:]}
    assert "Firsts" not in words(role_projections(tables["role_projections"], "sae", groups=groups))
    assert "Firsts" not in words(role_similarity(tables["role_similarity"], tables["agreement"], groups=groups))


def test_similarity_of_many_roles_has_a_strip_of_colors_in_its_order_and_a_legend() -> None:
    figure = role_similarity(TABLES["role_similarity"], TABLES["agreement"], groups=GROUPS)
    assert unreadable(figure) == []
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*GROUPS, "Other roles"]
    strip = next(ax for ax in figure.axes if len(ax.patches) == 276)
    large = next(ax for ax in figure.axes if ax.images)
    mine, beside = strip.get_window_extent(), large.get_window_extent()
    assert (round(mine.y0), round(mine.y1)) == (round(beside.y0), round(beside.y1)) and mine.x1 <= beside.x0
    by_color = {color: sum(to_hex(patch.get_facecolor()) == color for patch in strip.patches) for color in COLORS[:3]}
    assert list(by_color.values()) == [90, 90, 95]


def test_a_strip_has_a_cell_a_role_from_the_top() -> None:
    ax = Figure().add_subplot()
    draw_strip(ax, [NAMES[0], NAMES[100], NAMES[275]], GROUPS)
    cells = [(patch.get_extents().transformed(ax.transData.inverted()), patch) for patch in ax.patches]
    assert [(round(box.ymin, 6), round(box.ymax, 6)) for box, _ in cells] == [(-0.5, 0.5), (0.5, 1.5), (1.5, 2.5)]
    assert [to_hex(patch.get_facecolor()) for _, patch in cells] == [COLORS[0], COLORS[1], GREY]
    assert ax.get_ylim() == (2.5, -0.5)
