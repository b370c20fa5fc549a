"""Which tokens of a response are pooled over: answers, reasoning, and what special tokens do to a mean."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from personascope.backends import Completion, Request
from personascope.errors import UserError
from personascope.extraction.items import SELECTIONS, Item, response_item
from personascope.extraction.readings import read_layers
from personascope.formats.roles import Prompt, Question
from personascope.generation.generate import response_row
from personascope.models.spans import prompt_ids, special_ids
from tests.models.test_spans import real

PROMPT = Prompt("bard", 0, Question(3, "2+2?"), "You are a bard.")
ANALYSIS = "<|channel|>analysis<|message|>A sum.<|end|><|start|>assistant<|channel|>final<|message|>It is 4."
TEXTS = {"gptoss": ANALYSIS, "qwen3": "<think>\nA sum.\n</think>\n\nIt is 4."}


def row_of(tokenizer: Any, written: str, finish: str = "stop", **more: Any) -> dict[str, Any]:
    """The row of a response whose generated text is this."""
    ids = tokenizer(written, add_special_tokens=False)["input_ids"]
    request = Request(prompt_ids(tokenizer, PROMPT.messages), 0, 99, PROMPT.messages)
    return response_row(tokenizer, PROMPT, request, Completion(ids, finish, **more))


def selected(tokenizer: Any, row: dict[str, Any], selection: str) -> list[str]:
    item = response_item(tokenizer, row, selection, None)
    return [tokenizer.decode(item.ids[start:end]).strip() for start, end in item.ranges]


@pytest.mark.parametrize("name", TEXTS)
def test_the_answer_is_pooled_as_it_was_generated(name: str) -> None:
    tokenizer = real(name)
    row = row_of(tokenizer, TEXTS[name])
    assert (row["response"], row["reasoning"]) == ("It is 4.", "A sum.")
    assert row["conversation"][-1] == {"role": "assistant", "content": "It is 4."}
    assert selected(tokenizer, row, "response_only") == ["It is 4."]
    assert selected(tokenizer, row, "response_with_reasoning") == ["A sum.", "It is 4."]
    prompt = prompt_ids(tokenizer, PROMPT.messages)
    item = response_item(tokenizer, row, "response_only", None)
    assert item.ids == prompt + row["response_token_ids"] and item.prompt == len(prompt)
    old = {key: value for key, value in row.items() if key not in ("reasoning", "answer_start", "answer_end")}
    assert response_item(tokenizer, old, "response_only", None) == item


@pytest.mark.parametrize("name", TEXTS)
def test_reasoning_that_never_ended_selects_nothing(name: str) -> None:
    tokenizer = real(name)
    row = row_of(tokenizer, TEXTS[name].partition(" sum")[0], "length")
    n = len(row["response_token_ids"])
    assert (row["response"], row["reasoning"], row["answer_start"], row["answer_end"]) == ("", "A", n, n)
    assert response_item(tokenizer, row, "response_only", None).ranges == []
    assert selected(tokenizer, row, "response_with_reasoning") == ["A"]


def test_reasoning_that_a_server_keeps_apart_is_no_part_of_the_ids() -> None:
    tokenizer = real("qwen3")
    row = row_of(tokenizer, "It is 4.", text="It is 4.", reasoning="A sum.", prompt_exact=False)
    assert (row["response"], row["reasoning"], row["answer_start"]) == ("It is 4.", "A sum.", 0)
    assert selected(tokenizer, row, "response_only") == ["It is 4."]
    with pytest.raises(UserError, match=r"set extraction\.token_selection: response_only"):
        response_item(tokenizer, row, "response_with_reasoning", None)


def test_an_answer_alone_is_read_in_its_conversation() -> None:
    tokenizer = real("llama3_1")
    item = response_item(tokenizer, row_of(tokenizer, "It is 4."), "response_only", None)
    assert item.prompt is None and tokenizer.decode(item.ids).endswith("It is 4.<|eot_id|>")


@pytest.mark.parametrize("name", ["llama3_1", "qwen3", "gemma3", "deepseek_v3", "mistral_nemo", "gptoss"])
def test_all_leaves_special_tokens_out(name: str) -> None:
    tokenizer = real(name)
    row = row_of(tokenizer, "It is 4.")
    item = response_item(tokenizer, row, "all", None)
    chosen = [token for start, end in item.ranges for token in item.ids[start:end]]
    assert chosen == [token for token in item.ids if token not in special_ids(tokenizer)]
    assert 0 < len(chosen) < len(item.ids)
    text = "".join(selected(tokenizer, row, "all"))
    assert all(said in text for said in ("You are a bard.", "2+2?", "It is 4."))
    assert not any(mark in text for mark in ("<|", "<｜", "<start_of_turn>", "[INST]", "<bos>", "<s>"))  # noqa: RUF001
    assert response_item(tokenizer, row, "all_with_special", None).ranges == [(0, len(item.ids))]


def test_every_selection_of_the_configuration_is_there() -> None:
    schema = yaml.safe_load(Path("workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
    assert schema["properties"]["extraction"]["properties"]["token_selection"]["enum"] == list(SELECTIONS)


def test_readings_of_the_prompt_leave_reasoning_out(tiny_llama: Any) -> None:
    ids = list(range(5, 25))
    ((_, reading),) = read_layers(tiny_llama, [Item(ids, [(12, 20)], prompt=6)], [1])
    with torch.inference_mode():
        h = tiny_llama(torch.tensor([ids]), output_hidden_states=True).hidden_states[2][0].numpy()
    for found, expected in zip(reading[:, 0], (h[12:].mean(0), h[:6].mean(0), h[5]), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("written", ["Close it with </think> at last.", "An example: <think>hm</think>so"])
def test_a_think_tag_inside_an_answer(written: str) -> None:
    """Qwen 3's template drops all in front of it: ' at last.' was read, and 'so'."""
    tokenizer = real("qwen3")
    row = row_of(tokenizer, written)
    assert row["response"] == written
    assert selected(tokenizer, row, "response_only") == [written]
    with pytest.raises(UserError, match=r"message 2 \(assistant\): the chat template takes a part of its answer"):
        response_item(tokenizer, row | {"response_token_ids": None}, "response_only", None)
    assert selected(real("gemma3"), row_of(real("gemma3"), written), "response_only") == [written]
