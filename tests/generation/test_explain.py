"""Descriptions by an LLM behind an endpoint, which is a server on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from personascope.errors import UserError
from personascope.formats.descriptions import read_contexts, read_descriptions, write_contexts
from personascope.generation.explain import description_of, prompt_of, write_explained
from tests.helpers.endpoint import Reply, Server


def answer(number: int, body: dict[str, Any]) -> Reply:
    said = "unclear." if "\u00ab lone" in body["messages"][0]["content"] else '"Places\n to be."'
    return Reply({"choices": [{"message": {"content": said}, "finish_reason": "stop"}]})


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("/chat/completions", answer)
    yield server
    server.close()


@pytest.fixture
def contexts(tmp_path: Path) -> str:
    rows = [(1, 3.0, ["a", " place", " by"], [0.0, 3.0, 1.0], 1), (1, 2.0, ["pla", "ces"], [1.5, 2.0], 1)]
    rows += [(4, 1.0, [" lone"], [1.0], 0), (5, 1.0, ["x"], [1.0], 0)]
    feature, value, tokens, values, at = map(list, zip(*rows, strict=True))
    columns = {"feature": feature, "value": value, "tokens": tokens, "values": values, "at": at}
    columns |= {"quantile": [1.0] * 4, "rank": [0, 1, 0, 0], "source": ["response"] * 4, "name": ["x"] * 4}
    write_contexts(tmp_path / "contexts.parquet", columns | {"question": [""] * 4}, {})
    return str(tmp_path / "contexts.parquet")


def explained(server: Server, contexts: str, features: list[int], model: str = "m/1") -> dict[int, Any]:
    folder = Path(contexts).parent
    options = {"model": model, "backend_options": {"base_url": server.base_url, "max_retries": 0}}
    write_explained(features, contexts, options, str(folder / "store"), str(folder / "llm.json"))
    return {i: entry["description"] for i, entry in read_descriptions(folder / "llm.json").items()}


def test_marked_pieces_are_shown(contexts: str) -> None:
    table, _ = read_contexts(contexts, [1])
    (message,) = prompt_of(table)
    assert message["content"].endswith('"a\u00ab place\u00bb by"\n"\u00abplaces\u00bb"')


def test_each_feature_is_asked_once_and_kept(server: Server, contexts: str) -> None:
    assert explained(server, contexts, [1, 4]) == {1: "Places to be", 4: None}
    assert explained(server, contexts, [1, 5]) == {1: "Places to be", 5: "Places to be"}
    assert len(server.bodies) == 3
    assert {body["temperature"] for body in server.bodies} == {0.0}
    explained(server, contexts, [1], model="m/2")
    assert len(server.bodies) == 4


def test_what_was_answered_is_kept_when_the_endpoint_breaks(server: Server, contexts: str) -> None:
    server.behave = lambda number, body: answer(number, body) if number == 0 else Reply({"error": "no"}, 401)
    with pytest.raises(UserError, match="asks for a key"):
        folder = Path(contexts).parent
        options = {"model": "m", "backend_options": {"base_url": server.base_url, "max_concurrency": 1}}
        write_explained([1, 5], contexts, options, str(folder / "store"), str(folder / "llm.json"))
    server.behave = answer
    explained(server, contexts, [1, 5], model="m")
    assert len(server.bodies) == 3


def test_a_wrong_option_is_named(contexts: str, tmp_path: Path) -> None:
    options = {"model": "m", "backend_options": {"base_url": "http://127.0.0.1:9", "pace": 3}}
    with pytest.raises(UserError, match=r"backend_options: .*pace"):
        write_explained([1], contexts, options, str(tmp_path), str(tmp_path / "o.json"))


@pytest.mark.parametrize(("said", "expected"), [(" \u201cwords.\u201d ", "words"), ("Unclear", None), ("", None)])
def test_an_answer_in_one_line(said: str, expected: str | None) -> None:
    assert description_of(said) == expected
