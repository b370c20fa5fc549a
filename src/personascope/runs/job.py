"""What every job of the workflow does around its work: log, report a failure, note its outputs."""

import json
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from personascope.errors import as_user_error, one_line_errors
from personascope.formats.files import append_line
from personascope.runs.integrity import note_outputs

FAILURES = Path("logs/failures.jsonl")  # of the working directory; `personascope status` reads it


@contextmanager
def job(log_file: str | Path, outputs: Iterable[str | Path]) -> Iterator[None]:
    """A job of the workflow: its log goes to the file and to the terminal, a UserError is one line in both.

    What it wrote is noted when it ends well (`integrity`), its failure for `personascope status` when it does not.
    """
    Path(log_file).parent.mkdir(parents=True, exist_ok=True)
    in_file = logging.FileHandler(log_file, mode="w", encoding="utf-8")
    handlers = [in_file, logging.StreamHandler()]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers)
    with one_line_errors():
        try:
            yield
            note_outputs(log_file, outputs)
        except Exception as error:
            if told := as_user_error(error):
                in_file.emit(logging.makeLogRecord({"msg": f"error: {told}", "levelno": logging.ERROR}))
            else:
                logging.exception("the job failed")
            _note_failure(Path(log_file), str(told) if told else f"{type(error).__name__}: {error}")
            raise


def _note_failure(log_file: Path, error: str) -> None:
    with suppress(OSError):
        told = {"time": time.time(), "log": str(log_file), "written": log_file.stat().st_mtime, "error": error[:1000]}
        append_line(FAILURES, json.dumps(told))
