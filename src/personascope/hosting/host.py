"""A host: one process that keeps what is loaded for all jobs of a run, behind a Unix socket.

    python -m personascope.hosting.host --kind model --socket PATH --owner PID --started TIME
        --experiment NAME

The model host holds model and SAE; the analysis host, which never imports torch, holds role matrices and
reference distributions, so that a conversation costs what its own analysis costs.

A request is one line of JSON: `op`, the name of an operation (or "ping"), and its `inputs`, `outputs`, `params`,
`wildcards` and `sizes`. The answers are lines {"progress": text}, then one {"done": {...}} when the outputs are
written, or {"error": text, "user": bool}. Finished work goes to the store as it is finished, so that nothing is lost
when host, job or run is killed. The host ends at once when its owner (Snakemake, or the first process of an
allocation) is gone, or when nothing was asked of it for a while.
"""

import argparse
import ctypes
import json
import logging
import os
import socket
import struct
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from personascope.errors import UserError, as_user_error
from personascope.formats.files import write_json
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations import operation, parse_request
from personascope.hosting.processes import is_alive, remove_folder
from personascope.hosting.progress import loads_folder, logs_folder, note_load, ticking

log = logging.getLogger(__name__)

# What the hosts do first of all.
LOADING = {"model": "loading the model", "analysis": "loading the analysis"}
KINDS = tuple(LOADING)
MAX_REQUEST = 1 << 20
WATCH_EVERY = 0.5
NEWS_EVERY = 2.0  # seconds between two changes of the status file
WAITS_EVERY = 5.0  # seconds of waiting after which a job is told why, and between two lines about loading
HEARTBEAT = 30.0  # it is written again after so long without any
# The wildcard that names what an operation works on.
SUBJECTS = ("role", "conversation", "script")
PARTS = ("inputs", "outputs", "params", "wildcards", "sizes")
IDLE_LIMIT = 1800.0


