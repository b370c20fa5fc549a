"""Any server that speaks the OpenAI completions API: vLLM's own, or a hosted one that takes token ids."""

import asyncio
import ipaddress
import json
import logging
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from personascope.backends import Completion, Request, Sampling
from personascope.errors import UserError

log = logging.getLogger(__name__)
# They log every request, and at DEBUG the headers of replies, in which a server could echo the key.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

RETRIED_STATUS = {408, 409, 425, 429}
LONGEST_WAIT_S = 60.0
LONGEST_QUOTE = 200

# What vLLM's server would otherwise take from the model's generation_config.json (Qwen's: top_k 20, penalty 1.05).
NEUTRAL_SAMPLING = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}

T = TypeVar("T")


@dataclass(frozen=True)
class _Choice:
    """What one reply holds; `token_ids` is None where the server gives only text."""

    text: str
    token_ids: list[int] | None
    finish_reason: str | None


class _Transient(Exception):
    """A failure worth another try; `retry_after` is the server's wish in seconds."""

    def __init__(self, message: str, retry_after: float | None = None):
        super().__init__(message)
        self.retry_after = retry_after


class OpenAIBackend:
    """Generation over HTTP, POST {base_url}/completions with token ids as the prompt; see `Backend`.

    model: the name the server knows it by
    stop_ids: tokens that end a response, also cut from its end; a server without the vLLM extensions is not told them
    base_url: with the API's prefix, usually ending in /v1
    api_key_env: environment variable that holds the key; no key is sent where it is None or unset
    max_concurrency: requests in flight at a time, those that wait for another try included
    requests_per_minute: starts are spaced evenly, over all calls of `generate`; None is unlimited
    timeout_s: seconds for one try, from start to the last byte
    max_retries: further tries of one request on 408, 409, 425, 429, 5xx, timeouts, lost connections and garbage
    backoff_s: wait before the first of them; it doubles each time, up to 60 s; a longer Retry-After is honored
    tokenizer: encodes the text where a reply has no token ids
    vllm_extensions: send `return_token_ids`, `stop_token_ids` and the like, which strict servers refuse
    uds: path of a Unix socket to go through; of base_url only the path counts then

    Raises UserError where the endpoint is down, refuses a request, or answers something else than completions.
    """

    def __init__(
        self,
        model: str,
        stop_ids: Sequence[int],
        *,
        base_url: str,
        api_key_env: str | None = "OPENAI_API_KEY",
        max_concurrency: int = 16,
        requests_per_minute: float | None = None,
        timeout_s: float = 120,
        max_retries: int = 6,
        backoff_s: float = 0.5,
        tokenizer: Any = None,
        vllm_extensions: bool = True,
        uds: str | None = None,
    ):
        if max_concurrency < 1:
            raise UserError(f"max_concurrency: {max_concurrency} requests at a time are none; give 1 or more")
        self.model = model
        self.stop_ids = sorted(set(stop_ids))
        self.url = _completions_url(base_url)
        self.api_key_env = api_key_env
        self.max_concurrency = max_concurrency
        self.timeout_s = timeout_s
        self.max_retries = max_retries
        self.backoff_s = backoff_s
        self.tokenizer = tokenizer
        self.vllm_extensions = vllm_extensions
        self.uds = uds
        self._pace = _Pace(requests_per_minute)
        self._key = _read_key(api_key_env)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        """Yield (index, completion) as replies come; closing the iterator cancels what is in flight."""
        warned = False
        with closing(_iterate_in_thread(lambda emit: self._run(requests, sampling, emit))) as choices:
            for index, choice in choices:
                if choice.token_ids is None and not warned:
                    log.warning("%s gives no token ids; they are re-encoded from the text", self.url)
                    warned = True
                yield index, self._completion(choice)

    def _completion(self, choice: _Choice) -> Completion:
        if choice.finish_reason not in ("stop", "length"):
            raise self._error(f'{self.url} returned finish_reason {choice.finish_reason!r}, not "stop" or "length"')
        ids = self._encode(choice.text) if choice.token_ids is None else choice.token_ids
        return Completion(ids[:-1] if ids and ids[-1] in self.stop_ids else ids, choice.finish_reason)

    def _encode(self, text: str) -> list[int]:
        if self.tokenizer is None:
            raise self._error(
                f"{self.url} gives no token ids; use a vLLM server, or give a tokenizer to re-encode with"
            )
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    async def _run(
        self, requests: Sequence[Request], sampling: Sampling, emit: Callable[[tuple[int, _Choice]], None]
    ) -> None:
        work = iter(enumerate(requests))

        async def worker(client: httpx.AsyncClient) -> None:
            for index, request in work:
                emit((index, await self._ask(client, self._body(request, sampling))))

        try:
            async with self._client() as client, asyncio.TaskGroup() as group:
                for _ in range(min(self.max_concurrency, len(requests))):
                    group.create_task(worker(client))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def _client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=self.max_concurrency)
        return httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=None,  # one deadline over the whole try, in `_post`
            limits=limits,
            transport=httpx.AsyncHTTPTransport(uds=self.uds, limits=limits) if self.uds else None,
            # A proxy from the environment cannot reach this machine's loopback.
            trust_env=not _is_loopback(self.url),
        )

    def _body(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": request.prompt_ids,
            "max_tokens": request.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seed,
        }
        if self.vllm_extensions:
            body |= {"return_token_ids": True, **NEUTRAL_SAMPLING}
            if self.stop_ids:
                # These tokens alone end a response, as in the embedded engine.
                body |= {"stop_token_ids": self.stop_ids, "ignore_eos": True}
        return body

    async def _ask(self, client: httpx.AsyncClient, body: dict[str, Any]) -> _Choice:
        """The reply to one request, after as many tries as it takes."""
        attempt = 0
        while True:
            try:
                return self._read(await self._post(client, body))
            except _Transient as error:
                if attempt >= self.max_retries:
                    raise self._error(str(error)) from None
                wait = self._wait(attempt, error.retry_after)
                log.info("%s; next try in %.1f s", self._redact(str(error)), wait)
            await asyncio.sleep(wait)
            attempt += 1

    def _wait(self, attempt: int, retry_after: float | None) -> float:
        """Seconds before the next try: exponential with jitter, or longer where the server asks for it."""
        backoff = self.backoff_s * 2**attempt * random.uniform(0.5, 1.0)
        return min(max(backoff, retry_after or 0.0), LONGEST_WAIT_S)

    async def _post(self, client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
        await self._pace.wait()
        try:
            async with asyncio.timeout(self.timeout_s):
                return await client.post(self.url, json=body)
        except TimeoutError:
            raise _Transient(f"{self.url} gave no reply within {self.timeout_s:g} s") from None
        except httpx.ConnectError as error:
            raise _Transient(f"endpoint {self.url} is down: {error}") from None
        except httpx.RequestError as error:
            raise _Transient(f"{self.url} broke off: {str(error) or type(error).__name__}") from None

    def _read(self, reply: httpx.Response) -> _Choice:
        """The choice in a reply; _Transient or UserError where there is none."""
        status = reply.status_code
        if reply.is_success:
            choice = _parse_choice(reply)
            if choice is None:
                raise _Transient(f"{self.url} answers something else than completions: {self._quote(reply.text)}")
            return choice
        if status >= 500 or status in RETRIED_STATUS:
            message = f"{self.url} keeps failing ({status}): {self._quote(_server_message(reply))}"
            raise _Transient(message, _retry_after(reply))
        if status in (401, 403):
            raise self._error(self._key_problem(status))
        if status == 404:
            raise self._error(f"{self.url} answers 404: check base_url, and that it serves the model {self.model!r}")
        raise self._error(f"{self.url} refuses the request ({status}): {self._quote(_server_message(reply))}")

    def _key_problem(self, status: int) -> str:
        if self._key:
            return f"the endpoint refuses the key in ${self.api_key_env} ({status} from {self.url})"
        advice = f"set ${self.api_key_env}" if self.api_key_env else "name its environment variable in api_key_env"
        return f"the endpoint asks for a key ({status} from {self.url}); {advice}"

    def _quote(self, text: str) -> str:
        # Redacted before it is cut: half a key is still a secret.
        return " ".join(self._redact(text).split())[:LONGEST_QUOTE] or "(nothing)"

    def _error(self, message: str) -> UserError:
        return UserError(self._redact(message))

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


class _Pace:
    """Start times at even distances; shared by all threads that use one engine."""

    def __init__(self, per_minute: float | None):
        self.interval_s = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    async def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self.interval_s
        await asyncio.sleep(start - now)


def _iterate_in_thread(
    produce: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]],
) -> Generator[T, None, None]:
    """Yield what the coroutine `produce(emit)` emits; it runs in its own thread, so that the caller's work between
    two items keeps nothing waiting. Its exception is raised after the last item; closing early cancels it.
    """
    items: queue.SimpleQueue[T | None] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(produce(items.put))

    def run() -> None:
        try:
            loop.run_until_complete(asyncio.wait([task]))
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()
            items.put(None)

    thread = threading.Thread(target=run, name="personascope-openai", daemon=True)
    thread.start()
    try:
        while (item := items.get()) is not None:
            yield item
        task.result()
    finally:
        with suppress(RuntimeError):  # the loop is closed: it had ended by itself
            loop.call_soon_threadsafe(task.cancel)
        thread.join()


