"""The code hash: blind to comments, docstrings and layout, and to nothing else that can change a result."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from personascope.backends import BACKENDS
from personascope.runs import code_hash as module
from personascope.runs.code_hash import PLUMBING, code_hash, covered, imports

ROOT = Path(__file__).parents[2]
RULES = "\n".join(file.read_text() for file in sorted((ROOT / "workflow/rules").glob("*.smk")))
# What plumbing imports is plumbing as well, and so it may import no more than this.
BELOW_PLUMBING = {"display", "display.terminal", "formats"}
MODULE = '''"""What it does."""

LIMIT = 0.5


class Scale:
    """A scale."""

    factor: float = 2.0
    """By what."""

    def apply(self, x: float) -> float:
        """x times two."""
        return x * 2.0 + LIMIT  # a comment
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, which the hash is taken over."""
    copy = tmp_path / "personascope"
    shutil.copytree(ROOT / "src/personascope", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE", copy)
    return copy


def fresh_hash(*modules: str) -> str:
    """The hash of the files as they are now."""
    for cached in (code_hash, imports, module._digest, module._parsed):
        cached.cache_clear()
    return code_hash(*modules)


@pytest.fixture
def hash_with(package: Path) -> Callable[[str], str]:
    """The hash of "directions.stats" with this text."""

    def hash_with(text: str) -> str:
        (package / "directions/stats.py").write_text(text, encoding="utf-8")
        return fresh_hash("directions.stats")

    return hash_with


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # a comment", ""),
        ("# a comment", "# another, with a number: 3.0"),
        ('"""What it does."""', '"""What it does, in better words."""'),
        ('"""What it does."""\n', ""),
        ('    """A scale."""\n', ""),
        ('    """By what."""\n', ""),
        ('        """x times two."""\n', '        """Twice x.\n\n        And more.\n        """\n'),
        ("x * 2.0 + LIMIT", "(\n            x * 2.0\n            + LIMIT\n        )"),
        ("LIMIT = 0.5", "LIMIT   =   0.50"),
    ],
)
def test_what_changes_no_result_changes_no_hash(hash_with: Callable[[str], str], old: str, new: str) -> None:
    assert old in MODULE
    assert hash_with(MODULE.replace(old, new)) == hash_with(MODULE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2.0", "3.0"),
        ("2.0", "2"),
        ("0.5", "0.25"),
        ("* 2.0 +", "* 2.0 -"),
        ("x * 2.0 + LIMIT", "x * (2.0 + LIMIT)"),
        ("x: float)", "x: float = 1.0)"),
        ("LIMIT = 0.5", "LIMIT = '0.5'"),
        ("return", "return lambda:"),
    ],
)
def test_what_changes_a_result_changes_the_hash(hash_with: Callable[[str], str], old: str, new: str) -> None:
    assert old in MODULE
    assert hash_with(MODULE.replace(old, new, 1)) != hash_with(MODULE)


@pytest.mark.parametrize(
    ("changed", "stages"),
    [
        # A fix in stop_ids or in the attention once was answered with old responses.
        ("models/loading.py", {"hosting.operations.generate", "hosting.operations.extract"}),
        ("models/attention.py", {"hosting.operations.generate", "hosting.operations.extract"}),
        ("formats/features.py", {"hosting.operations.extract", "directions.aggregate"}),
        ("hosting/operations/extract.py", {"hosting.operations.extract"}),
        ("generation/simulate.py", set()),
        ("display/figure.py", {"directions.figures.plot"}),
        ("hosting/store.py", set()),
    ],
)
def test_a_change_reaches_every_stage_that_imports_it_and_no_other(
    package: Path, changed: str, stages: set[str]
) -> None:
    asked = ["hosting.operations.generate", "hosting.operations.extract", "directions.aggregate"]
    asked.append("directions.figures.plot")
    before = {stage: fresh_hash(stage) for stage in asked}
    with (package / changed).open("a") as file:
        file.write("\nCHANGED = True\n")
    assert {stage for stage in asked if fresh_hash(stage) != before[stage]} == stages


def stages() -> list[tuple[str, ...]]:
    """The modules that each rule names, with one engine after the other where it takes one."""
    found = []
    for call in re.findall(r"code_hash\(([^()]*(?:\([^()]*\)[^()]*)*)\)", RULES):
        named = tuple(re.findall(r'"([a-z_.]+)"', re.sub(r"BACKENDS\[.*", "", call)))
        engines = [engine.module for engine in BACKENDS.values()] if re.search("BACKENDS|judge_module", call) else []
        found += [(*named, engine) for engine in engines] or [named]
    return sorted(set(found))


@pytest.mark.parametrize("modules", stages(), ids="+".join)
def test_a_stage_covers_all_that_it_really_imports(modules: tuple[str, ...]) -> None:
    """Python's own list of what came in, in a fresh process, against the list made from the source."""
    names = [f"personascope.{name}" for name in modules if name != "backends.vllm"]
    program = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
    program += "print(*(name for name in sys.modules if name.split('.')[0] == 'personascope'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.removeprefix("personascope").lstrip(".") for name in done.stdout.split()}
    assert loaded - set(covered(*modules)) - PLUMBING.keys() - BELOW_PLUMBING == set()


def test_plumbing_imports_only_plumbing() -> None:
    """A new import there would be in no hash: it belongs into this list, or the module is no plumbing any more."""
    pending, found = list(PLUMBING.keys() - {""}), set()
    while pending:
        new = imports(pending.pop()) - found
        found |= new
        pending += new
    assert found - PLUMBING.keys() == BELOW_PLUMBING


def test_every_script_s_imports_are_in_its_rule_s_hash() -> None:
    for rule in re.split(r"\n *rule ", RULES)[1:]:
        name = rule.partition(":")[0]
        (script,) = re.findall(r'script:\s+"../scripts/(\w+)\.py"', rule)
        hashed = "".join(re.findall(r"code=(?:lambda wildcards: )?code_hash\((.*?)\),?\n", rule, re.DOTALL))
        modules = re.findall(r'"([a-z_.]+)"', re.sub(r"BACKENDS\[.*", "", hashed))
        if script == "ask_host":
            assert f"hosting.operations.{name}" in modules
            continue
        tree = ast.parse((ROOT / f"workflow/scripts/{script}.py").read_text())
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        used = {str(node.module).removeprefix("personascope.") for node in nodes if "personascope" in str(node.module)}
        assert used - set(covered(*modules)) - PLUMBING.keys() == {"runs.job"}, name


def test_every_engine_can_be_hashed() -> None:
    assert len({code_hash("hosting.operations.generate", engine.module) for engine in BACKENDS.values()}) == len(
        BACKENDS
    )


def test_an_unknown_module_is_an_error() -> None:
    with pytest.raises(KeyError, match="agregate"):
        code_hash("directions.agregate")
