"""The client of chat endpoints against a real server on this machine that misbehaves on command."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest

from personascope.backends import Completion, Request, Sampling, make_backend
from personascope.backends.chat import ChatClient
from personascope.errors import UserError
from tests.helpers.endpoint import Reply, Server

KEY = "sk-canary-93ab20"
ASK = [[{"role": "system", "content": f"You are number {i}."}, {"role": "user", "content": "Who?"}] for i in range(9)]


class Letters:
    """A tokenizer of characters."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [ord(c) for c in text]


def says(content: Any, finish: Any = "stop", **more: Any) -> Reply:
    """A chat completion; `more`: further fields of the message, `logprobs` of the choice."""
    choice = {"index": 0, "finish_reason": finish, "logprobs": more.pop("logprobs", None)}
    return Reply({"choices": [choice | {"message": {"role": "assistant", "content": content, **more}}]})


def echo(number: int, body: dict[str, Any]) -> Reply:
    return says(body["messages"][0]["content"])


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("/chat/completions", echo)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A key in the environment that no log of any test may hold."""
    monkeypatch.setenv("CANARY", KEY)
    caplog.set_level(logging.DEBUG)
    yield
    assert KEY not in caplog.text


def make(server: Server, **options: Any) -> ChatClient:
    given = {"base_url": server.base_url, "backoff_s": 0.01, "max_retries": 3, "api_key_env": "CANARY"}
    return ChatClient("org/m", **{**given, "tokenizer": Letters(), **options})


def run(client: ChatClient, count: int = 1) -> dict[int, Completion]:
    requests = [Request([7], seed=100 + i, max_tokens=8, messages=ASK[i]) for i in range(count)]
    return dict(client.generate(requests, Sampling(0.3, 0.8)))


def answer(server: Server, reply: Reply) -> Completion:
    """What the client makes of one reply."""
    server.behave = lambda n, body: reply
    return run(make(server))[0]


def failure(client: ChatClient) -> str:
    """The message of the UserError that the run ends in: one line without the key."""
    with pytest.raises(UserError) as caught:
        run(client)
    message = str(caught.value)
    assert KEY not in repr(caught.value) and "\n" not in message
    return message


def test_messages_are_sent_and_replies_matched(server: Server) -> None:
    found = run(make(server, max_concurrency=4), 9)
    for i in range(9):
        text = f"You are number {i}."
        assert found[i] == Completion([ord(c) for c in text], "stop", text, None, prompt_exact=False)
    body = next(b for b in server.bodies if b["seed"] == 103)
    sampled = {"max_tokens": 8, "temperature": 0.3, "top_p": 0.8, "seed": 103}
    assert body == {"model": "org/m", "messages": ASK[3], **sampled}
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert server.most_open <= 4


def test_no_key_leaves_unless_it_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    backend: Any = make_backend("chat", "m", [], base_url=server.base_url, tokenizer=Letters())
    list(backend.generate([Request([], 0, 1, ASK[0])], Sampling()))
    assert server.keys == [None]


def test_options_of_the_engine_are_fields_of_the_request(server: Server) -> None:
    run(make(server, engine_options={"seed": None, "top_p": 1.0, "provider": {"order": ["x"]}}))
    assert server.bodies[0]["provider"] == {"order": ["x"]}
    assert server.bodies[0]["top_p"] == 1.0
    assert "seed" not in server.bodies[0]
    with pytest.raises(UserError, match="engine_options: stream is set by the backend chat"):
        make(server, engine_options={"stream": True})


def test_a_request_without_messages_is_a_bug(server: Server) -> None:
    with pytest.raises(ValueError, match="messages"):
        list(make(server).generate([Request([7], 0, 1)], Sampling()))


@pytest.mark.parametrize("wish", [lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)])
def test_retry_after_is_honored(server: Server, wish: Callable[[], str]) -> None:
    limited = Reply({"error": {"message": "slow down", "code": 429}}, 429, {"Retry-After": wish()})
    server.behave = lambda n, body: limited if n == 0 else echo(n, body)
    assert run(make(server))[0].finish_reason == "stop"
    assert 0.9 < server.times[1] - server.times[0] < 3


FAULTS = {
    "500": Reply(b"oops", 500),
    "hang": Reply(None, delay=30),
    "cut": Reply({"choices": []}, cut=True),
    "html": Reply(b"<html>hello\n</html>"),
    "nothing": Reply(b""),
    "a list of models": Reply({"object": "list"}),
    "a completion": Reply({"choices": [{"text": "x", "finish_reason": "stop"}]}),
    "no choice": Reply({"choices": []}),
    "content is a number": says(5),
    "a part without text": says([{"type": "text"}]),
    "an answer that says nothing": says(None, None),
    "limit within": Reply({"error": {"code": 429, "message": "no"}}),
    "provider within": Reply({"error": {"code": "502", "message": f"no worker for {KEY}"}}),
    "provider within a choice": Reply({"choices": [{"error": {"code": 502, "message": "no"}, "message": {}}]}),
    "provider stopped": says("half an ans", "error"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_passing_faults_are_retried_and_lasting_ones_end(server: Server, fault: str) -> None:
    server.behave = lambda n, body: FAULTS[fault] if n < 2 else echo(n, body)
    assert run(make(server, timeout_s=0.3))[0].text == "You are number 0."
    assert len(server.bodies) == 3
    server.behave = lambda n, body: FAULTS[fault]
    assert failure(make(server, timeout_s=0.2, max_retries=1)).startswith(f"{server.base_url}/chat/completions ")
    assert len(server.bodies) == 5


def test_errors_within_a_reply_are_told_by_their_code(server: Server) -> None:
    def said(code: int, message: str = "no") -> str:
        server.behave = lambda n, body: Reply({"error": {"code": code, "message": message}})
        return failure(make(server))

    assert said(401, f"no user of {KEY}") == (
        f"the endpoint refuses the key in $CANARY (401 from {server.base_url}/chat/completions)"
    )
    assert said(402, "no credit").endswith("refuses the request (402): no credit")
    assert "'org/m'; it says: no such model" in said(404, "no such model")
    assert len(server.bodies) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_by_its_variable(server: Server, status: int) -> None:
    server.behave = lambda n, body: Reply({"error": {"message": f"bad key {KEY}"}}, status, {"X-Key": KEY})
    assert "the endpoint refuses the key in $CANARY" in failure(make(server))
    assert "set $NO_SUCH_KEY" in failure(make(server, api_key_env="NO_SUCH_KEY"))
    assert "name its environment variable in api_key_env" in failure(make(server, api_key_env=None))
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("word", "kept"),
    [(w, "stop") for w in ("stop", "STOP", "eos", "eos_token", "end", "end_turn", "stop_sequence", None)]
    + [("length", "length"), ("max_tokens", "length"), ("MAX_TOKENS", "length")]
    + [("content_filter", "content_filter"), ("tool_calls", "tool_calls")],
)
def test_words_for_the_end(server: Server, word: str | None, kept: str) -> None:
    assert answer(server, says("hi", word)).finish_reason == kept


def test_what_an_answer_is(server: Server) -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    assert answer(server, says(parts)).text == "a b"
    assert answer(server, says("cut \ud83d")).text == "cut \ufffd"
    assert answer(server, says(None, refusal="I can't.")).text == "I can't."
    assert answer(server, says("")) == Completion([], "stop", "", None, False)
    thought = answer(server, says(None, "length", reasoning="Hmm"))
    assert (thought.text, thought.reasoning, thought.finish_reason) == ("", "Hmm", "length")
    assert answer(server, says("x", reasoning_content="Hmm")).reasoning == "Hmm"
    assert answer(server, says(None, "content_filter")).finish_reason == "content_filter"
    assert len(server.bodies) == 7


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"code": "content_filter", "message": "policy"}),
        (403, {"code": 403, "message": "flagged", "metadata": {"flagged_input": "demon", "reasons": ["x"]}}),
    ],
)
def test_a_flagged_prompt_costs_one_answer_and_not_the_run(server: Server, status: int, error: Any) -> None:
    server.behave = lambda n, body: Reply({"error": error}, status) if body["seed"] == 101 else echo(n, body)
    found = run(make(server), 3)
    assert found[1] == Completion([], "content_filter", "", None, False)
    assert [found[i].finish_reason for i in (0, 2)] == ["stop", "stop"]
    assert len(server.bodies) == 3


def first(server: Server, logprobs: Any, text: str = "42") -> Any:
    server.behave = lambda n, body: says(text, "length", logprobs=logprobs)
    return list(make(server, tokenizer=None).first_token([ASK[0]]))


def alternatives(*pairs: Any) -> Any:
    """The choice's logprobs with these alternatives of the first token."""
    top = [{"token": token, "logprob": value, "bytes": None} for token, value in pairs]
    return {"content": [{"token": "42", "logprob": -0.1, "top_logprobs": top}, {"token": "x", "top_logprobs": []}]}


