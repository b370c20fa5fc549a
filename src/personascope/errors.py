"""The one exception that means "the input is wrong", and how a job or command reports it."""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FAILURES = Path("logs/failures.jsonl")  # of the working directory; `personascope status` reads it


class UserError(Exception):
    """A mistake in the input, told in one line: what, where (file, key, role, index), what to do."""


_DISK_ERRORS = {
    28: "free some space (`personascope store prune` helps), then run again: finished work is kept",
    122: "the quota is used up; free some space, then run again: finished work is kept",
    30: "the file system is read-only; choose another `results` or `store` folder",
}


def as_user_error(error: Exception) -> UserError | None:
    """The error as one line for the user, or None where it is a bug."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return UserError(f"{error.filename or 'output'}: {error.strerror}; {_DISK_ERRORS[error.errno]}")
    return None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print a UserError (or a full disk) as one line and exit with 1; let real bugs keep their traceback."""
    try:
        yield
    except Exception as error:
        if (told := as_user_error(error)) is None:
            raise
        print(f"error: {told}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None


@contextmanager
def job(log_file: str | Path) -> Iterator[None]:
    """A job of the workflow: its log goes to the file and to the terminal, a UserError is one line in both."""
    Path(log_file).parent.mkdir(parents=True, exist_ok=True)
    in_file = logging.FileHandler(log_file, mode="w", encoding="utf-8")
    handlers = [in_file, logging.StreamHandler()]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers)
    with one_line_errors():
        try:
            yield
        except Exception as error:
            if told := as_user_error(error):
                in_file.emit(logging.makeLogRecord({"msg": f"error: {told}", "levelno": logging.ERROR}))
            else:
                logging.exception("the job failed")
            _note_failure(Path(log_file), str(told) if told else f"{type(error).__name__}: {error}")
            raise


def _note_failure(log_file: Path, error: str) -> None:
    """Append one line about a failed job: a single write, so that lines of jobs side by side stay whole."""
    with suppress(OSError):
        told = {"time": time.time(), "log": str(log_file), "written": log_file.stat().st_mtime, "error": error[:1000]}
        FAILURES.parent.mkdir(exist_ok=True)
        handle = os.open(FAILURES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, json.dumps(told).encode() + b"\n")
        finally:
            os.close(handle)
