"""Traits, monitor and steering in a real browser: by keyboard alone, and equal to the bundle."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from personascope.explorer.bundle import write_explorer
from personascope.formats.traces import read_trace, write_trace
from tests.helpers.explorer_directions import EVIL, MEASURES
from tests.helpers.explorer_page import AXE, Opened, number
from tests.helpers.explorer_results import CELL, IMAGE, SCRIPT, SETTINGS, TEXTS, Results

pytestmark = pytest.mark.browser
MONITOR, STEERING = "#/directions?tab=monitor", "#/directions?tab=steering"


def to_button(page: Opened, name: str) -> None:
    page.tab_to(".skip")
    while page.tab.evaluate("document.activeElement.textContent") != name:
        page.tab_to("main .tabs button")


def test_a_path_by_keyboard_alone(page: Opened) -> None:
    tab = page.go("#/overview")
    page.press("5")
    tab.wait_for_selector("h1:has-text('candor')")
    to_button(page, "monitor")
    page.press("Enter")
    tab.wait_for_selector("[data-trace]")
    page.press("ArrowRight", "ArrowRight")
    assert "turn=1" in tab.url
    page.press("t", "ArrowRight")
    token = int(re.search(r"token=(\d+)", tab.url)[1])  # pyright: ignore[reportOptionalSubscript]
    assert "on" in tab.locator(f"#trace-{token}").get_attribute("class").split()
    assert f"token {token}:" in tab.locator(".track .at").inner_text()
    page.press("Escape")
    assert "token=" not in tab.url
    to_button(page, "steering")
    page.press("Enter")
    tab.wait_for_selector("text=a system prompt in place of the direction")
    page.tab_to("main .choose select")
    page.press("ArrowDown")
    assert "tab=steering" in tab.url and "sweep=" in tab.url


def test_traits_are_the_bundle_s(page: Opened, parts: dict[str, Any], tmp_path: Path) -> None:
    tab = page.go("#/directions?tab=traits&trait=warmth&layer=3")
    traits = parts["traits"]["traits"]
    assert SCRIPT in tab.locator("h1").inner_text() and "Not to be relied on" in tab.locator("main").inner_text()
    facts = tab.locator("dl.facts dd").all_inner_texts()
    for fact, value in zip(facts, ("0.625", "0.125", "1.50"), strict=False):  # the doubts go by these
        assert f"layer chosen on other questions: {value}" in fact
    rows = page.rows("Traits", tmp_path)
    assert {row["trait"]: float(row["auc"]) for row in rows} == {
        name: one["evaluation"]["at_selected_layer"]["auc"] for name, one in traits.items()
    }
    rows = page.rows("AUC on held-out questions by layer", tmp_path)
    assert [float(row["auc"]) for row in rows] == [row["auc"] for row in traits["warmth"]["layers"]]
    told = tab.evaluate("[...document.querySelectorAll('main svg title')].map((one) => one.textContent)")
    layers = [number(re.search(r"AUC (\S+)", text)[1]) for text in told if text.startswith("layer")]  # pyright: ignore
    assert layers == pytest.approx([row["auc"] for row in traits["warmth"]["layers"]], rel=6e-3)
    rows = page.rows("Cosines with other directions", tmp_path)
    shown = [row for row in parts["traits"]["compared"] if row["first"] == "warmth" and row["layer"] == 3]
    assert {row["second"]: float(row["cosine"]) for row in rows} == {row["second"]: row["cosine"] for row in shown}
    assert EVIL in {row["second"] for row in rows}


def test_a_trace_is_the_bundle_s(page: Opened, parts: dict[str, Any], tmp_path: Path) -> None:
    tab = page.go(f"{MONITOR}&token=2")
    trace = parts["traces/talk"]
    scale, values = trace["scale"]["columns"]["axis@3"], trace["values"]["axis@3"]
    standard = (values.astype(float) - scale["mean"]) / scale["sd"]
    titles = tab.evaluate("[...document.querySelectorAll('[data-trace]')].map((one) => one.title.split(';')[0])")
    assert [number(text) for text in titles] == pytest.approx(standard.tolist(), rel=6e-3)
    rows = page.rows("projections of all tokens", tmp_path)
    assert [row["text"] for row in rows] == [text.replace("\u202e", "⟨U+202E⟩") for text in TEXTS]
    assert [float(row["axis@3"]) for row in rows] == values.tolist()
    answers = [i for i, role in enumerate(trace["roles"]) if role == "assistant"]
    rows = page.rows("Mean of each answer along the directions", tmp_path)
    assert [float(row["mean"]) for row in rows] == pytest.approx(standard[answers].tolist(), rel=1e-6)
    page.go(f"{MONITOR}&by=token")
    rows = page.rows("Along the tokens", tmp_path)
    assert [float(row["mean"]) for row in rows] == pytest.approx(standard.tolist(), rel=1e-6)
    assert "x" * 10_000 in tab.locator(".traced").inner_text()


@pytest.mark.parametrize("measure", MEASURES)
def test_sweeps_are_the_bundle_s(page: Opened, parts: dict[str, Any], measure: str, tmp_path: Path) -> None:
    tab = page.go(f"{STEERING}&measure={measure}")
    sweep = parts["steering"]["sweeps"][EVIL]
    assert EVIL in tab.locator("h1").inner_text() and IMAGE in tab.locator("main").inner_text()
    held = [row for row in sweep["table"] if row["measure"] == measure]
    names = ("mean", "low", "high")
    title = f"{measure.replace('_', ' ')} against what was added"
    rows = page.rows(title, tmp_path)
    assert [(row["arm"], float(row["coefficient"])) for row in rows] == [(r["arm"], r["coefficient"]) for r in held]
    assert [[float(row[name]) for name in names] for row in rows] == [[row[name] for name in names] for row in held]
    told = tab.evaluate("[...document.querySelectorAll('main svg title')].map((one) => one.textContent)")
    means = {(row["arm"], row["coefficient"]): row["mean"] for row in held}
    for text in told:
        arm, coefficient, mean = re.match(r"(\S+) (\S+): (\S+) \[", text).groups()  # pyright: ignore
        expected = means.get(
            (arm, number(coefficient)), means["none", 0.0]
        )  # each line goes through the model as it is
        assert number(mean) == pytest.approx(expected, rel=6e-3)
    rows = page.rows("Effects at equal KL", tmp_path)
    assert [float(row["excess_high"]) for row in rows] == [row["excess_high"] for row in sweep["equal_kl"]]
    rows = page.rows(f"Who? {SCRIPT}", tmp_path)
    assert {row["response"] for row in rows} == {text.replace("\u202e", "⟨U+202E⟩") for text in TEXTS[:3]}


def test_capping_is_the_bundle_s(page: Opened, parts: dict[str, Any], tmp_path: Path) -> None:
    page.go(f"{STEERING}&sweep=capped&measure=nll")
    held = [row for row in parts["steering"]["capping"]["capped"]["table"] if row["measure"] == "nll"]
    rows = page.rows("nll: plain", tmp_path)
    assert [(row["cap"], int(row["turn"]), float(row["mean"])) for row in rows] == [
        (str(row["cap"] or "none"), row["turn"], row["mean"]) for row in held
    ]


def test_arrows_pass_over_the_template_s_tokens(browser: Any, tmp_path: Path) -> None:
    results = Results(tmp_path / "small", talks=("talk",))
    path = results.folder / "traces" / CELL / "talk.parquet"
    trace = read_trace(path)
    trace.in_content[1:4] = False
    write_trace(path, trace, trace.metadata)
    write_explorer(results.folder, tmp_path / "index.html", SETTINGS)
    opened = Opened(browser.new_page(), (tmp_path / "index.html").as_uri())
    tab = opened.go(f"{MONITOR}&token=0")
    opened.press("ArrowRight")
    assert "token=4" in tab.url
    opened.press("ArrowLeft", "ArrowLeft")
    assert "token=0" in tab.url and opened.complaints == []
    tab.close()


@pytest.fixture
def secret(browser: Any, results: Results, tmp_path: Path) -> Iterator[Opened]:
    """A page whose traced conversation is shown only when asked for."""
    write_explorer(results.folder, tmp_path / "index.html", replace(SETTINGS, sensitive=("talk",)))
    opened = Opened(browser.new_page(), (tmp_path / "index.html").as_uri())
    yield opened
    opened.tab.close()


def test_a_sensitive_conversation_waits_in_every_view(secret: Opened) -> None:
    for where, shown in ((MONITOR, "[data-trace]"), ("#/drift?run=default/talk", "[data-token]")):
        tab = secret.go(where)
        assert tab.locator(shown).count() == 0 and tab.locator("text=marked as sensitive").count() == 1
        tab.click("text=show it")
        tab.wait_for_selector(shown)
        assert "sensitive=shown" in tab.url
    tab = secret.go("#/compare?a=default/talk")
    assert tab.locator("text=marked as sensitive").count() == 1 and tab.locator("main svg").count() == 0


@pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: npm ci in src/explorer")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("where", ["tab=traits&trait=warmth", "tab=monitor&token=2", "tab=steering", "sweep=capped"])
def test_axe_finds_nothing(page: Opened, where: str, theme: str) -> None:
    tabbed = where if "tab=" in where else f"tab=steering&{where}"
    for width in (1400, 420):
        page.tab.set_viewport_size({"width": width, "height": 900})
        tab = page.go(f"#/directions?{tabbed}&theme={theme}")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert page.violations() == []
