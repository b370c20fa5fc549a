"""What a run would do, asked of Snakemake itself: a real dry-run in a process of its own, and its output read.

The dry-run is of a small Snakefile that includes the workflow's and writes down the configuration as the workflow
sees it: overlays merged, defaults filled in.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope.errors import UserError, did_you_mean
from personascope.runs.config import check_files

WRAPPER = """
include: {snakefile!r}

import json, pathlib

pathlib.Path({answer!r}).write_text(json.dumps({{
    **E.settings(""), "config": E.config,
    "stages": {{rule.name: pathlib.Path(rule.snakefile).stem for rule in workflow.rules}},
    "conversations": {{name: workflow.pathvars.apply(path) for name, path in (E.conversations | E.references).items()}},
    "places": E.places,
    "folders": {{name: workflow.pathvars.apply(f"<{{name}}>") for name in ("out", "log", "bench")}},
}}))
"""
HEADER = re.compile(r"(?:\[[^]]*\] )?(?P<kind>Group job|rule|localrule|checkpoint) (?P<name>[A-Za-z0-9_]+)(?: \(|:$)")


@dataclass(frozen=True)
class Job:
    """A job of the DAG; `group` numbers the allocation it shares with others, None where it has its own; `reason` is
    Snakemake's."""

    rule: str
    wildcards: dict[str, str]
    group: int | None
    reason: str = ""


@dataclass(frozen=True)
class DryRun:
    """The jobs of a run, and the workflow's `settings`: those of the experiment, config, conversations, folders."""

    jobs: list[Job]
    settings: dict[str, Any]

    def counts(self) -> Counter[str]:
        """{rule: number of jobs}"""
        return Counter(job.rule for job in self.jobs)

    def allocations(self, *rules: str) -> int:
        """How many groups, and jobs outside any, hold a job of these rules (of any rule where none is named)."""
        mine = [job for job in self.jobs if job.rule in rules or not rules]
        return len({job.group for job in mine if job.group is not None}) + sum(job.group is None for job in mine)


def dry_run(
    targets: Sequence[str], configfiles: Sequence[str], profile: str | None, *, everything: bool = False
) -> DryRun:
    """What is left to do, or `everything` there is; UserError with Snakemake's reason where it refuses."""
    if importlib.util.find_spec("snakemake") is None:
        raise UserError("snakemake is not installed here; the extra `workflow` brings it")
    snakefile = next((path for path in (Path("Snakefile"), Path("workflow/Snakefile")) if path.is_file()), None)
    if snakefile is None:
        raise UserError(f"no Snakefile in {Path.cwd()}; run this in the folder of the workflow")
    if missing := [file for file in configfiles if not Path(file).is_file()]:
        target = "" if "." in missing[0] else f"; a target comes first: personascope plan {missing[0]} --configfile ..."
        raise UserError(f"--configfile {missing[0]}: no such file{target}")
    check_files(configfiles)
    with tempfile.TemporaryDirectory(prefix="personascope-plan-") as folder:
        wrapper, answer = Path(folder) / "Snakefile", Path(folder) / "settings.json"
        wrapper.write_text(WRAPPER.format(snakefile=str(snakefile.resolve()), answer=str(answer)), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", *(targets or ["all"]), "--snakefile", str(wrapper)]
        command += ["--dry-run", "--nolock", "--nocolor", "--quiet", "host"]
        command += ["--forceall"] if everything else []
        command += ["--configfile", *configfiles] if configfiles else []
        command += ["--profile", profile] if profile else []
        out = subprocess.PIPE
        # The names of files are bytes, and not all of them UTF-8.
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
        )
        if done.returncode:
            raise UserError(_unknown_target(done.stdout, snakefile) or _reason(done.stdout))
        return DryRun(parse_jobs(done.stdout), json.loads(answer.read_text(encoding="utf-8")))


def parse_jobs(text: str) -> list[Job]:
    """The jobs that a dry-run lists, without the named targets, which only ask for files."""
    jobs: list[Job] = []
    rule, wildcards, reason, makes, group, groups = "", {}, "", False, None, 0

    def finish() -> None:
        if makes:
            jobs.append(Job(rule, wildcards, group, reason))

    for line in text.splitlines():
        field = line.strip()
        if header := HEADER.match(field):
            finish()
            rule, wildcards, reason, makes = header["name"], {}, "", False
            if header["kind"] == "Group job":
                group, groups = groups, groups + 1
            elif not line.startswith(" "):
                group = None
        elif field.startswith("output: "):
            makes = True
        elif field.startswith("reason: "):
            reason = field.removeprefix("reason: ")
        elif field.startswith("wildcards: "):
            pairs = field.removeprefix("wildcards: ").split(", ")
            wildcards = dict(pair.split("=", 1) for pair in pairs)
    finish()
    return jobs


def _unknown_target(output: str, snakefile: Path) -> str:
    """What to say of a target that no rule makes, with the named one that is nearest; "" where that is not it."""
    if not (found := re.search(r"No rule to produce (\S+)", output)):
        return ""
    named = re.findall(r"^rule (\w+):", snakefile.read_text(encoding="utf-8"), re.MULTILINE)
    near = did_you_mean(found[1], named) or f"; there are {', '.join(named)}, and any file that the rules make"
    return f"no target {found[1]!r}{near}"


def _reason(output: str) -> str:
    """The workflow's own refusal, else the last thing that a failed Snakemake says, as one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if own := [line for line in lines if line.startswith("error: ")]:
        return own[-1].removeprefix("error: ")
    start = max((i for i, line in enumerate(lines) if re.match(r"\w*(Error|Exception)\b", line)), default=-3)
    kept = [line for line in lines[start:] if not line.startswith(("File ", os.path.sep))]
    return f"snakemake --dry-run: {' '.join(kept)[:500] or 'it failed without a word'}"
