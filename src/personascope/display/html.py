"""Pages of texts that nobody vouches for: everything escaped, no script but ours, no network."""

import base64
import hashlib
import html
from collections.abc import Sequence

from personascope.display.text import visible

# A page of texts that nobody vouches for: no script, no network, no form can work, whatever they contain.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
PICTURES = "; img-src data:"
# The one script there is, named to the browser by its hash: a click on a column's head sorts by it. Empty cells last.
SORT = """
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.parentElement, body = head.closest("table").tBodies[0];
  const sign = head.ariaSort === "ascending" ? -1 : 1;
  for (const other of head.parentElement.cells) other.ariaSort = null;
  head.ariaSort = sign > 0 ? "ascending" : "descending";
  const key = row => row.cells[head.cellIndex].dataset.v ?? row.cells[head.cellIndex].textContent;
  const order = (a, b) => (a === "") - (b === "") ||
    sign * (isFinite(a) && isFinite(b) ? a - b : a.localeCompare(b));
  body.append(...[...body.rows].sort((a, b) => order(key(a), key(b))));
});
"""


STYLE = """:root { color-scheme: light dark; --ink: #1d1d1f; --soft: #5c5c61; --ground: #f5f5f7; --edge: #c9c9cf; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececef; --soft: #a9a9b2; --ground: #1b1b1f; --edge: #4a4a52; }
}
body { margin: 1.5rem auto; padding: 0 1rem; max-width: 60rem; font: 16px/1.5 system-ui, sans-serif; }
body { color: var(--ink); background: var(--ground); }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; unicode-bidi: isolate; }
.soft { color: var(--soft); font-size: 0.85rem; }
a { color: inherit; }
"""
TABLE_STYLE = """.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; }
th, td { padding: 0.2rem 0.6rem; border-bottom: 1px solid var(--edge); text-align: right; vertical-align: top; }
th { position: sticky; top: 0; background: var(--ground); vertical-align: bottom; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid currentColor; }
th[aria-sort="ascending"] button::after { content: " \\25b2"; }
th[aria-sort="descending"] button::after { content: " \\25bc"; }
.t { text-align: left; overflow-wrap: anywhere; min-width: 5rem; max-width: 24rem; unicode-bidi: isolate; }
.quiet { color: var(--soft); }
.alarm { font-weight: 700; }
"""


def escaped(text: object) -> str:
    """Any text as HTML, for content and for quoted attributes."""
    return html.escape(visible(str(text)), quote=True)


def cell(shown: str, *, text: bool = False, value: float | None = None, markup: str = "") -> str:
    """A cell of a table. value: what it is sorted by, where that is not what is shown; markup: safe HTML behind it."""
    kind = ' class="t" dir="auto"' if text else ""
    sorted_by = "" if value is None else f' data-v="{value!r}"'
    return f"<td{kind}{sorted_by}>{escaped(shown)}{markup}</td>"


def table(heads: Sequence[tuple[str, bool]], rows: Sequence[tuple[str, Sequence[str]]], sortable: bool = False) -> str:
    """A table of (label, whether it is a column of text) and (its class or "", cells of `cell`)."""
    labels = []
    for label, text in heads:
        kind = ' class="t"' if text else ""
        shown = f'<button type="button">{escaped(label)}</button>' if sortable else escaped(label)
        labels.append(f'<th scope="col"{kind}>{shown}</th>')
    body = "".join(f'<tr class="{name}">{"".join(cells)}</tr>\n' for name, cells in rows)
    head = f"<thead><tr>{''.join(labels)}</tr></thead>"
    return f'<div class="wide"><table>{head}<tbody>\n{body}</tbody></table></div>\n'


def page(title: str, style: str, body: str, *, script: str = "", pictures: bool = False) -> str:
    """A self-contained HTML page. title is text; style and body are HTML that is safe already; script: one of ours;
    pictures: whether the body has some inside it."""
    policy, scripts = POLICY + (PICTURES if pictures else ""), ""
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy, scripts = f"{policy}; script-src 'sha256-{digest}'", f"<script>{script}</script>\n"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escaped(title)}</title>
<style>
{STYLE}{style}</style>
</head>
<body>
<h1 dir="auto">{escaped(title)}</h1>
{body}{scripts}</body>
</html>
"""
