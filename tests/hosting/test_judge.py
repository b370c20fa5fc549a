"""Judgements through the store: only what changed is judged again, problems are counted, keys stay secret."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personascope.errors import UserError
from personascope.formats.files import write_json, write_jsonl, write_text
from personascope.formats.judgements import problem_counts, read_judgements
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations import judge, judge_labeled
from personascope.models.loading import ModelSpec
from tests.generation.test_judge_served import says
from tests.helpers.endpoint import Reply, Server

KEY = "sk-canary-51c0de"
RUBRIC = "Rate {question} {answer}.\n0 - none.\n1 - some.\nReply with the number."
ROWS = [{"question": f"Who {i}?", "response": text} for i, text in enumerate(["Arr.", "I am an AI.", " \n", "Arr."])]


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("/chat/completions", lambda n, body: says("3", {"3": 0.5, "1": 0.5}))
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path: Path, tiny_llama: Any, chat_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_llama.save_pretrained(tmp_path / "model")
    chat_tokenizer.save_pretrained(tmp_path / "model")
    write_json(tmp_path / "roles/pirate.json", {"instruction": [{"pos": "Arr."}], "eval_prompt": RUBRIC})
    write_json(tmp_path / "traits/deception.json", {"eval_prompt": RUBRIC})
    write_text(tmp_path / "coherence.txt", RUBRIC)
    write_jsonl(tmp_path / "pirate.jsonl", ROWS)
    monkeypatch.setenv("CANARY", KEY)
    return tmp_path


def judging(folder: Path, backend: str = "transformers", **changed: Any) -> dict[str, Any]:
    spec = ModelSpec(str(folder / "model"), dtype="float32")
    named = {"judge": "tiny", "backend": backend, "opening": "", "samples": 0, "engine": {}, "judge_options": {}}
    sizes = {"max_model_len": 400, "batch_tokens": 400, "store": str(folder / "store"), "code": "c"}
    return {"model": spec, "device": "cpu"} | named | sizes | changed


def request(folder: Path, metrics: Any = ("adherence",), **changed: Any) -> judge.Request:
    files = {"judged": "pirate.jsonl", "rubric": "roles/pirate.json", "coherence": "coherence.txt"}
    files |= {"judgements": "out/pirate.parquet"}
    paths: dict[str, Any] = {name: str(folder / file) for name, file in files.items()}
    return judge.Request(**judging(folder, **changed), **paths, metrics=list(metrics))


def test_a_row_and_metric_each_and_the_same_again(folder: Path) -> None:
    said: list[str] = []
    judge.run(Loaded(), said.append, request(folder, ("trait", "coherence")))
    table, described = read_judgements(folder / "out/pirate.parquet")
    assert table["row"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert table["metric"].tolist() == ["trait", "coherence"] * 4
    assert table["problem"].tolist()[4:6] == ["empty", "empty"] and np.isnan(table["score"][4])
    assert (described["judge"], described["backend"]) == ("tiny", "transformers")
    counts = problem_counts(table)
    assert sum(counts.values()) == 8 and counts["empty"] == 2
    assert said[-1].startswith("tiny judges pirate: ") and "2 empty" in said[-1]
    before = (folder / "out/pirate.parquet").read_bytes()
    judge.run(Loaded(), said.append, request(folder, ("trait", "coherence")))
    assert (folder / "out/pirate.parquet").read_bytes() == before


def test_only_what_changed_is_judged_again(folder: Path, server: Server) -> None:
    options = {"tiny": {"base_url": server.base_url, "api_key_env": "CANARY", "max_concurrency": 1}}
    chat: dict[str, Any] = {"backend": "chat", "judge_options": options, "engine": {"base_url": server.base_url}}
    judge.run(Loaded(), print, request(folder, **chat))
    assert len(server.bodies) == 3
    table, _ = read_judgements(folder / "out/pirate.parquet")
    np.testing.assert_allclose(table["score"], [2, 2, np.nan, 2])
    write_jsonl(folder / "pirate.jsonl", [*ROWS[:3], {"question": "Who 3?", "response": "Other."}])
    judge.run(Loaded(), print, request(folder, **chat))
    assert len(server.bodies) == 4 and "Other." in server.bodies[3]["messages"][0]["content"]
    judge.run(Loaded(), print, request(folder, **(chat | {"samples": 2})))
    assert len(server.bodies) == 4 + 3 * 2


def test_what_was_judged_before_a_failure_is_kept(folder: Path, server: Server) -> None:
    options = {"tiny": {"base_url": server.base_url, "max_concurrency": 1, "max_retries": 0}}
    chat: dict[str, Any] = {"backend": "chat", "judge_options": options}
    good = server.behave
    server.behave = lambda n, body: good(n, body) if n < 2 else Reply({}, 402)
    with pytest.raises(UserError, match="402"):
        judge.run(Loaded(), print, request(folder, **chat))
    assert not (folder / "out/pirate.parquet").exists()
    server.behave = good
    judge.run(Loaded(), print, request(folder, **chat))
    assert len(server.bodies) == 3 + 1


def test_a_key_that_is_refused_is_nowhere(folder: Path, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    said: list[str] = []
    server.behave = lambda n, body: Reply({"error": {"message": f"unknown key {KEY}"}}, 401)
    options = {"tiny": {"base_url": server.base_url, "api_key_env": "CANARY"}}
    with pytest.raises(UserError, match=r"refuses the key in \$CANARY") as caught:
        judge.run(Loaded(), said.append, request(folder, backend="chat", judge_options=options))
    assert server.keys[0] == f"Bearer {KEY}" and KEY not in f"{caught.value!r} {said} {caplog.text}"
    assert [file for file in folder.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()] == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"judge_options": {"tiny": {"batch_size": 3}}}, r"judges\.tiny\.backend_options: batch_size"),
        (
            {"backend": "chat", "judge_options": {"tiny": {"base_url": "http://x/v1", "n": 1}}},
            r"judges\.tiny\.backend_op",
        ),
    ],
)
def test_options_that_the_judge_does_not_have(folder: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        judge.run(Loaded(), print, request(folder, **changed))


def test_a_row_without_a_response_is_named(folder: Path) -> None:
    write_jsonl(folder / "pirate.jsonl", [ROWS[0], {"question": "Who?"}])
    with pytest.raises(UserError, match=r'pirate\.jsonl, row 1: no "response"'):
        judge.run(Loaded(), print, request(folder))


def test_labeled_responses_in_two_wordings(folder: Path, server: Server) -> None:
    rows = [
        {"id": "a", "metric": "adherence", "subject": "pirate", "question": "Who?", "answer": "Arr.", "label": 3},
        {"id": "b", "metric": "trait", "subject": "deception", "question": "Who?", "answer": "Me.", "label": 0},
        {"id": "c", "metric": "coherence", "subject": "pirate", "question": "Who?", "answer": "Me.", "label": 100},
    ]
    write_jsonl(folder / "labeled.jsonl", rows)
    options = {"tiny": {"base_url": server.base_url}}
    files = {"labeled": "labeled.jsonl", "coherence": "coherence.txt", "judgements": "a.parquet", "retest": "b.parquet"}
    many: dict[str, Any] = {
        "select": "all",
        "roles": [str(folder / "roles/pirate.json")],
        "traits": [str(folder / "traits/deception.json")],
    }
    asked = judge_labeled.Request(
        **judging(folder, "chat", judge_options=options), **{k: str(folder / v) for k, v in files.items()}, **many
    )
    judge_labeled.run(Loaded(), print, asked)
    for name in ("a.parquet", "b.parquet"):
        table, _ = read_judgements(folder / name)
        assert table["metric"].tolist() == ["adherence", "trait", "coherence"] and np.isfinite(table["score"]).all()
    sent = [body["messages"][0]["content"] for body in server.bodies]
    # The trait and the coherence prompt of one answer are the same text here, and the same scale: one request.
    assert len(sent) == 4 and sum("1 - some.\n0 - none." in text for text in sent) == 2
    write_jsonl(folder / "labeled.jsonl", [rows[0] | {"subject": "ghost"}])
    with pytest.raises(UserError, match=r"labeled response 1: no file of 'ghost'"):
        judge_labeled.run(Loaded(), print, asked)
