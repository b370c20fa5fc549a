"""Processes and folders of hosts: whose life bounds a host's, where its socket lies, whether a process still runs."""

import hashlib
import os
import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

from personascope.errors import UserError

MAX_SOCKET_PATH = 90


def run_owner() -> psutil.Process:
    """The process whose life bounds the host's: the Snakemake that runs the allocation, or the user's own run.

    In a SLURM job that is the one of the batch step: it starts each member of a group as a step of its own, outside
    its process tree. Elsewhere it is the topmost Snakemake above this process, else the parent. A job whose Snakemake
    was just killed has been handed to init, which never ends: it owns its own host.
    """
    if (job := os.environ.get("SLURM_JOB_ID")) and (owner := _batch_snakemake(job)):
        return owner
    me = psutil.Process()
    above = [process for process in me.parents() if _is_snakemake(process)]
    parent = me.parent()
    return above[-1] if above else (parent if parent and parent.pid != 1 else me)


def _batch_snakemake(job: str) -> psutil.Process | None:
    """The Snakemake on this node that starts the steps of a SLURM job, or None outside Snakemake's executor."""
    for process in psutil.process_iter():
        try:
            if "slurm-jobstep" in process.cmdline() and process.environ().get("SLURM_JOB_ID") == job:
                return process
        except (psutil.AccessDenied, psutil.ZombieProcess, psutil.NoSuchProcess):
            continue
    return None


def _is_snakemake(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()[:3]
    except (psutil.AccessDenied, psutil.ZombieProcess, psutil.NoSuchProcess):
        return False
    return any(re.fullmatch(r"snakemake(\.exe)?", Path(word).name) for word in words)


def host_folder(owner: psutil.Process, kind: str) -> Path:
    """A private folder for socket and lock, on this node; its name is short, since socket paths must be."""
    identity = f"{kind}/{owner.pid}/{owner.create_time():.0f}/{sys.executable}/{Path.cwd()}"
    base = Path(tempfile.gettempdir()) / f"personascope-{os.getuid()}"
    folder = base / hashlib.sha256(identity.encode()).hexdigest()[:16]
    if len(str(folder)) > MAX_SOCKET_PATH:
        raise UserError(f"{folder}: too long a path for a Unix socket; set TMPDIR to a shorter one")
    for place in (base, folder):
        place.mkdir(mode=0o700, exist_ok=True)
        status = place.lstat()
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise UserError(f"{place}: must belong to you and be closed to others (chmod 700), or set TMPDIR elsewhere")
    return folder


def remove_folder(folder: Path) -> None:
    """Remove a host's folder: what hosts and clients put there, and nothing else."""
    for name in ("socket", "lock", "owner"):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def is_alive(pid: int, started: float) -> bool:
    """Whether the process with this pid AND start time runs (a pid alone may have been given away again)."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
