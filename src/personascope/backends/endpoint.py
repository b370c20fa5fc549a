"""An HTTP endpoint that takes JSON: many requests at once, tries again where that helps, and never shows the key."""

import asyncio
import ipaddress
import json
import logging
import os
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from personascope.errors import UserError

log = logging.getLogger(__name__)
# They log every request, and at DEBUG the headers of replies, in which a server could echo the key.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

RETRIED_STATUS = {408, 409, 425, 429}
REFUSED_STATUS = {400, 403}  # the request is refused, or only its prompt: then there is an answer for it in the reply
LONGEST_WAIT_S = 60.0
LONGEST_QUOTE = 200

T = TypeVar("T")


class _Transient(Exception):
    """A failure worth another try; `retry_after` is the server's wish in seconds."""

    def __init__(self, message: str, retry_after: float | None = None):
        super().__init__(message)
        self.retry_after = retry_after


class Endpoint:
    """POST of JSON bodies to one URL.

    url: with scheme and route; it may hold no user name or password
    gives: what its replies are, for messages ("completions"); serves: what it must serve ("the model 'm'")
    api_key_env: environment variable that holds the key; no key is sent where it is None or unset
    max_concurrency: requests in flight at a time, those that wait for another try included
    requests_per_minute: starts are spaced evenly, over all calls of `ask`; None is unlimited
    timeout_s: seconds for one try, from start to the last byte
    max_retries: further tries of one request on 408, 409, 425, 429, 5xx, timeouts, lost connections and garbage
    backoff_s: wait before the first of them; it doubles each time, up to 60 s; a longer Retry-After is honored
    uds: path of a Unix socket to go through; of the URL only the path counts then

    Raises UserError where the endpoint is down, refuses a request, or answers something else than asked for.
    """

    def __init__(
        self,
        url: str,
        *,
        gives: str,
        serves: str,
        api_key_env: str | None,
        max_concurrency: int,
        requests_per_minute: float | None,
        timeout_s: float,
        max_retries: int,
        backoff_s: float,
        uds: str | None,
    ):
        if max_concurrency < 1:
            raise UserError(f"max_concurrency: {max_concurrency} requests at a time are none; give 1 or more")
        self.url, self.gives, self.serves = url, gives, serves
        self.api_key_env = api_key_env
        self.max_concurrency = max_concurrency
        self.timeout_s = timeout_s
        self.max_retries = max_retries
        self.backoff_s = backoff_s
        self.uds = uds
        self._pace = _Pace(requests_per_minute)
        self._key = _read_key(api_key_env)

    def ask(
        self, bodies: Sequence[dict[str, Any]], read: Callable[[Any], T | None]
    ) -> Generator[tuple[int, T], None, None]:
        """Yield (index into `bodies`, what `read` makes of the reply's JSON) as replies come.

        read: None means that the reply is no answer, and is asked for again. Closing the iterator cancels what is in
        flight.
        """
        with closing(_iterate_in_thread(lambda emit: self._run(bodies, read, emit))) as answers:
            yield from answers

    def error(self, message: str) -> UserError:
        """A mistake to report, without the key."""
        return UserError(self._redact(message))

    async def _run(
        self,
        bodies: Sequence[dict[str, Any]],
        read: Callable[[Any], T | None],
        emit: Callable[[tuple[int, T]], None],
    ) -> None:
        work = iter(enumerate(bodies))

        async def worker(client: httpx.AsyncClient) -> None:
            for index, body in work:
                emit((index, await self._answer(client, body, read)))

        try:
            async with self._client() as client, asyncio.TaskGroup() as group:
                for _ in range(min(self.max_concurrency, len(bodies))):
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

    async def _answer(self, client: httpx.AsyncClient, body: dict[str, Any], read: Callable[[Any], T | None]) -> T:
        """The answer to one request, after as many tries as it takes."""
        attempt = 0
        while True:
            try:
                return self._read(await self._post(client, body), read)
            except _Transient as error:
                if attempt >= self.max_retries:
                    raise self.error(str(error)) from None
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
                return await self._request(client, body)
        except TimeoutError:
            raise _Transient(f"{self.url} gave no reply within {self.timeout_s:g} s") from None
        except httpx.ConnectError as error:
            raise _Transient(f"endpoint {self.url} is down: {error}") from None
        except httpx.RequestError as error:
            raise _Transient(f"{self.url} broke off: {str(error) or type(error).__name__}") from None

    async def _request(self, client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
        """One request; other kinds of endpoints make others."""
        return await client.post(self.url, json=body)

    def _read(self, reply: httpx.Response, read: Callable[[Any], T | None]) -> T:
        """The answer in a reply; _Transient or UserError where there is none."""
        body = _json(reply)
        status = _status(reply, body)
        if (200 <= status < 300 or status in REFUSED_STATUS) and (answer := read(body)) is not None:
            return answer
        if 200 <= status < 300:
            raise _Transient(f"{self.url} answers something else than {self.gives}: {self._quote(reply.text)}")
        said = self._quote(_server_message(reply, body))
        if status >= 500 or status in RETRIED_STATUS:
            raise _Transient(f"{self.url} keeps failing ({status}): {said}", _retry_after(reply))
        if status in (401, 403):
            # With 401 servers show a part of the key; with 403 they say what else they refuse (a flagged prompt).
            reason = f"; it says: {said}" if status == 403 and self._key else ""
            raise self.error(self._key_problem(status) + reason)
        if status == 404:
            message = f"{self.url} answers 404: check base_url, and that it serves {self.serves}; it says: {said}"
            raise self.error(message)
        raise self.error(f"{self.url} refuses the request ({status}): {said}")

    def _key_problem(self, status: int) -> str:
        if self._key:
            return f"the endpoint refuses the key in ${self.api_key_env} ({status} from {self.url})"
        advice = f"set ${self.api_key_env}" if self.api_key_env else "name its environment variable in api_key_env"
        return f"the endpoint asks for a key ({status} from {self.url}); {advice}"

    def _quote(self, text: str) -> str:
        # Redacted before it is cut: half a key is still a secret.
        return " ".join(self._redact(text).split())[:LONGEST_QUOTE] or "(nothing)"

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


def route(base_url: str, path: str) -> str:
    """The URL of a route below base_url; UserError where that is no address, or holds a password."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(f"base_url: {base_url!r} is no http:// or https:// address")
    if url.userinfo:
        raise UserError("base_url: holds a user name or password; give the key by api_key_env instead")
    return base_url.rstrip("/") + path


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

    thread = threading.Thread(target=run, name="personascope-endpoint", daemon=True)
    thread.start()
    try:
        while (item := items.get()) is not None:
            yield item
        task.result()
    finally:
        with suppress(RuntimeError):  # the loop is closed: it had ended by itself
            loop.call_soon_threadsafe(task.cancel)
        thread.join()


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


def _status(reply: httpx.Response, body: Any) -> int:
    """The status of a reply, or of the error in it: OpenRouter reports a provider's with 200, and its code inside."""
    error = _error(body)
    code = str(error.get("code")) if reply.is_success and isinstance(error, dict) else ""
    return int(code) if re.fullmatch("[45][0-9]{2}", code) else reply.status_code


def _error(body: Any) -> Any:
    """`error` of a reply or of its first choice; None where neither has one."""
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return body.get("error") or (first.get("error") if isinstance(first, dict) else None)


def _server_message(reply: httpx.Response, body: Any) -> str:
    """The message in an error reply (`error.message`, `message` or `detail`, as servers differ), else all of it."""
    if not isinstance(body, dict):
        return reply.text
    error = _error(body) or body
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
