"""The figure of the similarity of roles: one order for all spaces, and names as far as there is room."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from personascope.directions.figures.order import cluster_order, cosines_of
from personascope.directions.figures.parts import of_space, spaces_of
from personascope.directions.figures.similarity import apart, role_similarity
from personascope.display.paper import PAGE
from tests.helpers.axis_tables import role_names, simulated_tables
from tests.helpers.drawn import drawn_texts, unreadable, words, xy

SIZES = (12, 51, 276)
TABLES = {size: simulated_tables(role_names(size)) for size in SIZES}


def squares(figure: Figure) -> list[np.ndarray]:
    return [np.ma.filled(np.ma.asarray(ax.images[0].get_array()), np.nan) for ax in figure.axes if ax.images]


@pytest.mark.parametrize("size", SIZES)
def test_all_spaces_are_in_the_order_of_the_sae_and_without_diagonal(size: int) -> None:
    table = TABLES[size]["role_similarity"]
    # Another space first: the order is still made of SAE features.
    table = pd.concat([of_space(table, space) for space in reversed(spaces_of(table))], ignore_index=True)
    order = cluster_order(cosines_of(table, "sae").to_numpy(float))
    figure = role_similarity(table, TABLES[size]["agreement"])
    spaces = ["sae", *(space for space in spaces_of(table) if space != "sae")]
    assert spaces_of(table)[0] != "sae"
    assert len(squares(figure)) == len(spaces) == 4
    for square, space in zip(squares(figure), spaces, strict=True):
        expected = cosines_of(table, space).to_numpy(float)[np.ix_(order, order)]
        np.fill_diagonal(expected, np.nan)
        np.testing.assert_allclose(square, expected)
    limits = {ax.images[0].get_clim() for ax in figure.axes if ax.images}
    ((low, high),) = limits
    assert low == -high < 0, "one color scale, white at zero"


def test_rows_are_named_up_to_sixty_roles_and_columns_up_to_twenty() -> None:
    for size, rows, columns in ((12, 12, 12), (51, 51, 0), (276, 0, 0)):
        figure = role_similarity(TABLES[size]["role_similarity"], TABLES[size]["agreement"], marked={"assistant"})
        large = next(ax for ax in figure.axes if ax.images)
        labels = [label for label in large.get_yticklabels() if label.get_text()]
        assert (len(labels), len([label for label in large.get_xticklabels() if label.get_text()])) == (rows, columns)
        if rows:
            square = cosines_of(TABLES[size]["role_similarity"], "sae")
            order = cluster_order(square.to_numpy(float))
            assert [label.get_text() for label in labels] == [square.index[i] for i in order]
            assert [label.get_text() for label in labels if label.get_fontweight() == "bold"] == ["assistant"]
        assert ("276 roles, order in role_order.csv" in words(figure)) == (size == 276)


def test_of_many_roles_the_anchors_and_the_groups_are_named_beside_their_rows() -> None:
    table = TABLES[276]["role_similarity"]
    figure = role_similarity(table, TABLES[276]["agreement"], marked={"assistant", "default"})
    bold = {text.get_text() for text in drawn_texts(figure) if text.get_fontweight() == "bold"}
    assert {"assistant", "default"} <= bold
    square = cosines_of(table, "sae")
    rows = [square.index[i] for i in cluster_order(square.to_numpy(float))]
    large = next(ax for ax in figure.axes if ax.images)
    lines = [tuple(y for _, y in xy(line)) for line in large.get_lines()]
    for name in ("assistant", "default"):
        (text,) = [text for text in large.texts if text.get_text() == name]
        assert (rows.index(name), pytest.approx(text.get_position()[1])) in lines
    groups = [int(text.get_text().split()[-2]) + 1 for text in large.texts if text.get_text().endswith(" more")]
    assert len(groups) > 1 and sum(groups) <= 276


def test_the_tree_has_a_leaf_a_row_and_joins_them_at_their_distance() -> None:
    cosines = pd.DataFrame([[1, 0.8, -0.2], [0.8, 1, -0.4], [-0.2, -0.4, 1]], columns=pd.Index(["a", "b", "c"]))
    table = cosines.assign(space="sae", role=["a", "b", "c"])
    figure = role_similarity(table, pd.DataFrame({"space": ["sae"]}))
    (ax,) = [ax for ax in figure.axes if ax.get_xlabel() == "1 \u2212 cosine"]
    (tree,) = [lines for lines in ax.collections if isinstance(lines, LineCollection)]
    ends = {float(row) for segment in tree.get_segments() for height, row in segment if height == 0}
    heights = sorted({round(float(height), 9) for segment in tree.get_segments() for height, _ in segment})
    assert ends == {0, 1, 2} and heights == pytest.approx([0, 0.2, 1.3])


def test_near_identical_roles_stand_side_by_side() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((8, 40))
    vectors[6] = vectors[1] + 0.01 * rng.standard_normal(40)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = cluster_order(vectors @ vectors.T)
    assert sorted(order) == list(range(8)) and abs(order.index(1) - order.index(6)) == 1


@pytest.mark.parametrize("roles", [1, 2])
def test_one_or_two_roles_need_no_clustering(roles: int) -> None:
    assert sorted(cluster_order(np.eye(roles))) == list(range(roles))


def test_labels_are_moved_apart_and_no_further() -> None:
    moved = apart([1, 1.1, 1.2, 9], 1)
    assert np.diff(moved).min() > 0.999 and moved[3] == 9 and moved[:3].mean() == pytest.approx(1.1)


@pytest.mark.parametrize("size", [60, 276])
def test_the_longest_names_fit_on_a_page(size: int) -> None:
    names = ["assistant", *(f"{i:03d}_{'x' * 20}" for i in range(size - 1))]
    tables = simulated_tables(names, (15,), anchors=("assistant",))
    figure = role_similarity(tables["role_similarity"], tables["agreement"])
    assert unreadable(figure) == [] and figure.get_figwidth() <= PAGE + 1e-9
