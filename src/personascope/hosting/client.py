"""A job's side of the hosts: find one or start it, ask, pass its progress on. Imports neither torch nor numpy."""

import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from personascope.errors import UserError
from personascope.formats.files import log_tail
from personascope.hosting.processes import host_folder, is_alive, remove_folder, run_owner
from personascope.hosting.progress import logs_folder

log = logging.getLogger(__name__)

START_LIMIT = 60.0
# Snakemake sets these to the job's threads; the host serves the whole run and takes the cores it is given.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "GOTO_NUM_THREADS",
)


def ask(kind: str, message: dict[str, Any], experiment: str) -> dict[str, Any]:
    """Have the host of this kind ("model" or "analysis") do what the message asks for; its answer.

    message: `op`, the operation's name, and its `inputs`, `outputs`, `params`, `wildcards` and `sizes`. UserError for a
    mistake in the input, or a host that died.
    """
    owner = run_owner()
    for attempt in (1, 2):
        connection = _connect(owner, kind, experiment)
        try:
            return _converse(connection, message, kind, host_log(kind, experiment))
        except BrokenPipeError:
            # It ended between our connecting and our asking (idle limit): once more, with a new one.
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


def host_log(kind: str, experiment: str) -> Path:
    """The log of an experiment's hosts of one kind."""
    return logs_folder(experiment) / f"{kind}_host.log"


def _converse(connection: socket.socket, request: dict[str, Any], kind: str, log_file: Path) -> dict[str, Any]:
    with connection, connection.makefile("rwb") as stream:
        stream.write(json.dumps(request).encode() + b"\n")
        stream.flush()
        for message in _messages(stream):
            if "progress" in message:
                log.info("%s", message["progress"])
            elif "done" in message:
                return message["done"]
            elif message.get("user"):
                raise UserError(message["error"])
            else:
                raise RuntimeError(f"in the {kind} host:\n{message['error']}")
    raise UserError(f"the {kind} host ended while it worked; finished work is kept, run again. {log_tail(log_file)}")


def _messages(stream: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    try:
        for line in stream:
            if line.endswith(b"\n"):
                yield json.loads(line)
    except ConnectionResetError:
        return


def _connect(owner: psutil.Process, kind: str, experiment: str) -> socket.socket:
    folder = host_folder(owner, kind)
    path = folder / "socket"
    if connection := _try_connect(path):
        return connection
    with _lock(folder / "lock"):
        if connection := _try_connect(path):
            return connection
        _sweep(folder)
        process = _start(path, owner, kind, experiment)
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            if connection := _try_connect(path):
                return connection
            if process.poll() is not None:
                raise UserError(f"the {kind} host could not start. {log_tail(host_log(kind, experiment))}")
            time.sleep(0.02)
    process.kill()
    raise UserError(f"the {kind} host did not start within {START_LIMIT:.0f} s. {log_tail(host_log(kind, experiment))}")


def _sweep(mine: Path) -> None:
    """Remove what hosts that were killed have left: the folders whose owner is gone."""
    for folder in mine.parent.iterdir():
        try:
            pid, started = json.loads((folder / "owner").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if folder != mine and not is_alive(pid, started):
            remove_folder(folder)


def _try_connect(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
        return connection
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """A lock that the kernel releases when its holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start(path: Path, owner: psutil.Process, kind: str, experiment: str) -> subprocess.Popen[bytes]:
    log_file = host_log(kind, experiment)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if key not in THREAD_VARIABLES}
    environment |= _allotted_threads(owner)
    command = [sys.executable, "-m", "personascope.hosting.host", "--kind", kind, "--socket", str(path)]
    command += ["--owner", str(owner.pid), "--started", repr(owner.create_time())]
    command += ["--experiment", experiment]
    (path.parent / "owner").write_text(json.dumps([owner.pid, owner.create_time()]), encoding="utf-8")
    with log_file.open("ab") as output:
        # A session of its own: Ctrl-C in the terminal reaches Snakemake, and the host follows Snakemake.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )


def _allotted_threads(owner: psutil.Process) -> dict[str, str]:
    """The threads that a SLURM allocation has room for; Snakemake hides what SLURM says of it from its jobs."""
    if "SLURM_JOB_ID" not in os.environ:
        return {}
    try:
        allocation = owner.environ()
    except psutil.Error:
        return {}
    cpus = allocation.get("SLURM_CPUS_PER_TASK") or allocation.get("SLURM_CPUS_ON_NODE")
    return {"OMP_NUM_THREADS": cpus} if cpus else {}
