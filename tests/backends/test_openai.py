"""The HTTP engine against a real server on this machine that misbehaves on command."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest

from personascope.backends import Completion, Request, Sampling
from personascope.backends.openai import OpenAIBackend
from personascope.errors import UserError
from tests.helpers.endpoint import Reply, Server, wait_until

KEY = "sk-canary-4f1d8e"
STOP = 2
THREAD = "personascope-endpoint"


def completion(ids: list[int] | None, text: str = "x", finish: str | None = "stop", delay: float = 0.0) -> Reply:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return Reply({"choices": [choice if ids is None else choice | {"token_ids": ids}]}, delay=delay)


def echo(number: int, body: dict[str, Any]) -> Reply:
    """The prompt and the seed as token ids."""
    return completion([*body["prompt"], body["seed"], STOP])


class Letters:
    """A tokenizer of characters."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [ord(c) for c in text]


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("/completions", echo)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A key in the environment that no log of any test may hold, and no thread left behind."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    yield
    assert KEY not in caplog.text
    assert not [t for t in threading.enumerate() if t.name == THREAD]


def make(server: Server, **options: Any) -> OpenAIBackend:
    return OpenAIBackend("m", [STOP], **{"base_url": server.base_url, "backoff_s": 0.01, "max_retries": 3} | options)


def make_requests(count: int) -> list[Request]:
    return [Request([10 + i, 20 + i], seed=100 + i, max_tokens=8) for i in range(count)]


def run(backend: OpenAIBackend, count: int = 1) -> dict[int, Completion]:
    return dict(backend.generate(make_requests(count), Sampling()))


def failure(backend: OpenAIBackend, count: int = 1) -> str:
    """The message of the UserError that the run ends in: one line without the key."""
    with pytest.raises(UserError) as caught:
        run(backend, count)
    message = str(caught.value)
    assert KEY not in repr(caught.value)
    assert "\n" not in message
    return message


def test_requests_and_replies_are_matched(server: Server) -> None:
    server.behave = lambda n, body: Reply(echo(n, body).body, delay=0.1 if body["seed"] == 100 else 0)
    found = list(make(server).generate(make_requests(5), Sampling(0.3, 0.8)))
    assert found[-1][0] == 0  # the slow one comes last, the others do not wait for it
    assert dict(found) == {i: Completion([10 + i, 20 + i, 100 + i], "stop") for i in range(5)}
    body = next(b for b in server.bodies if b["seed"] == 103)
    assert body.items() >= {"model": "m", "prompt": [13, 23], "max_tokens": 8, "temperature": 0.3}.items()
    assert body.items() >= {"top_p": 0.8, "return_token_ids": True, "stop_token_ids": [STOP], "top_k": 0}.items()
    assert set(server.keys) == {f"Bearer {KEY}"}


def test_no_requests(server: Server) -> None:
    assert run(make(server), 0) == {}


def test_plain_openai_fields_without_the_extensions(server: Server) -> None:
    run(make(server, vllm_extensions=False))
    assert set(server.bodies[0]) == {"model", "prompt", "max_tokens", "temperature", "top_p", "seed"}


@pytest.mark.parametrize("name", [None, "NO_SUCH_KEY"])
def test_no_key_is_sent_where_none_is_set(server: Server, name: str | None) -> None:
    run(make(server, api_key_env=name))
    assert server.keys == [None]


def test_loopback_ignores_the_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert len(run(make(server))) == 1


@pytest.mark.parametrize("wish", [lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)])
def test_retry_after_is_honored(server: Server, wish: Callable[[], str]) -> None:
    limited = Reply({"error": {"message": "slow down"}}, 429, {"Retry-After": wish()})
    server.behave = lambda n, body: limited if n == 0 else echo(n, body)
    assert run(make(server))[0].finish_reason == "stop"
    assert 0.9 < server.times[1] - server.times[0] < 3


