"""Runs a command that must not outlive the process that asked for it, nor leave processes of its own behind.

    python -m personascope.guard PARENT FOLDER COMMAND...

The kernel can kill a process with its parent (PR_SET_PDEATHSIG), but it takes the end of the THREAD that started it
for the end of the parent, and spares the processes below. So this one stands in between: it watches the process
PARENT, adopts what the command leaves behind, ends all of it, and removes FOLDER. SIGTERM asks it to end early.

A guard that is killed itself takes the command with it; what that has started is the parent's to end (the session of
the guard). Where both are killed in the same moment, nobody is left to do it but a scheduler that owns the job.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil

WATCH_EVERY = 0.2
GRACE = 5.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> int:
    parent, folder, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    prctl = _prctl()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        # Should this process be killed itself, then at least the command goes with it (there is one thread here).
        child = subprocess.Popen(command, preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        while child.poll() is None and os.getppid() == parent:
            time.sleep(WATCH_EVERY)
        return child.returncode or 0
    finally:
        end_all()
        shutil.rmtree(folder, ignore_errors=True)


def end_all() -> None:
    """End every process below this one: the command politely, and all that is left after GRACE seconds for certain."""
    me = psutil.Process()
    for process in me.children():
        process.terminate()
    psutil.wait_procs(me.children(recursive=True), timeout=GRACE)
    while left := me.children(recursive=True):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1.0)


def _prctl():
    """The system call, loaded before any fork; on other systems than Linux, nothing."""
    with suppress(OSError, AttributeError):
        return ctypes.CDLL("libc.so.6").prctl
    return lambda *_: 0


if __name__ == "__main__":
    sys.exit(main())
