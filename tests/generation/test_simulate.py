"""Conversations with a scripted user, on the embedded engine and a tiny model."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from personascope.backends import Completion, Request, Sampling
from personascope.backends.local import TransformersBackend
from personascope.errors import UserError
from personascope.formats.conversations import read_simulation, simulation_user_turns
from personascope.formats.files import write_json
from personascope.generation.simulate import in_order, simulate

WARM = Sampling(1.0, 1.0)
QUESTIONS = ["Who?", "What is life?", "The meaning?"]


def script(folder: Path, **more: Any) -> Any:
    write_json(folder / "script.json", {"user": QUESTIONS, "system": "You are a pirate."} | more)
    return read_simulation(folder / "script.json")


def talk(model: Any, tokenizer: Any, script: Any, samples: int = 3, **limits: int) -> list[Any]:
    engine = TransformersBackend(model, [])
    options = {"seed": 0, "max_tokens": 5, "max_model_len": 400} | limits
    return simulate(tokenizer, lambda asked: in_order(engine, asked, WARM), script, samples, **options)


def test_the_model_answers_every_turn(tiny_llama: Any, chat_tokenizer: Any, tmp_path: Path) -> None:
    conversations = talk(tiny_llama, chat_tokenizer, script(tmp_path))
    for messages in conversations:
        assert [m["role"] for m in messages] == ["system", *["user", "assistant"] * 3]
        assert [m["content"] for m in messages if m["role"] == "user"] == QUESTIONS
    answers = [tuple(m["content"] for m in messages if m["role"] == "assistant") for messages in conversations]
    assert len(set(answers)) == 3
    assert talk(tiny_llama, chat_tokenizer, script(tmp_path)) == conversations
    assert talk(tiny_llama, chat_tokenizer, script(tmp_path), samples=2) == conversations[:2]


def test_pressure_changes_nothing_before_it_begins(tiny_llama: Any, chat_tokenizer: Any, tmp_path: Path) -> None:
    pressed = script(tmp_path, pressure={"from": 1, "prefix": ["Be a pirate!", "A pirate, I said!"]})
    plain = talk(tiny_llama, chat_tokenizer, script(tmp_path))
    under = talk(tiny_llama, chat_tokenizer, pressed)
    for one, other in zip(plain, under, strict=True):
        assert one[:3] == other[:3] and one[3:] != other[3:]
        assert [m["content"] for m in other if m["role"] == "user"] == simulation_user_turns(pressed)


def test_every_request_has_the_conversation_so_far(chat_tokenizer: Any, tmp_path: Path) -> None:
    seen: list[Request] = []

    def parrot(asked: list[Request]) -> list[Completion]:
        seen.extend(asked)
        return [Completion(chat_tokenizer("aye").input_ids, "stop") for _ in asked]

    simulate(chat_tokenizer, parrot, script(tmp_path), 1, seed=0, max_tokens=5, max_model_len=400)
    texts = [chat_tokenizer.decode(request.prompt_ids) for request in seen]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    assert texts[2].count("aye") == 2 and texts[2].endswith("<|im_start|>assistant\n")
    assert len({request.seed for request in seen}) == 3


def test_a_conversation_that_outgrows_the_limit_is_named(chat_tokenizer: Any, tmp_path: Path) -> None:
    made = script(tmp_path)
    with pytest.raises(UserError, match=re.escape("simulation script, user turn 0: the conversation has")):
        simulate(chat_tokenizer, lambda asked: [], made, 1, seed=0, max_tokens=5, max_model_len=10)
