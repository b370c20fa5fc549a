"""What the site needs beside mkdocs: pages from outside docs/, graphs and formulas that are drawn when it is built.

Readers on GitHub see the same Markdown: mermaid graphs, formulas between dollar signs, links to files of the
repository. Here graphs become SVG (by graphviz), formulas MathML, and links to files that are no page their names.
"""

import html
import posixpath
import re
import shutil
import subprocess
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# {page of the site: file of the repository}, of those that are not in docs/.
OUTSIDE = {"configuration.md": "config/README.md", "results.md": "results/README.md", "changelog.md": "CHANGELOG.md"}
FENCE = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
# Where a path or a dotted key in a table may go on in the next line.
BREAK = re.compile(r"(?<=/)(?=[\w{])|(?<=\w\.)(?=[a-zA-Z_]+(?:\.|$))(?!(?:yaml|json|jsonl|npz|csv|png|parquet)\b)")
CELL = re.compile(r"(?<=<td><code>)[^<]+")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\s*\\[(\[](.*?)\\[)\]]\s*</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand elsewhere in the repository."""
    for name, source in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Graphs drawn, and links turned to pages of the site."""
    here = page.file.src_uri
    text = FENCE.sub(lambda match: drawn(match[1]), markdown)
    parts = CODE.split(text)
    parts[::2] = [LINK.sub(lambda match: link(match, here, files), part) for part in parts[::2]]
    return "".join(parts)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas as MathML, which browsers show without a script; paths and keys in tables may break behind a part."""
    content = CELL.sub(lambda match: BREAK.sub("<wbr>", match[0]), content)
    return FORMULA.sub(
        lambda match: convert(html.unescape(match[2]), display="block" if match[1] == "div" else "inline"), content
    )


def on_post_build(config: MkDocsConfig) -> None:
    """Without the page for wrong addresses, which only a server shows: opened from disk it finds nothing."""
    Path(config.site_dir, "404.html").unlink(missing_ok=True)


def link(match: re.Match[str], here: str, files: Files) -> str:
    """A Markdown link as the site has it; to a file that is no part of it, its words and the name of the file."""
    mark, words, target = match.groups()
    if "://" in target or target.startswith("#"):
        return match[0]
    path, _, anchor = target.partition("#")
    folder = posixpath.dirname(OUTSIDE.get(here, f"docs/{here}"))
    there = posixpath.normpath(posixpath.join(folder, path))
    page = {source: name for name, source in OUTSIDE.items()}.get(there, there.removeprefix("docs/"))
    if there not in OUTSIDE.values() and not (there.startswith("docs/") and files.get_file_from_path(page)):
        if not (ROOT / there).exists():
            raise PluginError(f"{here}: a link to {target}, which is not there")
        return f"`{there}`" if words.strip("`") == there else f"{words} (`{there}`)"
    way = posixpath.relpath(page, posixpath.dirname(here) or ".")
    return f"{mark}[{words}]({way}{'#' if anchor else ''}{anchor})"


def drawn(mermaid: str) -> str:
    """A flowchart, edges alone, as SVG in a line of HTML."""
    if shutil.which("dot") is None:
        raise PluginError("the site's graphs are drawn by graphviz: install it, so that there is a command dot")
    edges = []
    for line in mermaid.splitlines()[1:]:
        nodes = re.split(r" (-->|-\.->) ", line.strip())
        for start, arrow, end in zip(nodes[::2], nodes[1::2], nodes[2::2], strict=False):
            edges.append(f"{start} -> {end}" + (" [style=dashed]" if arrow == "-.->" else ""))
    style = 'node [shape=box style=rounded fontname="sans-serif" fontsize=13 height=0.3 margin="0.12,0.06"]'
    graph = f"digraph {{ rankdir=LR ranksep=0.35 nodesep=0.12 bgcolor=transparent {style}; {'; '.join(edges)} }}"
    done = subprocess.run(["dot", "-Tsvg"], input=graph, capture_output=True, text=True, check=True)
    # Without titles, which name nodes once more, and on one line, as Markdown wants HTML.
    svg = re.sub(
        r"<!--.*?-->|<title>.*?</title>|\s*\n\s*", " ", done.stdout[done.stdout.index("<svg") :], flags=re.DOTALL
    )
    return f'<div class="graph">{svg.strip()}</div>\n'