def test_first_token(server: Server) -> None:
    pairs = [("42", math.log(0.7)), ("7", math.log(0.2)), ("\n", -30)]
    assert first(server, alternatives(*pairs)) == [(0, pairs, "42")]
    asked = {"logprobs": True, "top_logprobs": 20, "max_tokens": 1, "temperature": 0.0}
    assert server.bodies[0].items() >= asked.items()
    assert list(make(server).first_token([])) == []


@pytest.mark.parametrize(
    "logprobs", [None, {}, {"content": None}, {"content": []}, [], alternatives(), alternatives((1, 2))]
)
def test_a_server_without_alternatives_gives_none(server: Server, logprobs: Any) -> None:
    assert first(server, logprobs) == [(0, None, "42")]


def test_where_nothing_is_said_there_is_no_first_token(server: Server) -> None:
    assert first(server, None, "") == [(0, [], "")]
    assert first(server, alternatives(("", -0.1)), "") == [(0, [("", -0.1)], "")]
    server.behave = lambda n, body: Reply({"error": {"code": "content_filter", "message": "no"}}, 400)
    assert list(make(server).first_token([ASK[0]])) == [(0, [], "")]


def test_a_server_that_refuses_logprobs_says_so(server: Server) -> None:
    server.behave = lambda n, body: Reply({"error": {"message": "logprobs are not supported"}}, 400)
    with pytest.raises(UserError, match=r"refuses the request \(400\): logprobs are not supported"):
        list(make(server).first_token([ASK[0]]))
