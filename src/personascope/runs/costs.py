"""What the jobs of this folder took: Snakemake's benchmark files, the tokens in the jobs' logs, and SLURM's accounting.

Each job counts once, with its last run. A job that works through a host is a thin client: its seconds hold the wait
for the host, its CPU time and memory are not those of the model. The tokens' seconds are the host's own.
"""

import csv
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from personascope.display.terminal import duration, size, table
from personascope.errors import UserError
from personascope.runs.measured import log_work
from personascope.runs.queue import RUN_ID

SUBMITTED = re.compile(r"submitted with SLURM jobid (\d+) \(log: (.+)\)")
FIELDS = ("JobIDRaw", "JobName", "State", "ElapsedRaw", "CPUTimeRAW", "MaxRSS", "AllocTRES")
SACCT_LIMIT = 60.0
IDS_AT_ONCE = 500


def costs(benchmarks: Path, logs: Path, snakemake: Path = Path(".snakemake")) -> dict[str, Any]:
    """Costs by rule, and SLURM's accounting of the jobs that Snakemake's logs name, or why there is none."""
    if not benchmarks.is_dir():
        raise UserError(f"{benchmarks}: no folder of benchmark files; run this in the workflow's folder after a run")
    rules: dict[str, Any] = {}
    for file in sorted(benchmarks.rglob("*.tsv")):
        _add(rules, file.relative_to(benchmarks).parts[0].removesuffix(".tsv"), file)
    for rule, found in rules.items():
        work = log_work((logs / rule).rglob("*.log"))
        found |= {"tokens": work.tokens, "seconds_working": work.seconds, "tokens_a_second": work.rate}
    return {"rules": rules, "slurm": slurm(snakemake / "log")}


def _add(rules: dict[str, Any], rule: str, file: Path) -> None:
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened, delimiter="\t"))
    if not rows:  # a job was killed while it was written
        return
    found = rules.setdefault(rule, {"jobs": 0, "wall_s": 0.0, "cpu_s": 0.0, "max_memory_mb": 0.0})
    found["jobs"] += 1
    found["wall_s"] += _number(rows[-1].get("s"))
    found["cpu_s"] += _number(rows[-1].get("cpu_time"))
    found["max_memory_mb"] = max(found["max_memory_mb"], _number(rows[-1].get("max_rss")))


def _number(text: str | None) -> float:
    """A benchmark's number; Snakemake writes `NA` or `-` for what it could not measure."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def slurm(logs: Path) -> dict[str, Any]:
    """{group or rule: allocations, elapsed, GPU and core seconds, memory, states}, or {"absent": why}."""
    names, runs = submitted(logs)
    if not names:
        return {"absent": f"no SLURM jobs in {logs}"}
    if shutil.which("sacct") is None:
        return {"absent": "sacct is not here, so nothing is known of SLURM's accounting"}
    lines: list[str] = []
    ids = list(names)
    for start in range(0, len(ids), IDS_AT_ONCE):
        command = ["sacct", "--jobs", ",".join(ids[start : start + IDS_AT_ONCE]), "--parsable2", "--noheader"]
        try:
            done = subprocess.run(
                [*command, f"--format={','.join(FIELDS)}"], capture_output=True, text=True, timeout=SACCT_LIMIT
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"absent": f"sacct does not answer ({error})"}
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().splitlines()
            return {"absent": f"sacct does not work here: {reason[-1] if reason else f'exit {done.returncode}'}"}
        lines += done.stdout.splitlines()
    return {"groups": summed(lines, names, runs)}


def submitted(logs: Path) -> tuple[dict[str, str], set[str]]:
    """{SLURM job: group or rule} and the runs' ids (the jobs' names), from Snakemake's own logs."""
    names: dict[str, str] = {}
    runs: set[str] = set()
    for path in sorted(logs.glob("*.snakemake.log")):
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if found := RUN_ID.search(line):
                    runs.add(found[1])
                elif found := SUBMITTED.search(line):
                    names[found[1]] = _folder(Path(found[2]))
    return names, runs


def _folder(log: Path) -> str:
    """The group or rule of a job, from its log: .../group_NAME/JOB.log, .../rule_NAME/WILDCARDS/JOB.log."""
    marked = [part for part in log.parts if part.startswith(("group_", "rule_"))]
    return marked[-1].partition("_")[2] if marked else log.parent.name


def summed(lines: Iterable[str], names: dict[str, str], runs: set[str]) -> dict[str, Any]:
    """Accounting lines summed by group; steps of a job only say how much memory it took."""
    groups: dict[str, Any] = {}
    mine: set[str] = set()
    for line in lines:
        job, name, state, elapsed, core_seconds, memory, allocated = line.split("|")[: len(FIELDS)]
        identity = job.partition(".")[0]
        if identity not in names:
            continue
        empty = {"allocations": 0, "elapsed_s": 0, "gpu_s": 0, "core_s": 0, "max_memory_mb": 0.0, "states": {}}
        if identity == job and name in runs:  # the number of a job may have been given again
            mine.add(job)
            found, seconds = groups.setdefault(names[job], empty), int(elapsed or 0)
            found["allocations"] += 1
            found["elapsed_s"] += seconds
            found["gpu_s"] += seconds * _gpus(allocated)
            found["core_s"] += int(core_seconds or 0)
            word = state.split()[0] if state else "UNKNOWN"  # "CANCELLED by 1000"
            found["states"][word] = found["states"].get(word, 0) + 1
        elif identity in mine:
            found = groups[names[identity]]
            found["max_memory_mb"] = max(found["max_memory_mb"], _megabytes(memory))
    return groups


def _gpus(allocated: str) -> int:
    """The number in `billing=4,cpu=4,gres/gpu=1,gres/gpu:h100=1,...`."""
    found = re.search(r"(?:^|,)gres/gpu=(\d+)", allocated)
    return int(found[1]) if found else 0


def _megabytes(memory: str) -> float:
    found = re.fullmatch(r"([\d.]+)([KMGT]?)", memory)
    return float(found[1]) * 1024 ** " KMGT".index(found[2] or " ") / 1e6 if found else 0.0


def show(result: dict[str, Any]) -> str:
    """The costs as text tables."""
    rows = []
    for rule, found in sorted(result["rules"].items(), key=lambda item: -item[1]["wall_s"]):
        rate = found["tokens_a_second"]
        worked = [f"{found['tokens']:,}", duration(found["seconds_working"]), f"{rate:,.0f}"] if rate else ["", "", ""]
        times = [duration(found["wall_s"]), duration(found["cpu_s"]), size(found["max_memory_mb"] * 2**20)]
        rows.append([rule, str(found["jobs"]), *times, *worked])
    header = ["rule", "jobs", "wall", "CPU", "most memory", "tokens", "working", "tokens/s"]
    notes = "wall: with the wait for a host; CPU and memory: of the jobs themselves, without the hosts they ask"
    accounting = result["slurm"]
    if "absent" in accounting:
        return f"{table(header, rows)}\n{notes}\n\nSLURM: {accounting['absent']}"
    allocations = []
    for name, found in sorted(accounting["groups"].items()):
        states = ", ".join(f"{n} {state.lower()}" for state, n in sorted(found["states"].items()))
        times = [duration(found[key]) for key in ("elapsed_s", "gpu_s", "core_s")]
        allocations.append([name, str(found["allocations"]), *times, size(found["max_memory_mb"] * 1e6), states])
    columns = ["SLURM", "jobs", "wall", "GPU time", "core time", "most memory", "note"]
    return f"{table(header, rows)}\n{notes}\n\n{table(columns, allocations)}"
