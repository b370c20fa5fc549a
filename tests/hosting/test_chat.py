"""Responses and conversations through a chat endpoint and the store: what was paid for is not asked for again."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from personascope.errors import UserError
from personascope.formats.conversations import read_conversation
from personascope.formats.files import iter_jsonl, write_json, write_jsonl
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations import generate, simulate
from personascope.hosting.store import response_log
from personascope.models.loading import ModelSpec
from tests.helpers.endpoint import Reply, Server, wait_until

FORK = multiprocessing.get_context("fork")
KEY = "sk-canary-51c0de"
QUESTIONS = [f"What is {word}?" for word in ("life", "truth", "time", "a name", "the sea", "gold")]


def answer(number: int, body: dict[str, Any]) -> Reply:
    """All that was said before, in one line."""
    said = " / ".join(message["content"] for message in body["messages"])
    return Reply({"choices": [{"message": {"content": f"You said: {said}"}, "finish_reason": "end_turn"}]})


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("/chat/completions", answer)
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path: Path, tiny_llama: Any, chat_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, a role, questions and the script of a user."""
    tiny_llama.save_pretrained(tmp_path / "model")
    chat_tokenizer.save_pretrained(tmp_path / "model")
    write_json(tmp_path / "pirate.json", {"instruction": [{"pos": "You are a pirate."}]})
    write_jsonl(tmp_path / "questions.jsonl", ({"question": q, "id": 3 * i} for i, q in enumerate(QUESTIONS)))
    write_json(tmp_path / "talk.json", {"user": ["Who?", "Why?"], "system": "Be brief."})
    monkeypatch.setenv("CANARY", KEY)
    return tmp_path


def engine(folder: Path, server: Server) -> dict[str, Any]:
    options = {"base_url": server.base_url, "api_key_env": "CANARY", "max_concurrency": 2, "backoff_s": 0.01}
    sampling = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 50, "max_model_len": 400, "seed": 0}
    model = {"model": ModelSpec(str(folder / "model")), "model_name": "m", "store": str(folder / "store"), "code": "c"}
    named = {"backend": "chat", "engine": {"base_url": server.base_url}, "backend_options": options}
    return model | named | sampling


def responses(folder: Path, server: Server) -> generate.Request:
    files = {"role_file": folder / "pirate.json", "questions_file": folder / "questions.jsonl"}
    files |= {"responses": folder / "out/pirate.jsonl"}
    asked: dict[str, Any] = {"questions": "all", "question_mode": "general", "variants": [0]}
    return generate.Request(**engine(folder, server), **{name: str(file) for name, file in files.items()}, **asked)


def run(request: generate.Request, report: Callable[[str], None] = print) -> list[dict[str, Any]]:
    generate.run(Loaded(), report, request)
    return list(iter_jsonl(request.responses))


def test_rows_say_what_the_model_was_asked(folder: Path, server: Server, chat_tokenizer: Any) -> None:
    rows = run(responses(folder, server))
    assert [row["question"] for row in rows] == QUESTIONS
    for row in rows:
        text = f"You said: You are a pirate. / {row['question']}"
        assert (row["response"], row["finish_reason"], row["prompt_exact"]) == (text, "stop", False)
        assert row["response_token_ids"] == chat_tokenizer.encode(text, add_special_tokens=False)
        sent = next(body for body in server.bodies if body["seed"] == row["seed"])
        assert sent["messages"] == row["conversation"][:2]
        assert row["conversation"][2] == {"role": "assistant", "content": text}


def test_killed_half_way_only_the_missing_are_asked_for(folder: Path, server: Server) -> None:
    request = responses(folder, server)
    hang = Reply(None, delay=30)
    server.behave = lambda n, body: answer(n, body) if n < 3 else hang
    child = FORK.Process(target=run, args=(request,))
    child.start()
    records = response_log(request.store, "m", "pirate")
    assert wait_until(lambda: len(records.keys()) == 3 and len(server.bodies) == 5, 60)
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    child.join(30)
    assert not Path(request.responses).exists()
    finished = [body["seed"] for body in server.bodies[:3]]

    server.behave = answer
    rows = run(request)
    assert len(rows) == 6
    assert len(server.bodies) == 5 + 3
    assert sorted([*finished, *(body["seed"] for body in server.bodies[5:])]) == sorted(row["seed"] for row in rows)
    run(request)
    assert len(server.bodies) == 8


def test_other_messages_are_another_key(folder: Path, server: Server) -> None:
    run(responses(folder, server))
    write_json(folder / "pirate.json", {"instruction": [{"pos": "You are a lawyer."}]})
    run(responses(folder, server))
    assert len(server.bodies) == 12


def test_odd_answers_are_kept_counted_and_shown(folder: Path, server: Server) -> None:
    odd = Reply({"choices": [{"message": {"content": None, "reasoning": "Hm"}, "finish_reason": "content_filter"}]})
    server.behave = lambda n, body: odd if "truth" in body["messages"][1]["content"] else answer(n, body)
    said: list[str] = []
    rows = run(responses(folder, server), said.append)
    assert (rows[1]["response"], rows[1]["finish_reason"], rows[1]["reasoning"]) == ("", "content_filter", "Hm")
    assert "pirate: 1 of 6 responses have reasoning that never ended, and no answer" in said
    assert "pirate: 1 of 6 responses ended with finish_reason 'content_filter'" in said
    assert rows[0]["reasoning"] is None
    assert (rows[0]["answer_start"], rows[0]["answer_end"]) == (0, len(rows[0]["response_token_ids"]))


def test_the_key_is_in_no_file_and_no_message(folder: Path, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    said: list[str] = []
    refused = Reply({"error": {"code": 503, "message": f"no worker for Bearer {KEY}"}})
    server.behave = lambda n, body: refused if n < 2 else answer(n, body)
    run(responses(folder, server), said.append)
    assert set(server.keys) == {f"Bearer {KEY}"}
    server.behave = lambda n, body: Reply({"error": {"message": f"unknown key {KEY}"}}, 401)
    (folder / "store").rename(folder / "old")
    with pytest.raises(UserError, match=r"refuses the key in \$CANARY") as caught:
        run(responses(folder, server), said.append)
    assert KEY not in f"{caught.value!r} {said} {caplog.text}"
    assert [file for file in folder.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()] == []


def test_conversations(folder: Path, server: Server) -> None:
    outputs = [str(folder / f"talk-{i}.json") for i in range(2)]
    request = simulate.Request(**engine(folder, server), script_file=str(folder / "talk.json"), conversations=outputs)
    server.behave = lambda n, body: answer(n, body) if n != 1 else Reply({}, 402)
    with pytest.raises(UserError, match="402"):
        simulate.run(Loaded(), print, request)
    server.behave = answer
    simulate.run(Loaded(), print, request)
    assert len(server.bodies) <= 6
    first = "You said: Be brief. / Who?"
    for output in outputs:
        messages = read_conversation(output).messages
        assert [m["content"] for m in messages if m["role"] == "assistant"] == [
            first,
            f"You said: Be brief. / Who? / {first} / Why?",
        ]
        assert json.loads(Path(output).read_text())["prompt_exact"] is False
    before = len(server.bodies)
    simulate.run(Loaded(), print, request)
    assert len(server.bodies) == before
