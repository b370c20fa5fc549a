"""Plan, status and costs of the workflow itself: real dry-runs, and what a tiny finished experiment really took."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from personascope.formats.tokens import read_metadata
from personascope.runs.measured import result_files
from tests.helpers.workspace import TINY, Workspace

pytestmark = pytest.mark.workflow

PROFILE = """
groups:
  - generate=generate
  - extract=extract
group-components:
  - generate=2
  - extract=3
"""


def personascope(workspace: Workspace, *args: str, check: bool = True) -> str:
    """Run the command in the workspace; stdout, or stderr where it is to fail."""
    command = [sys.executable, "-m", "personascope.cli", *args]
    done = subprocess.run(
        command, cwd=workspace.path, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True
    )
    assert (done.returncode == 0) is check, done.stdout + done.stderr
    return done.stdout if check else done.stderr


def plan(workspace: Workspace, *args: str) -> dict[str, Any]:
    return json.loads(personascope(workspace, "plan", "--json", *args))


def test_a_clone_has_everything_left(clone: Workspace):
    clone.overlay(TINY)
    (clone.path / "grouped").mkdir()
    (clone.path / "grouped/profile.yaml").write_text(PROFILE)
    rates = ["--generation-rate", "100", "--extraction-rate", "1000"]
    result = plan(clone, "--configfile", "overlay.yaml", "--profile", "grouped", *rates)
    jobs = {job["rule"]: (job["all"], job["left"], job["groups"]) for job in result["jobs"]}
    assert jobs["generate"] == (3, 3, 2) and jobs["extract"] == (3, 3, 1)
    assert jobs["extract_conversation"] == (8, 8, 8)  # four of them are references
    assert jobs["simulate"] == (1, 1, 1) and "all" not in jobs
    assert result["model_loads"] == 2 + 1 + 8 + 1 + 1  # the last for the logit lens
    assert result["tokens"]["responses"] == {"all": 6, "left": 6}
    assert result["tokens"]["output"]["left"] == 6 * 8 + 2 * 8  # and two answers of the simulation
    assert "at most" in result["notes"]["output"] and "characters a token" in result["notes"]["prompt"]
    assert result["hours"]["generation"]["hours"] == pytest.approx(64 / 100 / 3600)
    assert "estimate" in result["disk"]["features"]["note"] and "api" not in result


def test_why_says_what_is_missing_by_stage(clone: Workspace):
    clone.overlay(TINY)
    text = personascope(clone, "plan", "features", "--why", "--configfile", "overlay.yaml")
    assert [" ".join(line.split()) for line in text.splitlines()] == [
        "stage jobs reason",
        "generation 4 its output is missing; fetch_model, generate (3)",
        "extraction 3 its output is missing; extract (3)",
        "total 7",
    ]


def test_only_the_responses(clone: Workspace):
    clone.overlay(TINY, {"generation": {"backend": "openai", "backend_options": {"base_url": "http://127.0.0.1:9/v1"}}})
    prices = ["--price-prompt", "1", "--price-output", "2"]
    text = personascope(clone, "plan", "responses", "--configfile", "overlay.yaml", *prices)
    assert "extract" not in text.split("tokens")[0]
    assert "API:" in text and "48 output tokens" in text and "cost: $0.00" in text
    assert "model loads: 1" in text and "give one" in text


def test_a_mistake_is_one_line(clone: Workspace):
    clone.overlay({"generation": {"max_tokns": 3}})
    said = personascope(clone, "plan", "--configfile", "overlay.yaml", check=False)
    assert said.startswith("error: ") and "max_tokns" in said and said.count("\n") == 1
    said = personascope(clone, "plan", "--profile", "nowhere", check=False)
    assert "nowhere" in said and said.count("\n") == 1


@pytest.mark.model
def test_plan_status_and_costs_of_a_finished_run(finished: Workspace):
    result = plan(finished, "--configfile", "overlay.yaml")
    assert [job for job in result["jobs"] if job["left"]] == [] and result["model_loads"] == 0
    folder = finished.path / "results/main/tokens/SmolLM2-135M-Instruct_layer_15_width_4096"
    tokens = sum(read_metadata(path)["n_tokens"] for path in result_files(folder, ".parquet"))
    assert result["tokens"]["conversations"]["all"] == tokens
    made = json.loads(personascope(finished, "costs", "--json"))["rules"]
    assert made["extract"]["jobs"] == 3
    assert made["extract"]["tokens"] == pytest.approx(result["tokens"]["extraction"]["all"], abs=3)

    state = json.loads(personascope(finished, "status", "--json"))
    assert state["alive"] is False and state["hosts"] == [] and state["failures"] == []
    assert [stage for stage in state["stages"] if stage["done"] != stage["all"]] == []

    assert personascope(finished, "plan", "--why", "--configfile", "overlay.yaml") == "nothing is left to do\n"
    finished.overlay(TINY, {"generation": TINY["generation"] | {"temperature": 0.8}}, name="warm.yaml")
    why = json.loads(personascope(finished, "plan", "features", "--why", "--json", "--configfile", "warm.yaml"))
    assert [(group["stage"], group["reason"], group["jobs"], group["details"]) for group in why] == [
        ("generation", "a parameter has changed", 3, ["was 0.7, now 0.8"]),
        ("extraction", "what it reads is made anew", 3, []),
    ]

    # More questions: what is left is what is new, at the measured rate.
    finished.overlay(TINY, {"roles": {"select": ["assistant", "default", "ghost", "pirate"]}}, name="more.yaml")
    more = plan(finished, "features", "--configfile", "more.yaml")
    assert {job["rule"]: job["left"] for job in more["jobs"]}["generate"] == 1
    assert more["tokens"]["responses"] == {"all": 8, "left": 2}
    assert more["hours"]["generation"]["hours"] > 0 and "measured" in more["disk"]["features"]["note"]
