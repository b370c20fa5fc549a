"""The explorer's page in a real browser: what it asked for, what it complained of, and hands on its keyboard."""

import csv
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).parents[2] / "src/explorer/node_modules/axe-core/axe.min.js"
VIEWS = ["overview", "features", "roles", "drift", "directions", "compare"]


def needs_browser() -> list[Any]:
    """Marks of a module whose tests drive chromium."""
    pytest.importorskip("playwright.sync_api", reason="needs playwright")
    return [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]


@dataclass
class Opened:
    """The page in a tab of its own, and what it has asked for and complained of."""

    tab: Any
    url: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))

    def go(self, where: str = "") -> Any:
        """Open the page at an address anew, and wait for its view."""
        self.tab.goto("about:blank")
        self.tab.goto(f"{self.url}{where}")
        self.tab.wait_for_selector("main h1, main .chart, main .notice")
        self.tab.wait_for_timeout(150)
        return self.tab

    @property
    def network(self) -> list[str]:
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:", "about:"))]

    def csv(self, label: str, folder: Path) -> list[dict[str, str]]:
        """The rows of the file that the button of this label saves."""
        with self.tab.expect_download() as download:
            self.tab.click(f"[aria-label='Save as CSV: {label}']")
        download.value.save_as(folder / "saved.csv")
        with (folder / "saved.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def tab_to(self, selector: str, most: int = 150) -> None:
        """Press Tab until an element that the selector matches has the focus."""
        for _ in range(most):
            self.tab.keyboard.press("Tab")
            if self.tab.evaluate("(wanted) => document.activeElement?.matches(wanted)", selector):
                return
        raise AssertionError(f"{selector} is not reached by Tab")

    def press(self, *keys: str) -> None:
        """Press keys one after the other, and wait for what they change."""
        for key in keys:
            self.tab.keyboard.press(key)
            self.tab.wait_for_timeout(60)
        self.tab.wait_for_timeout(250)

    def violations(self) -> list[Any]:
        """What axe-core finds wrong with the page as it is."""
        self.tab.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [(rule["id"], [node["html"][:160] for node in rule["nodes"][:3]]) for rule in found]


def number(text: str) -> float:
    """A number as the page writes it."""
    return float(text.replace("\u2212", "-").replace("+", ""))
