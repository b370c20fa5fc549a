"""Each fault by itself: a run on SLURM that is disturbed once, in the middle of generation, and ends well."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.slurm_cluster import Cluster, wait_until
from tests.helpers.workspace import CELL, MODEL, RESPONSES, TINY, Workspace
from tests.slurm.runs import (
    CONFIG,
    IMPATIENT,
    PROFILE,
    RUN,
    TOTAL,
    Run,
    Work,
    loads,
    nothing_left,
    prepare,
    run_to_its_end,
    same_as,
)

pytestmark = [pytest.mark.workflow, pytest.mark.slurm, pytest.mark.faults]

DISK = 256 * 1024


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        pytest.param(Run.kill_member, "FAILED", id="member-killed"),
        pytest.param(Run.kill_host, "FAILED", id="host-killed"),
        pytest.param(Run.cancel, "CANCELLED", id="canceled"),
        pytest.param(Run.run_out_of_time, "TIMEOUT", id="out-of-time"),
        pytest.param(Run.kill_node, "COMPLETED", id="node-dies"),
        pytest.param(Run.preempt, "COMPLETED", id="preempted"),
    ],
)
def test_a_job_is_disturbed(
    start: Callable[..., Run], undisturbed: Workspace, fault: Callable[[Run], Work], state: str
) -> None:
    run = start()
    work = fault(run)
    if state == "TIMEOUT":
        run.reach_the_limit(work)
    run.ends_well(undisturbed)
    assert run.cluster.find_job(work.job)["state"] == state


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
def test_snakemake_is_ended_and_started_again(
    how: int, start: Callable[..., Run], undisturbed: Workspace, interruptible: None
) -> None:
    run = start()
    run.work()
    run.process.send_signal(how)
    run.process.wait(timeout=60)
    if how == signal.SIGINT:
        wait_until(lambda: not run.cluster.jobs(), 30, "Ctrl-C cancels the jobs")
    run.unlock()
    run.start()
    # The jobs of a Snakemake that was killed go on; one that was started again may make the same responses beside them.
    run.ends_well(undisturbed, once=how == signal.SIGINT)


def test_a_second_snakemake_is_refused(start: Callable[..., Run], undisturbed: Workspace) -> None:
    run = start()
    run.work()
    run.refuses_another()
    run.ends_well(undisturbed)


def test_the_disk_is_full(cluster: Cluster, workspace: Workspace, undisturbed: Workspace) -> None:
    prepare(workspace, CONFIG)
    store = workspace.path / "store"
    store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(store)], check=True, timeout=30)
    try:
        ballast = store / "ballast"
        ballast.write_bytes(bytes(DISK - 2 * os.sysconf("SC_PAGESIZE")))  # room for responses of two roles
        failed = workspace.start(*RUN, "--retries", "0", program=IMPATIENT)
        assert failed.wait(timeout=600) != 0
        logs = workspace.path.glob("logs/main/generate/*/*/*.log")
        assert "No space left" in "".join(log.read_text() for log in logs)
        assert 0 < workspace.count_records() < TOTAL
        ballast.unlink()
        run_to_its_end(workspace, *RUN)
        same_as(workspace, undisturbed)
        nothing_left(workspace, cluster)
    finally:
        subprocess.run(["umount", "--lazy", str(store)], check=True, timeout=30)


def test_a_truncated_output_and_a_damaged_store_entry(cluster: Cluster, ran: Workspace, tmp_path: Path) -> None:
    workspace = ran.copy(tmp_path / "w")
    features = f"results/main/features/{CELL}"
    cut(workspace.path / RESPONSES / "pirate.jsonl")
    cut(workspace.path / features / "pirate.parquet")
    run_to_its_end(workspace, "features", *PROFILE)
    assert undamaged(workspace, RESPONSES) == ran.files(RESPONSES)
    assert undamaged(workspace, features) == ran.files(features)
    assert loads(workspace) == loads(ran), "what the store holds needs no model"

    cut(workspace.path / RESPONSES / "pirate.jsonl")
    cut(workspace.path / f"store/responses/{MODEL}/pirate.log")
    assert workspace.counts("responses", *PROFILE) == {}, "a dry-run sets nothing aside"
    assert "would be set aside" in workspace.read("run.log")
    run_to_its_end(workspace, "responses", *PROFILE)
    assert undamaged(workspace, RESPONSES) == ran.files(RESPONSES)
    assert loads(workspace) == loads(ran) + 1
    assert len(workspace.records()["pirate"]) == TINY["questions"]["select"]
    nothing_left(workspace, cluster)


def undamaged(workspace: Workspace, folder: str) -> dict[str, bytes]:
    return {name: text for name, text in workspace.files(folder).items() if not name.endswith(".damaged")}


def cut(path: Path) -> None:
    """Cut a few bytes off the end, as a crash may."""
    os.truncate(path, path.stat().st_size - 10)
