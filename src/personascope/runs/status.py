"""What a run has done, what it is doing now, and what failed, from a few small files.

Results are counted with one listing a folder, none of them opened. What is running the hosts say themselves, in
hosts/; what failed the jobs do, in failures.jsonl; what is asked for the run does when it starts, in run.json. All of
these lie in logs/{experiment}/ of the working directory.
"""

import os
import re
import socket
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from personascope.display.terminal import duration, size, table
from personascope.errors import UserError
from personascope.formats.conversation_files import not_analyzed
from personascope.formats.files import iter_jsonl, read_json, write_json
from personascope.hosting.processes import is_alive
from personascope.hosting.progress import logs_folder
from personascope.hosting.store import disk_usage
from personascope.runs.job import failures_file
from personascope.runs.unanalyzed import unanalyzed

DRIFT = "drift_conversation"
SILENT = 120.0  # seconds without news after which a host is doubted (it writes every 30)
FORGOTTEN = 86400.0  # and after which its file is removed
SHOWN = 10  # reasons of failures
LOGS_SHOWN = 3  # of the jobs that failed for one
CLOCKS = 2.0  # seconds by which clocks, and the times that file servers keep, may differ


def run_file(experiment: str) -> Path:
    """Where the last run of an experiment is noted."""
    return logs_folder(experiment) / "run.json"


def last_run(experiment: str | None = None) -> dict[str, Any]:
    """What the last run of an experiment (of any where none is named) was asked for; UserError where there was none."""
    files = sorted(Path("logs").glob("*/run.json")) if experiment is None else [run_file(experiment)]
    runs = [read_json(file) for file in files if file.is_file()]
    if not runs:
        what = f"of the experiment {experiment!r} " if experiment else ""
        raise UserError(f"no run {what}was started here; run this in the workflow's folder")
    return max(runs, key=lambda run: run["started"])


def note_run(settings: dict[str, Any], logs: Iterable[str | Path], rules: Iterable[str] = ()) -> None:
    """Write down what a run that starts now is asked for; called by the workflow.

    rules: those of its jobs, finished ones too; where none is given, all stages count as asked for.
    """
    me = psutil.Process()
    process = {"node": socket.gethostname(), "pid": me.pid, "process_started": me.create_time()}
    write_json(
        run_file(settings["experiment"]),
        settings | process | {"started": time.time(), "log": ", ".join(map(str, logs)), "rules": sorted(set(rules))},
    )


def status(experiment: str | None = None, *, now: float | None = None) -> dict[str, Any]:
    """The state of the last run of an experiment, or of any; UserError where none was started here."""
    now, run = now or time.time(), last_run(experiment)
    logs = logs_folder(run["experiment"])
    here = run["node"] == socket.gethostname()
    alive = is_alive(run["pid"], run["process_started"]) if here else None
    failed = failures(failures_file(run["experiment"]), now, since=run["started"])
    return {
        "experiment": run["experiment"],
        "model": run["model"],
        "started_s_ago": now - run["started"],
        "node": run["node"],
        "alive": alive,
        "log": run["log"],
        "stages": stages(run, failed),
        "not_analyzed": unanalyzed(run),
        "conversations": len(run["conversations"]),
        "hosts": hosts(logs / "hosts", now),
        "failures": failed,
        "store": disk_usage(run["store"]),
    }


