"""A group's members on a real SLURM: what each of them takes beyond its work."""

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.common import ROUNDS, Row
from tests.helpers.slurm_cluster import Cluster, why_not
from tests.helpers.workspace import RESPONSES, Workspace

ROLES = ["assistant", "default", "pirate", "teacher", "doctor", "engineer", "spy", "student", "zealot"]
CONFIG = {
    "roles": {"select": ROLES},
    "questions": {"select": 1},
    "generation": {"variants": [0], "max_tokens": 4},
}
LOCAL = ("responses", "--cores", "all", "--configfile", "overlay.yaml")
SLURM = ("responses", "--profile", "slurm", "--configfile", "overlay.yaml", "--slurm-no-account", "--latency-wait", "5")
SLURM += ("--seconds-between-status-checks", "2", "--slurm-init-seconds-before-status-checks", "2")
SLURM += ("--group-components", f"generate={len(ROLES)}")


def run() -> Iterator[Row]:
    """Roles whose responses are in the store: all that a job takes is overhead, and the slope is that of a member."""
    if reason := why_not():
        print(f"cluster: not measured, {reason}")
        return
    with TemporaryDirectory() as name:
        cluster = Cluster(Path(name) / "cluster")
        try:
            cluster.up()
            workspace = Workspace.make(Path(name) / "w", with_model=True)
            workspace.overlay(CONFIG)
            workspace.snakemake(*LOCAL)
            slopes = sorted(
                (seconds_of_job(cluster, workspace, len(ROLES)) - seconds_of_job(cluster, workspace, 1))
                / (len(ROLES) - 1)
                for _ in range(ROUNDS)
            )
        finally:
            cluster.down()
    each = slopes[len(slopes) // 2]
    detail = f"a SLURM job of {len(ROLES)} roles against one of 1, everything in the store"
    yield Row("overhead of a member in a group", f"{each:.1f} s", "< 3 s", each < 3, detail)


def seconds_of_job(cluster: Cluster, workspace: Workspace, members: int) -> float:
    """The time of the SLURM job that brings so many roles' responses back from the store."""
    for role in ROLES[:members]:
        (workspace.path / RESPONSES / f"{role}.jsonl").unlink()
    workspace.snakemake(*SLURM)
    number = max(int(job["id"]) for job in cluster.jobs("all"))
    stamps = re.findall(
        rf"^\[\S+T(\d+):(\d+):([\d.]+)\] (?:sched: Allocate JobId={number} |\S*: _start_job: Started JobId={number} "
        rf"|_job_complete: JobId={number} done)",
        (cluster.folder / "log/slurmctld.log").read_text(),
        re.MULTILINE,
    )
    start, end = (3600 * int(hour) + 60 * int(minute) + float(second) for hour, minute, second in stamps)
    return (end - start) % 86400
