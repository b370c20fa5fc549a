"""The answer of a completion: from its ids, or from what a server says of them; and the message that it becomes."""

from pathlib import Path
from typing import Any

import pytest

from personascope.backends import Completion, Request
from personascope.formats.conversations import read_simulation
from personascope.formats.files import write_json
from personascope.generation.answers import read_answer, spoken
from personascope.generation.simulate import simulate
from tests.models.test_spans import real

ANALYSIS = "<|channel|>analysis<|message|>A sum.<|end|><|start|>assistant<|channel|>final<|message|>It is 4."
THOUGHT = "A sum.\n</think>\n\nIt is 4."


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("text", "finish", "reasoning", "expected"),
    [
        (THOUGHT, "stop", None, ("It is 4.", "A sum.")),
        ("A sum: 2 +", "length", None, ("", "A sum: 2 +")),  # the prompt had opened it, as far as one can know
        ("It is 4.", "stop", None, ("It is 4.", None)),
        ("It is 4 and", "length", "A sum.", ("It is 4 and", "A sum.")),
        ("", "length", "A sum", ("", "A sum")),
    ],
)
def test_what_a_server_that_makes_the_prompt_says(
    text: str, finish: str, reasoning: str | None, expected: tuple[str, str | None]
) -> None:
    tokenizer = real("qwen3")
    prompt = ids_of(tokenizer, "<|im_start|>assistant\n<think>\n")
    ids = ids_of(tokenizer, text) if text else []
    split = read_answer(tokenizer, Completion(ids, finish, text, reasoning, prompt_exact=False), prompt)
    assert (split.text, split.reasoning) == expected
    assert tokenizer.decode(ids[slice(*split.answer)]).strip() == split.text
    exact = read_answer(tokenizer, Completion(ids_of(tokenizer, THOUGHT), "stop"), prompt)
    assert (exact.text, exact.reasoning) == ("It is 4.", "A sum.")


@pytest.mark.parametrize(
    ("name", "text", "content"),
    [("qwen3", f"<think>\n{THOUGHT}", f"<think>\n{THOUGHT}"), ("gptoss", ANALYSIS, "It is 4."), ("qwen3", "4", "4")],
)
def test_a_message_holds_what_its_template_can_tell_apart(name: str, text: str, content: str) -> None:
    tokenizer = real(name)
    completion = Completion(ids_of(tokenizer, text), "stop")
    assert spoken(tokenizer, completion, read_answer(tokenizer, completion, [])) == content


def test_later_turns_do_not_see_the_channels(tmp_path: Path) -> None:
    tokenizer, seen = real("gptoss"), []
    write_json(tmp_path / "script.json", {"user": ["2+2?", "Sure?"]})

    def finish(asked: list[Request]) -> list[Completion]:
        seen.extend(tokenizer.decode(one.prompt_ids) for one in asked)
        return [Completion(ids_of(tokenizer, ANALYSIS), "stop") for _ in asked]

    script = read_simulation(tmp_path / "script.json")
    (messages,) = simulate(tokenizer, finish, script, 1, seed=0, max_tokens=9, max_model_len=999)
    answers = [message for message in messages if message["role"] == "assistant"]
    assert answers == [{"role": "assistant", "content": "It is 4.", "reasoning": "A sum."}] * 2
    assert "A sum." not in seen[1] and seen[1].count("It is 4.") == 1 and "analysisA" not in seen[1]
