"""Overview, Features and Roles in a browser: by keyboard alone, filters that cut across, states that links keep."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.explorer_page import AXE, VIEWS, Opened, number

pytestmark = pytest.mark.browser


def h1(page: Opened) -> str:
    return page.tab.locator("main h1").first.inner_text()


def test_overview_by_keyboard_alone(page: Opened) -> None:
    tab = page.go("#/overview")
    page.tab_to(".skip")
    page.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"
    page.tab_to(".doors a[href*=roles]")
    page.press("Enter")
    assert "#/roles" in tab.url
    page.press("1")
    page.tab_to("[aria-label='Save as CSV: Conversations, alarms first']", 300)
    page.press("Shift+Tab", "Shift+Tab")
    page.press("p")
    assert "questions" in tab.locator("dialog[open]").inner_text()
    page.press("Escape", "d")
    assert "theme=" in tab.url and tab.locator("dialog[open]").count() == 0
    page.tab_to("main table button.plain", 300)  # the first conversation
    page.press("Enter")
    assert "#/drift?" in tab.url and "run=default" in tab.url


def test_features_by_keyboard_alone(page: Opened, parts: dict[str, Any]) -> None:
    part = parts["features"]
    by_score = part["id"][np.argsort(-part["score"], kind="stable")]
    tab = page.go("#/overview")
    page.press("/")
    tab.keyboard.type("label 23")
    page.press("Enter")
    assert "feature=23" in tab.url and h1(page) == "Feature 23"
    tab.keyboard.press("ControlOrMeta+a")
    page.press("Delete", "ArrowDown")
    assert h1(page) == f"Feature {by_score[0]}"
    page.press("ArrowDown", "ArrowUp", "ArrowDown")
    assert h1(page) == f"Feature {by_score[1]}"
    page.tab_to("select")
    page.tab_to(".map")
    page.press("+", "ArrowLeft")
    assert "zoom=" in tab.url
    page.press("0", "Enter")  # the feature in the middle, where there is one near it
    tip = tab.locator(".map .tip")
    if tip.count():
        assert h1(page) == f"Feature {tip.locator('b').inner_text()}"
    page.press("j")
    page.press("Escape")
    assert "feature=" not in tab.url
    page.tab_to(".bound")
    tab.keyboard.type("0.5")
    page.press("Enter")
    assert "range=score%3A0.5%3A" in tab.url
    page.press("Shift+Tab")
    page.tab_to("main th button", 300)
    page.press("Enter")
    assert "sort=features%3Afeature%3Adown" in tab.url
    page.tab_to("main table button.plain")
    page.press("Enter")
    assert h1(page) == f"Feature {max(part['id'][part['score'] >= np.float32(0.5)])}"
    page.tab_to(".chip", 400)
    page.press("Enter")
    assert "range=" not in tab.url


def test_roles_by_keyboard_alone(page: Opened, parts: dict[str, Any]) -> None:
    space = parts["roles"]["spaces"][0]
    names = [space["roles"][i] for i in space["order"]]
    similar = space["similarity"].reshape(len(names), -1)[np.ix_(space["order"], space["order"])]
    tab = page.go("#/overview")
    page.press("3")
    tab.wait_for_selector(".heatmap canvas")
    page.press("j", "j", "k", "j")
    assert f"role={names[1]}" in tab.url and h1(page) == names[1]
    page.tab_to(".heatmap canvas")
    page.press("ArrowRight", "ArrowRight")
    said = tab.locator(".heatmap [role=status]").inner_text()
    assert said.startswith(f"{names[1]} and {names[2]}: ")
    assert number(said.split(": ")[1]) == pytest.approx(similar[1, 2], rel=6e-3)
    page.press("ArrowUp", "Enter")
    assert h1(page) == names[0]
    page.tab_to(".tabs button[aria-pressed=false]", 300)
    page.press("Enter")
    assert "side=less" in tab.url
    page.tab_to("details summary", 400)
    page.press("Escape")
    assert "role=" not in tab.url


def test_filters_cut_across_map_histogram_and_table(page: Opened, parts: dict[str, Any], tmp_path: Path) -> None:
    part = parts["features"]
    wanted = (part["score"] >= 0.2) & (part["score"] <= 0.8) & (part["density"] <= 0.7)
    wanted &= part["preferred_role"] == part["roles"].index("default")
    tab = page.go("#/features?range=score:0.2:0.8,density::0.7&role=default")
    assert 0 < wanted.sum() < len(wanted)
    assert f"{wanted.sum()} of {len(wanted)} features" in tab.locator(".onmap").inner_text()
    tab.wait_for_timeout(250)
    listed = {int(row["feature"]) for row in page.rows("The features shown on the map", tmp_path)}
    assert listed == set(part["id"][wanted].tolist())
    bins = page.rows("Features by score", tmp_path)
    assert sum(int(row["shown"]) for row in bins) == wanted.sum()
    assert sum(int(row["all"]) for row in bins) == len(wanted)
    assert f"{wanted.sum()} of them shown" in str(tab.locator(".map").get_attribute("aria-label"))
    tab.click("text=show all")
    assert f"{len(wanted)} alive features" in tab.locator(".onmap").inner_text()


def test_a_lasso_keeps_what_is_inside(page: Opened) -> None:
    tab = page.go("#/features")
    box = tab.locator(".map").bounding_box()
    tab.click("text=lasso >> nth=0")
    corners = [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in [*places[1:], places[0]]:
        tab.mouse.move(*place, steps=6)
    tab.mouse.up()
    tab.wait_for_timeout(300)
    assert "lasso=" in tab.url and tab.locator(".chip", has_text="lasso").count() == 1
    kept = int(tab.locator(".onmap [aria-live]").inner_text().split(" of ")[0])
    assert 0 < kept < 50
    tab.click(".chip")
    assert "lasso=" not in tab.url


def test_a_range_is_drawn_over_the_histogram(page: Opened) -> None:
    tab = page.go("#/features")
    tab.wait_for_selector(".histogram svg")
    tab.locator(".histogram svg").scroll_into_view_if_needed()
    box = tab.locator(".histogram svg").bounding_box()
    tab.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 60)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 60, steps=4)
    tab.mouse.up()
    tab.wait_for_timeout(200)
    low, high = (float(tab.locator(".bound").nth(i).input_value()) for i in (0, 1))
    assert 0.15 < low < 0.4 < high < 0.75


def test_the_centered_map_has_its_own_scores(page: Opened, parts: dict[str, Any], tmp_path: Path) -> None:
    tab = page.go("#/features?of=centered")
    part, centered = parts["features"], parts["centered"]
    there = np.setdiff1d(np.arange(len(part["id"])), centered["missing"])
    assert f"{len(there)} of {len(part['id'])} features" in tab.locator(".onmap").inner_text()
    rows = page.rows("The features shown on the map", tmp_path)
    xy = centered["maps"]["umap"].reshape(-1, 2)
    got = {int(row["feature"]): (float(row["score"]), float(row["umap_x"]), float(row["umap_y"])) for row in rows}
    assert got == {int(part["id"][i]): (centered["score"][i], *xy[i]) for i in there}


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("#/roles?role=nobody", "There is no role nobody on this page; none is chosen"),
        ("#/roles?space=nowhere", "There is no space nowhere on this page; shown is sae"),
        ("#/features?role=nobody", "There is no role nobody on this page; features of all roles are shown"),
        ("#/directions?tab=traits&trait=vigor", "There is no trait vigor on this page; shown is candor"),
        ("#/directions?tab=monitor&talk=gone", "There is no watched conversation gone on this page; shown is talk"),
        (
            "#/directions?tab=monitor&along=up@9",
            "There is no direction up@9 on this page; the text is colored by axis@3",
        ),
        ("#/directions?tab=steering&sweep=wide", "There is no sweep wide on this page"),
        ("#/features?feature=1234", "The SAE has no such feature: its 60 are numbered from 0 to 59"),
    ],
)
def test_what_a_link_names_and_the_page_has_not_is_said(page: Opened, where: str, said: str) -> None:
    tab = page.go(where)
    assert said in tab.locator(".notice.strong").first.inner_text()


@pytest.mark.parametrize("where", ["drift?run=default/talk&token=1.5&turn=0.5", "directions?tab=monitor&token=1.5"])
def test_a_number_in_a_link_that_is_not_whole_is_none(page: Opened, where: str) -> None:
    tab = page.go(f"#/{where}")
    assert tab.locator("[data-token], [data-trace]").count() > 3 and tab.locator(".drawer, .tok.on").count() == 0


def test_the_search_leads_to_a_feature_that_is_on_no_map(page: Opened, parts: dict[str, Any]) -> None:
    dead = next(i for i in range(60) if i not in parts["features"]["id"])
    tab = page.go(f"#/features?q={dead}")
    assert f"Feature {dead} is not among the alive features" in tab.locator(".onmap .notice").inner_text()
    tab.click("text=what is known of it")
    assert f"feature={dead}" in tab.url and h1(page) == f"Feature {dead}"
    assert "not alive in the roles' responses" in tab.locator(".side").inner_text()
    page.go(f"#/features?q={dead}&range=score:9:")
    tab.focus("#search")
    page.press("Enter")
    assert f"feature={dead}" in tab.url


@pytest.mark.parametrize("view", VIEWS)
def test_a_narrow_page_shows_which_view_it_is(page: Opened, view: str) -> None:
    page.tab.set_viewport_size({"width": 420, "height": 900})
    tab = page.go("#/overview")
    page.press(str(VIEWS.index(view) + 1))
    here = tab.locator("nav.views a[aria-current=page]").bounding_box()
    assert here["x"] >= 0 and here["x"] + here["width"] <= 420
    heights = tab.locator(".tools button").evaluate_all("all => all.map((one) => one.offsetHeight)")
    assert max(heights) < 32, "a button's word is broken"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_saved_heat_map_stands_on_the_page_s_ground(page: Opened, theme: str, tmp_path: Path) -> None:
    page.go(f"#/roles?theme={theme}")
    ground = {"light": (255, 255, 255, 255), "dark": (23, 23, 26, 255)}[theme]
    picture = Image.open(page.saved("Save as PNG: How alike roles are", tmp_path)).convert("RGBA")
    assert picture.getpixel((1, 1)) == ground
    drawn = page.saved("Save as SVG: How alike roles are", tmp_path).read_text(encoding="utf-8")
    assert f'fill="rgb({", ".join(map(str, ground[:3]))})"' in drawn.split("/>")[0]


STATES = [
    "#/overview?theme=dark&sort=runs%3Aq_value%3Aup",
    "#/features?q=word&role=default&range=score%3A0.1%3A0.9&metric=density&color=axis_weight&map=pca&zoom=0.5000%2C0.4000%2C2.500",
    "#/features?of=centered&feature=5&sort=features%3Adensity%3Adown&theme=dark",
    "#/features?feature=7&lasso=0.2%2C0.2%3B0.8%2C0.2%3B0.8%2C0.8",
    "#/roles?role=default&against=assistant&side=both&space=residual+layer+3",
]


@pytest.mark.parametrize("state", STATES)
def test_a_link_shows_the_same_again(page: Opened, state: str) -> None:
    tab = page.go(state)
    tab.wait_for_timeout(400)
    first, url = tab.locator("main").inner_text(), tab.url
    assert url.endswith(state), "opening a link changes it"
    picture = tab.locator("main canvas").first.screenshot() if "overview" not in state else b""
    page.go(state)
    tab.wait_for_timeout(400)
    assert tab.locator("main").inner_text() == first and tab.url == url
    if picture:
        assert tab.locator("main canvas").first.screenshot() == picture


@pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: npm ci in src/explorer")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "state",
    [
        "#/features?of=centered&range=score:0.1:0.9&lasso=0,0;1,0;1,1&feature=7&color=axis_weight&map=pca",
        "#/roles?role=default&against=assistant&side=both",
    ],
)
def test_axe_finds_nothing_in_fuller_states(page: Opened, state: str, theme: str) -> None:
    tab = page.go(f"{state}&theme={theme}")
    for closed in ("main button[aria-expanded=false]", "main details:not([open]) > summary"):
        while tab.locator(closed).count():
            tab.locator(closed).first.click()
    assert page.violations() == []