@pytest.mark.parametrize("wish", ["soon", "-5", "nan", "", "Mon, 99 Foo 2020 00:00:00 GMT"])
def test_senseless_retry_after_falls_back_to_the_backoff(server: Server, wish: str) -> None:
    server.behave = lambda n, body: Reply({}, 503, {"Retry-After": wish}) if n == 0 else echo(n, body)
    assert len(run(make(server))) == 1


def test_waits_are_capped(server: Server) -> None:
    backend = make(server, backoff_s=1.0)
    assert (
        backend.endpoint._wait(0, 1e9)
        == backend.endpoint._wait(0, float("inf"))
        == backend.endpoint._wait(30, None)
        == 60.0
    )
    assert 0.5 <= backend.endpoint._wait(0, 0.0) <= 1.0


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503])
def test_passing_failures_are_retried(server: Server, status: int) -> None:
    server.behave = lambda n, body: Reply(b"oops", status) if n < 3 else echo(n, body)
    assert len(run(make(server))) == 1
    assert len(server.bodies) == 4


def test_lasting_failure_ends_after_max_retries(server: Server) -> None:
    server.behave = lambda n, body: Reply({"error": {"message": "out of\nmemory"}}, 500)
    message = failure(make(server, max_retries=2))
    assert message == f"{server.base_url}/completions keeps failing (500): out of memory"
    assert len(server.bodies) == 3


def test_timeout_is_retried(server: Server) -> None:
    server.behave = lambda n, body: Reply(echo(n, body).body, delay=30 if n == 0 else 0)
    assert len(run(make(server, timeout_s=0.3))) == 1
    assert len(server.bodies) == 2


def test_lasting_timeout(server: Server) -> None:
    server.behave = lambda n, body: Reply(None, delay=30)
    assert "no reply within 0.1 s" in failure(make(server, timeout_s=0.1, max_retries=1))


@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>hello\n</html>",
        b"",
        {"object": "list"},
        [],
        {"choices": []},
        {"choices": [3]},
        {"choices": [{"text": 5, "finish_reason": "stop"}]},
        {"choices": [{"token_ids": "ab", "finish_reason": "stop"}]},
        {"error": {"message": f"the key {KEY} is odd"}},
    ],
)
def test_garbage_forever(server: Server, garbage: Any) -> None:
    server.behave = lambda n, body: Reply(garbage)
    message = failure(make(server))
    assert message.startswith(f"{server.base_url}/completions answers something else than completions: ")
    assert len(server.bodies) == 4


def test_garbage_once(server: Server) -> None:
    server.behave = lambda n, body: Reply(b"{") if n == 0 else echo(n, body)
    assert len(run(make(server))) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_refused_key_is_named_by_its_variable(server: Server, status: int) -> None:
    server.behave = lambda n, body: Reply({"error": {"message": f"bad key {KEY}"}}, status, {"X-Key": KEY})
    assert "the endpoint refuses the key in $OPENAI_API_KEY" in failure(make(server), 3)
    assert "set $NO_SUCH_KEY" in failure(make(server, api_key_env="NO_SUCH_KEY"))


@pytest.mark.parametrize("status", [400, 500])
def test_echoed_key_is_redacted_before_the_cut(server: Server, status: int) -> None:
    server.behave = lambda n, body: Reply({"error": {"message": "y" * 190 + f" {KEY}"}}, status)
    message = failure(make(server))
    assert "[key]" in message
    assert "sk-" not in message
    assert KEY not in repr(make(server))


