"""How work tells its progress and what it took; where a host writes down what it does."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from personascope.display.terminal import duration
from personascope.formats.files import write_text

Report = Callable[[str], None]


class Progress:
    """Reports done/total, tokens a second (where they are counted) and the time left, at most every two seconds; at the
    end what it took."""

    def __init__(self, report: Report, name: str, total: int, every: float = 2.0):
        self.report, self.name, self.total, self.every = report, name, total, every
        self.started = self.reported = time.monotonic()
        self.done = self.tokens = 0

    def add(self, tokens: int, rows: int = 1) -> None:
        self.done += rows
        self.tokens += tokens
        now = time.monotonic()
        if now - self.reported < self.every and self.done < self.total:
            return
        self.reported = now
        elapsed, counted = max(now - self.started, 1e-9), f"{self.name}: {self.done}/{self.total} responses"
        if self.done < self.total:
            left = duration(elapsed / self.done * (self.total - self.done))
            speed = f"{self.tokens / elapsed:.0f} tokens/s, " if self.tokens else ""
            self.report(f"{counted}, {speed}{left} left")
        else:
            self.report(f"{counted}, {took(self.tokens, elapsed) if self.tokens else f'{elapsed:.1f} s'}")


@contextmanager
def ticking(report: Report, what: str, quiet: threading.Event, every: float) -> Iterator[None]:
    """Within it, what goes on is reported with the seconds that it has taken, every so many, until `quiet` is set."""
    started = time.monotonic()

    def tell() -> None:
        while not quiet.wait(every):
            with suppress(OSError):  # the job that asked has ended; who works for it notices
                report(f"{what}, {time.monotonic() - started:.0f} s")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        quiet.set()
        teller.join()


def took(tokens: int, seconds: float) -> str:
    """What a job's log says of its work at the end; `personascope plan` and `costs` read it there."""
    return f"{tokens} tokens in {seconds:.1f} s, {tokens / seconds:.0f} tokens/s"


def logs_folder(experiment: str) -> Path:
    """Folder, in the working directory, of what hosts and jobs of an experiment write down about themselves."""
    return Path("logs") / experiment


def loads_folder(experiment: str) -> Path:
    """Folder of the loads of the model: a file a load, in the form of Snakemake's own benchmark files."""
    return Path("benchmarks") / experiment / "load_model"


def note_load(folder: Path, model: str, seconds: float) -> None:
    """Count a load of the model by this process, a model host."""
    memory = psutil.Process().memory_info().rss / 2**20
    row = {"s": f"{seconds:.2f}", "max_rss": f"{memory:.2f}", "model": model, "node": socket.gethostname()}
    row |= {"slurm_job": os.environ.get("SLURM_JOB_ID", "-")}
    lines = ("\t".join(values) + "\n" for values in (row.keys(), row.values()))
    write_text(folder / f"{socket.gethostname()}-{time.time_ns()}.tsv", "".join(lines))
