"""`snakemake --profile slurm` on a real SLURM with two GPU nodes: undisturbed, and on the bad days of a cluster.

Whatever happens, the end state is that of an undisturbed run, nothing that was finished is done again, and no
process, job, lock or socket stays. test_single_faults.py has a run for each fault by itself.
"""

import math
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from tests.helpers.slurm_cluster import Cluster, wait_until
from tests.helpers.workspace import CELL, RESPONSES, TINY, Workspace
from tests.slurm.conftest import STAGES
from tests.slurm.runs import GROUP, PROFILE, Run, loads, nothing_left

pytestmark = [pytest.mark.workflow, pytest.mark.slurm]

ROLES_OF_ALL_STAGES = TINY["roles"]["select"]
HANDFUL = 5  # features at the threshold, which another processor sees on its other side


def test_every_stage_has_one_load_a_group_and_the_results_of_one_machine(
    cluster: Cluster, ran: Workspace, here: Workspace
) -> None:
    assert all((ran.path / target).is_file() for target in STAGES[2:])
    assert ran.files(RESPONSES) == here.files(RESPONSES) != {}
    for role in ROLES_OF_ALL_STAGES:
        same_features(*(w.path / f"results/main/features/{CELL}/{role}.parquet" for w in (ran, here)))
    for space in ("mean", "max", "residual"):
        same_arrays(*(w.path / f"results/main/aggregated/{CELL}/{space}/per_role.npz" for w in (ran, here)))
    same_arrays(*(w.path / f"results/main/axis/{CELL}/axis.npz" for w in (ran, here)))

    groups = math.ceil(len(ROLES_OF_ALL_STAGES) / GROUP)
    assert loads(ran) == 2 * groups + 3, "generate and extract; conversations; simulations; the logit lens"
    used = [job for job in cluster.jobs("all") if job["partition"] == "gpu" and job["folder"] == str(ran.path)]
    assert {job["node"] for job in used} == {"gpu1", "gpu2"} and {job["state"] for job in used} == {"COMPLETED"}
    nothing_left(ran, cluster)
    assert ran.counts(*STAGES, *PROFILE) == {}


def same_features(one: Path, other: Path) -> None:
    """The same rows and values; a handful of features may be in one file only."""
    mine, theirs = (
        {(row["prompt_index"], row["question_id"]): row for row in pq.read_table(f).to_pylist()} for f in (one, other)
    )
    assert mine.keys() == theirs.keys() != set()
    strays = 0
    for key, row in mine.items():
        assert row["n_tokens"] == theirs[key]["n_tokens"]
        for pooled in ("mean", "max"):
            a, b = (dict(zip(r["indices"], r[pooled], strict=True)) for r in (row, theirs[key]))
            both = sorted(a.keys() & b.keys())
            assert close([a[i] for i in both], [b[i] for i in both]).all(), (one.name, key, pooled)
        strays += len(a.keys() ^ b.keys())
    assert strays <= HANDFUL, one.name


def same_arrays(one: Path, other: Path) -> None:
    """The same names and shapes, and all but a handful of values."""
    with np.load(one) as mine, np.load(other) as theirs:
        assert set(mine) == set(theirs) != set()
        for name in mine:
            assert mine[name].shape == theirs[name].shape, name
            same = close(mine[name], theirs[name]) if mine[name].dtype.kind == "f" else mine[name] == theirs[name]
            assert np.size(same) - np.count_nonzero(same) <= HANDFUL, (one, name)


def close(one: Any, other: Any) -> np.ndarray:
    """Activations differ in the last bits between processors and numbers of threads."""
    return np.isclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_bad_day(start: Callable[..., Run], undisturbed: Workspace) -> None:
    """In one run: a member is killed, then a host; a job is canceled, another one preempted."""
    run = start("--retries", "4")
    faults = (run.kill_member, run.kill_host, run.cancel, run.preempt)
    jobs = [fault().job for fault in faults]
    run.ends_well(undisturbed)
    states = [run.cluster.find_job(job)["state"] for job in jobs]
    assert states == ["FAILED", "FAILED", "CANCELLED", "COMPLETED"]


def test_a_job_runs_out_of_time_and_the_node_of_another_dies(start: Callable[..., Run], undisturbed: Workspace) -> None:
    run = start()
    late = run.run_out_of_time()
    lost = run.kill_node()
    run.reach_the_limit(late)
    run.ends_well(undisturbed)
    assert [run.cluster.find_job(work.job)["state"] for work in (late, lost)] == ["TIMEOUT", "COMPLETED"]


def test_snakemake_is_killed_then_interrupted(
    start: Callable[..., Run], undisturbed: Workspace, interruptible: None
) -> None:
    """A second Snakemake is refused; the first is killed, its jobs go on; the next is interrupted, its jobs end.

    It is interrupted most likely while it looks at the queue, when its executor has no list of its jobs.
    """
    run = start("--jobs", "1")  # so that there is work left for the next ones, however slow the machine
    run.refuses_another()
    run.work()
    run.process.kill()
    run.process.wait(timeout=30)
    going_on = {job["id"] for job in run.cluster.jobs()}
    assert going_on, "the jobs do not end with Snakemake"
    wait_until(lambda: not run.cluster.jobs(), 120, "the jobs of the Snakemake that was killed end")
    assert {run.cluster.find_job(job)["state"] for job in going_on} == {"COMPLETED"}

    run.unlock()
    run.slow_queue()
    run.start()
    work = run.work()
    work.host.suspend()  # or its job may end by itself before the queue has answered
    run.process.send_signal(signal.SIGINT)
    run.process.wait(timeout=120)
    wait_until(lambda: not run.cluster.jobs(), 30, "Ctrl-C cancels the jobs")
    assert run.cluster.find_job(work.job)["state"] == "CANCELLED"
    with suppress(psutil.NoSuchProcess):
        work.host.resume()  # it finds itself alone, and ends

    run.unlock()
    run.start()
    run.ends_well(undisturbed)
