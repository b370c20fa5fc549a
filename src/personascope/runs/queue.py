"""Jobs that a run leaves in SLURM's queue when it ends.

Snakemake's executor cancels the jobs of a run that is interrupted, but for the one that is being submitted, and for all
of them while it looks at the queue (a look takes seconds where SLURM is busy): these would go on beside the next run's.
Every job of a run has the run's id for a name, by which they are found here.
"""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

RUN_ID = re.compile(r"SLURM run ID: (\S+)")
WAITING_OR_RUNNING = "PENDING,CONFIGURING,RUNNING,SUSPENDED"
LIMIT = 60.0  # seconds in which SLURM must answer


def cancel_leftovers(logs: Iterable[str | Path]) -> list[str]:
    """Cancel what the runs of these logs of Snakemake have in the queue; what there is to say of it, a line a run."""
    texts = (Path(log).read_text("utf-8", errors="replace") for log in logs if Path(log).is_file())
    return [line for text in texts for run in RUN_ID.findall(text) for line in _cancel(run)]


def _cancel(run: str) -> list[str]:
    try:
        jobs = _ask("squeue", "--noheader", f"--name={run}", f"--states={WAITING_OR_RUNNING}", "--format=%A").split()
        if not jobs:
            return []
        _ask("scancel", f"--name={run}")
    except (OSError, subprocess.SubprocessError):
        return [f"SLURM does not answer: jobs of this run may go on; `scancel --name={run}` cancels them"]
    return [f"canceled what this run still had in SLURM's queue: {', '.join(jobs)}"]


def _ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT).stdout
