"""The model host's protocol and life, with a real host process behind a real socket."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from personascope.errors import UserError
from personascope.hosting import client
from personascope.hosting import host as hosting
from personascope.hosting.host import MAX_REQUEST, Host
from personascope.hosting.processes import host_folder, run_owner
from personascope.hosting.progress import ticking

ASK = {"op": "ping"}
PING = "from personascope.hosting import client; print(client.ask('model', {'op': 'ping'}, 'demo')['pid'])"
LOG = "logs/demo/model_host.log"


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory with a short name (socket paths are limited), the working directory as well."""
    with tempfile.TemporaryDirectory(prefix="ps-") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.chdir(name)
        yield Path(name)
        for process in psutil.process_iter():
            try:
                mine = "personascope.hosting.host" in process.cmdline() and process.cwd() == name
            except psutil.Error:
                continue
            if mine:
                process.kill()


@pytest.fixture(scope="module")
def host() -> Iterator[Path]:
    """The socket of a host that follows this test process."""
    with tempfile.TemporaryDirectory(prefix="ps-") as name:
        process = start_host(Path(name) / "socket", psutil.Process(), cwd=name)
        yield Path(name) / "socket"
        process.kill()
        process.wait()


def start_host(path: Path, owner: psutil.Process, cwd: str | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "personascope.hosting.host", "--kind", "model", "--socket", str(path)]
    command += ["--owner", str(owner.pid), "--started", repr(owner.create_time())]
    command += ["--experiment", "demo"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd)
    end = time.monotonic() + 20
    while not accepts(path):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    return process


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


