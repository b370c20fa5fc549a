"""The backend that runs vLLM's server, as far as it goes without vLLM; tests/vllm has the rest."""

import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from personascope.backends import Completion, Request, Sampling, make_backend
from personascope.backends.vllm_server import VLLMServerBackend, server_flags
from personascope.errors import UserError

REQUESTS = [Request([1, 2, 3], seed=0, max_tokens=4)]
# A server in a few lines: it gives each prompt back as the answer, and ends on a prompt of one token.
SERVER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingUnixStreamServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if len(asked["prompt"]) == 1:
            print("CUDA ran out of it", flush=True)
            os._exit(1)
        choice = {"text": "", "token_ids": asked["prompt"], "finish_reason": "length"}
        data = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self):
        return "somebody"

    def log_message(self, *args):
        pass

ThreadingUnixStreamServer(sys.argv[3].removeprefix("--uds="), Handler).serve_forever()
"""


def failure(backend: Any) -> str:
    with pytest.raises(UserError) as caught:
        list(backend.generate(REQUESTS, Sampling()))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def program(folder: Path, text: str) -> str:
    """An executable that stands for a Python with vLLM."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_flags() -> None:
    options = {"max-num-seqs": 64, "enforce-eager": True, "enable-prefix-caching": False, "revision": None}
    assert server_flags(options) == ["--max-num-seqs=64", "--enforce-eager", "--no-enable-prefix-caching"]
    assert server_flags({"sizes": [1, 2], "rope": {"factor": 2.0}}) == ["--sizes", "1", "2", '--rope={"factor": 2.0}']


def test_engine_options_win_in_either_spelling() -> None:
    backend = VLLMServerBackend("m", [2], engine_options={"max_model_len": 7, "dtype": "float16"})
    assert {"--model=m", "--max-model-len=7", "--dtype=float16"} <= set(backend.flags)
    assert not {"--max-model-len=2048", "--dtype=bfloat16"} & set(backend.flags)


@pytest.mark.parametrize("name", ["uds", "model", "api_key", "served-model-name"])
def test_the_backend_s_own_flags_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"engine_options: {name.replace('_', '-')} is set by the backend vllm_server"):
        make_backend("vllm_server", "m", [2], engine_options={name: "x"})


def test_a_python_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"backend_options\.python: no/such/python is no program"):
        make_backend("vllm_server", "m", [2], python="no/such/python")


def test_a_server_that_cannot_start_is_told_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    broken = program(tmp_path, "import sys; print('no libcuda here', sys.argv[3][:6]); sys.exit(1)")
    backend = VLLMServerBackend("m", [2], python=broken)
    assert (
        failure(backend) == f"the vLLM server could not start. Last lines of {backend.log_file}: no libcuda here --uds="
    )
    assert psutil.Process().children() == []
    assert not Path(backend.socket).parent.exists()


def test_the_first_error_in_the_log_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = "INFO no XError: here\\nValueError: too little memory\\nRuntimeError: see above"
    backend = VLLMServerBackend("m", [2], python=program(tmp_path, f"import sys; sys.exit(' {lines}')"))
    assert failure(backend).endswith(f"could not start. {backend.log_file} says: ValueError: too little memory")


def test_a_server_s_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts once, answers, is closed to others, is replaced when it died, and is gone when it is closed."""
    monkeypatch.chdir(tmp_path)
    backend = VLLMServerBackend("m", [2], python=program(tmp_path, SERVER), start_timeout_s=60)
    expected = [(0, Completion([1, 2, 3], "length"))]
    assert list(backend.generate(REQUESTS, Sampling())) == expected
    first = backend.socket
    assert Path(first).parent.stat().st_mode & 0o077 == 0
    assert list(backend.generate(REQUESTS, Sampling())) == expected and backend.socket == first
    with pytest.raises(UserError, match=r"ended while it worked; .* CUDA ran out of it"):
        list(backend.generate([Request([1], 0, 1)], Sampling()))
    assert not Path(first).parent.exists()
    assert list(backend.generate(REQUESTS, Sampling())) == expected and backend.socket != first
    backend.close()
    assert psutil.Process().children() == []
    assert not Path(backend.socket).parent.exists()


def test_a_server_that_never_gets_ready_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    slow = program(tmp_path, "import time; print('loading', flush=True); time.sleep(600)")
    backend = VLLMServerBackend("m", [2], python=slow, start_timeout_s=1.0)
    assert "start_timeout_s: the vLLM server was not ready after 1 s." in failure(backend)
    assert psutil.Process().children() == []


def test_a_temporary_directory_with_too_long_a_name_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(long))
    assert "set TMPDIR to a shorter one" in failure(VLLMServerBackend("m", [2]))
    assert list(long.iterdir()) == []
