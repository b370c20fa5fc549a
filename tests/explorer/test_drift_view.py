"""The Drift view in a real browser: by keyboard alone, its numbers and files equal to the bundle's, its texts whole."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.explorer_directions import EVIL
from tests.helpers.explorer_page import AXE, Opened, number
from tests.helpers.explorer_results import IMAGE, SCRIPT, TEXTS

pytestmark = pytest.mark.browser
TALK = "#/drift?run=default/talk"
TABLES = ["away", "toward", "activated", "deactivated"]


@pytest.fixture
def run(parts: dict[str, Any]) -> dict[str, Any]:
    return parts["drift/default/talk"]


def step_into(run: dict[str, Any], turn: int) -> dict[str, Any]:
    return next(step for step in run["transitions"] if step["turn"] == turn)


def same(text: str, value: float | None) -> bool:
    """Whether a cell of an exported table is a number of the bundle, to its last digit."""
    return text == "" if value is None or np.isnan(value) else float(text) == pytest.approx(float(value), rel=1e-12)


def test_a_path_by_keyboard_alone(page: Opened) -> None:
    tab = page.go("#/overview")
    page.press("4")
    tab.wait_for_selector("[data-token]")
    page.tab_to(".runs a")
    while "talk" not in tab.evaluate("document.activeElement.textContent"):
        page.press("Tab")
    page.press("Enter")
    tab.wait_for_selector(".runs a[aria-current=true]:has-text('talk')")
    tab.wait_for_selector("[data-token]")
    page.press("ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft")
    assert "turn=0" in tab.url
    page.press("ArrowRight", "ArrowRight")
    assert "turn=2" in tab.url
    page.press("t")
    token = int(re.search(r"token=(\d+)", tab.url)[1])  # pyright: ignore[reportOptionalSubscript]
    assert tab.locator(f"#token-{token}").get_attribute("class").endswith(" on")
    page.press("ArrowRight", "ArrowDown", "ArrowDown", "ArrowUp")
    assert f"token={token + 1}" in tab.url and "feature=" in tab.url
    first = tab.locator(".drawer tbody tr").first
    assert "chosen" in first.get_attribute("class")
    page.tab_to(".side .tablebox tbody button")
    chosen = int(tab.evaluate("document.activeElement.textContent").split()[0])
    page.press("Enter")
    assert f"feature={chosen}" in tab.url
    page.press("Escape")
    assert "feature=" not in tab.url and "token=" in tab.url
    page.press("Escape")
    assert "token=" not in tab.url
    page.press("?")
    assert tab.locator("dialog[open]").inner_text().startswith("Keys")
    page.press("Escape", "d")
    assert tab.locator("html").get_attribute("data-theme") == "dark" and "theme=dark" in tab.url
    page.press("/")
    tab.wait_for_selector("#search:focus")


def test_what_a_pointer_is_told_is_the_bundle_s(page: Opened, run: dict[str, Any]) -> None:
    tab = page.go(TALK)
    told = tab.evaluate("[...document.querySelectorAll('.track svg title')].map((one) => one.textContent)")
    scores = {int(match[1]): number(match[2]) for text in told if (match := re.match(r"turn (\d+): (\S+) \[", text))}
    known = {turn: score for turn, score in enumerate(run["turns"]["score"]) if score is not None}
    assert scores == pytest.approx(known, rel=6e-3)
    steps = [re.match(r"turn (\d+) to (\d+): (\S+), away (\S+), toward (\S+)", text) for text in told]
    for match in filter(None, steps):
        step = step_into(run, int(match[2]))
        expected = [step["delta_score"], step["away_mass"], step["toward_mass"]]
        assert [number(match[i]) for i in (3, 4, 5)] == pytest.approx(expected, rel=6e-3)
    assert len([match for match in steps if match]) == len(run["transitions"])
    titles = tab.evaluate("[...document.querySelectorAll('[data-token]')].map((one) => one.title)")
    assert [number(text) for text in titles] == pytest.approx(run["tokens"]["w"].tolist(), rel=6e-3, abs=1e-12)
    cosines, names = run["roles"]["cosines"], run["roles"]["names"]
    cells = tab.evaluate("[...document.querySelectorAll('.side svg title')].map((one) => one.textContent)")
    for text in cells:
        role, turn, cosine = re.match(r"(.*), turn (\d+): (\S+)$", text).groups()  # pyright: ignore
        assert number(cosine) == pytest.approx(cosines[int(turn) * len(names) + names.index(role)], rel=6e-3)
    assert len(cells) == 4 * len(names)


def test_the_verdict_says_what_each_rate_is(page: Opened, run: dict[str, Any]) -> None:
    said = page.go(TALK).locator(".verdict").inner_text()
    assert "promised 5\u00a0%, measured 10\u00a0%" in said
    turns = max(row["n"] for row in run["confounds"])
    assert turns < len(run["turns"]["score"]), "one turn is empty"
    assert "confounds: not judged" in said and "too few turns" in said and f"over {turns} turns with tokens" in said


def test_arrows_scroll_a_table_that_has_the_focus(page: Opened) -> None:
    page.tab.set_viewport_size({"width": 420, "height": 900})
    tab = page.go(f"{TALK}&turn=2")
    tab.click("button:has-text('numbers') >> nth=0")
    table = tab.locator(".wide").first
    table.focus()
    page.press("ArrowRight", "ArrowRight")
    assert "turn=2" in tab.url and table.evaluate("one => one.scrollLeft") > 0
    tab.evaluate("document.activeElement.blur()")
    page.press("ArrowRight")
    assert "turn=3" in tab.url


@pytest.mark.parametrize("table", TABLES)
def test_feature_tables_are_exported_as_they_are(page: Opened, run: dict[str, Any], table: str, tmp_path: Path) -> None:
    for step in run["transitions"]:
        page.go(f"{TALK}&turn={step['turn']}&table={table}")
        rows, held = page.rows(f"Features {table}, the largest first", tmp_path), step["tables"][table]
        assert [int(row["feature"]) for row in rows] == held["feature"].tolist()
        names = ("delta_x", "axis_weight")
        assert all(same(row[name], held[name][i]) for i, row in enumerate(rows) for name in names)
        trust = {"contrib_low": "contrib_low", "contrib_high": "contrib_high", "stability": "chosen_share"}
        for name, source in trust.items():
            if source in held:
                assert all(same(row[name], held[source][i]) for i, row in enumerate(rows))
        for i, row in enumerate(rows):
            part = float(held["delta_x"][i]) * float(held["axis_weight"][i])
            assert float(row["contrib"]) == pytest.approx(part, rel=1e-5)
            mass = step["toward_mass"] if part > 0 else step["away_mass"]
            assert float(row["share"] or 0) == pytest.approx(abs(part) / mass, rel=1e-3)
            assert row["description"] in (SCRIPT, f"label {row['feature']} {IMAGE}")


def test_charts_tokens_confounds_and_the_causal_test_are_exported_as_they_are(
    page: Opened, run: dict[str, Any], parts: dict[str, Any], tmp_path: Path
) -> None:
    tab = page.go(f"{TALK}&turn=3&token=20&heat=change")
    turns, tokens = run["turns"], run["tokens"]
    rows = page.rows("Trajectory of talk", tmp_path)
    for name in ("score", "score_low", "expected", "z", "n_tokens"):
        if name in turns:
            assert all(same(row[name], turns[name][i]) for i, row in enumerate(rows))
    rows = page.rows("all tokens of the conversation", tmp_path)
    assert [row["text"] for row in rows] == tokens["text"]
    assert all(same(row["part_in_score"], tokens["w"][i]) for i, row in enumerate(rows))
    turn = tokens["turn"]
    change = np.where(turn == 3, tokens["as_turn"], np.where(turn == 2, tokens["as_prev"], 0))
    assert all(same(row["change_into_turn_3"], change[i]) for i, row in enumerate(rows))
    kept, own = run["features"], slice(*run["features"]["offsets"][20:22])
    values = dict(zip(kept["feature"][own].tolist(), (kept["part"][own] * kept["unit"][20]).tolist(), strict=True))
    rows = page.rows("features of the token", tmp_path)
    assert {int(row["feature"]): float(row["part"]) for row in rows} == pytest.approx(values, rel=1e-6)
    tab.click("summary:has-text('The tokens of turn 3')")
    rows = page.rows("Tokens of turn 3", tmp_path)
    assert [int(row["token"]) for row in rows] == np.flatnonzero(turn == 3).tolist()
    assert all(same(row["part_in_change"], change[int(row["token"])]) for row in rows)
    rows = page.rows("Roles over the turns", tmp_path)
    names = run["roles"]["names"]
    cosines = run["roles"]["cosines"].reshape(len(rows), -1)
    assert all(same(row[name], cosines[i, j]) for i, row in enumerate(rows) for j, name in enumerate(names))
    rows = page.rows("Correlations of the score", tmp_path)
    held = [row for row in run["confounds"] if row["score_method"] == run["summary"]["config"]["score_method"]]
    assert all(same(row["corr"], one["corr"]) for row, one in zip(rows, held, strict=True))
    effects = parts["causal"]["tests"]["default/talk"]["test"]["effects"]
    rows = page.rows("What setting the features back did", tmp_path)
    assert [float(row["mean"]) for row in rows] == [effects[name]["mean"] for name in ("total", "direct")]


def test_a_click_on_the_trajectory_goes_to_the_transition_and_the_text_below_it(page: Opened) -> None:
    tab = page.go(f"{TALK}&token=3")
    box = tab.locator(".track svg").bounding_box()
    xs = tab.evaluate(
        "[...document.querySelectorAll('.track svg [aria-label=x-axis] text, .track svg text')]"
        ".filter((one) => /^[0-9]$/.test(one.textContent)).map((one) => one.getBoundingClientRect().x)"
    )
    xs = sorted(xs)[-5:]  # the ticks of the five turns
    tab.mouse.click(xs[2] + 0.6 * (xs[3] - xs[2]), box["y"] + 60)  # between turns 2 and 3
    tab.wait_for_timeout(900)
    assert "turn=3" in tab.url and "token=3" in tab.url, "the drawer stays pinned"
    assert tab.locator(".drawer").count() == 1
    text, track = tab.locator("#turn-3").bounding_box(), tab.locator(".track").bounding_box()
    assert text["y"] >= track["y"] + track["height"] - 1 or tab.evaluate(
        "scrollY + innerHeight >= document.documentElement.scrollHeight - 2"
    )


def test_texts_are_whole_and_names_stay_names(page: Opened, tmp_path: Path) -> None:
    tab = page.go(TALK)
    said = tab.locator(".conversation").inner_text()
    assert all(text.replace("\u202e", "⟨U+202E⟩") in said for text in TEXTS)
    saved = page.saved("Save as SVG: the conversation", tmp_path).read_text(encoding="utf-8")
    drawn = "".join(ElementTree.fromstring(saved).itertext())
    assert all(text.split()[0] in drawn for text in (*TEXTS[3:6], SCRIPT)) and "x" * 50 in drawn
    assert page.saved("Save as PNG: the conversation", tmp_path).read_bytes().startswith(b"\x89PNG")
    assert page.saved("Save as PNG: Trajectory of talk", tmp_path).read_bytes().startswith(b"\x89PNG")
    evil = tab.locator(".runs a", has_text="onerror")
    assert EVIL.replace("_", " ") in evil.inner_text()
    evil.click()
    tab.wait_for_selector("[data-token]")
    assert EVIL in tab.locator(".side svg").first.inner_html() or tab.locator(".side svg").count()
    assert tab.locator("main img, main script").count() == 0


@pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: npm ci in src/explorer")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 420])
def test_axe_finds_nothing_in_what_opens(page: Opened, theme: str, width: int) -> None:
    page.tab.set_viewport_size({"width": width, "height": 900})
    tab = page.go(f"{TALK}&theme={theme}&token=20&feature=7&turn=4")
    for summary in tab.locator(".side summary").all():
        summary.click()
    for button in tab.locator("button:text-is('numbers')").all():
        button.evaluate("one => one.click()")
    assert page.violations() == []
    tab = page.go(f"#/drift?run=default/whisper&theme={theme}")
    assert page.violations() == []
