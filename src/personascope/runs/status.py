"""What a run has done, what it is doing now, and what failed, from a few small files.

Results are counted with one listing a folder, none of them opened. What is running the hosts say themselves, in
hosts/; what failed the jobs do, in failures.jsonl; what is asked for the run does when it starts, in run.json. All of
these lie in logs/{experiment}/ of the working directory.
"""

import os
import socket
import time
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

SILENT = 120.0  # seconds without news after which a host is doubted (it writes every 30)
FORGOTTEN = 86400.0  # and after which its file is removed
SHOWN = 10  # failed jobs


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


def note_run(settings: dict[str, Any], logs: Iterable[str | Path]) -> None:
    """Write down what a run that starts now is asked for; called by the workflow."""
    me = psutil.Process()
    process = {"node": socket.gethostname(), "pid": me.pid, "process_started": me.create_time()}
    write_json(
        run_file(settings["experiment"]),
        settings | process | {"started": time.time(), "log": ", ".join(map(str, logs))},
    )


def status(experiment: str | None = None, *, now: float | None = None) -> dict[str, Any]:
    """The state of the last run of an experiment, or of any; UserError where none was started here."""
    now, run = now or time.time(), last_run(experiment)
    logs = logs_folder(run["experiment"])
    here = run["node"] == socket.gethostname()
    alive = is_alive(run["pid"], run["process_started"]) if here else None
    return {
        "experiment": run["experiment"],
        "model": run["model"],
        "started_s_ago": now - run["started"],
        "node": run["node"],
        "alive": alive,
        "log": run["log"],
        "stages": stages(run),
        "not_analyzed": unanalyzed(run),
        "conversations": len(run["conversations"]),
        "hosts": hosts(logs / "hosts", now),
        "failures": failures(failures_file(run["experiment"]), now),
        "store": disk_usage(run["store"]),
    }


def stages(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Finished files of each stage among those asked for."""
    results, cell = Path(run["results"]), f"{run['model']}_{run['sae']}"
    by_mode = f"{run['mode']}/{cell}"
    parts = [
        ("responses", f"responses/{run['mode']}/{run['model']}", ".jsonl", run["roles"]),
        ("features", f"features/{by_mode}", ".parquet", run["roles"]),
        ("role matrix", f"aggregated/{by_mode}/mean", ".npz", ["per_role"]),
        ("axis", f"axis/{by_mode}", ".npz", ["axis"]),
        ("tokens", f"tokens/{cell}", ".parquet", run["conversations"]),
        ("reference", f"reference/{by_mode}", ".npz", run["analyses"]),
        # A run's files lie in a folder of its own, which is there as soon as its job has started.
        *((f"drift {name}, begun", f"drift/{by_mode}/{name}", "", run["conversations"]) for name in run["analyses"]),
        ("summary", f"summary/{by_mode}", ".parquet", ["drift_summary"] if run["conversations"] else []),
    ]
    return [
        {"stage": stage, "done": len(_names(results / folder, suffix).intersection(wanted)), "all": len(wanted)}
        for stage, folder, suffix, wanted in parts
        if wanted
    ]


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


def failures(file: Path, now: float) -> list[dict[str, Any]]:
    """The last failure of each job whose log was not written again since, newest first."""
    last = {line["log"]: line for line in _lines(file) if {"log", "written", "time", "error"} <= line.keys()}
    standing = [line for line in last.values() if _untouched(Path(line["log"]), line["written"])]
    return sorted(
        ({"log": line["log"], "error": line["error"], "s_ago": now - line["time"]} for line in standing),
        key=lambda line: line["s_ago"],
    )


def _lines(file: Path) -> Iterable[dict[str, Any]]:
    return iter_jsonl(file) if file.is_file() else []


def _untouched(log: Path, written: float) -> bool:
    try:
        return log.stat().st_mtime <= written + 2  # file servers round times
    except OSError:
        return False


def show(result: dict[str, Any]) -> str:
    """The state as text."""
    words = {True: "running", False: "ended", None: "not seen from this node"}
    ago = duration(result["started_s_ago"])
    run = f"{result['experiment']}, {result['model']}"
    parts = [f"{run}: run started {ago} ago on {result['node']}, {words[result['alive']]}"]
    rows = [[stage["stage"], f"{stage['done']:,}", f"{stage['all']:,}"] for stage in result["stages"]]
    parts.append(table(["stage", "done", "of"], rows))
    parts.append("\n".join(["now:", *map(_host_line, result["hosts"])]) if result["hosts"] else "no host is running")
    if said := not_analyzed(result["not_analyzed"], result["conversations"]):
        parts.append(said)
    if failed := result["failures"]:
        lines = [f"  {line['log']}, {duration(line['s_ago'])} ago: {line['error']}" for line in failed[:SHOWN]]
        more = [f"  and {len(failed) - SHOWN} more"] if len(failed) > SHOWN else []
        parts.append("\n".join([f"failed jobs: {len(failed)}", *lines, *more]))
    kept = ", ".join(f"{part} {size(n_bytes)}" for part, n_bytes in result["store"].items())
    parts.append(f"store: {kept}\nSnakemake's log: {result['log']}")
    return "\n\n".join(parts)


def _host_line(host: dict[str, Any]) -> str:
    doing = "waits for work"
    if host.get("op"):
        doing = f"{host['op']}: {host['said'] or host['subject'] or 'at work'}"
    waiting = f"; jobs waiting for it: {host['waiting']}" if host.get("waiting") else ""
    silent = f"; no news for {duration(host['silent_s'])}, probably gone" if host["silent_s"] > SILENT else ""
    return f"  {host['kind']} host {host['pid']} on {host['node']}: {doing}{waiting}{silent}"
