"""The documentation names what exists: config keys with their defaults, make targets, files, links, code."""

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from yaml import safe_load

from personascope.backends import BACKENDS, engine_class

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "config/README.md", "results/README.md", "CHANGELOG.md"]
PAGES += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
RULES = "\n".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
WORKFLOW = "docs/workflow.md"
OPTIONS = "generation.backend_options."
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def schema_keys(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """(dotted key, its schema, whether it is required) of all properties, however deep."""
    for name, part in schema.get("properties", {}).items():
        yield prefix + name, part, name in schema.get("required", [])
        yield from schema_keys(part, f"{prefix}{name}.")
        if isinstance(named := part.get("additionalProperties"), dict):
            yield from schema_keys(named, f"{prefix}{name}.NAME.")


def documented() -> dict[str, str]:
    """{key: cell of its default} from the five-column tables of config/README.md."""
    rows = re.findall(r"^\| `([\w.]+)` \|(.*)\|$", (ROOT / "config/README.md").read_text(), re.MULTILINE)
    return {key: cells.split(" | ")[1].strip() for key, cells in rows if len(cells.split(" | ")) == 4}


SCHEMA = list(schema_keys(safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())))


def test_every_config_key_is_documented_and_no_other() -> None:
    assert sorted(documented()) == sorted(key for key, _, _ in SCHEMA)


@pytest.mark.parametrize(("key", "part", "required"), [pytest.param(*entry, id=entry[0]) for entry in SCHEMA])
def test_documented_defaults_are_the_schema_s(key: str, part: dict[str, Any], required: bool) -> None:
    cell = documented()[key]
    if "default" in part:
        assert safe_load(cell.strip("`")) == part["default"]
    elif not key.startswith(OPTIONS):
        assert cell == ("required" if required else "-")


def test_the_tables_are_made_from_the_schema() -> None:
    subprocess.run([sys.executable, "docs/site/config_tables.py", "--check"], cwd=ROOT, check=True)


def backend_tables() -> Iterator[tuple[str, str, str]]:
    """(backend, option, cell of its default); a line that begins with the backend's name opens its table."""
    section = (ROOT / "config/README.md").read_text().split(f"\n### {OPTIONS[:-1]}\n")[1].split("\n## ")[0]
    parts = re.split(rf"^`({'|'.join(BACKENDS)})`, ", section, flags=re.MULTILINE)[1:]
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        for option, cells in re.findall(rf"^\| `{re.escape(OPTIONS)}(\w+)` \|(.*)\|$", text, re.MULTILINE):
            yield name, option, cells.split(" | ")[1].strip()


def test_documented_defaults_of_backend_options_are_the_engines_own() -> None:
    tables = list(backend_tables())
    assert {name for name, _, _ in tables} == set(BACKENDS)
    for name, option, cell in tables:
        # `model` is filled in from model.id.
        if option != "model":
            default = inspect.signature(engine_class(name)).parameters[option].default
            if default is inspect.Parameter.empty:
                assert cell == "required", (name, option)
            elif cell != "-":
                assert safe_load(cell.strip("`")) == default, (name, option)
            else:
                assert default is None, (name, option)


def code(page: str) -> str:
    """The code of a page, blocks and spans, without its prose ("make" is also an English word)."""
    text = (ROOT / page).read_text()
    blocks = [body for _, body in FENCE.findall(text)]
    return "\n".join(blocks + re.findall(r"`([^`\n]+)`", FENCE.sub("", text)))


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make ([\w-]+)", code(page), re.MULTILINE))
    assert named <= targets
    wanted = {"README.md": {"demo", "test", "docs"}, "docs/quickstart.md": targets}
    assert wanted.get(page, set()) <= named


@pytest.mark.parametrize("page", PAGES)
def test_config_files_exist(page: str) -> None:
    named = set(re.findall(r"\bconfig/[\w.-]+\.(?:yaml|md)", (ROOT / page).read_text()))
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_named_targets_exist() -> None:
    sentence = re.search(r"^Named targets,.*?: (.*?)\.$", (ROOT / WORKFLOW).read_text(), re.MULTILINE | re.DOTALL)
    assert sentence
    rules = re.findall(r"^rule (\w+):", (ROOT / "Snakefile").read_text(), re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", sentence[1])) == sorted(rules)


def test_the_graphs_have_every_rule() -> None:
    graphs = [body for kind, body in FENCE.findall((ROOT / WORKFLOW).read_text()) if kind == "mermaid"]
    drawn = set(re.findall(r"\w+", " ".join(graphs))) - {"flowchart", "LR"}
    assert drawn == set(re.findall(r"^ *(?:rule|use rule \w+ as) (\w+)(?: with)?:", RULES, re.MULTILINE))


def test_results_folders_are_those_of_the_rules() -> None:
    made = set(re.findall(r"<out>/(\w+)/", RULES))
    rows = re.findall(r"^\| `(\w+)/", (ROOT / "results/README.md").read_text(), re.MULTILINE)
    assert set(rows) == made | {"models", "saes"}
    for page in PAGES:
        named = re.findall(r"results/(?:demo|\{experiment\}|EXPERIMENT)/(\w+)", (ROOT / page).read_text())
        assert set(named) <= made, page


def test_the_architecture_names_every_package() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    folders = [file.parent.name for file in (ROOT / "src/personascope").glob("*/**/__init__.py")]
    assert [name for name in folders if not re.search(rf"^ +{name}/ +[A-Z]", text, re.MULTILINE)] == []


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/methods.md"])
def test_files_of_the_code_exist(page: str) -> None:
    text, package = (ROOT / page).read_text(), ROOT / "src/personascope"
    places = [ROOT, package, package / "hosting", ROOT / "workflow/rules", ROOT / "workflow/scripts"]
    named = {name for name in re.findall(r"[\w./-]+\.(?:py|smk|yaml)\b", text) if "NAME" not in name}
    assert [name for name in sorted(named) if not any((place / name).is_file() for place in places)] == []


def slug(heading: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_local_links_resolve(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), link


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_are_valid(page: str) -> None:
    for language, body in FENCE.findall((ROOT / page).read_text()):
        if language == "python":
            compile(body, page, "exec")
            for module, names in re.findall(r"^from (personascope\S*) import (.*)$", body, re.MULTILINE):
                found = importlib.import_module(module)
                assert [name for name in names.split(", ") if not hasattr(found, name)] == []
        elif language == "yaml":
            assert list(unknown(safe_load(body))) == []


def unknown(value: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of nested mappings that the schema does not have; objects without properties may have any."""
    parts = {key: part for key, part, _ in SCHEMA}
    for name, inner in value.items():
        key = prefix + name
        named = f"{prefix}NAME"
        if key not in parts and any(known.startswith(f"{named}.") for known in parts):
            key = named
        elif key not in parts:
            yield key
            continue
        free = key in parts and not {"properties", "additionalProperties"} & parts[key].keys()
        if isinstance(inner, dict) and not free:
            yield from unknown(inner, f"{key}.")
