"""The house: which room may import which, what stays out of the light ones, and what no source file may do."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import personascope

SRC = Path(__file__).parents[1] / "src" / "personascope"
FILES = sorted(SRC.rglob("*.py"))
# Each room, and the rooms below it that it may import: two wings, with torch and without, on one ground floor.
LEFT = {"models": set(), "backends": {"models"}, "generation": {"models", "backends"}, "extraction": {"models"}}
RIGHT = {"display": set(), "directions": {"display"}, "drift": {"display", "directions"}}
RIGHT["explorer"] = set(RIGHT)
ROOMS: dict[str, set[str]] = {"errors": set(), "formats": {"errors"}}
ROOMS |= {room: below | {"errors", "formats"} for room, below in (LEFT | RIGHT).items()}
ROOMS["hosting"] = set(ROOMS)
ROOMS["runs"] = set(ROOMS)
ROOMS["cli"] = set(ROOMS)
LIGHT = ["cli", "runs.job", "runs.experiment", "hosting.client", "hosting.host", "directions.aggregate"]
LIGHT += ["directions.figures.plot", "drift.pages.plot", "drift.pages.ranking", "drift.calibration_report"]
LIGHT += ["hosting.operations.drift_conversation", "formats.export", "drift.pages.benchmark"]
LIGHT += ["directions.traits.compare", "directions.traits.report", "directions.traits.vectors"]
LIGHT += ["drift.validation.tables", "drift.validation.report", "explorer.label_features", "explorer.describe"]
LIGHT += ["explorer.relevant", "extraction.conversation_contexts", "backends.neuronpedia"]
LIGHT += ["explorer.selection", "explorer.layout", "explorer.atlas", "explorer.figure", "explorer.published"]
LIGHT += ["explorer.bundle", "explorer.page"]
LIGHT += ["directions.figures.personas", "directions.figures.decomposition", "formats.directions"]
HEAVY = ["torch", "transformers", "sae_lens", "vllm", "openai", "snakemake"]
# What every job of a run imports again, when Snakemake reads the workflow in it, before anything else.
PARSED = ["runs.experiment", "runs.code_hash", "runs.integrity", "runs.status", "backends", "drift.validation"]
SLOW = ["numpy", "pandas", "pyarrow", "matplotlib", "scipy", "pydantic"]


def room(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Full names of all that a file imports, wherever in it, for type checking too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(SRC).as_posix() for path in FILES])
def test_a_room_imports_only_what_is_below_it(path: Path) -> None:
    here = room(path)
    if here == "__init__":  # the names for notebooks
        return
    names = [name.split(".") for name in imported(path) if name.split(".")[0] == "personascope"]
    rooms = {parts[1] for parts in names} - {"__version__", here}
    assert rooms <= ROOMS[here], f"{path}: {rooms - ROOMS[here]}"


def test_every_room_is_in_the_rule_and_says_what_it_is() -> None:
    assert {room(path) for path in FILES} == {*ROOMS, "__init__"}
    for folder in {path.parent for path in FILES}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


def came_in(modules: list[str], unwanted: list[str]) -> dict[str, list[str]]:
    """{module: the unwanted packages that are loaded after it}, in one fresh process, in this order."""
    program = f"""
import importlib, sys
for name in {modules}:
    importlib.import_module("personascope." + name)
    print(name, *(one for one in {unwanted} if one in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}


def test_the_right_wing_and_the_thin_clients_load_nothing_heavy() -> None:
    assert came_in(LIGHT, HEAVY) == {name: [] for name in LIGHT}


def test_what_every_job_reads_first_loads_nothing_slow() -> None:
    assert came_in(PARSED, [*HEAVY, *SLOW]) == {name: [] for name in PARSED}


def test_extraction_runs_with_torch_transformers_and_numpy_alone() -> None:
    """On a bare machine with a GPU, which is where its benchmark is run."""
    modules = ["extraction.extract", "models.saes", "models.hookpoints"]
    assert came_in(modules, ["pandas", "pyarrow", "sae_lens", "psutil", "pydantic"])[modules[-1]] == []


def test_the_names_for_notebooks_exist_and_load_nothing_before_they_are_used() -> None:
    program = "import sys, personascope; print([name for name in sys.modules if name.startswith('personascope.')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert all(getattr(personascope, name) for name in personascope.__all__)
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = personascope.nothing_of_ours


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(SRC).as_posix() for path in FILES])
def test_no_source_file_imports_snakemake_or_opens_a_door(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & {"snakemake", "unittest", "pytest"}
    text = path.read_text(encoding="utf-8")
    doors = ["pickle.load", "allow_pickle=True", "shell=True", "os.system(", "weights_only=False"]
    assert [door for door in doors if door in text] == []


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(SRC).as_posix() for path in FILES])
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


@pytest.mark.parametrize("package", ["vllm", "openai"])
def test_optional_engines_are_imported_lazily(package: str) -> None:
    for path in FILES:
        top = ast.parse(path.read_text(encoding="utf-8")).body
        direct = [node for node in top if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name.split(".")[0] for node in direct if isinstance(node, ast.Import) for alias in node.names}
        names |= {(node.module or "").split(".")[0] for node in direct if isinstance(node, ast.ImportFrom)}
        assert package not in names, path
