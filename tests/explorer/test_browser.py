"""The page in a real browser, opened from disk: silent, without a network, equal to its data, harmless, by keyboard."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.explorer_page import AXE, VIEWS, Opened, number
from tests.helpers.explorer_results import IMAGE, TEXTS

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("width", [1400, 420])
@pytest.mark.parametrize("view", VIEWS)
def test_each_view_opens_from_disk_and_fits(page: Opened, view: str, width: int) -> None:
    page.tab.set_viewport_size({"width": width, "height": 900})
    tab = page.go(f"#/{view}?feature=5&role=default")
    assert tab.locator("main").inner_text().strip()
    assert tab.locator(".notice.strong", has_text="Not shown").count() == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("nav.views a[aria-current=page]").count() == 1


def test_a_permalink_shows_the_same(page: Opened) -> None:
    tab = page.go("#/drift?run=default/talk&turn=3&token=20&heat=change&theme=dark")
    shown = tab.locator(".drawer").inner_text(), tab.locator(".track .legend").inner_text()
    url = tab.url
    tab.click("text=each turn's score")
    assert "heat" not in tab.url
    page.go(url.removeprefix(page.url))
    assert (tab.locator(".drawer").inner_text(), tab.locator(".track .legend").inner_text()) == shown
    assert tab.locator("html").get_attribute("data-theme") == "dark"


def test_hostile_texts_are_shown_as_they_are(page: Opened) -> None:
    tab = page.go("#/drift?run=default/talk")
    said = tab.locator(".conversation").inner_text()
    for text in (TEXTS[0], IMAGE, "שלום עולם", "你好 世界", "👩‍👩‍👧"):
        assert text in said
    assert "x" * 10_000 in said and "⟨U+202E⟩" in said
    assert tab.locator("main img, main script").count() == 0
    tab = page.go("#/features?feature=7")
    assert TEXTS[0] in tab.locator(".side").inner_text()
    assert tab.locator("a[href^=javascript]").count() == 0


def test_a_token_s_numbers_are_the_bundle_s(page: Opened, parts: dict[str, Any]) -> None:
    part = parts["drift/default/talk"]
    tab = page.go("#/drift?run=default/talk")
    token = 20
    tab.click(f"#token-{token}")
    weight, drawer = part["tokens"]["w"][token], tab.locator(".drawer")
    shown = number(drawer.locator("p b").first.inner_text())
    assert shown == pytest.approx(weight, rel=5e-3)
    kept = part["features"]
    own = slice(*kept["offsets"][token : token + 2])
    values = dict(zip(kept["feature"][own].tolist(), (kept["part"][own] * kept["unit"][token]).tolist(), strict=True))
    rows = [row.split("\t") for row in drawer.locator("tbody tr").all_inner_texts()]
    parsed = {int(row[0].split()[0]): number(row[1]) for row in rows[:-1]}
    assert parsed == pytest.approx(values, rel=6e-3, abs=1e-9)
    assert sum(parsed.values()) + number(rows[-1][1]) == pytest.approx(weight, abs=2e-3)


def test_a_feature_colors_all_tokens(page: Opened, parts: dict[str, Any]) -> None:
    kept = parts["drift/default/talk"]["features"]
    feature = int(np.bincount(kept["feature"]).argmax())
    tab = page.go(f"#/drift?run=default/talk&feature={feature}")
    colored = {
        int(str(element.get_attribute("data-token")))
        for element in tab.locator("[data-token]").all()
        if "rgba(" in (element.get_attribute("style") or "")
    }
    row = np.repeat(np.arange(len(kept["offsets"]) - 1), np.diff(kept["offsets"]))
    assert colored == set(row[kept["feature"] == feature].tolist()) and len(colored) > 3


def test_an_exported_table_is_the_bundle_s(page: Opened, parts: dict[str, Any], tmp_path: Path) -> None:
    tab = page.go("#/features")
    with tab.expect_download() as download:
        tab.click("[aria-label='Save as CSV: The features shown on the map']")
    download.value.save_as(tmp_path / "features.csv")
    rows = list(csv.DictReader((tmp_path / "features.csv").open(encoding="utf-8", newline="")))
    part = parts["features"]
    exported = {int(row["feature"]): float(row["score"]) for row in rows}
    assert exported == dict(zip(part["id"].tolist(), part["score"].tolist(), strict=True))
    assert rows[0]["label"].endswith(IMAGE) or rows[0]["label"] == TEXTS[0]


def test_search_filters_map_and_table(page: Opened) -> None:
    tab = page.go("#/overview")
    tab.keyboard.press("/")
    tab.wait_for_selector("#search:focus")
    tab.keyboard.type("word23")  # stands in a context only
    tab.wait_for_selector("text=1 of")
    tab.wait_for_timeout(250)
    assert tab.locator("main table tbody tr").last.inner_text().startswith("23")
    assert "q=word23" in tab.url


def test_drift_by_keyboard_alone(page: Opened) -> None:
    tab = page.go("#/drift?run=default/talk&turn=0")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert "turn=2" in tab.url
    tab = page.go("#/drift?run=default/talk&token=3")
    tab.keyboard.press("ArrowRight")
    assert "token=4" in tab.url
    tab.keyboard.press("ArrowDown")
    assert "feature=" in tab.url
    tab.keyboard.press("Escape")
    assert "feature=" not in tab.url and "token=4" in tab.url
    tab.keyboard.press("?")
    assert tab.locator("dialog[open]").inner_text().startswith("Keys")
    tab.keyboard.press("Escape")
    assert tab.locator("dialog[open]").count() == 0


def test_a_sensitive_conversation_waits_to_be_asked_for(page: Opened) -> None:
    tab = page.go("#/drift?run=default/whisper")
    assert tab.locator(".conversation").count() == 0 and tab.locator("text=marked as sensitive").count() == 1
    tab.click("text=show it")
    assert tab.locator(".conversation").count() == 1


def test_a_failed_conversation_says_why(page: Opened) -> None:
    tab = page.go("#/drift?run=default/broken")
    assert "the template refused it" in tab.locator("main").inner_text()


@pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: npm ci in src/explorer")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing(page: Opened, view: str, theme: str) -> None:
    page.go(f"#/{view}?theme={theme}&feature=5&role=default&token=20&run=default/talk")
    assert page.violations() == []
