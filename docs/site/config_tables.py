"""The tables of config/README.md, made from the schema of the configuration.

A line `<!-- keys: model sae -->` there stands before the table of all keys under `model` and `sae`, but for those that
have a table of their own; `<!-- keys: - -->` stands before that of the top level. A property of the schema has its
meaning under `description`, what a change of it reruns under `reruns`, and under `title` its type in words where the
schema alone does not say it. `make format` writes the tables anew.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PAGE, SCHEMA = ROOT / "config/README.md", ROOT / "workflow/schemas/config.schema.yaml"
MARKER = re.compile(r"^<!-- keys: (.*?) -->\n\n(?:\|.*\n)*", re.MULTILINE)
HEAD = "| key | type | default | meaning | reruns |\n|---|---|---|---|---|\n"
NAMED = "NAME"  # stands for any name in a dotted key
WORDS = {"string": "text", "boolean": "true or false", "object": "object"}
BY_HAND = "generation.backend_options"  # a table a backend, which has its own defaults


def properties(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """(dotted key, its schema, whether it is required) of all properties, however deep, in order."""
    for name, part in schema.get("properties", {}).items():
        yield prefix + name, part, name in schema.get("required", [])
        yield from properties(part, f"{prefix}{name}.")
        if isinstance(named := part.get("additionalProperties"), dict):
            yield from properties(named, f"{prefix}{name}.{NAMED}.")


def kind(part: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The type of a property in words: `all` or a list of text, whole number from 1, text or null."""
    if "$ref" in part:
        part = definitions[part["$ref"].removeprefix("#/$defs/")] | part
    types = [part["type"]] if isinstance(part.get("type"), str) else part.get("type", [])
    values = part.get("enum", [])
    if "title" in part:
        words = part["title"]
    elif "oneOf" in part:
        words = " or ".join(kind(choice, definitions) for choice in part["oneOf"])
    elif "const" in part:
        words = f"`{part['const']}`"
    elif values:
        words = ", ".join(f"`{value}`" for value in values if value is not None)
    elif "array" in types:
        words = f"list of {kind(part.get('items', {}), definitions)}".replace("number", "numbers")
    else:
        words = WORDS.get(types[0]) or _number(part, types[0])
    return f"{words} or null" if "null" in types or None in values else words


def _number(part: dict[str, Any], name: str) -> str:
    """A number's type and range in words."""
    least, most = part.get("minimum"), part.get("maximum")
    over, below = part.get("exclusiveMinimum"), part.get("exclusiveMaximum")
    word = "whole number" if name == "integer" else "number"
    if over is not None and below is not None:
        return f"{word} between {over} and {below}"
    start = f" over {over}" if over is not None else f" from {least}" if least is not None else ""
    end = f"{',' if over is not None else ''} {'up ' if over is not None else ''}to {most}" if most is not None else ""
    # The largest seed of NumPy says nothing to a reader.
    return word + start + (end if most != 2**32 - 1 else "")


def default(part: dict[str, Any], required: bool) -> str:
    """The cell of a default: in YAML, a dash where there is none."""
    if "default" not in part:
        return "required" if required else "-"
    value = yaml.safe_dump(part["default"], default_flow_style=True, width=1000)
    return f"`{value.removesuffix('...' + chr(10)).strip()}`"


def row(key: str, part: dict[str, Any], required: bool, definitions: dict[str, Any]) -> str:
    """One line of a table."""
    cells = [f"`{key}`", kind(part, definitions), default(part, required), part["description"], part.get("reruns", "")]
    return "| " + " | ".join(" ".join(str(cell).split()) for cell in cells).replace("|  |", "| |").strip() + " |\n"


def page(text: str, schema: dict[str, Any]) -> str:
    """config/README.md with its tables made anew. KeyError where a property of a table has no description."""
    heads = [BY_HAND, *(name for names in MARKER.findall(text) for name in names.split())]

    def table(match: re.Match[str]) -> str:
        names, rows = match[1].split(), ""
        for name in names:
            for key, part, required in properties(schema):
                if _head(key, heads) == name:
                    rows += row(key, part, required, schema["$defs"])
        return f"<!-- keys: {match[1]} -->\n\n{HEAD}{rows}"

    return MARKER.sub(table, text)


def _head(key: str, heads: list[str]) -> str:
    """The longest of the prefixes that a key is under; "-" for the top level."""
    return max((head for head in heads if key.startswith(f"{head}.")), key=len, default="-" if "." not in key else "")


if __name__ == "__main__":
    written = page(PAGE.read_text(encoding="utf-8"), yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))
    if "--check" in sys.argv and written != PAGE.read_text(encoding="utf-8"):
        sys.exit("config/README.md is not what the schema says: make format writes it anew")
    PAGE.write_text(written, encoding="utf-8")
