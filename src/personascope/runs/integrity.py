"""Whether results are still what their jobs wrote: size, time and sha256 of every output, noted when its job ends.

Snakemake looks at times alone, and would build upon a file that a crash or a full disk has cut short. What differs is
set aside before the DAG is built, so that it is missing and made again (from the store, where the model made it).
"""

import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from personascope.formats.files import append_line, file_digest, write_text

# Of the working directory; a file a node, since appends of several nodes can overwrite each other.
NOTES = Path("logs/outputs")
LOCKS = Path(".snakemake/locks")  # of a run that is going on, or was killed: its jobs may be writing
SUFFIX = ".damaged"
KEYS = {"job", "path", "size", "mtime_ns", "sha256", "time"}

Note = dict[str, Any]


def note_outputs(job: str | Path, paths: Iterable[str | Path]) -> None:
    """Note what a job, known by its log file, has written."""
    for path in map(Path, paths):
        if path.is_file():
            append_line(_own_file(), json.dumps(_note(str(job), path, path.stat(), file_digest(path))))


def note_times() -> None:
    """Note the times that outputs have at the end of a run: Snakemake touches them when their jobs are over.

    This node's file then holds one line for each output that is there, and none of what was noted before.
    """
    lines = []
    for path, note in _latest().items():
        if status := _status(path):
            same = status.st_size == note["size"]
            lines.append(json.dumps(_note(note["job"], path, status, note["sha256"]) if same else note) + "\n")
    with suppress(OSError):  # a full disk: they are read again, then
        write_text(_own_file(), "".join(lines))


def _own_file() -> Path:
    return NOTES / f"{socket.gethostname()}.jsonl"


def _note(job: str, path: Path, status: os.stat_result, digest: str) -> Note:
    told = {"job": job, "path": str(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": digest}
    return told | {"time": time.time()}


def set_aside_damaged() -> list[str]:
    """Rename outputs that are not what their jobs wrote to `*.damaged`; a line about each.

    The job's other outputs go with them: of several, Snakemake only misses those that something else asks for. A file
    with another time is read to the end once; one that is gone, or that no job has noted, is left to Snakemake.
    """
    if LOCKS.is_dir() and any(LOCKS.iterdir()):
        return []
    notes = _latest()
    damaged = [path for path, note in notes.items() if not _is_intact(path, note)]
    jobs = {notes[path]["job"] for path in damaged}
    for path, note in notes.items():
        if note["job"] in jobs and path.exists():
            path.replace(f"{path}{SUFFIX}")
    return [
        f"{path}: not what its job wrote; all that this job wrote is set aside as *{SUFFIX}, and made again when needed"
        for path in damaged
    ]


def _latest() -> dict[Path, Note]:
    notes = sorted((note for file in NOTES.glob("*.jsonl") for note in _notes(file)), key=lambda note: note["time"])
    return {Path(note["path"]): note for note in notes}


def _notes(file: Path) -> Iterator[Note]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError):  # the last line of a node that lost its power
                note = json.loads(line)
                if isinstance(note, dict) and note.keys() >= KEYS:
                    yield note


def _is_intact(path: Path, note: Note) -> bool:
    status = _status(path)
    if status is None:
        return True
    if status.st_size != note["size"]:
        return False
    if status.st_mtime_ns == note["mtime_ns"]:
        return True
    if intact := file_digest(path) == note["sha256"]:
        append_line(_own_file(), json.dumps(_note(note["job"], path, status, note["sha256"])))
    return intact


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
