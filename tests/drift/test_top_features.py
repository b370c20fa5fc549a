"""The figure of the features that a transition is made of, and the doubt under a figure's title."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from personascope.display.figure import BLUE, GREY, ORANGE, warn
from personascope.drift.pages.features import FADED, carriers, feature_label, top_features
from personascope.drift.pages.trajectory import selected_transition
from personascope.drift.pages.words import doubt_line
from tests.helpers.drift_examples import make_features, make_transitions

pytestmark = pytest.mark.filterwarnings("error")  # a glyph that the font lacks, a layout that fails
NAN = float("nan")


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_bars_go_to_the_side_of_their_sign_in_its_color_and_carry_their_feature() -> None:
    features = make_features(None)
    figure = top_features(features, shown=5)
    ax = figure.axes[0]
    bars = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    drawn = {round(bar.get_y() + bar.get_height() / 2): bar for bar in bars}
    labels = [label.get_text() for label in ax.get_yticklabels()]
    every = pd.concat(features.values()).drop_duplicates("feature_idx").set_index("feature_idx")
    shown = [int(label.split()[0].removeprefix("#")) for label in labels]
    values = every.loc[shown, "contrib"]
    assert [drawn[i].get_width() for i in range(10)] == pytest.approx(values.tolist())
    assert values.tolist() == sorted(every["contrib"])[:5] + sorted(every["contrib"])[-5:]
    assert [to_hex(drawn[i].get_edgecolor()) for i in range(10)] == [ORANGE] * 5 + [BLUE] * 5
    filled = [to_hex(drawn[i].get_facecolor()) != "#ffffff" for i in range(10)]
    assert filled == (every.loc[shown, "direction"] == "activated").tolist()
    assert labels[0] == f"#{shown[0]}  [poet 12%, ghost 8%, spy 5%]"
    assert "the roles in which a feature is strongest" in figure.legends[0].get_title().get_text()
    intervals = next(item for item in ax.collections if item.get_label() == "interval")
    assert isinstance(intervals, LineCollection)
    ends = [(segment[0][0], segment[1][0]) for segment in np.asarray(intervals.get_segments())]
    assert ends == pytest.approx(every.loc[shown, ["contrib_low", "contrib_high"]].to_numpy())


def test_a_feature_whose_interval_holds_zero_is_faded() -> None:
    features = {name: table.assign(contrib_high=table["contrib"] + 0.2) for name, table in make_features().items()}
    figure = top_features(features, shown=12)
    ax = figure.axes[0]
    unsure = [bool(-0.2 <= bar.get_width() <= 0.05) for bar in ax.patches if isinstance(bar, Rectangle)]
    assert [bar.get_alpha() == FADED for bar in ax.patches] == unsure and any(unsure) and not all(unsure)
    assert [label.get_color() == GREY for label in ax.get_yticklabels()] == unsure
    assert "unsure: the interval holds 0" in legend_of(figure)


def test_a_feature_says_its_description_or_its_roles() -> None:
    row = {"feature_idx": 12, "role_profile": "poet:12% | ghost:8%", "description": None}
    assert feature_label(row) == "#12  [poet 12%, ghost 8%]"
    assert feature_label(row | {"description": "sea"}) == "#12  sea"
    assert feature_label(row | {"description": NAN}) == "#12  [poet 12%, ghost 8%]"
    assert feature_label({"feature_idx": 12}) == "#12"


def test_the_tokens_that_carry_a_feature_stand_beside_it_the_largest_first() -> None:
    features = make_features()
    first = int(features["q2_top_toward_contrib"]["feature_idx"].iloc[0])
    rows = [
        (first, "\u0120sea", 0.1),
        (first, "\u0120Ahoy", -3.0),
        (first, "Ahoy", 2.0),
        (first, "\u010a", 1.0),
        (7, "x", 9.0),
    ]
    table = pd.DataFrame(rows, columns=["feature_idx", "token", "part"]).astype({"feature_idx": "Int64"})
    left_out = pd.DataFrame({"feature_idx": pd.array([None], "Int64"), "token": [""], "part": [5.0]})
    attribution = pd.concat([table, left_out], ignore_index=True)
    assert carriers(attribution) == {7: ["x"], first: ["Ahoy", "sea"]}
    figure = top_features(features | {"attribution": attribution})
    ax = figure.axes[0]
    place = [label.get_text().split()[0] for label in ax.get_yticklabels()].index(f"#{first}")
    beside = [label.get_text() for label in ax.child_axes[0].get_yticklabels()]
    assert beside[place] == "\u201cAhoy\u201d \u201csea\u201d"
    assert "the tokens of the two turns" in figure.legends[0].get_title().get_text()


def test_a_doubt_about_the_axis_stands_under_the_title() -> None:
    figure = top_features(make_features(), title="a, b")
    warn(figure, "")
    assert figure.get_suptitle() == "a, b"
    warn(figure, doubt_line("split-half 0.29 < 0.5"))
    assert figure.get_suptitle() == "a, b\nDo not interpret: split-half 0.29 < 0.5 (of the axis)"


def test_the_features_stand_below_what_they_add_up_to() -> None:
    step = selected_transition(make_transitions([3.0, 1.0]))
    title = top_features(make_features(), step).axes[0].get_title(loc="left")
    assert title == "turn 0 \u2192 1: projection changes by \u22122 (\u221221.2 away, +11 toward, over all features)"


def test_long_descriptions_are_cut() -> None:
    ax = top_features(make_features("a very long description " * 50)).axes[0]
    assert max(len(label.get_text()) for label in ax.get_yticklabels()) < 70
