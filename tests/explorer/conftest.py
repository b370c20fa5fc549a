"""The page of an experiment that has everything, in a real browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from personascope.explorer.bundle import Bundle, write_explorer
from personascope.explorer.pack import pack, unpack
from tests.helpers.explorer_directions import EVIL, AllResults
from tests.helpers.explorer_page import CHROMIUM, Opened
from tests.helpers.explorer_results import SETTINGS, Results


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return AllResults(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def parts(results: Results) -> dict[str, dict[str, Any]]:
    return {name: unpack(pack(content)) for name, content in Bundle(results.folder, SETTINGS).parts()}


@pytest.fixture(scope="session")
def file(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp(f"page {EVIL}") / "index.html"
    write_explorer(results.folder, page, SETTINGS)
    return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, file: Path) -> Iterator[Opened]:
    """A tab; at its end nothing was loaded, nothing was complained of, and no text ran as a script."""
    tab = browser.new_page(viewport={"width": 1400, "height": 900})
    opened = Opened(tab, file.as_uri())
    yield opened
    hacked = tab.evaluate("window.hacked")
    tab.close()
    assert hacked is None, "a text of the results ran as a script"
    assert opened.network == [] and opened.complaints == []
