"""The page of an explorer: the built template with an experiment's parts inside, or beside it where they are large.

The template is built from src/explorer and has one marked place for the policy and one for the data. The page may run
no script but its own, named to the browser by its hash, and load nothing but the parts beside it; whatever its texts
contain, they are data. A part beside the page is a script file that hands over one text, since a page that is opened
from disk may read no other files.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from personascope.display.html import escaped
from personascope.errors import UserError
from personascope.explorer.pack import VERSION, encoded, pack
from personascope.formats.files import write_text

TEMPLATE = Path(__file__).parent / "template.html"
POLICY_MARK, DATA_MARK, TITLE_MARK = "<!--personascope-policy-->", "<!--personascope-data-->", "personascope explorer"
SCRIPT = re.compile(r"<script type=\"module\"[^>]*>(.*?)</script>", re.DOTALL)
FIRST = ("core", "features")  # these stay in the page whatever their size: its first views need them
HANDED_OVER = "personascope_part"


def write_page(path: str | Path, head: dict[str, Any], parts: Iterable[tuple[str, dict[str, Any]]], inline: int) -> int:
    """Write index.html, and data-*.js beside it where all parts together have more than `inline` bytes as text.

    head: experiment, title, absent, version of the package; parts: (name, content) of each. Returns the page's bytes.
    """
    path = Path(path)
    texts = {name: encoded(pack({"version": VERSION, "part": name, **content})) for name, content in parts}
    # What all views need comes first: a file that is cut off still has it.
    texts = {name: texts[name] for name in sorted(texts, key=lambda name: name not in FIRST)}
    outside = sum(map(len, texts.values())) > inline
    listed, blocks = [], []
    for old in path.parent.glob("data-*.js"):
        old.unlink()
    for number, (name, text) in enumerate(texts.items()):
        entry: dict[str, Any] = {"name": name, "size": len(text)}
        if outside and name not in FIRST:
            entry["file"] = f"data-{number}.js"
            write_text(path.parent / entry["file"], f"{HANDED_OVER}({_script_json(name)},{json.dumps(text)});\n")
        else:
            entry["id"] = f"part-{number}"
            blocks.append(f'<script type="text/plain" id="{entry["id"]}">{text}</script>\n')
        listed.append(entry)
    index = _script_json({"version": VERSION, **head, "parts": listed})
    data = f'<script type="application/json" id="index">{index}</script>\n{"".join(blocks)}'
    page = template().replace(TITLE_MARK, escaped(head["title"]), 1)
    page = page.replace(POLICY_MARK, policy(page, outside), 1).replace(DATA_MARK, data, 1)
    write_text(path, page)
    return len(page.encode())


def template() -> str:
    """The built template; UserError where the package was installed without it."""
    try:
        text = TEMPLATE.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{TEMPLATE}: {error.strerror}; build it with `npm ci && npm run build` in src/explorer"
        ) from None
    for mark in (POLICY_MARK, DATA_MARK):
        if text.count(mark) != 1:
            raise UserError(f"{TEMPLATE}: has {text.count(mark)} places {mark}; build it again in src/explorer")
    return text


def policy(page: str, outside: bool) -> str:
    """The page's Content-Security-Policy: its own scripts by their hashes, and files beside it where there are some."""
    digests = [hashlib.sha256(script.encode()).digest() for script in SCRIPT.findall(page)]
    scripts = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    beside = " 'self' file:" if outside else ""
    rules = f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src {scripts}{beside}"
    return f'<meta http-equiv="Content-Security-Policy" content="{rules}">'


def _script_json(value: Any) -> str:
    """JSON that ends no script element and is a JavaScript literal, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
