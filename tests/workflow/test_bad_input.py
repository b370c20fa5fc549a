"""Mistakes in the input, through the real command: one line says what is wrong, no traceback, nothing is left over."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.helpers.workspace import MODEL, REPO, SAE, TINY, Outcome, Workspace, wait_for

pytestmark = pytest.mark.workflow

PIRATE = "resources/roles/pirate.json"
KEY = "sk-canary-91c2"

Prepare = Callable[[Workspace], dict[str, Any] | None]


def write(name: str, text: str) -> Prepare:
    def prepare(workspace: Workspace) -> None:
        (workspace.path / name).write_text(text)

    return prepare


def config(**blocks: Any) -> Prepare:
    return lambda workspace: blocks


# What is wrong, and what the one line must say. Found before anything runs (all cases: tests/runs/).
PARSED: dict[str, tuple[Prepare, list[str]]] = {
    "unknown-key": (config(generation={"temprature": 1}), ["config, generation", "temprature", "config/README.md"]),
    "role-malformed": (write(PIRATE, '{"instruction": ['), [PIRATE, "line 1"]),
    "drift-manual-without-turn": (
        config(drift={"analyses": {"mine": {"transition_pick": "manual"}}}),
        ["drift.analyses.mine.manual_turn"],
    ),
    "no-such-folder": (config(model={"id": "./nowhere"}), ["config, model.id", "./nowhere"]),
    "no-such-sae": (
        config(sae={"path": None, "release": "gemma-scope-2b-pt-res-canonical", "id": "layer_12/width_16k"}),
        ["config, sae.id", "layer_12/width_16k/canonical"],
    ),
    "anchor-not-there": (config(axis={"anchor": ["asistant"]}), ["config, axis.anchor", "'assistant'?"]),
}


def own_model(workspace: Workspace, *without: str) -> Path:
    """The model as links in a folder of its own, some files left out."""
    folder = workspace.path / "model"
    folder.mkdir()
    for file in (workspace.path / "results/models" / MODEL).iterdir():
        if file.name not in without:
            (folder / file.name).symlink_to(file)
    return folder


def no_chat_template(workspace: Workspace) -> dict[str, Any]:
    folder = own_model(workspace, "chat_template.jinja", "tokenizer_config.json")
    settings = json.loads(workspace.read(f"results/models/{MODEL}/tokenizer_config.json"))
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return {"model": {"id": "model"}}


def wrong_sae(workspace: Workspace) -> dict[str, Any]:
    """An SAE for a model of width 16."""
    folder = workspace.path / "narrow"
    folder.mkdir()
    settings = json.loads(workspace.read(f"{SAE}/cfg.json"))
    (folder / "cfg.json").write_text(json.dumps(settings | {"d_in": 16, "d_sae": 32, "k": 4}))
    shapes = {"W_enc": (16, 32), "W_dec": (32, 16), "b_enc": (32,), "b_dec": (16,)}
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    save_file(weights, folder / "sae_weights.safetensors")
    return {"sae": {"path": "narrow"}}


def disk(workspace: Workspace, *, free: int) -> dict[str, Any]:
    """Store and results on a file system of 64 kB with so many bytes free."""
    folder = workspace.path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=65536", "tmpfs", str(folder)], check=True)
    (folder / "ballast").write_bytes(bytes(65536 - free))
    return {"store": "small/store", "pathvars": {"results": "small/results"}}


class Handler(BaseHTTPRequestHandler):
    """/refuse/... wants another key, /garbage/... answers with a web page."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        refuse = self.path.startswith("/refuse/")
        body = b'{"error": {"message": "bad key %s"}}' % KEY.encode() if refuse else b"<html>\n<p>Welcome!</p>\n</html>"
        self.send_response(401 if refuse else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def endpoint(path: str | None) -> Prepare:
    """An endpoint that behaves like the path's first word; None: nobody listens."""

    def prepare(workspace: Workspace) -> dict[str, Any]:
        if path is None:
            with socket.create_server(("127.0.0.1", 0)) as unused:
                port = unused.getsockname()[1]
        else:
            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            port = server.server_address[1]
        options = {"base_url": f"http://127.0.0.1:{port}/{path or 'v1'}", "api_key_env": "CANARY", "max_retries": 0}
        return {"generation": {"backend": "openai", "backend_options": options}}

    return prepare


# Found by a job, in the model host or behind it.
RUNNING: dict[str, tuple[Prepare, list[str]]] = {
    "no-such-model": (config(model={"id": "nobody/no-such-model"}), ["model.id", "nobody/no-such-model"]),
    "no-chat-template": (no_chat_template, ["model.id", "chat template"]),
    "prompt-too-long": (config(generation={"max_model_len": 16}), ["role pirate", "question", "max_model_len is 16"]),
    "wrong-option": (config(generation={"backend_options": {"base_url": "http://x"}}), ["backend_options", "base_url"]),
    "endpoint-down": (endpoint(None), ["http://127.0.0.1:", "is down"]),
    "endpoint-refuses-key": (endpoint("refuse/v1"), ["refuses the key", "CANARY"]),
    "endpoint-answers-garbage": (endpoint("garbage/v1"), ["something else than completions", "Welcome!"]),
    "store-full": (lambda workspace: disk(workspace, free=0), ["No space left", "pirate"]),
    "results-full": (lambda workspace: disk(workspace, free=4096), ["No space left", "pirate.jsonl"]),
}
NEED_ROOT = {"store-full", "results-full"}
PIRATE_RESPONSES = f"<results>/main/responses/general/{MODEL}/pirate.jsonl"


@dataclass
class Failed:
    """A run that was to fail: how it ended, and what it left."""

    outcome: Outcome
    outputs: list[str]
    leftovers: list[str]


def run_case(folder: Path, prepare: Prepare, dry: bool) -> Failed:
    workspace = Workspace.make(folder, with_model=True)
    overlay = workspace.overlay(TINY, {"model": {"name": MODEL}}, prepare(workspace) or {})
    results = "small/results" if (folder / "small").exists() else "results"
    target = PIRATE_RESPONSES.replace("<results>", results)
    args = ["--dry-run"] if dry else [target, "--cores", "1"]
    outcome = workspace.snakemake(*args, "--configfile", overlay, check=False, env={"CANARY": KEY})
    outputs = [name for name in workspace.files(results) if "/models/" not in name]
    failed = Failed(outcome, outputs, workspace.leftovers())
    if results != "results":
        wait_for(lambda: not workspace.processes(), 5)
        subprocess.run(["umount", str(folder / "small")], check=True)
    return failed


@pytest.fixture(scope="module")
def failures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model: Path) -> Any:
    """The selected cases, two at a time: each of them starts Snakemake, and some the model host."""
    here = [item for item in request.session.items if item.path == request.path]  # others have cases of these names too
    specs = [getattr(item, "callspec", None) for item in here]
    names = [spec.params.get("case") for spec in specs if spec]
    base = tmp_path_factory.mktemp("bad")
    chosen = [name for name in names if name in PARSED or (name in RUNNING and can_run(name))]
    pool = ThreadPoolExecutor(2)
    return {name: pool.submit(run_case, base / name, (PARSED | RUNNING)[name][0], name in PARSED) for name in chosen}


