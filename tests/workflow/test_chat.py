"""Responses that others make or have made: through a chat endpoint, and from a cache."""

import json
from typing import Any

import pytest

from personascope.formats.importers import SystemPrompts, import_responses
from tests.helpers.endpoint import Reply, Server
from tests.helpers.workspace import MODEL, RESPONSES, Workspace

pytestmark = pytest.mark.workflow

KEY = "sk-canary-6b1f90"


def behave(number: int, body: dict[str, Any]) -> Reply:
    """Arr, after two errors that show the key."""
    if number < 2:
        return Reply({"error": {"code": 503, "message": f"no worker for {KEY}"}}, 503 if number else 200)
    return Reply({"choices": [{"message": {"content": "Arr!"}, "finish_reason": "stop"}]})


def test_responses_of_a_chat_endpoint(workspace: Workspace) -> None:
    server = Server("/chat/completions", behave)
    options = {"base_url": server.base_url, "api_key_env": "CANARY", "backoff_s": 0.01}
    generation = {"backend": "chat", "backend_options": options, "variants": [0]}
    workspace.overlay({"roles": {"select": ["pirate"]}, "questions": {"select": 2}, "generation": generation})
    workspace.snakemake("responses", "--cores", "1", "--configfile", "overlay.yaml", env={"CANARY": KEY})
    server.close()
    rows = [json.loads(line) for line in workspace.read(f"{RESPONSES}/pirate.jsonl").splitlines()]
    assert [(row["response"], row["prompt_exact"]) for row in rows] == [("Arr!", False)] * 2
    sent = {body["seed"]: body["messages"] for body in server.bodies}
    assert sent == {row["seed"]: row["conversation"][:-1] for row in rows}
    assert len(server.bodies) == 4 and set(server.keys) == {f"Bearer {KEY}"}
    files = [path for name in ("results/main", "logs", "store", ".snakemake") for path in workspace.files(name).items()]
    assert files and [path for path, data in files if KEY.encode() in data] == []


def test_imported_responses_are_not_made_again(workspace: Workspace) -> None:
    cache = workspace.path / "cache.json"
    cache.write_text(json.dumps({role: {"Who are you?": "I.", "Why?": "So."} for role in ("pirate", "default")}))
    system = SystemPrompts(workspace.path / "resources/roles")
    import_responses(cache, workspace.path / "results/main", model=MODEL, system=system)
    questions = {"file": "results/main/questions.jsonl", "select": "all"}
    roles = {"select": ["pirate", "default"]}
    workspace.overlay({"roles": roles, "questions": questions, "generation": {"variants": [0]}})
    assert workspace.counts("features", "--configfile", "overlay.yaml") == {"extract": 2}