def keep_freed_memory() -> None:
    """Have glibc reuse freed blocks: by default each large tensor is fresh memory, and page faults cost a third."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: which is not given back in between
    except (OSError, AttributeError):
        pass


class Host:
    """Serves requests one at a time: two forward passes side by side only slow each other down."""

    def __init__(self, kind: str, owner: int, started: float, experiment: str):
        self.kind, self.owner, self.started = kind, owner, started
        logs, loads = logs_folder(experiment), loads_folder(experiment)
        self.status = logs / "hosts" / f"{socket.gethostname()}-{os.getpid()}.json"
        self.loaded = Loaded(lambda name, seconds: note_load(loads, name, seconds), logs)
        self.doing: dict[str, Any] = {}
        self.since = 0.0  # when that began
        self.fresh = True  # until it has told something of its first work: it imports and loads
        self.turn = threading.Lock()
        self.busy = 0
        self.last_used = time.monotonic()

    def serve(self, path: Path) -> None:
        """Listen on the socket until the process ends."""
        path.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX)
        mask = os.umask(0o177)
        server.bind(str(path))
        os.umask(mask)
        server.listen(128)
        threading.Thread(target=self._watch, args=(path,), daemon=True).start()
        while True:
            connection, _ = server.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _watch(self, path: Path) -> None:
        me = {"kind": self.kind, "node": socket.gethostname(), "pid": os.getpid()}
        me |= {"started": psutil.Process().create_time()}
        last, last_at = None, 0.0
        while is_alive(self.owner, self.started):
            news, silent = self.doing | {"waiting": max(self.busy - 1, 0)}, time.monotonic() - last_at
            if (news != last and silent > NEWS_EVERY) or silent > HEARTBEAT:
                self._write_status(me | news | {"updated": time.time()})
                last, last_at = news, time.monotonic()
            if not self.busy and time.monotonic() - self.last_used > IDLE_LIMIT:
                log.info("nothing was asked for %.0f s: the host ends", IDLE_LIMIT)
                path.unlink(missing_ok=True)
                self._end()
            time.sleep(WATCH_EVERY)
        log.info("the run has ended: the host ends")
        remove_folder(path.parent)
        self._end()

    def _write_status(self, news: dict[str, Any]) -> None:
        """Write into a small file what the host is doing, for `personascope status`; work never fails for it."""
        with suppress(OSError):
            write_json(self.status, news)

    def _end(self) -> None:
        with suppress(OSError):
            self.status.unlink(missing_ok=True)
        os._exit(0)

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:
            if not _same_user(connection):
                return

            writing = threading.Lock()

            def send(message: dict[str, Any]) -> None:
                with writing:
                    stream.write(json.dumps(message).encode() + b"\n")
                    stream.flush()

            self.busy += 1
            try:
                send({"done": self._run(stream, send)})
            except (BrokenPipeError, ConnectionResetError):
                log.info("the job that asked has ended; its finished work is in the store")
            except Exception as error:
                if mistake := as_user_error(error):
                    _try(send, {"error": str(mistake), "user": True})
                else:
                    log.exception("a request failed")
                    _try(send, {"error": traceback.format_exc(), "user": False})
            finally:
                self.busy -= 1
                self.last_used = time.monotonic()

    def _run(self, stream: Any, send: Any) -> dict[str, Any]:
        request = _read_request(stream)
        if request["op"] == "ping":
            return {"pid": os.getpid()}
        if not self.turn.acquire(timeout=WAITS_EVERY):
            send({"progress": self._busy_with()})
            self.turn.acquire()
        told = threading.Event()
        if not self.fresh:
            told.set()
        subject = _subject(request)

        def say(text: str) -> None:
            self.doing = {"op": request["op"], "subject": subject, "said": text}
            send({"progress": text})

        def report(text: str) -> None:
            told.set()
            self.fresh = False
            say(text)

        try:
            self.since = time.monotonic()
            self.doing = {"op": request["op"], "subject": subject, "said": ""}
            with ticking(say, LOADING[self.kind], told, WAITS_EVERY):
                # torch and transformers are imported by the first request that needs them.
                chosen = operation(request["op"])
                chosen.run(self.loaded, report, parse_request(chosen.Request, request))
            self.fresh = False
            return {}
        finally:
            self.doing = {}
            self.turn.release()

    def _busy_with(self) -> str:
        """What a job that waits is told."""
        doing, seconds = self.doing, time.monotonic() - self.since
        if self.fresh:
            return f"{LOADING[self.kind]}, {seconds:.0f} s"
        work = " ".join(filter(None, (doing.get("op"), doing.get("subject")))) or "other jobs"
        return f"waiting for the {self.kind} host, which works for {work}"


def _subject(request: dict[str, Any]) -> str:
    """The role, conversation or script that a request is about."""
    named = request.get("wildcards", {})
    return next((str(named[key]) for key in SUBJECTS if key in named), "")


def _read_request(stream: Any) -> dict[str, Any]:
    line = stream.readline(MAX_REQUEST + 1)
    if len(line) > MAX_REQUEST:
        raise UserError(f"host: a request may have {MAX_REQUEST} bytes at most")
    try:
        request = json.loads(line)
    except ValueError:
        raise UserError("host: the request is not JSON") from None
    fields_fit = isinstance(request, dict) and isinstance(request.get("op"), str)
    if not fields_fit or not all(isinstance(request.get(part, {}), dict) for part in PARTS):
        raise UserError(f'host: a request is {{"op": name, and objects {", ".join(PARTS)}}}')
    return request


def _same_user(connection: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid == os.getuid()


def _try(send: Any, message: dict[str, Any]) -> None:
    try:
        send(message)
    except OSError:
        log.info("nobody is left to hear: %s", message)


def main() -> None:
    parser = argparse.ArgumentParser(prog="personascope.hosting.host")
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--owner", type=int, required=True)
    parser.add_argument("--started", type=float, required=True)
    parser.add_argument("--experiment", required=True, help="whose logs and benchmarks it writes to")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    keep_freed_memory()
    log.info("%s host %d serves the run of process %d", arguments.kind, os.getpid(), arguments.owner)
    Host(arguments.kind, arguments.owner, arguments.started, arguments.experiment).serve(arguments.socket)


if __name__ == "__main__":
    main()
