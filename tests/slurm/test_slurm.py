"""`snakemake --profile slurm` on a real SLURM with two GPU nodes, and what goes wrong on clusters.

Whatever happens, the end state is that of an undisturbed run, nothing that was finished is done again, and no
process, lock or socket stays.
"""

import json
import math
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from personascope.hosting.processes import is_alive
from tests.helpers.slurm_cluster import NODES, Cluster
from tests.helpers.workspace import CELL, MODEL, RESPONSES, TINY, Workspace, wait_for

pytestmark = [pytest.mark.workflow, pytest.mark.slurm]

ROLES = ["assistant", "default", "pirate", "teacher"]
QUESTIONS, GROUP = 6, 2
CONFIG = {
    "roles": {"select": ROLES},
    "questions": {"select": QUESTIONS},
    "generation": {"variants": [0], "max_tokens": 16, "backend_options": {"batch_size": 2}},
}
TOTAL = len(ROLES) * QUESTIONS
DISK = 256 * 1024
PROFILE = (
    *("--profile", "slurm", "--configfile", "overlay.yaml", "--slurm-no-account", "--latency-wait", "5"),
    *("--seconds-between-status-checks", "2", "--slurm-init-seconds-before-status-checks", "2"),
)
RUN = ("responses", *PROFILE)
STAGES = ("axis", "tokens", *(f"results/main/drift/{CELL}/pc1/{name}/arrays.npz" for name in ("at-sea", "plain-0")))
HOSTS = Path(tempfile.gettempdir()) / f"personascope-{os.getuid()}"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: object) -> Workspace:
    """The same responses, made on this machine without a cluster."""
    workspace = Workspace.make(tmp_path_factory.mktemp("undisturbed") / "w", with_model=True)
    workspace.overlay(CONFIG)
    workspace.snakemake("responses", "--cores", "2", "--configfile", "overlay.yaml")
    return workspace


@pytest.fixture
def working(cluster: Cluster, workspace: Workspace) -> Iterator["Working"]:
    """A run on the cluster in the middle of generation: some responses are in the store, others are to come."""
    prepare(workspace)
    working = Working(cluster, workspace, workspace.start(*RUN))
    try:
        wait_for(lambda: workspace.count_records() or working.run.poll() is not None, 120)
        assert 0 < workspace.count_records() < TOTAL, workspace.read("run.log")
        yield working
    finally:
        working.run.kill()
        working.run.wait()
        cluster.run("scancel", "--user=root", check=False)
        wait_for(lambda: not cluster.jobs(), 30)


def prepare(workspace: Workspace, config: dict[str, Any] = CONFIG) -> None:
    """The model on a CPU takes a GPU all the same, and one CPU: two hosts with more would wait for each other."""
    workspace.overlay(config)
    workspace.edit("slurm/profile.yaml", "cpus_per_task: 4", "cpus_per_task: 1\n    gpu: 1")
    for stage in ("generate", "extract"):
        workspace.edit("slurm/profile.yaml", f"- {stage}=16", f"- {stage}={GROUP}")


class Working:
    """A run that is going on, and the job whose model host is at work."""

    def __init__(self, cluster: Cluster, workspace: Workspace, run: subprocess.Popen[str]) -> None:
        self.cluster, self.workspace, self.run = cluster, workspace, run
        self.killed = time.monotonic()

    def host(self) -> psutil.Process:
        found = self.workspace.find_process("personascope.hosting.host")
        assert found, self.workspace.read("run.log")
        return found

    def job(self) -> dict[str, str]:
        """The SLURM job of that host."""
        number = self.host().environ()["SLURM_JOB_ID"]
        return next(job for job in self.cluster.jobs() if job["id"] == number)

    def skip_the_wait(self, job: str) -> None:
        """SLURM lets a requeued job wait for 2 minutes: this is known, and tests have better things to do."""
        requeued = {"id": job, "state": "PENDING"}
        assert wait_for(lambda: any(j | requeued == j for j in self.cluster.jobs()), 120), self.cluster.jobs("all")
        self.cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")

    def ends_well(self, undisturbed: Workspace) -> None:
        assert self.run.wait(timeout=600) == 0, self.workspace.read("run.log")
        same_as(self.workspace, undisturbed)
        nothing_left(self.workspace, self.cluster)


