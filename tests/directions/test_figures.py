"""Figures of the axis stage: every one is drawn from its table, to files that a viewer can open."""

import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from personascope.directions.axis import assistant_axis, axis_tables
from personascope.directions.figures import AXIS_FIGURES, cluster_order, plot_role_projections, plot_similarity
from personascope.directions.options import AxisOptions
from personascope.display.figure import BLUE, save_figure
from personascope.formats.tables import write_csv

NAMES = ["assistant", "baker", "cook", "doctor", "elf"]


def make_tables() -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(0)
    axes = {
        space: assistant_axis(rng.random((len(NAMES), 8), np.float32), NAMES, AxisOptions())
        for space in ("sae", "residual layer 15")
    }
    return axis_tables(axes)


@pytest.mark.parametrize("figure", AXIS_FIGURES)
def test_a_figure_is_drawn_from_its_table_to_png_and_svg(tmp_path: Path, figure: str) -> None:
    # As in the workflow: from the CSV file.
    write_csv(tmp_path / "table.csv", make_tables()[figure])
    png, svg = tmp_path / "out" / "a.png", tmp_path / "out" / "a.svg"
    save_figure(AXIS_FIGURES[figure](pd.read_csv(tmp_path / "table.csv"), "assistant"), png, svg)
    assert sorted(path.name for path in png.parent.iterdir()) == ["a.png", "a.svg"]
    content = png.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", content[16:24])
    assert width > 300 and height > 200
    root = ET.fromstring(svg.read_text(encoding="utf-8"))
    svg_name = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{svg_name}svg" and len(list(root.iter(f"{svg_name}path"))) > 5


def test_a_failed_figure_leaves_no_file(tmp_path: Path) -> None:
    figure = AXIS_FIGURES["pca_spectrum"](make_tables()["pca_spectrum"], "assistant")
    with pytest.raises(KeyError, match="docx"):
        save_figure(figure, tmp_path / "a.docx")
    assert list(tmp_path.iterdir()) == []


def test_the_bars_are_the_projections_and_the_assistant_stands_out() -> None:
    table = make_tables()["role_projections"]
    figure = plot_role_projections(table, " Assistant ")
    assert [ax.get_title() for ax in figure.axes] == ["sae", "residual layer 15"]
    for ax in figure.axes:
        part = table[table["space"] == ax.get_title()].set_index("role")["diff"]
        labels = [label.get_text() for label in ax.get_yticklabels()]
        patches = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
        bars = dict(zip(labels, patches, strict=True))
        assert {name: bar.get_width() for name, bar in bars.items()} == pytest.approx((part - part.mean()).to_dict())
        assert [name for name, bar in bars.items() if to_hex(bar.get_facecolor()) == BLUE] == ["assistant"]


def test_the_matrix_is_shown_in_the_order_of_its_labels() -> None:
    table = make_tables()["role_similarity"]
    ax = plot_similarity(table).axes[0]
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert sorted(labels) == NAMES and labels == [label.get_text() for label in ax.get_yticklabels()]
    expected = table[table["space"] == "sae"].set_index("role").loc[labels, labels].to_numpy(float)
    assert np.asarray(ax.images[0].get_array()) == pytest.approx(expected)


def test_near_identical_roles_stand_side_by_side() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((8, 40))
    vectors[6] = vectors[1] + 0.01 * rng.standard_normal(40)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = cluster_order(vectors @ vectors.T)
    assert sorted(order) == list(range(8)) and abs(order.index(1) - order.index(6)) == 1


@pytest.mark.parametrize("roles", [1, 2])
def test_one_or_two_roles_need_no_clustering(roles: int) -> None:
    assert cluster_order(np.eye(roles)) == list(range(roles))
