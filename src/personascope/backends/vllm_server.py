"""vLLM's own OpenAI server (written against 0.32), run below this process behind a Unix socket of its user."""

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx

from personascope.backends import Completion, Request, Sampling
from personascope.backends.openai import OpenAIBackend
from personascope.errors import UserError
from personascope.formats.files import log_tail

log = logging.getLogger(__name__)
T = TypeVar("T")

BASE_URL = "http://localhost"  # only a name: what is sent goes through the socket
MAX_SOCKET_PATH = 100
WATCH_EVERY = 0.2
LONGEST_END_S = 20.0
LONGEST_REPLY_S = 3600.0
LONGEST_QUOTE = 500
# What the backend itself decides; a second opinion would cut it off from its server.
OWN_FLAGS = {"model", "served-model-name", "uds", "host", "port", "api-key", "root-path"}


class VLLMServerBackend:
    """Generation by a vLLM server that this process starts, and that ends with it; see `Backend`.

    python: executable of the environment that has vLLM; this one where it is None
    engine_options: flags of the server, `{max-num-seqs: 64, enforce-eager: true}`; they win over the options here
    max_concurrency: requests in flight; the server decides how many of them run side by side
    start_timeout_s: seconds until the server must have loaded the model
    logs: folder of the server's log, vllm_server.{node}.{process}.log
    note_load: called after each start with the model's name and the seconds it took

    The server is started by the first call of `generate`, and again by a later one when it has died.
    Raises UserError, with what that log says, where it cannot start or dies.
    """

    def __init__(
        self,
        model: str,
        stop_ids: Sequence[int],
        *,
        revision: str | None = None,
        dtype: str = "bfloat16",
        max_model_len: int = 2048,
        tensor_parallel_size: int = 1,
        gpu_memory_utilization: float = 0.9,
        trust_remote_code: bool = False,
        engine_options: dict[str, Any] | None = None,
        python: str | None = None,
        max_concurrency: int = 256,
        start_timeout_s: float = 1800,
        logs: Path = Path("logs"),
        note_load: Callable[[str, float], None] = lambda name, seconds: None,
    ):
        options = {
            "model": model,
            "revision": revision,
            "tokenizer-revision": revision,
            "dtype": dtype,
            "max-model-len": max_model_len,
            "tensor-parallel-size": tensor_parallel_size,
            "gpu-memory-utilization": gpu_memory_utilization,
            "trust-remote-code": trust_remote_code or None,
            "enable-prefix-caching": True,
        }
        self.flags = server_flags(options | _checked(engine_options or {}))
        self.model, self.stop_ids = model, stop_ids
        self.python = shutil.which(python or sys.executable)
        if self.python is None:
            raise UserError(f"generation.backend_options.python: {python} is no program; give a Python that has vLLM")
        self.max_concurrency = max_concurrency
        self.start_timeout_s = start_timeout_s
        self.note_load = note_load
        self.log_file = logs / f"vllm_server.{socket.gethostname()}.{os.getpid()}.log"
        self._guard: subprocess.Popen[bytes] | None = None
        self.socket = ""
        self._log_start = 0

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        """Yield (index, completion) as replies come; closing the iterator cancels what is in flight."""
        yield from self._served(lambda client: client.generate(requests, sampling))

    def next_logprobs(
        self, prompts: Sequence[list[int]], tokens: Sequence[int]
    ) -> Iterator[tuple[int, dict[int, float]]]:
        """See `OpenAIBackend.next_logprobs`."""
        yield from self._served(lambda client: client.next_logprobs(prompts, tokens))

    def _served(self, ask: Callable[[OpenAIBackend], Iterator[tuple[int, T]]]) -> Iterator[tuple[int, T]]:
        """What a client of the server yields; the server is started where it does not run."""
        if self._guard is None or self._guard.poll() is not None:
            self.close()
            self._start()
        client = OpenAIBackend(
            self.model,
            self.stop_ids,
            base_url=f"{BASE_URL}/v1",
            uds=self.socket,
            api_key_env=None,
            max_concurrency=self.max_concurrency,
            timeout_s=LONGEST_REPLY_S,
            max_retries=2,
        )
        try:
            yield from ask(client)
        except UserError:
            if self._healthy():
                raise
            self.close()
            raise UserError(
                f"the vLLM server ended while it worked; finished work is kept, run again. {self._cause()}"
            ) from None

    def close(self) -> None:
        """End the server and all its processes, if there is one."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        guard.terminate()
        with suppress(subprocess.TimeoutExpired):
            guard.wait(LONGEST_END_S)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(guard.pid, signal.SIGKILL)  # what a guard that was itself killed has left

    def _start(self) -> None:
        folder = tempfile.mkdtemp(prefix="personascope-vllm-")  # closed to others
        self.socket = f"{folder}/socket"
        if len(self.socket) > MAX_SOCKET_PATH:
            Path(folder).rmdir()
            raise UserError(f"{self.socket}: too long a path for a Unix socket; set TMPDIR to a shorter one")
        server = [str(self.python), "-m", "vllm.entrypoints.openai.api_server", f"--uds={self.socket}", *self.flags]
        guarded = [sys.executable, "-m", "personascope.backends.guard", str(os.getpid()), folder, *server]
        environment = {key: value for key, value in os.environ.items() if key != "VLLM_API_KEY"}
        environment |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_RPC_BASE_PATH": folder}
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as output:
            self._log_start = output.tell()
            # A session of its own, so that what is left of it can be found by its number.
            self._guard = subprocess.Popen(
                guarded, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
            )
        log.info("the vLLM server starts; its log is %s", self.log_file)
        self._wait(self._guard)

    def _wait(self, guard: subprocess.Popen[bytes]) -> None:
        started = time.monotonic()
        while not self._healthy():
            if guard.poll() is not None:
                self.close()
                raise UserError(f"the vLLM server could not start. {self._cause()}")
            if time.monotonic() - started > self.start_timeout_s:
                self.close()
                raise UserError(
                    f"generation.backend_options.start_timeout_s: the vLLM server was not ready after "
                    f"{self.start_timeout_s:g} s. {self._cause()}"
                )
            time.sleep(WATCH_EVERY)
        log.info("the vLLM server is ready after %.1f s", time.monotonic() - started)
        self.note_load(self.model, time.monotonic() - started)

    def _healthy(self) -> bool:
        with httpx.Client(transport=httpx.HTTPTransport(uds=self.socket), trust_env=False) as client:
            try:
                return client.get(f"{BASE_URL}/health").is_success
            except httpx.TransportError:
                return False

    def _cause(self) -> str:
        """The first error in the server's log (the last ones say only that it ended), else the end of the log."""
        with self.log_file.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").splitlines()
        for line in lines:
            if re.search(r"\b(\w+Error|error): ", line) and not re.search(r" (INFO|WARNING) ", line):
                return f"{self.log_file} says: {line.strip()[:LONGEST_QUOTE]}"
        return log_tail(self.log_file)


def server_flags(options: dict[str, Any]) -> list[str]:
    """Options as words of a command line: true is --name, false --no-name, a list several words, an object JSON.

    None leaves an option out.
    """
    words = []
    for name, value in options.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        elif value is not None:
            words.append(f"--{name}={json.dumps(value) if isinstance(value, dict) else value}")
    return words


def _checked(engine_options: dict[str, Any]) -> dict[str, Any]:
    """The same with dashes in the names; UserError for a flag that is the backend's own."""
    options = {str(name).replace("_", "-"): value for name, value in engine_options.items()}
    if own := sorted(OWN_FLAGS & set(options)):
        raise UserError(
            f"generation.backend_options.engine_options: {own[0]} is set by the backend vllm_server; leave it out"
        )
    return options
