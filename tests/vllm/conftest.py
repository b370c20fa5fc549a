"""What the tests against a real vLLM share; it lives in an environment of its own, made by `make test-vllm`."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from personascope.backends import Completion, Request, Sampling
from personascope.backends.vllm_server import VLLMServerBackend
from tests.helpers.workspace import REPO, embedded_model

VLLM_PYTHON = REPO / ".venv-vllm/bin/python"
# Small and quick to start: no compilation, 1 GiB of keys and values.
ENGINE_OPTIONS = {"enforce-eager": True, "max-num-seqs": 64, "kv-cache-memory-bytes": "1G"}
MAX_MODEL_LEN = 1024


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            if not VLLM_PYTHON.exists() and "CI" not in os.environ:
                item.add_marker(pytest.mark.skip(reason="no .venv-vllm here; `make test-vllm` makes it"))


@pytest.fixture(scope="session", autouse=True)
def environment() -> Iterator[None]:
    """vLLM on a CPU that others use as well: it stays on the cores it may use, and its threads wait quietly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("OMP_WAIT_POLICY", "passive")
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, sorted(os.sched_getaffinity(0)))))
        yield


@pytest.fixture(scope="session")
def model() -> Path:
    return embedded_model()


@pytest.fixture(scope="session")
def loaded() -> Any:
    from personascope.hosting.loaded import Loaded

    return Loaded()


def engine(loaded: Any, spec: Any, backend: str, options: dict[str, Any]) -> Any:
    """An engine as the model host makes it."""
    from personascope.hosting.operations import generate

    request = generate.EngineRequest(
        **{"model": spec, "device": "cpu", "store": "", "code": "", "model_name": "m", "backend": backend},
        **{"engine": {}, "backend_options": options, "temperature": 0.0, "top_p": 1.0, "max_tokens": 48, "seed": 0},
        max_model_len=MAX_MODEL_LEN,
    )
    return generate.engine(loaded, request)


@pytest.fixture(scope="session")
def spec(model: Path) -> Any:
    from personascope.models.loading import ModelSpec

    return ModelSpec(str(model), dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def requests(loaded: Any, spec: Any) -> list[Request]:
    """16 prompts of 4 shipped roles, 48 new tokens each."""
    from personascope.formats.roles import build_prompts, read_questions, read_role, select_questions
    from personascope.generation.generate import build_requests
    from personascope.hosting.operations._model import tokenizer

    questions = select_questions(read_questions(REPO / "resources/questions.jsonl"), 4)
    roles = [read_role(REPO / f"resources/roles/{name}.json") for name in ("assistant", "default", "ghost", "pirate")]
    prompts = [prompt for role in roles for prompt in build_prompts(role, [0], questions, "SmolLM2")]
    return build_requests(tokenizer(loaded, spec), prompts, seed=0, max_tokens=48, max_model_len=MAX_MODEL_LEN)


@pytest.fixture(scope="session")
def greedy(loaded: Any, spec: Any, requests: list[Request]) -> list[Completion]:
    """What the embedded engine answers greedily."""
    backend = engine(loaded, spec, "transformers", {})
    done = dict(backend.generate(requests, Sampling(temperature=0)))
    return [done[i] for i in range(len(requests))]


@pytest.fixture(scope="module")
def server(loaded: Any, spec: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMServerBackend]:
    """One server for the tests of a module; it starts with the first request."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("server"))
        options = {"python": str(VLLM_PYTHON), "engine_options": ENGINE_OPTIONS}
        backend = engine(loaded, spec, "vllm_server", options)
        backend.log_file = backend.log_file.absolute()
    yield backend
    backend.close()
