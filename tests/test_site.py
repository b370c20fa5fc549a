"""The documentation as a site: it builds without a warning, and opens from disk without a network."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CI = bool(os.environ.get("CI"))  # where nothing may be missing
MISSING = [name for name in ("mkdocs", "material", "latex2mathml") if importlib.util.find_spec(name) is None]
MISSING += ["dot (graphviz)"] * (shutil.which("dot") is None)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(bool(MISSING) and not CI, reason=f"needs {', '.join(MISSING)}")
SLOW = 30_000  # ms, on a busy machine


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_every_page_of_the_documentation_is_there(pages: list[Path], site: Path) -> None:
    expected = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in ROOT.glob("docs/**/*.md")}
    expected |= {"configuration.html", "results.html", "changelog.html"}
    assert {page.relative_to(site).as_posix() for page in pages} == expected


def test_nothing_is_loaded_from_elsewhere(pages: list[Path], site: Path) -> None:
    loads = re.compile(r'(?:\bsrc|\bposter|<link[^>]*\bhref|<object[^>]*\bdata)="(?:https?:)?//[^"]*"')
    assert [found for page in pages for found in loads.findall(page.read_text())] == []
    styles = "\n".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", styles)


def test_graphs_and_formulas_are_drawn_when_the_site_is_built(site: Path) -> None:
    fences = (ROOT / "docs/workflow.md").read_text().count("```mermaid")
    assert (site / "workflow.html").read_text().count('<div class="graph"><svg') == fences > 0
    formulas = (site / "methods.html").read_text()
    assert formulas.count("<math") > 50 and "arithmatex" not in formulas and "$" not in formulas.split("<article")[1]
    assert not any("mermaid" in page.read_text().split("<article")[1] for page in site.rglob("*.html"))


def test_a_link_leads_to_a_page_or_is_words() -> None:
    hooks = loaded("hooks")
    files = FakeFiles({"methods.md", "howto/sae.md"})

    def links(text: str, here: str) -> str:
        return hooks.LINK.sub(lambda match: hooks.link(match, here, files), text)

    assert links("[keys](../../config/README.md#model)", "howto/sae.md") == "[keys](../configuration.md#model)"
    assert links("[how](docs/howto/sae.md)", "changelog.md") == "[how](howto/sae.md)"
    assert links("[the demo](config/demo.yaml)", "changelog.md") == "the demo (`config/demo.yaml`)"
    assert links("[config/demo.yaml](config/demo.yaml)", "changelog.md") == "`config/demo.yaml`"
    assert links("[a](https://example.org) [b](#here)", "methods.md") == "[a](https://example.org) [b](#here)"
    with pytest.raises(hooks.PluginError, match=r"nothing\.md"):
        links("[c](nothing.md)", "methods.md")


class FakeFiles:
    """The names of the site's pages."""

    def __init__(self, names: set[str]) -> None:
        self.get_file_from_path = lambda name: name if name in names else None


def loaded(name: str) -> Any:
    """A module of docs/site, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/site/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tab() -> Iterator[Any]:
    if CHROMIUM is None and not CI:
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser.new_page(viewport={"width": 420, "height": 900})
        browser.close()


@pytest.mark.browser
def test_it_opens_from_disk_silently_without_a_network(tab: Any, pages: list[Path]) -> None:
    network, complaints = [], []
    tab.on("request", lambda request: network.append(request.url))
    # The next page is opened while the search of this one is still being read: that is no failure.
    tab.on("requestfailed", lambda one: one.failure == "net::ERR_ABORTED" or complaints.append((one.url, one.failure)))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda said: said.type in ("error", "warning") and complaints.append(said.text))
    for page in pages:
        tab.goto(page.as_uri())
        # Tables and graphs that are wider than a telephone scroll by themselves.
        assert tab.evaluate("document.documentElement.scrollWidth") <= 420, page.name
    assert [url for url in network if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
    assert complaints == []


@pytest.mark.browser
def test_search_works_from_disk(tab: Any, site: Path) -> None:
    tab.goto((site / "howto" / "sae.html").as_uri())
    tab.locator("label[for=__search]").first.click()
    tab.locator(".md-search__input").press_sequentially("attribution_share")
    found = tab.locator(".md-search-result__link").first
    found.wait_for(timeout=SLOW)
    found.click()
    tab.wait_for_url("**/*attribution*", timeout=SLOW)
