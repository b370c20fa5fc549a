"""What every job of the workflow does around its work: log, report a failure, note its outputs."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from personascope.errors import as_user_error, one_line_errors
from personascope.formats.files import append_line
from personascope.hosting.progress import logs_folder
from personascope.runs.integrity import note_outputs


def failures_file(experiment: str) -> Path:
    """Where the failed jobs of an experiment are noted; `personascope status` reads it."""
    return logs_folder(experiment) / "failures.jsonl"


@contextmanager
def job(snakemake: Any) -> Iterator[None]:
    """A job of the workflow, from the object that Snakemake gives its script: its log goes to the file and to the
    terminal, a UserError is one line in both.

    What it wrote is noted when it ends well (`integrity`), its failure for `personascope status` when it does not.
    """
    log_file, experiment = Path(snakemake.log[0]), snakemake.config["experiment"]
    log_file.parent.mkdir(parents=True, exist_ok=True)
    in_file = logging.FileHandler(log_file, mode="w", encoding="utf-8")
    handlers = [in_file, logging.StreamHandler()]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers)
    with one_line_errors():
        try:
            yield
            note_outputs(experiment, log_file, snakemake.output)
        except Exception as error:
            if mistake := as_user_error(error):
                in_file.emit(logging.makeLogRecord({"msg": f"error: {mistake}", "levelno": logging.ERROR}))
            else:
                logging.exception("the job failed")
            _note_failure(experiment, log_file, str(mistake) if mistake else f"{type(error).__name__}: {error}")
            raise


def _note_failure(experiment: str, log_file: Path, error: str) -> None:
    with suppress(OSError):
        written = log_file.stat().st_mtime
        note = {"time": time.time(), "log": str(log_file), "written": written, "error": error[:1000]}
        append_line(failures_file(experiment), json.dumps(note))
