"""Runs that tests on SLURM share, and the one that each of them disturbs."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.slurm_cluster import Cluster
from tests.helpers.workspace import CELL, TINY, Workspace
from tests.slurm.runs import CONFIG, PROFILE, Run, prepare, run_to_its_end

STAGES = ("axis", "tokens", *(f"results/main/drift/{CELL}/pc1/{name}/arrays.npz" for name in ("at-sea", "plain-0")))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Workspace:
    """The responses of the disturbed runs, made on this machine without a cluster."""
    workspace = Workspace.make(tmp_path_factory.mktemp("undisturbed") / "w", with_model=True)
    workspace.overlay(CONFIG)
    workspace.snakemake("responses", "--cores", "2", "--configfile", "overlay.yaml")
    return workspace


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Workspace:
    """What `ran` makes up to the axis, made on this machine without a cluster."""
    workspace = Workspace.make(tmp_path_factory.mktemp("here") / "w", with_model=True)
    workspace.overlay(TINY)
    workspace.snakemake("axis", "--cores", "2", "--configfile", "overlay.yaml")
    return workspace


@pytest.fixture(scope="session")
def ran(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, model: Path) -> Workspace:
    """Every stage on the cluster, undisturbed. Copy it before changing anything."""
    workspace = Workspace.make(tmp_path_factory.mktemp("ran") / "w", with_model=True)
    prepare(workspace, TINY)
    run_to_its_end(workspace, *STAGES, *PROFILE)
    return workspace


@pytest.fixture
def start(cluster: Cluster, workspace: Workspace, undisturbed: Workspace) -> Iterator[Callable[..., Run]]:
    """start(*options): Snakemake on the cluster, ended after the test whatever has happened."""
    runs: list[Run] = []

    def begin(*options: str) -> Run:
        prepare(workspace, CONFIG)
        runs.append(Run(cluster, workspace, *options))
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C reaches what the test starts, even where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