def _completions_url(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(f"base_url: {base_url!r} is no http:// or https:// address")
    if url.userinfo:
        raise UserError("base_url: holds a user name or password; give the key by api_key_env instead")
    return base_url.rstrip("/") + "/completions"


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _read_key(name: str | None) -> str:
    """The key in this environment variable, "" where there is none; UserError where it can be no key."""
    key = os.environ.get(name, "").strip() if name else ""
    # The HTTP library would refuse it too, but with the key in its message.
    if not all("!" <= c <= "~" for c in key):
        raise UserError(f"${name} holds spaces or characters that no key has")
    return key


def _json(reply: httpx.Response) -> Any:
    try:
        return reply.json()
    except ValueError:
        return None


def _parse_choice(reply: httpx.Response) -> _Choice | None:
    """choices[0] of a completions reply; None where the reply is anything else."""
    body = _json(reply)
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    text, ids = choices[0].get("text") or "", choices[0].get("token_ids")
    listed = isinstance(ids, list) and all(isinstance(i, int) for i in ids)
    if not isinstance(text, str) or not (listed or (ids is None and "text" in choices[0])):
        return None
    return _Choice(text, ids, choices[0].get("finish_reason"))


def _server_message(reply: httpx.Response) -> str:
    """The message in an error reply (`error.message`, `message` or `detail`, as servers differ), else all of it."""
    body = _json(reply)
    if not isinstance(body, dict):
        return reply.text
    error = body.get("error", body)
    message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return message if isinstance(message, str) else json.dumps(message or body)


def _retry_after(reply: httpx.Response) -> float | None:
    """Seconds that the server asks to wait, given as a number or a date."""
    value = reply.headers.get("retry-after", "")
    with suppress(ValueError):
        return float(value)
    with suppress(ValueError):
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return (date - datetime.now(UTC)).total_seconds()
    return None
