"""Processes killed while they work: nothing keeps running, nothing half-written stays, nothing is done twice."""

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from tests.helpers.workspace import CELL, MODEL, RESPONSES, Workspace, wait_for

pytestmark = pytest.mark.workflow

ROLES = ["assistant", "pirate"]
QUESTIONS = 6
BATCH = 2
CONFIG = {
    "roles": {"select": ROLES},
    "questions": {"select": QUESTIONS},
    "generation": {"variants": [0], "max_tokens": 16, "backend_options": {"batch_size": BATCH}},
}
TOTAL = len(ROLES) * QUESTIONS
RUN = ("responses", "--cores", "2", "--configfile", "overlay.yaml")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: object) -> Workspace:
    workspace = Workspace.make(tmp_path_factory.mktemp("undisturbed") / "w", with_model=True)
    workspace.overlay(CONFIG)
    workspace.snakemake(*RUN)
    return workspace


@pytest.fixture
def working(workspace: Workspace) -> Iterator[Workspace]:
    """A run in the middle of generation: some responses are in the store, others are to come."""
    workspace.overlay(CONFIG)
    run = workspace.start(*RUN)
    try:
        wait_for(lambda: workspace.count_records() or run.poll() is not None, 120)
        assert 0 < workspace.count_records() < TOTAL, workspace.read("run.log")
        yield workspace
    finally:
        run.kill()
        run.wait()


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param(("personascope.hosting.host",), id="model-host"),
        pytest.param(("-m snakemake", "responses"), id="snakemake", marks=pytest.mark.faults),
        pytest.param(("ask_host.py",), id="job", marks=pytest.mark.faults),
    ],
)
def test_killed(working: Workspace, undisturbed: Workspace, victim: tuple[str, ...]):
    process = working.find_process(*victim)
    assert process, working.read("run.log")
    process.send_signal(signal.SIGKILL)
    assert wait_for(lambda: not working.processes(), 20), [p.cmdline() for p in working.processes()]
    assert working.leftovers() == []
    for name, content in working.files(RESPONSES).items():
        assert undisturbed.files(RESPONSES)[name] == content
    kept = working.records()

    working.snakemake("--unlock", "--configfile", "overlay.yaml")
    working.snakemake(*RUN, "--rerun-incomplete")

    assert working.files(RESPONSES) == undisturbed.files(RESPONSES)
    assert wait_for(lambda: not working.processes(), 3)
    # Every response was stored once: what was finished before the kill was not generated again.
    records = working.records()
    assert {role: len(keys) for role, keys in records.items()} == dict.fromkeys(ROLES, QUESTIONS)
    assert all(records[role][: len(keys)] == keys for role, keys in kept.items())


def test_torn_record_is_generated_again(undisturbed: Workspace, tmp_path):
    workspace = undisturbed.copy(tmp_path / "w")
    log = workspace.path / f"store/responses/{MODEL}/pirate.log"
    log.write_bytes(log.read_bytes()[:-10])
    output = workspace.path / RESPONSES / "pirate.jsonl"
    output.unlink()
    workspace.snakemake(*RUN)
    assert workspace.files(RESPONSES) == undisturbed.files(RESPONSES)
    assert f"{QUESTIONS} responses, {QUESTIONS - 1} of them in the store" in workspace.read(
        f"logs/main/generate/general/{MODEL}/pirate.log"
    )
    assert len(workspace.records()["pirate"]) == QUESTIONS


def test_truncated_outputs_are_made_again(finished: Workspace):
    """One of every stage, under its old time, as after a crash of the machine."""
    names = [
        f"{RESPONSES}/pirate.jsonl",
        f"results/main/features/{CELL}/pirate.parquet",
        f"results/main/aggregated/{CELL}/mean/per_role.npz",
        f"results/main/tokens/{CELL.removeprefix('general/')}/at-sea.parquet",
        f"results/main/drift/{CELL}/pc1/at-sea/turn_meta.csv",
    ]
    before = {name: (finished.path / name).read_bytes() for name in names}
    for name in names:
        path = finished.path / name
        status = path.stat()
        path.write_bytes(before[name][:-10])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    text = finished.snakemake("all", "--cores", "2", "--configfile", "overlay.yaml").text
    for name in names:
        assert f"{name}: not what its job wrote" in text
        if name.endswith((".jsonl", ".parquet")):  # from the store, or of the store's own bytes
            assert (finished.path / name).read_bytes() == before[name]
        assert (finished.path / name).stat().st_size == len(before[name])
    assert finished.counts("--configfile", "overlay.yaml") == {}


def test_a_truncated_output_that_nothing_asks_for_is_made_again(finished: Workspace):
    axis, run = f"results/main/axis/{CELL}/axis.npz", f"results/main/drift/{CELL}/pc1/at-sea/conversation.json"
    before = np.load(finished.path / axis)["diff_sae"]
    for name in (axis, run):
        os.truncate(finished.path / name, 20)
    finished.snakemake("all", "--cores", "2", "--configfile", "overlay.yaml")
    assert np.load(finished.path / axis)["diff_sae"] == pytest.approx(before, abs=1e-6)
    assert (finished.path / run).stat().st_size > 20