def stages(run: dict[str, Any], failed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Finished files of each stage among those asked for, and how many of its jobs failed in this run; done and all are
    None for rules whose files are not counted, which are named where a job of theirs failed."""
    results, cell = Path(run["results"]), f"{run['model']}_{run['sae']}"
    by_mode = f"{run['mode']}/{cell}"
    # Stage, the rule that makes its files (of an analysis: that one's jobs), folder, ending, and what is asked for.
    parts = [
        ("responses", "generate", f"responses/{run['mode']}/{run['model']}", ".jsonl", run["roles"]),
        ("features", "extract", f"features/{by_mode}", ".parquet", run["roles"]),
        ("role matrix", "aggregate", f"aggregated/{by_mode}/mean", ".npz", ["per_role"]),
        ("axis", "assistant_axis", f"axis/{by_mode}", ".npz", ["axis"]),
        ("tokens", "extract_conversation", f"tokens/{cell}", ".parquet", run["conversations"]),
        ("reference", "drift_reference", f"reference/{by_mode}", ".npz", run["analyses"]),
        # A run's files lie in a folder of its own, which is there as soon as its job has started.
        *(
            (f"drift {name}, begun", f"{DRIFT}/{name}", f"drift/{by_mode}/{name}", "", run["conversations"])
            for name in run["analyses"]
        ),
        ("summary", "drift_summary", f"summary/{by_mode}", ".parquet", ["drift_summary"] * bool(run["conversations"])),
    ]
    asked, counts = set(run.get("rules", ())), Counter(_jobs_of(line) for line in failed)
    shown = [
        {
            "stage": stage,
            "done": len(_names(results / folder, suffix).intersection(wanted)),
            "all": len(wanted),
            "failed": counts.pop(jobs, 0),
        }
        for stage, jobs, folder, suffix, wanted in parts
        if wanted and (not asked or jobs.split("/")[0] in asked)
    ]
    return shown + [{"stage": jobs, "done": None, "all": None, "failed": n} for jobs, n in counts.items()]


def _jobs_of(failure: dict[str, Any]) -> str:
    """Whose job has failed, by its log: logs/EXPERIMENT/RULE/..., of a drift run with its analysis."""
    parts = Path(failure["log"]).with_suffix("").parts[len(logs_folder("x").parts) :]
    rule = parts[0] if parts else ""
    return f"{rule}/{parts[-2]}" if rule == DRIFT and len(parts) > 2 else rule


def _names(folder: Path, suffix: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name.removesuffix(suffix) for entry in entries if entry.name.endswith(suffix)}
    except OSError:
        return set()


def hosts(folder: Path, now: float) -> list[dict[str, Any]]:
    """What each host says it is doing; files of hosts that are known to be dead are removed."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            host = read_json(path)
            silent, here = now - host["updated"], host["node"] == socket.gethostname()
            dead = not is_alive(host["pid"], host["started"]) if here else silent > FORGOTTEN
        except (UserError, KeyError, TypeError):  # removed meanwhile, or not a host's
            continue
        if dead:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        else:
            found.append(host | {"silent_s": max(silent, 0.0)})
    return found


def failures(file: Path, now: float, since: float = 0.0) -> list[dict[str, Any]]:
    """The last failure of each job since then whose log was not written again, newest first."""
    last = {line["log"]: line for line in _lines(file) if {"log", "written", "time", "error"} <= line.keys()}
    recent = [line for line in last.values() if line["time"] >= since - CLOCKS]
    standing = [line for line in recent if _untouched(Path(line["log"]), line["written"])]
    return sorted(
        ({"log": line["log"], "error": line["error"], "s_ago": now - line["time"]} for line in standing),
        key=lambda line: line["s_ago"],
    )


def _lines(file: Path) -> Iterable[dict[str, Any]]:
    return iter_jsonl(file) if file.is_file() else []


def _untouched(log: Path, written: float) -> bool:
    try:
        return log.stat().st_mtime <= written + CLOCKS
    except OSError:
        return False


def show(result: dict[str, Any]) -> str:
    """The state as text."""
    words = {True: "running", False: "ended", None: "not seen from this node"}
    ago = duration(result["started_s_ago"])
    run = f"{result['experiment']}, {result['model']}"
    parts = [f"{run}: run started {ago} ago on {result['node']}, {words[result['alive']]}"]
    rows = [[stage["stage"], *(_count(stage[key]) for key in ("done", "all", "failed"))] for stage in result["stages"]]
    parts.append(table(["stage", "done", "of", "failed"], rows))
    parts.append("\n".join(["now:", *map(_host_line, result["hosts"])]) if result["hosts"] else "no host is running")
    if said := not_analyzed(result["not_analyzed"], result["conversations"]):
        parts.append(said)
    if result["failures"]:
        parts.append(_failures_text(result["failures"]))
    kept = ", ".join(f"{part} {size(n_bytes)}" for part, n_bytes in result["store"].items())
    parts.append(f"store: {kept}\nSnakemake's log: {result['log']}")
    return "\n\n".join(parts)


def _count(n: int | None) -> str:
    return "" if n is None else f"{n:,}"


def _failures_text(failed: list[dict[str, Any]]) -> str:
    """The failures by what they say, the most frequent first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in failed:
        groups.setdefault(_kind(line), []).append(line)
    lines = [f"failed jobs: {len(failed)}"]
    for same in sorted(groups.values(), key=len, reverse=True)[:SHOWN]:
        jobs = "1 job" if len(same) == 1 else f"{len(same):,} jobs, the last"
        more = f" and {len(same) - LOGS_SHOWN:,} more" if len(same) > LOGS_SHOWN else ""
        lines.append(f"  {jobs} {duration(same[0]['s_ago'])} ago: {same[0]['error']}")
        lines.append(f"    {', '.join(line['log'] for line in same[:LOGS_SHOWN])}{more}")
    if len(groups) > SHOWN:
        lines.append(f"  and {len(groups) - SHOWN} other reasons")
    return "\n".join(lines)


def _kind(failure: dict[str, Any]) -> str:
    """What a failure says, without numbers and the name of its own role or conversation."""
    own = re.escape(Path(failure["log"]).stem)
    return re.sub(r"\d+", "0", re.sub(rf"(?<!\w){own}(?!\w)", "", failure["error"]))


def _host_line(host: dict[str, Any]) -> str:
    doing = "waits for work"
    if host.get("op"):
        doing = f"{host['op']}: {host['said'] or host['subject'] or 'at work'}"
    waiting = f"; jobs waiting for it: {host['waiting']}" if host.get("waiting") else ""
    silent = f"; no news for {duration(host['silent_s'])}, probably gone" if host["silent_s"] > SILENT else ""
    return f"  {host['kind']} host {host['pid']} on {host['node']}: {doing}{waiting}{silent}"
