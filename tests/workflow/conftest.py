"""Working copies of the workflow: as after a clone, with the model, and with a tiny experiment finished."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from slurm_cluster import Cluster, why_not
from workspace import MODEL, TINY, Workspace, embedded_model, wait_for


@pytest.fixture(scope="session")
def model() -> Path:
    return embedded_model()


@pytest.fixture
def clone(tmp_path: Path) -> Workspace:
    """The workflow as it is after a clone: no results."""
    return Workspace.make(tmp_path / "w", with_model=False)


@pytest.fixture
def workspace(tmp_path: Path, model: Path) -> Workspace:
    """The workflow with the model in place."""
    return Workspace.make(tmp_path / "w", with_model=True)


@dataclass
class Finished:
    """A tiny experiment that ran to its end, and what was seen while it ran."""

    workspace: Workspace
    socket_mode: str
    folder_mode: str
    left: list[str]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Finished]:
    """3 roles, 1 variant, 2 questions, 8 tokens, and one role's own questions. Copy it before changing anything."""
    workspace = Workspace.make(tmp_path_factory.mktemp("tiny") / "w", with_model=True)
    own_questions = f"results/responses/role_specific/{MODEL}/pirate.jsonl"
    run = workspace.start("all", own_questions, "--cores", "2", "--configfile", workspace.overlay(TINY))
    try:
        host = wait_for(lambda: workspace.find_process("personascope.hosting.host", "--socket"), 60)
        assert host, workspace.read("run.log")
        command = host.cmdline()
        socket = Path(command[command.index("--socket") + 1])
        assert wait_for(socket.exists, 20)
        socket_mode, folder_mode = (stat.filemode(path.stat().st_mode) for path in (socket, socket.parent))
        assert run.wait(timeout=300) == 0, workspace.read("run.log")
        wait_for(lambda: not workspace.processes(), 3)
        left = [" ".join(process.cmdline()) for process in workspace.processes()]
    finally:
        run.kill()
    yield Finished(workspace, socket_mode, folder_mode, left)


@pytest.fixture
def finished(finished_run: Finished, tmp_path: Path) -> Workspace:
    """A copy of the finished experiment; its configuration is overlay.yaml."""
    return finished_run.workspace.copy(tmp_path / "w")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := why_not():
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