def say(path: Path, request: bytes) -> list[dict[str, Any]]:
    """Send bytes to a host, return its answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answers:
            return [json.loads(line) for line in answers]


def ping(path: Path) -> int:
    (answer,) = say(path, b'{"op": "ping"}\n')
    return answer["done"]["pid"]


def test_ping(host: Path):
    assert psutil.pid_exists(ping(host))


@pytest.mark.parametrize(
    ("request_bytes", "said"),
    [
        pytest.param(b"open the pod bay doors\n", "not JSON", id="not-json"),
        pytest.param(b"\xff\xfe\n", "not JSON", id="not-utf-8"),
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"[1]\n", "a request is", id="not-an-object"),
        pytest.param(b'{"op": 3}\n', "a request is", id="op-is-no-name"),
        pytest.param(b'{"op": "ping", "params": [1]}\n', "a request is", id="params-are-no-object"),
        pytest.param(b'{"op": "extract"}\n', "extract: ", id="fields-are-missing"),
        pytest.param(b'{"op": "_model"}\n', "unknown operation '_model'", id="no-operation"),
        pytest.param(b'{"op": "%s"}\n' % (b"x" * MAX_REQUEST), f"{MAX_REQUEST} bytes", id="too-long"),
        pytest.param(b'{"op": "self-destruct"}\n', "unknown operation 'self-destruct'", id="unknown-op"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line_and_the_host_lives(host: Path, request_bytes: bytes, said: str):
    *_, answer = say(host, request_bytes)  # before it, that the host still imports
    assert answer["user"] is True
    assert said in answer["error"] and "\n" not in answer["error"]
    ping(host)


def test_a_client_that_leaves_does_no_harm(host: Path):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(host))
        connection.sendall(b'{"op": ')
    ping(host)


def test_five_clients_at_once_start_one_host(folder: Path):
    clients = [subprocess.Popen([sys.executable, "-c", PING], stdout=subprocess.PIPE, text=True) for _ in range(5)]
    answers = [process.communicate(timeout=60)[0] for process in clients]
    assert [process.returncode for process in clients] == [0] * 5
    assert len(set(answers)) == 1
    assert (folder / LOG).read_text().count("serves the run") == 1


def test_a_stale_socket_is_replaced(folder: Path):
    path = host_folder(run_owner(), "model") / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    pid = client.ask("model", ASK, "demo")["pid"]
    assert client.ask("model", ASK, "demo")["pid"] == pid != os.getpid()


def test_a_killed_host_is_replaced(folder: Path):
    pid = client.ask("model", ASK, "demo")["pid"]
    os.kill(pid, signal.SIGKILL)
    path = host_folder(run_owner(), "model") / "socket"
    while accepts(path):
        time.sleep(0.02)
    assert client.ask("model", ASK, "demo")["pid"] != pid


def test_a_host_that_cannot_start_is_told_with_its_log(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client.sys, "executable", "/bin/false")
    (folder / LOG).parent.mkdir(parents=True)
    (folder / LOG).write_text("no libtorch here\n")
    with pytest.raises(UserError, match=r"could not start.*no libtorch here"):
        client.ask("model", ASK, "demo")


def test_the_host_ends_with_its_leader(folder: Path):
    """Also while the owner is a zombie that nobody has waited for."""
    owner = subprocess.Popen(["sleep", "60"])
    place = folder / "of-the-host"
    place.mkdir()
    (place / "of-somebody-else").touch()
    process = start_host(place / "socket", psutil.Process(owner.pid))
    owner.kill()
    assert process.wait(timeout=5) == 0
    assert [file.name for file in place.iterdir()] == ["of-somebody-else"]
    owner.wait()


def test_a_leader_s_number_that_was_given_away_is_no_leader(folder: Path):
    me = psutil.Process()
    (folder / "of-the-host").mkdir()
    command = [
        sys.executable,
        "-m",
        "personascope.hosting.host",
        "--kind",
        "model",
        "--socket",
        str(folder / "of-the-host/socket"),
    ]
    command += ["--owner", str(me.pid), "--started", repr(me.create_time() - 3600)]
    command += ["--experiment", "demo"]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, timeout=20).returncode == 0


def test_an_orphaned_job_owns_its_own_host(monkeypatch: pytest.MonkeyPatch):
    """Snakemake was killed before the job asked: a host that followed init would outlive everything."""
    monkeypatch.setattr(psutil.Process, "parents", lambda self: [psutil.Process(1)])
    monkeypatch.setattr(psutil.Process, "parent", lambda self: psutil.Process(1))
    assert run_owner().pid == os.getpid()


@pytest.mark.parametrize("place", ["open-to-others", "link"])
def test_a_folder_that_others_could_have_made_is_refused(folder: Path, place: str):
    base = folder / f"personascope-{os.getuid()}"
    if place == "link":
        (folder / "elsewhere").mkdir(mode=0o700)
        base.symlink_to(folder / "elsewhere")
    else:
        base.mkdir()
        base.chmod(0o750)
    with pytest.raises(UserError, match="closed to others"):
        host_folder(psutil.Process(), "model")


def test_a_temporary_directory_with_too_long_a_name_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(folder / ("x" * 80)))
    with pytest.raises(UserError, match="too long"):
        host_folder(psutil.Process(), "model")


def test_loading_is_told_with_its_seconds_until_the_work_has_something_to_tell() -> None:
    said, quiet = [], threading.Event()
    with ticking(said.append, "loading the model", quiet, every=0.02):
        while len(said) < 2:
            time.sleep(0.01)
        quiet.set()
        time.sleep(0.1)
        assert len(said) <= 3
    assert set(said) == {"loading the model, 0 s"}


def test_a_job_that_waits_is_told_what_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "WAITS_EVERY", 0.02)
    me = psutil.Process()
    host = Host("model", me.pid, me.create_time(), "demo")

    def wait(since: float, fresh: bool) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        host.since, host.fresh = time.monotonic() - since, fresh
        host.doing = {"op": "generate", "subject": "pirate", "said": ""}
        host.turn.acquire()

        def ask() -> None:
            with pytest.raises(UserError, match="nothing"):
                host._run(io.BytesIO(b'{"op": "nothing"}\n'), sent.append)

        job = threading.Thread(target=ask)
        job.start()
        end = time.monotonic() + 20
        while not sent and time.monotonic() < end:
            time.sleep(0.01)
        host.turn.release()
        job.join()
        return sent

    assert wait(12.0, fresh=True)[0] == {"progress": "loading the model, 12 s"}
    assert wait(12.0, fresh=False)[0] == {"progress": "waiting for the model host, which works for generate pirate"}
