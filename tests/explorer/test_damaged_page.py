"""A page that is of another version, cut off, or lacks a file beside it says which and why, and shows the rest."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from personascope.explorer.bundle import write_explorer
from tests.helpers.explorer_page import Opened
from tests.helpers.explorer_results import CELL, SETTINGS, Results

pytestmark = pytest.mark.browser
OUTSIDE = replace(SETTINGS, inline_mb=0.001)


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Opened]:
    tab = browser.new_page(viewport={"width": 1400, "height": 900})
    yield Opened(tab, (tmp_path / "index.html").as_uri())
    tab.close()


def index_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="index">(.*?)</script>', text)
    assert found
    return json.loads(found[1])


def entry_of(text: str, name: str) -> dict[str, Any]:
    return next(entry for entry in index_of(text)["parts"] if entry["name"] == name)


def changed_part(text: str, name: str, change: Callable[[str], str]) -> str:
    """The page with the text of a part changed."""
    mark = f'id="{entry_of(text, name)["id"]}">'
    start = text.index(mark) + len(mark)
    end = text.index("</script>", start)
    return text[:start] + change(text[start:end]) + text[end:]


def damaged(text: str) -> str:
    middle = len(text) // 2
    return f"{text[:middle]}{'!' * 20}{text[middle + 20 :]}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('"version": 1', '"version": 9', 1), "bundle version 9, this page reads version 1"),
        (lambda text: text[: text.index('id="index"') + 40], "damaged or cut off"),
        (lambda text: text[: text.index('<script type="application/json"')], "holds no data"),
        (lambda text: text[: text.index('<script type="module"') + 90_000], "the file is cut off"),
        (lambda text: changed_part(text, "core", damaged), "core: its data are damaged"),
    ],
    ids=["another version", "cut off in the list", "cut off before the data", "cut off in the script", "damaged"],
)
def test_what_is_wrong_with_the_whole_is_said(
    opened: Opened, file: Path, tmp_path: Path, change: Any, said: str
) -> None:
    (tmp_path / "index.html").write_text(change(file.read_text()))
    opened.tab.goto(opened.url)
    opened.tab.wait_for_selector(f"text={said}")


def test_a_page_that_is_cut_off_shows_what_it_has(opened: Opened, file: Path, tmp_path: Path) -> None:
    text = file.read_text()
    entry = entry_of(text, "drift/default/talk")
    (tmp_path / "index.html").write_text(text[: text.index(f'id="{entry["id"]}">') + 500])
    shown = opened.go("#/drift?run=default/talk").locator("main").inner_text()
    assert "drift/default/talk: it has" in shown and "the file was cut off" in shown
    assert opened.go("#/overview").locator("main table").count() >= 1


def test_a_damaged_run_leaves_the_others(opened: Opened, file: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(changed_part(file.read_text(), "drift/default/talk", damaged))
    tab = opened.go("#/drift?run=default/talk")
    tab.wait_for_selector("text=drift/default/talk: its data are damaged")
    tab.locator(".runs a", has_text="img src").click()
    tab.wait_for_selector("[data-token]")


def test_a_run_that_could_not_be_read_is_ranked_with_the_reason(
    opened: Opened, results: Results, tmp_path: Path
) -> None:
    copied = tmp_path / "small"
    shutil.copytree(results.folder, copied)
    (copied / "drift" / CELL / "default" / "talk" / "result.npz").write_bytes(b"PK")
    write_explorer(copied, tmp_path / "index.html", SETTINGS)
    tab = opened.go("#/drift?run=default/talk")
    assert "✕ not on this page" in tab.locator(".runs a[aria-current=true]").inner_text()
    assert "talk/result.npz" in tab.locator(".notice.strong").inner_text()
    assert tab.locator(".runs a").count() == 4


def test_parts_beside_the_page_are_read_and_missed(opened: Opened, results: Results, tmp_path: Path) -> None:
    write_explorer(results.folder, tmp_path / "index.html", OUTSIDE)
    tab = opened.go("#/drift?run=default/talk")
    tab.wait_for_selector("[data-token]")
    assert opened.network == []
    name = entry_of((tmp_path / "index.html").read_text(), "drift/default/talk")["file"]
    (tmp_path / name).unlink()
    tab = opened.go("#/drift?run=default/talk")
    tab.wait_for_selector(f"text={name} is not beside this page")
    assert tab.locator(".runs a").count() == 4 and opened.go("#/roles").locator(".notice.strong").count() == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text, other: text.replace('");', f'{"A" * 8}");'), "the file is of another page"),
        (lambda text, other: text[: len(text) // 2], "does not hand over its part"),
        (lambda text, other: other, "does not hand over its part: it is of another page, or cut off"),
    ],
    ids=["longer", "cut off", "of another run"],
)
def test_a_file_beside_the_page_that_is_not_its_own_is_refused(
    opened: Opened, results: Results, tmp_path: Path, change: Any, said: str
) -> None:
    write_explorer(results.folder, tmp_path / "index.html", OUTSIDE)
    text = (tmp_path / "index.html").read_text()
    own, other = (tmp_path / entry_of(text, f"drift/default/{name}")["file"] for name in ("talk", "whisper"))
    own.write_text(change(own.read_text(), other.read_text()))
    opened.go("#/drift?run=default/talk").wait_for_selector(f"text={said}")
    assert "drift/default/talk" in opened.tab.locator(".notice.strong").inner_text()
