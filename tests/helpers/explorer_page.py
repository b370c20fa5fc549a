"""An explorer page in a tab of its own, opened from disk, and what it has asked for and complained of."""

import csv
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).parents[2] / "src/explorer/node_modules/axe-core/axe.min.js"
VIEWS = ["overview", "features", "roles", "drift", "directions", "compare"]


@dataclass
class Opened:
    """tab: of the browser; url: of the page's file."""

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

    def saved(self, label: str, folder: Path) -> Path:
        """The file that the button of this label hands over."""
        with self.tab.expect_download() as download:
            self.tab.locator(f"[aria-label={quoted(label)}]").click()
        path = folder / f"saved{Path(download.value.suggested_filename).suffix}"
        download.value.save_as(path)
        return path

    def rows(self, label: str, folder: Path) -> list[dict[str, str]]:
        """The rows of a table that is saved as CSV."""
        with self.saved(f"Save as CSV: {label}", folder).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def violations(self) -> list[Any]:
        """What axe-core finds on the page as it is."""
        self.tab.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [(rule["id"], [node["html"][:120] for node in rule["nodes"][:3]]) for rule in found]

    def press(self, *keys: str) -> None:
        """Press keys one after the other, and wait for what they change."""
        for key in keys:
            self.tab.keyboard.press(key)
            self.tab.wait_for_timeout(60)
        self.tab.wait_for_timeout(250)

    def tab_to(self, selector: str, most: int = 300) -> None:
        """Press Tab until what has the focus matches."""
        for _ in range(most):
            self.tab.keyboard.press("Tab")
            if self.tab.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"{selector} is not reached by {most} times Tab")


def quoted(text: str) -> str:
    """A text as a string of CSS."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\a ") + '"'


def number(text: str) -> float:
    """A number as the page shows it."""
    return float(text.replace("\u2212", "-").replace("+", "").replace("\u00a0", "").replace("%", ""))
