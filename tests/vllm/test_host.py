"""A run whose model host generates with vLLM's server: its files, and what a kill leaves behind."""

import json
import signal
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.workspace import RESPONSES, Workspace, wait_for
from tests.vllm.conftest import ENGINE_OPTIONS, VLLM_PYTHON

ROLES = ["assistant", "pirate"]
RUN = ("responses", "--cores", "1", "--configfile", "overlay.yaml")


def config(max_tokens: int) -> dict[str, Any]:
    options = {"python": str(VLLM_PYTHON), "engine_options": ENGINE_OPTIONS}
    generation = {"backend": "vllm_server", "backend_options": options, "variants": [0], "max_tokens": max_tokens}
    return {
        "model": {"dtype": "float32"},
        "roles": {"select": ROLES},
        "questions": {"select": 8},
        "generation": generation | {"max_model_len": 1024, "temperature": 0},
    }


@pytest.fixture
def workspace(tmp_path: Path, model: Path) -> Workspace:
    return Workspace.make(tmp_path / "w", with_model=True)


def rows(workspace: Workspace) -> list[dict[str, Any]]:
    text = "".join(workspace.read(f"{RESPONSES}/{role}.jsonl") for role in ROLES)
    return [json.loads(line) for line in text.splitlines()]


def folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("personascope-vllm-*"))


def test_a_run_writes_the_responses_that_the_embedded_engine_writes(workspace: Workspace, tmp_path: Path) -> None:
    before = folders()
    workspace.overlay(config(24))
    workspace.snakemake(*RUN)
    assert wait_for(lambda: not workspace.processes(), 20), [p.cmdline() for p in workspace.processes()]
    assert folders() <= before
    (log,) = (workspace.path / "logs/main").glob("vllm_server.*.log")
    assert log.read_text().count("non-default args") == 1
    plain = Workspace.make(tmp_path / "plain", with_model=True)
    plain.overlay(config(24), {"generation": {"backend": "transformers", "backend_options": {}}})
    plain.snakemake(*RUN)
    assert len(rows(workspace)) == 16
    assert rows(workspace) == rows(plain)


def test_a_killed_host_leaves_no_process(workspace: Workspace) -> None:
    workspace.overlay(config(700))
    run = workspace.start(*RUN)
    try:
        assert wait_for(lambda: workspace.find_process("EngineCore") or run.poll() is not None, 600)
        wait_for(lambda: "/v1/completions" in server_log(workspace) or run.poll() is not None, 600)
        host = workspace.find_process("-m personascope.hosting.host")
        assert host, workspace.read("run.log")
        below = host.children(recursive=True)
        assert len(below) >= 4  # guard, server, engine, worker
        host.send_signal(signal.SIGKILL)
        assert psutil.wait_procs(below, timeout=40)[1] == []
        assert wait_for(lambda: not workspace.processes(), 40), [p.cmdline() for p in workspace.processes()]
        assert run.wait(timeout=20) != 0
        assert "the model host ended while it worked" in workspace.read("run.log")
    finally:
        run.kill()
        run.wait()


def server_log(workspace: Workspace) -> str:
    return "".join(log.read_text(errors="replace") for log in (workspace.path / "logs/main").glob("vllm_server.*.log"))
