"""Why a run would do what it would do: its jobs by stage and reason, as Snakemake gives it, on one screen."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from personascope.display.terminal import table
from personascope.runs.dryrun import Job, dry_run

# How Snakemake's reasons begin, in the order in which they tell most, and how they are told here; of the last two files
# or values stand behind it. A job has several: what is made anew anyway needs no other reason than that.
REASONS = {
    "Forced execution": "it is forced",
    "Missing output files": "its output is missing",
    "Incomplete output files": "its output is incomplete",
    "Code has changed since last execution": "its code has changed",
    "Set of input files has changed since last execution": "it reads other files than before",
    "Software environment definition has changed since last execution": "its environment has changed",
    "Params have changed since last execution": "a parameter has changed",
    "Updated input files": "an input is newer",
    "Input files updated by another job": "what it reads is made anew",
}
DETAILED = ("Params have changed since last execution", "Updated input files")
NEITHER = "<nothing exclusive>"
CODE_HASH = re.compile(r"'?[0-9a-f]{12,64}'?")
CHANGE = re.compile(r"before: (?P<before>.*?) now: (?P<now>.*)")
SHOWN = 70  # characters of a file or a value


def why(targets: Sequence[str], configfiles: Sequence[str], profile: str | None) -> list[dict[str, Any]]:
    """The jobs of a run by stage (the file of rules) and reason: stage, reason, jobs, {rule: jobs}, and what it was."""
    run = dry_run(targets, configfiles, profile)
    groups: dict[tuple[str, str], tuple[Counter[str], dict[str, None]]] = {}
    for job in run.jobs:
        reason, detail = reason_of(job)
        rules, details = groups.setdefault((run.settings["stages"].get(job.rule, ""), reason), (Counter(), {}))
        rules[job.rule] += 1
        if detail:
            details[detail] = None
    order = {stage: place for place, stage in enumerate(dict.fromkeys(run.settings["stages"].values()))}
    return [
        {"stage": stage, "reason": reason, "jobs": rules.total(), "rules": dict(rules), "details": list(details)}
        for (stage, reason), (rules, details) in sorted(groups.items(), key=lambda group: order.get(group[0][0], -1))
    ]


def reason_of(job: Job) -> tuple[str, str]:
    """(why a job is to run, and the file or the values that changed; "" where there is no more to say)."""
    parts = {start: job.reason.partition(start)[2] for start in REASONS if start in job.reason}
    if not parts:
        return job.reason or "Snakemake gives none", ""
    start = next(iter(parts))
    detail = parts[start].split("; ")[0].removeprefix(": ").strip() if start in DETAILED else ""
    if change := CHANGE.search(detail):
        before, now = change["before"].strip(), change["now"].strip()
        if CODE_HASH.fullmatch(before) and CODE_HASH.fullmatch(now):
            return REASONS["Code has changed since last execution"], ""
        # Snakemake compares sets of values: one that another parameter has too is in neither.
        pair = {"was": before, "now": now}
        detail = ", ".join(f"{when} {_short(value, SHOWN // 2)}" for when, value in pair.items() if value != NEITHER)
    return REASONS[start], _short(detail, SHOWN)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def show(groups: Sequence[dict[str, Any]]) -> str:
    """The groups as a table."""
    if not groups:
        return "nothing is left to do"
    rows = []
    for group in groups:
        details = group["details"]
        more = f" and {len(details) - 1} more" if len(details) > 1 else ""
        said = f"{group['reason']}: {details[0]}{more}" if details else group["reason"]
        rules = [rule if n == 1 else f"{rule} ({n:,})" for rule, n in group["rules"].items()]
        others = f" and {len(rules) - 4} more" if len(rules) > 4 else ""
        rows.append([group["stage"], f"{group['jobs']:,}", f"{said}; {', '.join(rules[:4])}{others}"])
    rows.append(["total", f"{sum(group['jobs'] for group in groups):,}", ""])
    return table(["stage", "jobs", "reason"], rows)