def same_as(workspace: Workspace, undisturbed: Workspace) -> None:
    assert workspace.files(RESPONSES) == undisturbed.files(RESPONSES)
    # Every response is in the store once: nothing that was finished was generated again.
    records = workspace.records()
    assert {role: (len(keys), len(set(keys))) for role, keys in records.items()} == dict.fromkeys(
        ROLES, (QUESTIONS, QUESTIONS)
    )


def nothing_left(workspace: Workspace, cluster: Cluster) -> None:
    assert wait_for(lambda: not workspace.processes(), 15), [p.cmdline() for p in workspace.processes()]
    assert wait_for(lambda: not cluster.jobs(), 15), cluster.jobs()
    assert workspace.leftovers() == []
    assert wait_for(lambda: not orphans(), 5), "sockets of model hosts whose run is over"


def orphans() -> list[Path]:
    """Folders of hosts (of any run on this machine) whose leader is gone."""
    return [file.parent for file in HOSTS.glob("*/leader") if not is_alive(*json.loads(file.read_text()))]


def loads(workspace: Workspace) -> int:
    return len(list((workspace.path / "benchmarks/main/load_model").glob("*.tsv")))


@pytest.fixture(scope="module")
def ran(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, model: object) -> Workspace:
    """Every stage on the cluster, undisturbed. Copy it before changing anything."""
    workspace = Workspace.make(tmp_path_factory.mktemp("ran") / "w", with_model=True)
    prepare(workspace, TINY)
    workspace.snakemake(*STAGES, *PROFILE)
    return workspace


def test_every_stage_has_one_load_a_group_and_the_results_of_one_machine(
    cluster: Cluster, ran: Workspace, finished_run: Any
) -> None:
    here = finished_run.workspace
    assert all((ran.path / target).is_file() for target in STAGES[2:])
    # Analyses note when they were made, and activations depend on the number of threads in the last bit.
    for folder in ("responses/general", "features", "aggregated", "axis"):
        assert ran.files(f"results/{folder}") == here.files(f"results/{folder}") != {}, folder
    groups = len(TINY["roles"]["select"]) / GROUP
    assert loads(ran) == 2 * math.ceil(groups) + 2, "generate and extract; conversations; simulations"
    used = [job for job in cluster.jobs("all") if job["partition"] == "gpu" and job["folder"] == str(ran.path)]
    assert {job["node"] for job in used} == {"gpu1", "gpu2"} and {job["state"] for job in used} == {"COMPLETED"}
    nothing_left(ran, cluster)
    assert ran.counts(*STAGES, *PROFILE) == {}


def test_a_truncated_output_and_a_damaged_store_entry(cluster: Cluster, ran: Workspace, tmp_path: Path) -> None:
    workspace = ran.copy(tmp_path / "w")
    features = f"results/main/features/{CELL}"
    cut(workspace.path / RESPONSES / "pirate.jsonl")
    cut(workspace.path / features / "pirate.parquet")
    workspace.snakemake("features", *PROFILE)
    assert undamaged(workspace, RESPONSES) == ran.files(RESPONSES)
    assert undamaged(workspace, features) == ran.files(features)
    assert loads(workspace) == loads(ran), "what the store holds needs no model"

    cut(workspace.path / RESPONSES / "pirate.jsonl")
    cut(workspace.path / f"store/responses/{MODEL}/pirate.log")
    assert workspace.counts("responses", *PROFILE) == {"generate": 1}
    workspace.snakemake("responses", *PROFILE)
    assert undamaged(workspace, RESPONSES) == ran.files(RESPONSES)
    assert loads(workspace) == loads(ran) + 1
    assert len(workspace.records()["pirate"]) == TINY["questions"]["select"]
    nothing_left(workspace, cluster)


