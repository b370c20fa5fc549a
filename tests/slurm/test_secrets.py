"""A key of an endpoint goes from the environment to the endpoint, through SLURM too, and is in no file."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.helpers.slurm_cluster import Cluster
from tests.helpers.workspace import MODEL, RESPONSES, Workspace
from tests.slurm.runs import RUN

pytestmark = [pytest.mark.workflow, pytest.mark.slurm]

KEY = "sk-canary-7d20"


class Endpoint(ThreadingHTTPServer):
    """Completions that repeat the prompt; the first answers are errors that show the key."""

    refusals = 2

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.keys: set[str | None] = set()


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.add(self.headers.get("Authorization"))
        answer: dict[str, Any] = {"choices": [{"index": 0, "finish_reason": "stop", "token_ids": body["prompt"][-9:]}]}
        answer["choices"][0]["text"] = "x"
        if self.server.refusals:
            self.server.refusals -= 1
            answer = {"error": {"message": f"no worker for {self.headers['Authorization']}"}}
        data = json.dumps(answer).encode()
        self.send_response(503 if "error" in answer else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_key_is_in_no_file(cluster: Cluster, workspace: Workspace, endpoint: Endpoint) -> None:
    url = f"http://127.0.0.1:{endpoint.server_port}/v1"
    options = {"base_url": url, "api_key_env": "CANARY", "vllm_extensions": True}
    generation = {"backend": "openai", "backend_options": options, "variants": [0]}
    workspace.overlay({"roles": {"select": ["pirate"]}, "questions": {"select": 2}, "generation": generation})
    workspace.snakemake(*RUN, "--slurm-keep-successful-logs", env={"CANARY": KEY})
    workspace.snakemake("responses", "--report", "report.html", "--configfile", "overlay.yaml", env={"CANARY": KEY})

    assert endpoint.keys == {f"Bearer {KEY}"}, "it came through SLURM"
    assert workspace.files(RESPONSES).keys() == {f"results/main/responses/general/{MODEL}/pirate.jsonl"}
    files = [path for path in workspace.path.rglob("*") if path.is_file()]
    assert {"report.html", "run.log", "pirate.tsv", "pirate.log"} <= {path.name for path in files}
    assert any("logs/slurm" in str(path) for path in files)
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
