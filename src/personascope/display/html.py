"""Pages of texts that nobody vouches for: everything escaped, no script, no network."""

import html

from personascope.display.text import visible

# A page of texts that nobody vouches for: no script, no network, no form can work, whatever they contain.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


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


def escaped(text: object) -> str:
    """Any text as HTML, for content and for quoted attributes."""
    return html.escape(visible(str(text)), quote=True)


def page(title: str, style: str, body: str) -> str:
    """A self-contained HTML page. title is text; style and body are HTML that is safe already."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escaped(title)}</title>
<style>
{STYLE}{style}</style>
</head>
<body>
<h1 dir="auto">{escaped(title)}</h1>
{body}</body>
</html>
"""