def can_run(case: str) -> bool:
    return case not in NEED_ROOT or (os.geteuid() == 0 and shutil.which("mount") is not None)


def assert_one_line(outcome: Outcome, said: list[str]) -> None:
    """Some line says it all; it is an "error:" or follows Snakemake's own "WorkflowError"."""
    lines = outcome.text.splitlines()
    telling = [i for i, line in enumerate(lines) if all(word in line for word in said)]
    assert telling, outcome.text
    assert any(lines[i].startswith("error: ") or lines[i - 1].startswith("WorkflowError") for i in telling), (
        outcome.text
    )
    assert "Traceback" not in outcome.text and "common.smk" not in outcome.text, outcome.text


@pytest.mark.parametrize("case", [*PARSED, *RUNNING])
def test_one_line_says_what_is_wrong(failures: Any, case: str):
    if not can_run(case):
        pytest.skip("mounting a small file system needs root")
    failed = failures[case].result()
    assert failed.outcome.code != 0
    assert_one_line(failed.outcome, (PARSED | RUNNING)[case][1])
    assert failed.outputs == [] and failed.leftovers == []
    assert KEY not in failed.outcome.text


def test_another_folder(tmp_path: Path) -> None:
    """Snakemake with the workflow's Snakefile, started elsewhere, and its rules' place is in no line."""
    command = [sys.executable, "-m", "snakemake", "-n", "--snakefile", str(REPO / "Snakefile")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = f"error: no config/config.yaml in {tmp_path}, where files are looked for; "
    assert done.stderr.startswith(f"{said}run in the workflow's folder (cd {REPO})") and ".smk" not in done.stderr


def test_an_anchor_that_is_not_in_the_matrix(finished: Workspace):
    overlay = finished.overlay(TINY, {"axis": {"anchor": ["helper"]}})
    outcome = finished.snakemake("--cores", "1", "--configfile", overlay, check=False)
    assert outcome.code != 0
    assert_one_line(outcome, ["axis.anchor", "helper"])
    assert finished.leftovers() == []


def test_sae_that_does_not_fit_the_model(finished: Workspace):
    overlay = finished.overlay(TINY, wrong_sae(finished))
    target = f"results/main/features/general/{MODEL}_narrow/pirate.parquet"
    outcome = finished.snakemake(target, "--cores", "1", "--configfile", overlay, check=False)
    assert outcome.code != 0
    assert_one_line(outcome, ["16 dimensions", "576"])
    assert not (finished.path / target).exists() and finished.leftovers() == []
