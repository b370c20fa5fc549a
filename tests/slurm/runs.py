"""A run of Snakemake on the tests' SLURM: how it is started and disturbed, and what must be true at its end."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil

from personascope.hosting.processes import is_alive
from tests.helpers.slurm_cluster import Cluster, wait_until
from tests.helpers.workspace import RESPONSES, Workspace
from tests.slurm import impatient

T = TypeVar("T")

ROLES = ["assistant", "default", "ghost", "pirate", "teacher"]
QUESTIONS, BATCH, GROUP = 10, 2, 2
CONFIG = {
    "roles": {"select": ROLES},
    "questions": {"select": QUESTIONS},
    "generation": {"variants": [0], "max_tokens": 8, "backend_options": {"batch_size": BATCH}},
}
TOTAL = len(ROLES) * QUESTIONS
PROFILE = (
    *("--profile", "slurm", "--configfile", "overlay.yaml", "--slurm-no-account", "--latency-wait", "5"),
    *("--slurm-init-seconds-before-status-checks", "1"),
)
RUN = ("responses", *PROFILE)
IMPATIENT = (str(Path(impatient.__file__)),)


class Work(NamedTuple):
    """A model host in the middle of a role: some of its responses are in the store, others are to come."""

    host: psutil.Process
    role: str
    job: str  # SLURM's number
    node: str


class Run:
    """A Snakemake that is running on the cluster, and the means to disturb it."""

    def __init__(self, cluster: Cluster, workspace: Workspace, *options: str) -> None:
        self.cluster, self.workspace = cluster, workspace
        # Sockets of its hosts lie in a folder of their own: other runs on this machine have theirs.
        self.temporary = Path(tempfile.mkdtemp(prefix="ps-"))
        self.environment = {"TMPDIR": str(self.temporary)}
        self.disturbed: set[str] = set()
        self.start(*options)

    def start(self, *options: str) -> None:
        self.stored = {role: len(keys) for role, keys in self.workspace.records().items()}
        self.process = self.workspace.start(*RUN, *options, env=self.environment, program=IMPATIENT)

    def unlock(self) -> None:
        self.workspace.snakemake("--unlock", "--cores", "1", "--configfile", "overlay.yaml")

    def wait(self, condition: Callable[[], T | None], seconds: float, what: str) -> T:
        """The first true value of the condition; a run that ends before is an error."""

        def look() -> T | None:
            value, ended = condition(), self.process.poll() is not None
            assert value or not ended, f"{what}: the run ended before\n{self.workspace.read('run.log')}"
            return value

        try:
            return wait_until(look, seconds, what)
        except TimeoutError:
            print(self.cluster.jobs("all"), self.workspace.read("run.log"), sep="\n")
            raise

    def work(self) -> Work:
        """Wait for a job, not disturbed before, that has stored responses of a role and has others to store."""
        work = self.wait(self._find_work, 180, "a host is in the middle of a role")
        self.disturbed.add(work.job)
        return work

    def _find_work(self) -> Work | None:
        records = self.workspace.records()
        for host in self.workspace.find_processes("personascope.hosting.host", "--kind model"):
            try:
                job = host.environ()["SLURM_JOB_ID"]
                roles = [Path(file.path).stem for file in host.open_files() if Path(file.path).suffix == ".log"]
            except psutil.NoSuchProcess:
                continue
            for role in roles:
                stored = len(records.get(role, ()))
                if job not in self.disturbed and self.stored.get(role, 0) < stored <= QUESTIONS - 2 * BATCH:
                    self.stored[role] = stored
                    return Work(host, role, job, self.cluster.find_job(job)["node"])
        return None

    def member(self, work: Work) -> psutil.Process:
        """The process of the workflow's script that asks this host."""
        members = self.workspace.find_processes("ask_host.py")
        found = [member for member in members if member.environ().get("SLURM_JOB_ID") == work.job]
        assert found, self.workspace.read("run.log")
        return found[0]

    def kill_member(self) -> Work:
        work = self.work()
        self.member(work).kill()
        return work

    def kill_host(self) -> Work:
        work = self.work()
        work.host.kill()
        return work

    def cancel(self) -> Work:
        work = self.work()
        self.cluster.run("scancel", work.job)
        return work

    def run_out_of_time(self) -> Work:
        """Stop a host, and have the time of its job end now."""
        work = self.work()
        work.host.suspend()
        self.cluster.run("scontrol", "update", f"JobId={work.job}", "EndTime=now")
        return work

    def reach_the_limit(self, work: Work) -> None:
        """SLURM looks every half a minute. It ends the job's processes; the host finds itself alone, and ends."""
        self.wait(
            lambda: self.cluster.find_job(work.job)["state"] == "TIMEOUT", 120, f"job {work.job} ends by its limit"
        )
        work.host.resume()

    def kill_node(self) -> Work:
        """Kill the node of a job, and start it again when SLURM has noticed."""
        work = self.work()
        self.cluster.kill_node(work.node)
        self._is_requeued(work.job)
        self.cluster.start_node(work.node)
        self._skip_the_wait(work.job)
        return work

    def preempt(self) -> Work:
        """Have a job of a partition with a higher priority take the node."""
        work = self.work()
        urgent = ("sbatch", "--parsable", "-p", "gpu_hi", "-w", work.node, "--gpus=1", "-o", "/dev/null")
        number = self.cluster.run(*urgent, "--wrap", "sleep 1").strip()
        self.wait(lambda: self.cluster.find_job(number)["state"] == "COMPLETED", 120, "the urgent job has run")
        self._is_requeued(work.job)
        self._skip_the_wait(work.job)
        return work

    def _is_requeued(self, job: str) -> None:
        self.wait(lambda: self.cluster.find_job(job)["state"] == "PENDING", 120, f"job {job} is requeued")

    def _skip_the_wait(self, job: str) -> None:
        """SLURM lets a requeued job wait for 2 minutes: this is known, and tests have better things to do.

        A node refuses a job that starts in the second in which it was revoked there.
        """
        self.cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now+3")

    def slow_queue(self) -> None:
        """From the next start on, a look at the queue takes 5 seconds, as on a busy cluster."""
        slow = self.temporary / "slow"
        slow.mkdir()
        (slow / "squeue").write_text(f'#!/bin/sh\nsleep 5\nexec {shutil.which("squeue")} "$@"\n')
        (slow / "squeue").chmod(0o755)
        self.environment["PATH"] = f"{slow}:{os.environ['PATH']}"

    def refuses_another(self) -> None:
        """The same command, given again, ends at once: the folder is locked."""
        locks = self.workspace.path / ".snakemake/locks"
        self.wait(lambda: locks.is_dir() and any(locks.iterdir()), 60, "Snakemake locks the folder")
        again, folder = psutil.Process(self.process.pid).cmdline(), self.workspace.path
        second = subprocess.run(again, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
        assert second.returncode != 0 and "lock" in second.stderr

    def ends_well(self, undisturbed: Workspace, *, once: bool = True) -> None:
        wait_until(lambda: self.process.poll() is not None, 600, "Snakemake ends")
        assert self.process.returncode == 0, self.workspace.read("run.log")
        same_as(self.workspace, undisturbed, once=once)
        nothing_left(self.workspace, self.cluster)
        wait_until(lambda: not self.orphans(), 5, "sockets of hosts whose run is over are removed")

    def orphans(self) -> list[Path]:
        """Folders of hosts whose owner is gone."""
        owners = self.temporary.glob("personascope-*/*/owner")
        return [file.parent for file in owners if not is_alive(*json.loads(file.read_text()))]

    def close(self) -> None:
        """End what still runs, whatever has happened."""
        self.process.kill()
        self.process.wait(timeout=30)
        self.cluster.settle()
        for process in self.workspace.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(self.temporary)


def prepare(workspace: Workspace, config: dict[str, Any]) -> None:
    """The model on a CPU takes a GPU all the same, and one CPU: two hosts with more would wait for each other."""
    workspace.overlay(config)
    workspace.edit("slurm/profile.yaml", "cpus_per_task: 4", "cpus_per_task: 1\n    gpu: 1")
    for stage in ("generate", "extract"):
        workspace.edit("slurm/profile.yaml", f"- {stage}=16", f"- {stage}={GROUP}")


def run_to_its_end(workspace: Workspace, *args: str) -> None:
    """Run an impatient Snakemake, which must succeed."""
    process = workspace.start(*args, program=IMPATIENT)
    assert process.wait(timeout=900) == 0, workspace.read("run.log")


def same_as(workspace: Workspace, undisturbed: Workspace, *, once: bool = True) -> None:
    """The same responses byte for byte, and each of them in the store once: nothing finished was generated again."""
    assert workspace.files(RESPONSES) == undisturbed.files(RESPONSES)
    stored = workspace.records()
    assert {role: len(set(keys)) for role, keys in stored.items()} == dict.fromkeys(ROLES, QUESTIONS)
    assert not once or sum(map(len, stored.values())) == TOTAL


def nothing_left(workspace: Workspace, cluster: Cluster) -> None:
    """No process works in the folder, no job is in the queue, and no temporary file is among the results."""
    wait_until(lambda: not workspace.processes(), 20, f"the processes in {workspace.path} end")
    wait_until(lambda: not cluster.jobs(), 20, "the queue is empty")
    assert workspace.leftovers() == []


def loads(workspace: Workspace) -> int:
    """How often the model was loaded."""
    return len(list((workspace.path / "benchmarks/main/load_model").glob("*.tsv")))
