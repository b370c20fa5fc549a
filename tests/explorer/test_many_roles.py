"""Many roles in a browser: each group's color is seen, no name covers a mark, none is lost unsaid."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from personascope.explorer.bundle import write_explorer
from tests.helpers.explorer_page import Opened
from tests.helpers.explorer_results import CELL, SETTINGS, Results

pytestmark = pytest.mark.browser


class Many(Results):
    many_roles = 70


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Many(tmp_path_factory.mktemp("many"), talks=("talk",))


@pytest.fixture
def crowd(browser: Any, many: Results, tmp_path: Path) -> Iterator[Opened]:
    groups = {f"Group {i}": many.names[i:60:12] for i in range(12)}
    write_explorer(many.folder, tmp_path / "index.html", replace(SETTINGS, groups=groups))
    opened = Opened(browser.new_page(viewport={"width": 1400, "height": 900}), (tmp_path / "index.html").as_uri())
    yield opened
    opened.tab.close()
    assert opened.network == [] and opened.complaints == []


def luminance(color: list[int]) -> float:
    """Of a color in sRGB, as WCAG has it."""
    linear = [x / 255 / 12.92 if x / 255 <= 0.04045 else ((x / 255 + 0.055) / 1.055) ** 2.4 for x in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_chosen_role_is_on_the_axis_s_chart_with_the_ends(crowd: Opened, many: Results, tmp_path: Path) -> None:
    crowd.go("#/roles")
    rows = crowd.rows("Where each role stands on the axis", tmp_path)
    order = [row["role"] for row in rows]
    assert len(order) == 70 and sorted(order) == sorted(many.names)
    middle = order[35]
    tab = crowd.go(f"#/roles?role={middle}")
    chart = tab.locator("figure.chart", has_text="Where each role stands on the axis")
    told = chart.evaluate("one => [...one.querySelectorAll('svg title')].map((title) => title.textContent)")
    assert [text.split(" (")[0] for text in told] == [*order[:20], middle, *order[-20:]]
    gaps = [text for text in chart.locator("svg text").all_text_contents() if text == "⋮"]
    assert len(gaps) == 2 and "The 20 highest and 20 lowest of 70" in chart.inner_text()


def test_without_intervals_the_scale_is_one_and_the_anchor_stays(browser: Any, many: Results, tmp_path: Path) -> None:
    """A run with one variant has none: its column was read as text, so that the scale had a step a role."""
    copied = tmp_path / "run"
    shutil.copytree(many.folder, copied)
    (file,) = copied.glob(f"axis/{CELL}/role_projections.csv")
    table = pd.read_csv(file, dtype={"role": str}).assign(crossfit_low="", crossfit_high="")
    table.loc[table["role"] == "default", "crossfit"] = table["crossfit"].median()
    table.to_csv(file, index=False)
    write_explorer(copied, tmp_path / "index.html", SETTINGS)
    page = Opened(browser.new_page(viewport={"width": 1400, "height": 900}), (tmp_path / "index.html").as_uri())
    tab = page.go("#/roles")
    chart = tab.locator("figure.chart", has_text="Where each role stands on the axis")
    found = chart.evaluate(
        """one => [...one.querySelectorAll('svg path')].filter((mark) => mark.querySelector('title')).map((mark) => {
          const box = mark.getBoundingClientRect();
          return [mark.textContent, box.x + box.width / 2];
        })"""
    )
    read = {text.split(" (")[0]: (float(text.split(": ")[1].split()[0].replace("\u2212", "-")), x) for text, x in found}
    assert "default" in read and len(read) in (41, 42) and all("no interval" in text for text, _ in found)
    values, places = np.array(list(read.values())).T
    assert abs(places - np.polyval(np.polyfit(values, places, 1), values)).max() < 2
    assert "no intervals: they need several variants" in chart.inner_text()
    tab.close()
    assert page.network == [] and page.complaints == []


def test_a_name_on_the_components_covers_no_other_role(crowd: Opened) -> None:
    tab = crowd.go("#/roles")
    chart = tab.locator("figure.chart", has_text="Principal components")
    marks, names = chart.evaluate(
        """one => {
          const box = (element) => element.getBoundingClientRect();
          const marks = [...one.querySelectorAll('svg path')].filter((mark) => mark.querySelector('title'));
          const named = new Set(marks.map((mark) => mark.textContent.split(' (')[0]));
          const texts = [...one.querySelectorAll('svg text')].filter((text) => named.has(text.textContent));
          return [
            marks.map(box).map((b) => [b.x + b.width / 2, b.y + b.height / 2]),
            texts.map((text) => [text.textContent, box(text).left, box(text).top, box(text).right, box(text).bottom]),
          ];
        }"""
    )
    assert len(marks) == 70 and len(names) > 10
    for name, left, top, right, bottom in names:
        if name not in ("assistant", "default"):  # these have their names wherever they are
            assert not [(x, y) for x, y in marks if left < x < right and top < y < bottom], name


def test_colors_of_groups_are_seen_in_the_dark(crowd: Opened) -> None:
    tab = crowd.go("#/roles?theme=dark")
    colors, ground = tab.evaluate(
        """() => {
          const read = (text) => text.match(/\\d+/g).slice(0, 3).map(Number);
          const keys = [...document.querySelectorAll('.legend[role=group] i')];
          const color = (element) => read(getComputedStyle(element).backgroundColor);
          return [keys.map(color), color(document.body)];
        }"""
    )
    assert len(colors) == 13 and len({tuple(color) for color in colors}) == 13
    assert min((luminance(color) + 0.05) / (luminance(ground) + 0.05) for color in colors) > 3
