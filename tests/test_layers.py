"""Imports point down only, and no source file does what must never be done."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "personascope"
FILES = sorted(SRC.rglob("*.py"))
LIGHT = ["storage", "store", "roles", "code_hash", "aggregate", "axis", "export", "figures", "client", "cli"]
LIGHT += ["text", "dryrun", "measured", "counting", "plan", "costs", "status", "integrity", "workflow_job"]
LIGHT += [
    "conversations",
    "token_features",
    "block_sums",
    "stats",
    "drift",
    "drift.jobs",
    "drift.trust",
    "drift.ranking",
]
HEAVY = ["torch", "transformers", "sae_lens", "vllm", "openai", "snakemake"]


def imported(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_light_modules_import_nothing_heavy() -> None:
    # One fresh process for all: whatever comes in with a module is printed beside its name.
    program = f"""
import importlib, sys
for name in {LIGHT}:
    importlib.import_module("personascope." + name)
    print(name, *(heavy for heavy in {HEAVY} if heavy in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == LIGHT


def test_the_files_are_found() -> None:
    names = {f"{name.rpartition('.')[2]}.py" for name in LIGHT if name != "drift"}
    assert names <= {path.name for path in FILES} and len(FILES) > 15


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(SRC).as_posix() for path in FILES])
def test_no_source_file_imports_snakemake_or_opens_a_door(path: Path) -> None:
    assert "snakemake" not in imported(path)
    text = path.read_text(encoding="utf-8")
    doors = ["pickle.load", "allow_pickle=True", "shell=True", "os.system(", "weights_only=False"]
    assert [door for door in doors if door in text] == []


@pytest.mark.parametrize("package", ["vllm", "openai"])
def test_optional_engines_are_imported_lazily(package: str) -> None:
    for path in FILES:
        top = ast.Module(ast.parse(path.read_text(encoding="utf-8")).body, [])
        direct = [node for node in top.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name.split(".")[0] for node in direct if isinstance(node, ast.Import) for alias in node.names}
        names |= {(node.module or "").split(".")[0] for node in direct if isinstance(node, ast.ImportFrom)}
        assert package not in names, path
