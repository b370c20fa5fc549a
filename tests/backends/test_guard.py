"""The guard, with real processes: whoever is killed, nothing is left running."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from personascope.backends import guard

# A command that is hard to end: it and its child ignore SIGTERM, the child has a session of its own.
STUBBORN = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
"""
# The parent of a guard: it starts one as the backend does and says its number.
PARENT = """
import os, subprocess, sys, time
command = [sys.executable, "-m", "personascope.backends.guard", str(os.getpid()), *sys.argv[1:]]
print(subprocess.Popen(command, start_new_session=True).pid, flush=True)
time.sleep(600)
"""


class Tree:
    """A parent, its guard, the guarded command and the command's child."""

    def __init__(self, folder: Path):
        self.folder = folder / "of-the-server"
        self.folder.mkdir()
        (self.folder / "socket").touch()
        said_so = folder / "child"
        stubborn = [sys.executable, "-c", STUBBORN, str(said_so)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(self.folder), *stubborn], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        self.parent, self.guard = psutil.Process(self.process.pid), psutil.Process(int(self.process.stdout.readline()))
        wait_for(lambda: said_so.exists() and said_so.read_text() != "")
        self.child = psutil.Process(int(said_so.read_text()))
        parent_of_child = self.child.parent()
        assert parent_of_child
        self.command = parent_of_child

    def left(self) -> list[psutil.Process]:
        """Those that still run, the parent aside."""
        return [p for p in (self.guard, self.command, self.child) if runs(p)]


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path)
    yield tree
    for process in (tree.parent, *tree.left()):
        if runs(process):
            process.kill()
    tree.process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_all_ends_with_the_parent(tree: Tree, number: int):
    assert len(tree.left()) == 3
    tree.parent.send_signal(number)
    assert wait_for(lambda: not tree.left()), tree.left()
    assert not tree.folder.exists()


def test_the_guard_ends_all_when_it_is_asked_to(tree: Tree):
    tree.guard.terminate()
    assert wait_for(lambda: not tree.left()), tree.left()
    assert not tree.folder.exists()


def test_a_killed_guard_takes_the_command_with_it(tree: Tree):
    tree.guard.kill()
    assert wait_for(lambda: not runs(tree.command))


def run(*command: str, parent: int | None = None, folder: str = "/nonexistent") -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "personascope.backends.guard", str(parent or os.getpid()), folder, *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=30)


def test_the_command_s_own_end_is_passed_on(tmp_path: Path):
    (tmp_path / "of-the-server").mkdir()
    done = run(sys.executable, "-c", "print('said'); raise SystemExit(3)", folder=str(tmp_path / "of-the-server"))
    assert (done.returncode, done.stdout) == (3, "said\n")
    assert list(tmp_path.iterdir()) == []


def test_what_the_command_leaves_behind_ends_with_it(tmp_path: Path):
    program = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True, stdout=2).pid)"
    started = time.monotonic()
    done = run(sys.executable, "-c", program)
    assert done.returncode == 0
    assert not psutil.pid_exists(int(done.stdout))
    assert time.monotonic() - started < guard.GRACE + 5


def test_a_parent_that_is_gone_already_starts_nothing_for_long():
    assert run("sleep", "600", parent=1 << 22).returncode == 0
