"""The state of a run: what is finished, what a real host says of itself, and which failures still stand."""

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from personascope.errors import UserError
from personascope.formats.files import read_json, write_json
from personascope.hosting.store import feature_files
from personascope.runs.job import failures_file, job
from personascope.runs.status import hosts, last_run, note_run, show, status
from personascope.runs.unanalyzed import last_lines

LOGS = Path("logs/demo")
HOSTS, FAILURES = LOGS / "hosts", failures_file("demo")
RUN: dict[str, Any] = {
    "experiment": "demo",
    "model": "m",
    "sae": "s",
    "mode": "general",
    "roles": ["ghost", "pirate"],
    "conversations": ["talk"],
    "analyses": ["default"],
    "results": "results/demo",
    "store": "store",
}
FAIL = """
import sys
from pathlib import Path
from types import SimpleNamespace
from personascope.errors import UserError
from personascope.runs.job import job
with job(SimpleNamespace(log=[sys.argv[1]], output=[], config={"experiment": "demo"})):
    raise UserError(f"role {Path(sys.argv[1]).stem}: no room") if sys.argv[2] == "user" else ValueError("odd")
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a run that has just started (its name is short: a host's socket is in it)."""
    with tempfile.TemporaryDirectory(prefix="ps-") as name:
        monkeypatch.chdir(name)
        note_run(RUN, ["run.log"])
        yield Path(name)


