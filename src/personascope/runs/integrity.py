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
from personascope.hosting.progress import logs_folder

LOCKS = Path(".snakemake/locks")  # of a run that is going on, or was killed: its jobs may be writing
SUFFIX = ".damaged"
KEYS = {"job", "path", "size", "mtime_ns", "sha256", "time"}

Note = dict[str, Any]


def notes_folder(experiment: str | None) -> Path:
    """Folder of the notes on an experiment's outputs, or (None) on those that all experiments share: models and SAEs.

    It holds a file a node, since appends of several nodes can overwrite each other.
    """
    return (logs_folder(experiment) if experiment else Path("logs")) / "outputs"


def note_outputs(experiment: str, job: str | Path, paths: Iterable[str | Path]) -> None:
    """Note what a job, known by its log file, has written."""
    for path in map(Path, paths):
        if path.is_file():
            note = _note(str(job), path, path.stat(), file_digest(path))
            append_line(_own_file(_owner(experiment, path)), json.dumps(note))


def _owner(experiment: str, path: Path) -> str | None:
    """The experiment, where an output lies in its folder; None for what all experiments share."""
    return experiment if experiment in path.parts else None


def note_times(experiment: str) -> None:
    """Note the times that outputs have at the end of a run: Snakemake touches them when their jobs are over.

    This node's files then hold one line for each output that is there, and none of what was noted before.
    """
    for owner in (experiment, None):
        lines = []
        for path, note in _latest(owner).items():
            if status := _status(path):
                same = status.st_size == note["size"]
                lines.append(json.dumps(_note(note["job"], path, status, note["sha256"]) if same else note) + "\n")
        if lines:
            with suppress(OSError):  # a full disk: they are read again, then
                write_text(_own_file(owner), "".join(lines))


def _own_file(experiment: str | None) -> Path:
    return notes_folder(experiment) / f"{socket.gethostname()}.jsonl"


def _note(job: str, path: Path, status: os.stat_result, digest: str) -> Note:
    known = {"job": job, "path": str(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": digest}
    return known | {"time": time.time()}


def set_aside_damaged(experiment: str, *, rename: bool = True) -> list[str]:
    """Rename outputs that are not what their jobs wrote to `*.damaged`; a line about each.

    The job's other outputs go with them: of several, Snakemake only misses those that something else asks for. A file
    with another time is read to the end once; one that is gone, or that no job has noted, is left to Snakemake.
    rename=False only says what would be done, and writes nothing.
    """
    if LOCKS.is_dir() and any(LOCKS.iterdir()):
        return []
    notes = _latest(None) | _latest(experiment)
    damaged = []
    for path, note in notes.items():
        intact, renewed = _check(path, note)
        if not intact:
            damaged.append(path)
        elif renewed and rename:
            append_line(_own_file(_owner(experiment, path)), json.dumps(renewed))
    what = "is set aside" if rename else "would be set aside by a run"
    if rename:
        jobs = {notes[path]["job"] for path in damaged}
        for path, note in notes.items():
            if note["job"] in jobs and path.exists():
                path.replace(f"{path}{SUFFIX}")
    return [
        f"{path}: not what its job wrote; all that this job wrote {what} as *{SUFFIX}, and made again when needed"
        for path in damaged
    ]


def _latest(experiment: str | None) -> dict[Path, Note]:
    notes = (note for file in notes_folder(experiment).glob("*.jsonl") for note in _notes(file))
    return {Path(note["path"]): note for note in sorted(notes, key=lambda note: note["time"])}


def _notes(file: Path) -> Iterator[Note]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError):  # the last line of a node that lost its power
                note = json.loads(line)
                if isinstance(note, dict) and note.keys() >= KEYS:
                    yield note


def _check(path: Path, note: Note) -> tuple[bool, Note | None]:
    """Whether a file is what was noted, and a new note where it is, at another time."""
    status = _status(path)
    if status is None or (status.st_size, status.st_mtime_ns) == (note["size"], note["mtime_ns"]):
        return True, None
    if status.st_size != note["size"] or file_digest(path) != note["sha256"]:
        return False, None
    return True, _note(note["job"], path, status, note["sha256"])


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