@pytest.mark.parametrize("bad", ["sk canary", "sk\ncanary", "sk-canäry"])
def test_impossible_key_is_not_shown(server: Server, monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", bad)
    with pytest.raises(UserError, match=r"\$OPENAI_API_KEY") as caught:
        make(server)
    assert bad not in str(caught.value)


@pytest.mark.parametrize(
    "body", [{"error": {"message": "bad" * 100}}, {"message": "bad" * 100}, {"detail": "bad" * 100}]
)
def test_bad_request_tells_the_servers_message(server: Server, body: Any) -> None:
    server.behave = lambda n, _: Reply(body, 400)
    assert failure(make(server)).endswith("refuses the request (400): " + ("bad" * 100)[:200])
    assert len(server.bodies) == 1


def test_unknown_model_or_path(server: Server) -> None:
    server.behave = lambda n, body: Reply({}, 404)
    message = failure(make(server))
    assert "'m'" in message
    assert server.base_url in message


def test_connection_refused(server: Server) -> None:
    server.close()
    assert f"endpoint {server.base_url}/completions is down" in failure(make(server))


@pytest.mark.parametrize("url", ["localhost:8000/v1", "", "http://", "ftp://x/v1", "http://x:y/v1", "http://u:p@x/v1"])
def test_bad_base_url(url: str) -> None:
    with pytest.raises(UserError, match="base_url"):
        OpenAIBackend("m", [], base_url=url)


def test_concurrency_is_bounded_and_used(server: Server) -> None:
    server.behave = lambda n, body: Reply(echo(n, body).body, delay=0.05)
    assert len(run(make(server, max_concurrency=3), 12)) == 12
    assert server.most_open == 3


def test_starts_are_spaced(server: Server) -> None:
    backend = make(server, requests_per_minute=60 / 0.1)
    run(backend, 4)
    run(backend, 2)  # a second call keeps the distance too
    gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert min(gaps) > 0.05
    assert server.times[-1] - server.times[0] > 0.45


def test_text_is_encoded_where_ids_are_missing(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.behave = lambda n, body: completion(None, "ab", "length")
    assert set(map(str, run(make(server, tokenizer=Letters()), 3).values())) == {str(Completion([97, 98], "length"))}
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1
    assert "tokenizer" in failure(make(server))


@pytest.mark.parametrize(
    ("ids", "kept"), [([5, STOP], [5]), ([5], [5]), ([STOP], []), ([], []), ([STOP, 5], [STOP, 5])]
)
def test_trailing_stop_id_is_cut(server: Server, ids: list[int], kept: list[int]) -> None:
    server.behave = lambda n, body: completion(ids)
    assert run(make(server))[0].token_ids == kept


@pytest.mark.parametrize(
    ("word", "kept"),
    [(w, "stop") for w in ("stop", "EOS", "eos_token", "end", "end_turn", "stop_sequence", None)]
    + [("length", "length"), ("max_tokens", "length"), ("content_filter", "content_filter"), ("abort", "abort")],
)
def test_words_for_the_end(server: Server, word: str | None, kept: str) -> None:
    server.behave = lambda n, body: completion([5], finish=word)
    assert run(make(server))[0] == Completion([5], kept)


def test_no_text_and_no_word_is_no_completion(server: Server) -> None:
    server.behave = lambda n, body: completion([], text="", finish=None)
    assert "completions" in failure(make(server, max_retries=0))


def test_first_fatal_error_ends_all_and_keeps_what_is_done(server: Server) -> None:
    def behave(n: int, body: dict[str, Any]) -> Reply:
        fatal = Reply({"error": {"message": "no"}}, 400, delay=0.2)
        return {100: echo(n, body), 101: fatal}.get(body["seed"], Reply(delay=30))

    server.behave = behave
    found, start = [], time.monotonic()
    with pytest.raises(UserError, match="400"):
        found.extend(make(server, max_concurrency=4).generate(make_requests(20), Sampling()))
    assert time.monotonic() - start < 3
    assert [i for i, _ in found] == [0]
    assert wait_until(lambda: server.open == 0)


def test_early_close_cancels_what_is_in_flight(server: Server) -> None:
    server.behave = lambda n, body: echo(n, body) if n == 0 else Reply(delay=30)
    answers = make(server).generate(make_requests(8), Sampling())
    next(answers)
    assert wait_until(lambda: server.open == 7)
    answers.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not [t for t in threading.enumerate() if t.name == THREAD]
    assert wait_until(lambda: server.open == 0)
    assert len(server.bodies) == 8