def undamaged(workspace: Workspace, folder: str) -> dict[str, bytes]:
    return {name: text for name, text in workspace.files(folder).items() if not name.endswith(".damaged")}


def cut(path: Path) -> None:
    """Cut a few bytes off the end, as a crash may."""
    os.truncate(path, path.stat().st_size - 10)


def test_the_disk_is_full(cluster: Cluster, workspace: Workspace, undisturbed: Workspace) -> None:
    prepare(workspace)
    store = workspace.path / "store"
    store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(store)], check=True)
    try:
        ballast = store / "ballast"
        ballast.write_bytes(bytes(DISK - 2 * os.sysconf("SC_PAGESIZE")))  # room for responses of two roles
        failed = workspace.snakemake(*RUN, "--retries", "0", check=False)
        assert failed.code != 0
        assert "No space left" in "".join(
            log.read_text() for log in workspace.path.glob("logs/main/generate/*/*/*.log")
        )
        assert 0 < workspace.count_records() < TOTAL
        ballast.unlink()
        workspace.snakemake(*RUN)
        same_as(workspace, undisturbed)
        nothing_left(workspace, cluster)
    finally:
        subprocess.run(["umount", "--lazy", str(store)], check=True)


def test_a_member_that_fails_once(working: Working, undisturbed: Workspace) -> None:
    member = working.workspace.find_process("ask_host.py")
    assert member
    member.kill()
    working.ends_well(undisturbed)


def test_the_model_host_is_killed(working: Working, undisturbed: Workspace) -> None:
    working.host().kill()
    working.ends_well(undisturbed)


def test_the_job_is_canceled(working: Working, undisturbed: Workspace) -> None:
    working.cluster.run("scancel", working.job()["id"])
    working.ends_well(undisturbed)


def test_the_job_runs_out_of_time(working: Working, undisturbed: Workspace) -> None:
    working.host().suspend()
    working.cluster.run("scontrol", "update", f"JobId={working.job()['id']}", "TimeLimit=1")
    working.ends_well(undisturbed)


def test_the_node_dies_and_comes_back(working: Working, undisturbed: Workspace) -> None:
    job = working.job()
    working.cluster.kill_node(job["node"])
    working.cluster.start_node(job["node"])
    working.skip_the_wait(job["id"])
    working.ends_well(undisturbed)


def test_the_job_is_preempted_and_requeued(working: Working, undisturbed: Workspace) -> None:
    job = working.job()
    urgent = ("sbatch", "--parsable", "-p", "gpu_hi", "-w", job["node"], "--gpus=1", "-o", "/dev/null")
    number = working.cluster.run(*urgent, "--wrap", "sleep 5").strip()
    done = {"id": number, "state": "COMPLETED"}
    assert wait_for(lambda: any(j | done == j for j in working.cluster.jobs("all")), 120), working.cluster.jobs("all")
    working.skip_the_wait(job["id"])
    working.ends_well(undisturbed)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
def test_snakemake_is_killed_and_started_again(how: int, working: Working, undisturbed: Workspace) -> None:
    working.run.send_signal(how)
    working.run.wait(timeout=60)
    if how == signal.SIGINT:
        assert wait_for(lambda: not working.cluster.jobs(), 30), "Ctrl-C cancels the jobs"
    workspace = working.workspace
    workspace.snakemake("--unlock", "--cores", "1", "--configfile", "overlay.yaml")
    workspace.snakemake(*RUN)
    same_as(workspace, undisturbed)
    wait_for(lambda: not working.cluster.jobs(), 60)
    nothing_left(workspace, working.cluster)


def test_a_second_snakemake_is_refused(working: Working, undisturbed: Workspace) -> None:
    again = psutil.Process(working.run.pid).cmdline()
    second = subprocess.run(again, cwd=working.workspace.path, capture_output=True, text=True, check=False)
    assert second.returncode != 0 and "lock" in second.stderr
    working.ends_well(undisturbed)


def test_all_nodes_come_back(cluster: Cluster) -> None:
    assert wait_for(lambda: cluster.node_states() == dict.fromkeys(NODES, "idle"), 60)
    assert MODEL
