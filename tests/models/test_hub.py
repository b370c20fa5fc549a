"""A hub that does not answer: asked once, told in one line, and what is in its cache is read all the same."""

import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from transformers import LlamaConfig

from personascope.models import hub

# What a job asks of the hub, and of each what came of it and the seconds it took.
ASK = """
import json, time
from personascope.errors import UserError
from personascope.models.loading import ModelSpec, load_tokenizer, model_identity
from personascope.models.saes import SAESpec, load_sae

sae = SAESpec(release="gemma-scope-2b-pt-res-canonical", id="layer_12/width_16k/canonical")
asked = {
    "absent": lambda: model_identity(ModelSpec("org/absent")),
    "again": lambda: load_tokenizer(ModelSpec("org/absent")),
    "sae": lambda: load_sae(sae),
    "cached": lambda: model_identity(ModelSpec("org/tiny")),
    "tokens": lambda: load_tokenizer(ModelSpec("org/tiny"))("Hello")["input_ids"],
}
said = {}
for name, ask in asked.items():
    try:
        said[name] = ask()
    except UserError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def test_a_silent_hub_is_told_in_one_line_and_its_cache_is_read(tmp_path: Path, chat_tokenizer: Any) -> None:
    endpoint, commit = closed_port(), "a" * 40
    folder = tmp_path / "hub/models--org--tiny"
    chat_tokenizer.save_pretrained(folder / "snapshots" / commit)
    LlamaConfig(hidden_size=32).save_pretrained(folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(commit)
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    env |= {"HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint}
    done = subprocess.run([sys.executable, "-c", ASK], env=env, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["cached"] == f"org/tiny@{commit}" and said["tokens"] == chat_tokenizer("Hello")["input_ids"]
    for name, what in (("absent", "model.id: org/absent"), ("again", "model.id: org/absent"), ("sae", "sae: release")):
        assert said[name].startswith(what) and f"is not here, and {endpoint} cannot be reached" in said[name]
        assert str(tmp_path / "hub") in said[name] and "\n" not in said[name]
    assert "Retry" not in done.stderr, "the libraries would try for half a minute, each file anew"


class Counting(BaseHTTPRequestHandler):
    asked = 0

    def do_HEAD(self) -> None:
        type(self).asked += 1
        self.send_response(404)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_asked", None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    assert hub.silence() is None, "whatever it answers, it answers"
    with hub.cache_where_silent():
        assert constants.HF_HUB_OFFLINE is False
    server.shutdown()
    server.server_close()
    assert hub.silence() is None and Counting.asked == 1

    monkeypatch.setattr(constants, "ENDPOINT", closed_port())
    monkeypatch.setattr(hub, "_asked", None)
    assert "cannot be reached" in str(hub.silence())
    with hub.cache_where_silent():
        assert constants.HF_HUB_OFFLINE is True
    assert constants.HF_HUB_OFFLINE is False
    assert hub._asked and hub._asked[1] == hub.silence(), "it is not asked again at once"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.silence() == "HF_HUB_OFFLINE is set"
