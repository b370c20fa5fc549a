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
from personascope.formats.files import log_tail, write_json, write_jsonl
from personascope.hosting.processes import host_folder, is_alive, remove_folder, run_leader
from personascope.hosting.store import FileStore, RecordLog, feature_files

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


def ask(op: str, args: dict[str, Any], host_log: str | Path, kind: str = "model") -> dict[str, Any]:
    """Have the host of this kind do `op`; its answer. UserError for a mistake in the input, or a host that died."""
    leader = run_leader()
    for attempt in (1, 2):
        connection = _connect(leader, Path(host_log), kind)
        try:
            return _converse(connection, op, args, Path(host_log), kind)
        except BrokenPipeError:
            # It ended between our connecting and our asking (idle limit): once more, with a new one.
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


def _converse(connection: socket.socket, op: str, args: dict[str, Any], host_log: Path, kind: str) -> dict[str, Any]:
    with connection, connection.makefile("rwb") as stream:
        stream.write(json.dumps({"op": op, "args": args}).encode() + b"\n")
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
    raise UserError(f"the {kind} host ended while it worked; finished work is kept, run again. {log_tail(host_log)}")


def _messages(stream: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    try:
        for line in stream:
            if line.endswith(b"\n"):
                yield json.loads(line)
    except ConnectionResetError:
        return


def _connect(leader: psutil.Process, host_log: Path, kind: str) -> socket.socket:
    folder = host_folder(leader, kind)
    path = folder / "socket"
    if connection := _try_connect(path):
        return connection
    with _lock(folder / "lock"):
        if connection := _try_connect(path):
            return connection
        _sweep(folder)
        process = _start(path, leader, host_log, kind)
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            if connection := _try_connect(path):
                return connection
            if process.poll() is not None:
                raise UserError(f"the {kind} host could not start. {log_tail(host_log)}")
            time.sleep(0.02)
    process.kill()
    raise UserError(f"the {kind} host did not start within {START_LIMIT:.0f} s. {log_tail(host_log)}")


def _sweep(mine: Path) -> None:
    """Remove what hosts that were killed have left: the folders whose leader is gone."""
    for folder in mine.parent.iterdir():
        try:
            pid, started = json.loads((folder / "leader").read_text(encoding="utf-8"))
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


def _start(path: Path, leader: psutil.Process, host_log: Path, kind: str) -> subprocess.Popen[bytes]:
    host_log.parent.mkdir(parents=True, exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if key not in THREAD_VARIABLES}
    environment |= _allotted_threads(leader)
    command = [sys.executable, "-m", "personascope.host", "--kind", kind, "--socket", str(path)]
    command += ["--leader", str(leader.pid), "--started", repr(leader.create_time())]
    command += ["--status", str(host_log.parent / "hosts")]
    (path.parent / "leader").write_text(json.dumps([leader.pid, leader.create_time()]), encoding="utf-8")
    with host_log.open("ab") as output:
        # A session of its own: Ctrl-C in the terminal reaches Snakemake, and the host follows Snakemake.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )


def _allotted_threads(leader: psutil.Process) -> dict[str, str]:
    """The threads that a SLURM allocation has room for; Snakemake hides what SLURM says of it from its jobs."""
    if "SLURM_JOB_ID" not in os.environ:
        return {}
    try:
        allocation = leader.environ()
    except psutil.Error:
        return {}
    cpus = allocation.get("SLURM_CPUS_PER_TASK") or allocation.get("SLURM_CPUS_ON_NODE")
    return {"OMP_NUM_THREADS": cpus} if cpus else {}


def generate(args: dict[str, Any], output: str | Path, host_log: str | Path) -> None:
    """Have a role's responses generated, and write them to `output` in row order."""
    answer = ask("generate", args, host_log)
    records = RecordLog(answer["log"])
    records.keys()
    write_jsonl(output, (records.read(key) for key in answer["keys"]))
    records.path.touch()


def extract(args: dict[str, Any], features: str | Path, residuals: str | Path, host_log: str | Path) -> None:
    """Have a responses file extracted, and link features and residual means from the store to the outputs."""
    answer = ask("extract", args, host_log)
    files: FileStore = feature_files(args["store"])
    files.link(answer["key"], {"features.parquet": features, "residuals.parquet": residuals})


def extract_conversation(args: dict[str, Any], tokens: str | Path, host_log: str | Path) -> None:
    """Have a conversation's tokens extracted, and link them from the store to the output."""
    answer = ask("extract_conversation", args, host_log)
    feature_files(args["store"]).link(answer["key"], {"tokens.parquet": tokens})


def simulate(args: dict[str, Any], outputs: list[str], host_log: str | Path) -> None:
    """Have conversations with a scripted user made, and write one to each output."""
    answer = ask("simulate", args, host_log)
    records = RecordLog(answer["log"])
    records.keys()
    for key, output in zip(answer["keys"], outputs, strict=True):
        write_json(output, records.read(key))
    records.path.touch()


def analyse(op: str, args: dict[str, Any], host_log: str | Path) -> None:
    """Have an operation on one conversation done by the analysis host, which writes the outputs itself."""
    ask(op, args, host_log, kind="analysis")
