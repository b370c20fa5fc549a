"""Figures of the axis stage: what each shows of its tables, at few roles and at many, and that it can be read."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from personascope.directions.figures.layers import axis_by_layer, layer_ticks
from personascope.directions.figures.order import cluster_order, cosines_of
from personascope.directions.figures.parts import spread
from personascope.directions.figures.plot import AXIS_FIGURES, draw_axis_figures
from personascope.directions.figures.projections import role_projections
from personascope.directions.figures.spectrum import components_above, pca_spectrum
from personascope.directions.spaces import axis_spaces, figure_files, layer_of, slug
from personascope.display.figure import BLUE, ORANGE, save_figure
from personascope.formats.tables import read_csv, write_csv
from tests.helpers.axis_tables import role_names, simulated_tables
from tests.helpers.drawn import marks, unreadable, words, xy

SIZES = (12, 51, 276)
LAYER = "residual layer 15"
# The longest names come into the smallest set, too.
TABLES = {size: simulated_tables(role_names(size)) for size in SIZES}
REFUSED = simulated_tables(role_names(12), refused=[LAYER])
MISSING = (
    *("crossfit", "crossfit_low", "crossfit_high", "shuffled_share", "shuffled_high"),
    *("agreement_null_median", "agreement_null_high", "split_half", "auc"),
)


def draw(figure: str, tables: dict[str, pd.DataFrame], space: str = "sae") -> Figure:
    return AXIS_FIGURES[figure](tables, space if figure == "role_projections" else "", {}, "a model, an SAE")


def without(tables: dict[str, pd.DataFrame], *columns: str) -> dict[str, pd.DataFrame]:
    """The tables, those columns without a number."""
    return {
        name: table.assign(**{column: np.nan for column in columns if column in table})
        for name, table in tables.items()
    }


def rows_of(table: pd.DataFrame, space: str) -> pd.DataFrame:
    return table.loc[table["space"] == space].set_index("role")


def labels_at(ax: Axes) -> dict[str, float]:
    return {label.get_text(): float(place) for label, place in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)}


# ---- all figures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("figure", AXIS_FIGURES)
def test_every_text_can_be_read(figure: str, size: int) -> None:
    assert unreadable(draw(figure, TABLES[size])) == []


def test_what_cannot_be_read_is_noticed() -> None:
    figure = Figure(figsize=(3, 2))
    for x, y, size, text in (
        (0.1, 0.5, 9, "one"),
        (0.13, 0.5, 9, "other"),
        (0.95, 0.9, 9, "at the edge"),
        (0.1, 0.1, 3, "tiny"),
    ):
        figure.text(x, y, text, fontsize=size)
    assert unreadable(figure) == ["'tiny' is too small", "'at the edge' is cut off", "'one' lies on 'other'"]


@pytest.mark.parametrize("figure", AXIS_FIGURES)
def test_what_is_drawn_says_of_what_and_whether_it_may_be_interpreted(figure: str) -> None:
    fine, refused = words(draw(figure, TABLES[12], LAYER)), words(draw(figure, REFUSED, LAYER))
    assert "a model, an SAE" in fine and "do not interpret" not in fine
    assert "do not interpret: " in refused and "split-half 0.31 < 0.5" in refused
    if figure == "role_projections":
        assert "do not interpret" not in words(draw(figure, REFUSED, "sae")), "another space's reason"


@pytest.mark.parametrize("figure", AXIS_FIGURES)
@pytest.mark.parametrize("roles", [2, 3])
def test_few_roles_without_any_measurement_are_drawn_and_said_to_be_so(figure: str, roles: int) -> None:
    tables = without(
        simulated_tables([*role_names(12)[:1], "assistant", "baker"][:roles], anchors=("assistant",)), *MISSING
    )
    drawn = draw(figure, tables)
    assert unreadable(drawn) == []
    said = {
        "role_projections": "No cross-fitted projections were made",
        "pca_spectrum": "No shuffled baseline was made",
        "axis_by_layer": "Not measured: split-half reliability, held-out AUC, null of the agreement.",
        "role_similarity": f"Similarity of {roles} roles",
    }
    assert said[figure] in words(drawn)


def test_the_workflow_draws_every_file_the_same_each_time(tmp_path: Path) -> None:
    tables = without({name: table.copy() for name, table in REFUSED.items()}, "crossfit_low", "crossfit_high")
    for name, table in tables.items():
        write_csv(tmp_path / f"{name}.csv", table)
    paths = [tmp_path / f"{name}.csv" for name in tables]
    files = [f"{name}{suffix}" for suffix in (".png", ".svg") for name in figure_files(axis_spaces([3, 15, 27]))]
    for folder in ("one", "two"):
        to = [tmp_path / folder / file for file in files]
        draw_axis_figures(paths, to, order=tmp_path / folder / "role_order.csv", subtitle="a model")
    assert sorted(file.name for file in (tmp_path / "one").iterdir()) == sorted([*files, "role_order.csv"])
    for file in (tmp_path / "one").iterdir():
        content = file.read_bytes()
        assert content == (tmp_path / "two" / file.name).read_bytes(), file.name
        if file.suffix == ".svg":
            assert ET.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg" and b"<dc:date>" not in content
    square = cosines_of(tables["role_similarity"], "sae")
    order = read_csv(tmp_path / "one" / "role_order.csv")
    assert order["role"].tolist() == [square.index[i] for i in cluster_order(square.to_numpy(float))]
    assert order["position"].tolist() == list(range(1, 13))


def test_a_failed_figure_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="docx"):
        save_figure(draw("pca_spectrum", TABLES[12]), tmp_path / "a.docx")
    assert list(tmp_path.iterdir()) == []


def test_spaces_and_files_are_named() -> None:
    assert axis_spaces([3, 15]) == ["sae", "residual layer 3", "residual layer 15"]
    assert (slug(LAYER), layer_of(LAYER), layer_of("sae")) == ("residual_layer_15", 15, None)
    assert list(figure_files(["sae", LAYER])) == [
        *("axis_by_layer", "pca_spectrum", "role_similarity"),
        *("role_projections_sae", "role_projections_residual_layer_15"),
    ]
    assert spread(["a", "b", "c", "d", "e"], 3) == ["a", "c", "e"] and spread(["a"], 3) == ["a"]


# ---- role_projections ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [12, 51])
def test_full_marks_are_cross_fitted_and_sorted_and_hollow_ones_in_sample_with_the_same_zero(size: int) -> None:
    table = TABLES[size]["role_projections"]
    part = rows_of(table, LAYER)
    (ax,) = role_projections(table, LAYER).axes
    rows = {place: name for name, place in labels_at(ax).items()}
    assert [rows[place] for place in sorted(rows)] == part.sort_values(by="crossfit")["crossfit"].index.tolist()
    full = {rows[y]: x for line in marks(ax, hollow=False) for x, y in xy(line)}
    hollow = {rows[y]: x for line in marks(ax, hollow=True) for x, y in xy(line)}
    assert full == pytest.approx(part["crossfit"].to_dict())
    others = part.loc[part["kind"] == "other", "diff"]
    assert hollow == pytest.approx((part["diff"] - others.mean()).to_dict())
    assert "(activation units)" in ax.get_xlabel() and "toward the assistant" in ax.get_xlabel()


def test_the_mean_of_responses_is_the_in_sample_value_where_the_table_has_it() -> None:
    table = TABLES[12]["role_projections"].assign(in_sample=lambda own: 2 * own["crossfit"])
    (ax,) = role_projections(table, "sae").axes
    hollow = sorted(x for line in marks(ax, hollow=True) for x, _ in xy(line))
    assert hollow == pytest.approx(sorted(2 * rows_of(table, "sae")["crossfit"]))


def test_intervals_lie_on_their_rows() -> None:
    table = TABLES[12]["role_projections"]
    part = rows_of(table, "sae")
    (ax,) = role_projections(table, "sae").axes
    places = labels_at(ax)
    segments = [
        segment for lines in ax.collections if isinstance(lines, LineCollection) for segment in lines.get_segments()
    ]
    for name, place in places.items():
        low, high = part.loc[name, "crossfit_low"], part.loc[name, "crossfit_high"]
        assert any(np.allclose(segment, [(low, place), (high, place)]) for segment in segments), name


def test_of_many_roles_both_ends_are_named_and_a_strip_shows_all() -> None:
    table = TABLES[276]["role_projections"]
    crossfit = rows_of(table, "sae").sort_values(by="crossfit")["crossfit"]
    figure = role_projections(table, "sae")
    rows, strip = figure.axes
    named = sorted(labels_at(rows), key=labels_at(rows).__getitem__)
    assert named == [*crossfit.index[:20], *crossfit.index[-20:]]
    assert "236 roles between" in words(figure)
    shown = sorted(x for line in marks(strip) for x, _ in xy(line))
    assert shown == pytest.approx(crossfit.tolist())


@pytest.mark.parametrize("anchors", [("assistant",), ("assistant", "default")])
@pytest.mark.parametrize("size", [12, 276])
def test_anchors_and_default_have_a_symbol_of_their_own(anchors: tuple[str, ...], size: int) -> None:
    tables = simulated_tables(role_names(size), (), anchors=anchors)
    figure = role_projections(tables["role_projections"], "sae")
    symbols = {
        text.get_text(): line
        for legend in figure.legends
        for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    default = "default (anchor)" if "default" in anchors else "default (no anchor, not among the others)"
    looks = {
        name: (symbols[name].get_marker(), to_hex(symbols[name].get_color()))
        for name in ("other roles", "assistant (anchor)", default)
    }
    assert len(set(looks.values())) == 3 and looks["other roles"][1] == BLUE
    for ax in figure.axes:  # rows and strip
        own = {(str(line.get_marker()), to_hex(line.get_color())) for line in marks(ax, hollow=False)}
        assert set(looks.values()) <= own


def test_without_intervals_there_are_marks_and_a_line_that_says_so() -> None:
    tables = without(TABLES[12], "crossfit_low", "crossfit_high")
    figure = role_projections(tables["role_projections"], "sae")
    assert len(marks(figure.axes[0], hollow=False)) == 12
    assert "No intervals: they need several variants and questions." in words(figure) and "95 % interval" not in words(
        figure
    )


def test_a_role_called_like_a_formula_is_its_name() -> None:
    table = TABLES[12]["role_projections"].replace({"role": {role_names(12)[0]: "$x_1$"}})
    assert "$x_1$" in words(role_projections(table, "sae"))


# ---- axis_by_layer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [(15,), (3, 15, 27), tuple(range(62)), ()])
def test_each_measure_has_its_panel_over_layers_and_the_sae_beside(layers: tuple[int, ...]) -> None:
    agreement = simulated_tables(role_names(12), layers)["agreement"].set_index("space")
    figure = axis_by_layer(agreement.reset_index())
    assert unreadable(figure) == []
    for ax, column in zip(figure.axes, ("cos_diff_pc1", "split_half", "auc"), strict=True):
        ((x, value),) = [point for line in marks(ax, to_hex(ORANGE)) for point in xy(line)]
        assert value == agreement.loc["sae", column] and x > max(layers, default=-1)
        curve = next(line for line in ax.get_lines() if to_hex(line.get_color()) == BLUE)
        assert xy(curve) == [(k, agreement.loc[f"residual layer {k}", column]) for k in layers]
        assert "SAE" in [label.get_text() for label in ax.get_xticklabels()]


def test_the_null_of_the_agreement_is_a_band_in_its_panel_alone() -> None:
    agreement = TABLES[51]["agreement"]
    figure = axis_by_layer(agreement)
    bands = [[band for band in ax.collections if isinstance(band, PolyCollection)] for ax in figure.axes]
    assert [len(panel) for panel in bands] == [2, 0, 0], "over the layers, and at the SAE"
    for band in bands[0]:
        assert np.asarray(band.get_paths()[0].vertices)[:, 1].max() == pytest.approx(
            agreement["agreement_null_high"].max()
        )


def test_spaces_not_to_be_interpreted_are_hollow_and_named() -> None:
    figure = axis_by_layer(REFUSED["agreement"])
    assert "do not interpret: layer 15 (split-half 0.31 < 0.5)" in words(figure)
    for ax in figure.axes:
        assert [x for line in marks(ax, hollow=True) for x, _ in xy(line)] == [15]


def test_many_reasons_are_cut_short() -> None:
    many = simulated_tables(role_names(12), range(8), refused=axis_spaces(range(8)))["agreement"]
    figure = axis_by_layer(many)
    assert "and 6 more (agreement.csv)" in words(figure) and unreadable(figure) == []


def test_one_variant_is_said_to_be_one() -> None:
    one = TABLES[12]["agreement"].assign(split_half_of="questions")
    assert "halves of the questions alone" in words(axis_by_layer(one))
    assert "halves of questions and variants." in words(axis_by_layer(TABLES[12]["agreement"]))


def test_layers_that_are_near_share_a_name() -> None:
    assert layer_ticks(np.array([0, 1, 2, 60])) == [0, 60] and layer_ticks(np.array([15])) == [15]
    assert len(layer_ticks(np.arange(62))) <= 8


# ---- pca_spectrum ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_panel_a_space_shows_shares_baseline_and_cumulative_share(size: int) -> None:
    table = TABLES[size]["pca_spectrum"]
    figure = pca_spectrum(table, TABLES[size]["agreement"])
    spaces = list(table["space"].unique())
    assert len(figure.axes) == 2 * len(spaces)
    for space, bottom, top in zip(spaces, figure.axes[::2], figure.axes[1::2], strict=True):
        part = table[table["space"] == space].head(20)
        bars = [patch for patch in bottom.patches if isinstance(patch, Rectangle)]
        assert [bar.get_height() for bar in bars] == pytest.approx(part["variance_share"].tolist())
        above = components_above(table.loc[table["space"] == space])
        assert [to_hex(bar.get_facecolor()) == BLUE for bar in bars] == [i < above for i in range(len(bars))]
        (baseline,) = [lines for lines in bottom.collections if isinstance(lines, LineCollection)]
        assert [segment[0, 1] for segment in baseline.get_segments()] == pytest.approx(part["shuffled_high"].tolist())
        assert [share for _, share in xy(top.get_lines()[0])] == part["cumulative"].tolist()
        said = " ".join(text.get_text() for text in top.texts)
        assert f"{above or 'no'} component{'' if above == 1 else 's'} above the baseline" in said


def test_components_count_up_to_the_first_below_the_baseline() -> None:
    part = pd.DataFrame({"variance_share": [0.5, 0.2, 0.05, 0.04], "shuffled_high": [0.3, 0.1, 0.06, 0.01]})
    assert components_above(part) == 2 and components_above(part.assign(shuffled_high=np.nan)) == 0


def test_of_many_spaces_some_are_shown_and_this_is_said() -> None:
    tables = simulated_tables(role_names(12), range(20))
    figure = pca_spectrum(tables["pca_spectrum"], tables["agreement"])
    assert len(figure.axes) == 18 and "9 of 21 spaces" in words(figure) and "layer 19" in words(figure)
    assert unreadable(figure) == []
