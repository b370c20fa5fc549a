"""What runs in this folder measure: loads of the model, tokens a second, tokens and bytes a response."""

import csv
import os
import re
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from personascope.errors import UserError
from personascope.formats.files import iter_jsonl
from personascope.formats.roles import GOLDEN_RATIO
from personascope.formats.tokens import read_metadata
from personascope.hosting.progress import loads_folder

TOOK = re.compile(r"(\d+) tokens in ([\d.]+) s, \d+ tokens/s$")  # as hosting.progress.took writes it
TAIL = 4096  # bytes at the end of a log that are looked at
FILES = 16  # result files that a mean is taken over


@dataclass(frozen=True)
class Work:
    """Tokens that jobs went through, and the seconds they took without waiting and loading."""

    tokens: int
    seconds: float
    jobs: int

    @property
    def rate(self) -> float | None:
        """Tokens a second; None where nothing was measured."""
        return self.tokens / self.seconds if self.seconds else None


def spread(n: int, k: int) -> list[int]:
    """At most k of the numbers below n, spread without a period."""
    return sorted({int(i * GOLDEN_RATIO % 1 * n) for i in range(k)}) if k < n else list(range(n))


def log_work(logs: Iterable[Path]) -> Work:
    """What the logs of jobs say they did; those that found everything in the store say nothing."""
    tokens, seconds, jobs = 0, 0.0, 0
    for path in logs:
        found = [m for line in _tail(path) if (m := TOOK.search(line))]
        if found:
            tokens, seconds, jobs = tokens + int(found[-1][1]), seconds + float(found[-1][2]), jobs + 1
    return Work(tokens, seconds, jobs)


def load_seconds(model: str) -> float | None:
    """Seconds that loading a model takes: the median of its loads by all experiments in this folder."""
    rows = [row for file in sorted(Path().glob(str(loads_folder("*") / "*.tsv"))) for row in _tsv(file)]
    times = [float(row["s"]) for row in rows if row["model"] == model]
    return statistics.median(times) if times else None


def _tsv(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened, delimiter="\t"))


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - TAIL, 0))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def mean_response(files: list[Path], max_tokens: int) -> float | None:
    """Mean tokens of the responses in some files; None without any, or where an earlier, lower limit has cut them.

    Imported responses do not count: nothing has made their token ids.
    """
    lengths, cut = [], 0
    for path in _some(files):
        for row in iter_jsonl(path):
            if row["response_token_ids"] is None:
                continue
            lengths.append(min(len(row["response_token_ids"]), max_tokens))
            cut = max(cut, lengths[-1] if row["finish_reason"] == "length" else 0)
    return sum(lengths) / len(lengths) if lengths and (cut in (0, max_tokens)) else None


def bytes_a_row(files: list[Path]) -> float | None:
    """Mean bytes a response in features or residuals files."""
    return _bytes_each(files, lambda path: pq.read_metadata(path).num_rows)


def bytes_a_line(files: list[Path]) -> float | None:
    """Mean bytes a response in JSON lines."""
    return _bytes_each(files, lambda path: path.read_bytes().count(b"\n"))


def bytes_a_token(files: list[Path]) -> float | None:
    """Mean bytes a token of a conversation, the user's tokens counted although nothing is kept of them."""
    return _bytes_each(files, lambda path: read_metadata(path)["n_tokens"])


def _bytes_each(files: list[Path], count: Callable[[Path], int]) -> float | None:
    total = parts = 0
    for path in _some(files):
        try:
            number, n_bytes = count(path), path.stat().st_size
        except (OSError, ValueError, UserError):
            continue
        if number:
            total, parts = total + n_bytes, parts + number
    return total / parts if parts else None


def _some(files: list[Path]) -> list[Path]:
    return [files[i] for i in spread(len(files), FILES)]


def result_files(folder: Path, suffix: str, but: str = "\0") -> list[Path]:
    """Files directly in a folder, by the end of their names."""
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if name.endswith(suffix) and not name.endswith(but)]
