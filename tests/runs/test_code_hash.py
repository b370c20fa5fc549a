"""The code hash: blind to comments, docstrings and layout, and to nothing else."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import personascope.code_hash
import pytest

from personascope.runs.code_hash import STAGE_MODULES

SOURCE = Path(personascope.code_hash.__file__)
MODULE = '''"""What it does."""

LIMIT = 0.5


class Scale:
    """A scale."""

    def apply(self, x: float) -> float:
        """x times two."""
        return x * 2.0 + LIMIT  # a comment
'''


@pytest.fixture
def hash_with(tmp_path: Path) -> Callable[[str], str]:
    """The hash of the stage "aggregate" by a copy of code_hash.py that stands beside an aggregate.py of this text."""

    def hash_with(text: str) -> str:
        shutil.copy(SOURCE, tmp_path / "code_hash.py")
        (tmp_path / "aggregate.py").write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("copied_code_hash", tmp_path / "code_hash.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.code_hash("aggregate")

    return hash_with


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # a comment", ""),
        ("# a comment", "# another, with a number: 3.0"),
        ('"""What it does."""', '"""What it does, told better."""'),
        ('"""What it does."""\n', ""),
        ('    """A scale."""\n', ""),
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


@pytest.mark.parametrize("stage", STAGE_MODULES)
def test_every_stage_has_its_modules_and_a_hash(stage: str) -> None:
    assert all((SOURCE.parent / f"{module}.py").is_file() for module in STAGE_MODULES[stage])
    assert len(personascope.code_hash.code_hash(stage)) == 16


def test_stages_together_hash_unlike_each_alone() -> None:
    code_hash = personascope.code_hash.code_hash
    assert len({code_hash("generate"), code_hash("generate:vllm"), code_hash("generate", "generate:vllm")}) == 3


def test_an_unknown_stage_is_an_error() -> None:
    with pytest.raises(KeyError, match="agregate"):
        personascope.code_hash.code_hash("agregate")