def put(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("x")


def done(result: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {stage["stage"]: (stage["done"], stage["all"]) for stage in result["stages"]}


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return value


def test_no_run_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no run was started here"):
        status()


def test_the_run_started_last_is_shown_and_any_other_by_name(folder: Path):
    note_run(RUN | {"experiment": "main", "results": "results/main"}, ["other.log"])
    assert status()["experiment"] == "main" and "main, m: run started" in show(status())
    assert status("demo")["experiment"] == "demo" and last_run("demo")["results"] == "results/demo"
    with pytest.raises(UserError, match="no run of the experiment 'study' was started here"):
        status("study")


def test_finished_files_are_counted_among_those_asked_for(folder: Path):
    assert {stage: n for stage, (n, _) in done(status()).items() if n} == {}
    put("results/demo/responses/general/m/pirate.jsonl", "results/demo/responses/general/m/another.jsonl")
    put("results/demo/responses/general/m/.ghost.jsonl.1.tmp", "results/main/responses/general/m/ghost.jsonl")
    put("results/demo/features/general/m_s/pirate.parquet")
    put("results/demo/features/general/m_s/pirate.residuals.parquet")
    put("results/demo/tokens/m_s/talk.parquet", "results/demo/drift/general/m_s/default/talk/summary.json")
    result = status()
    counts = done(result)
    assert counts["responses"] == counts["features"] == (1, 2)
    assert counts["tokens"] == counts["drift default, begun"] == (1, 1)
    assert counts["reference"] == counts["axis"] == (0, 1)
    assert result["alive"] is True and "running" in show(result)


def test_a_run_that_was_killed_has_ended(folder: Path):
    run = read_json(LOGS / "run.json")
    write_json(LOGS / "run.json", run | {"process_started": run["process_started"] - 100})
    assert status()["alive"] is False
    write_json(LOGS / "run.json", run | {"node": "elsewhere"})
    assert status()["alive"] is None


def test_conversations_that_fail_are_named_with_the_reason(folder: Path) -> None:
    names, analyses = ["at-sea", "broken", "late", "long"], ["default", "pc1"]
    run = RUN | {"conversations": names, "analyses": analyses, "unread": {"broken": "talks/broken.json: not JSON"}}
    note_run(run, ["run.log"])
    said = {"broken": "talks/broken.json: not JSON"}
    assert status()["not_analyzed"] == said and last_lines(run)[0].startswith("1 of 4 conversations could not be")
    for name, analysis, error in (
        *(("at-sea", analysis, None) for analysis in analyses),
        *(("broken", analysis, "the same again") for analysis in analyses),
        *(("long", analysis, "long.json: too long") for analysis in analyses),
        ("late", "default", None),
        ("late", "pc1", "turn 9 is outside"),
    ):
        content = {"status": "failed" if error else "ok", "error": error}
        write_json(Path(f"results/demo/drift/general/m_s/{analysis}/{name}/summary.json"), content)
    said |= {"late (pc1)": "turn 9 is outside", "long": "long.json: too long"}
    assert status()["not_analyzed"] == said
    line = (
        "3 of 4 conversations could not be analyzed: broken: talks/broken.json: not JSON; long: long.json: too long; "
        "late (pc1): turn 9 is outside"
    )
    assert last_lines(run) == [line] and line in show(status())
    assert last_lines(RUN) == []


def test_the_store_is_measured(folder: Path):
    with feature_files("store").add("a" * 64) as files:
        (files / "features.parquet").write_bytes(b"x" * 1000)
    assert status()["store"]["features"] > 1000
    assert status()["store"]["responses"] == 0


def fail(log: str, kind: str = "user") -> None:
    failed = subprocess.run([sys.executable, "-c", FAIL, log, kind], capture_output=True, check=False)
    assert failed.returncode == 1


def test_failures_stand_until_the_log_is_written_again(folder: Path):
    fail("logs/demo/generate/pirate.log")
    fail("logs/demo/extract/ghost.log", "bug")
    errors = {line["log"]: line["error"] for line in status()["failures"]}
    assert errors == {
        "logs/demo/generate/pirate.log": "role pirate: no room",
        "logs/demo/extract/ghost.log": "ValueError: odd",
    }
    assert "failed jobs: 2" in show(status())
    assert {stage["stage"]: stage["failed"] for stage in status()["stages"] if stage["failed"]} == {
        "responses": 1,
        "features": 1,
    }
    later = time.time() + 60
    os.utime("logs/demo/generate/pirate.log", (later, later))  # the job has run again
    Path("logs/demo/extract/ghost.log").unlink()
    assert status()["failures"] == []


def test_failures_are_grouped_by_what_they_say_and_counted_by_stage(folder: Path):
    for name in "abcd":
        fail(f"logs/demo/generate/{name}.log")
    fail("logs/demo/drift_conversation/general/m_s/default/talk.log", "bug")
    fail("logs/demo/judge_traits/own.log", "bug")
    result = status()
    failed = {stage["stage"]: (stage["done"], stage["failed"]) for stage in result["stages"] if stage["failed"]}
    assert failed == {"responses": (0, 4), "drift default, begun": (0, 1), "judge_traits": (None, 1)}
    text = show(result).split("failed jobs: ")[1].splitlines()
    assert text[0] == "6" and text[1].startswith("  4 jobs, the last ") and text[1].endswith(" ago: role d: no room")
    assert text[2] == "    logs/demo/generate/d.log, logs/demo/generate/c.log, logs/demo/generate/b.log and 1 more"
    assert text[3].startswith("  2 jobs, the last ") and text[3].endswith("ValueError: odd")
    assert ["responses", "0", "2", "4"] in [line.split() for line in show(result).splitlines()]


def test_only_what_the_last_run_asked_for_and_failed_at_is_shown(folder: Path):
    fail("logs/demo/extract/ghost.log")
    later = time.time() + 60
    run = read_json(LOGS / "run.json")
    assert [stage["stage"] for stage in status()["stages"]][:3] == ["responses", "features", "role matrix"]
    write_json(LOGS / "run.json", run | {"started": later, "rules": ["generate", "drift_conversation"]})
    result = status(now=later + 1)
    assert result["failures"] == [] and "failed jobs" not in show(result)
    assert [stage["stage"] for stage in result["stages"]] == ["responses", "drift default, begun"]


def test_a_line_that_cannot_be_written_changes_nothing_for_the_job(folder: Path):
    Path(FAILURES).mkdir()
    fail("logs/demo/generate/pirate.log")
    assert "no room" in Path("logs/demo/generate/pirate.log").read_text()


def test_a_job_that_succeeds_leaves_no_line(folder: Path):
    with job(SimpleNamespace(log=["logs/demo/fine.log"], output=[], config={"experiment": "demo"})):
        logging.info("fine")
    assert not FAILURES.exists()


def start_host(folder: Path) -> "subprocess.Popen[bytes]":
    me = psutil.Process()
    command = [
        sys.executable,
        "-m",
        "personascope.hosting.host",
        "--kind",
        "analysis",
        "--socket",
        str(folder / "socket"),
    ]
    command += ["--owner", str(me.pid), "--started", repr(me.create_time()), "--experiment", "demo"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_host_says_what_it_does_and_a_killed_one_is_forgotten(folder: Path):
    process = start_host(folder)
    try:
        (host,) = wait_for(lambda: status()["hosts"])
        assert (host["kind"], host["pid"], host["node"]) == ("analysis", process.pid, socket.gethostname())
        assert "waits for work" in show(status()) and "op" not in host
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert list(HOSTS.iterdir()) and status()["hosts"] == []
    assert list(HOSTS.iterdir()) == []


def test_hosts_of_other_nodes_are_doubted_then_forgotten(folder: Path):
    said = {"op": "generate", "subject": "pirate", "said": "pirate: 3/12 responses, 11 tokens/s, 2 h 10 min left"}
    write_json(HOSTS / "n1-5.json", said | {"kind": "model", "node": "n1", "pid": 5, "started": 0.0, "updated": 1000.0})
    (HOSTS / "torn.json").write_text("{")
    text = show(status(now=1010.0) | {"started_s_ago": 1.0})
    assert "model host 5 on n1: generate: pirate: 3/12 responses, 11 tokens/s, 2 h 10 min left\n" in text
    assert "no news for 10 min, probably gone" in show(status(now=1600.0) | {"started_s_ago": 1.0})
    assert hosts(HOSTS, 1000.0 + 2 * 86400) == [] and not (HOSTS / "n1-5.json").exists()
