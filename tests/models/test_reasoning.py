"""Reasoning and answer in generated token ids and in rendered conversations, on real tokenizers."""

import random
from typing import Any

import pytest

from personascope.models.reasoning import prompt_end, split_ids
from personascope.models.spans import encode_conversation, locate_spans, prompt_ids
from tests.models.test_spans import real

THINKERS = ["qwen3", "llama3_1", "gemma3", "mistral_nemo", "deepseek_v3"]
ASK = [{"role": "user", "content": "2+2?"}]
ANALYSIS = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}"
# An emoji of several tokens beside a mark, and marks inside of what is said.
THOUGHTS = ["User asks a sum.", "Hm 🦜", "line\n\nline 的", "a < b | c > d"]
ANSWERS = ["It is 4.", "🦜 It is 4 🎉", "𐍈\n\n  code\n", "4"]


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def decode(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("name", ["gptoss", *THINKERS])
@pytest.mark.parametrize("thought", THOUGHTS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_ids_are_split_where_their_text_is(name: str, thought: str, answer: str) -> None:
    tokenizer = real(name)
    text = ANALYSIS.format(thought, answer) if name == "gptoss" else f"<think>\n{thought}\n</think>\n\n{answer}"
    ids = ids_of(tokenizer, text)
    split = split_ids(tokenizer, ids)
    assert (split.text, split.reasoning) == (answer, thought)
    start, end = split.answer
    # The tokens of the answer and no others: a token that a line break shares with it belongs to both.
    assert decode(tokenizer, ids[start:end]).strip() == answer.strip() and end == len(ids)
    assert "".join(decode(tokenizer, ids[a:b]) for a, b in split.thoughts).strip() == thought
    assert split.thoughts[-1][1] <= start


@pytest.mark.parametrize("name", ["gptoss", *THINKERS])
def test_reasoning_that_never_ends_has_no_answer_token(name: str) -> None:
    tokenizer = real(name)
    text = "<|channel|>analysis<|message|>User asks a" if name == "gptoss" else "<think>\nUser asks a"
    ids = ids_of(tokenizer, text)
    split = split_ids(tokenizer, ids)
    assert (split.text, split.answer, split.reasoning) == ("", (len(ids), len(ids)), "User asks a")
    opened = prompt_end(tokenizer, [*prompt_ids(tokenizer, ASK), *ids_of(tokenizer, "<think>\n")])
    assert split_ids(tokenizer, ids_of(tokenizer, "User asks a"), opened).answer == (3, 3)


def test_the_channels_are_not_glued_together() -> None:
    """Leaving out special tokens alone gives "analysisUser asks sum.assistantfinalIt is 4."."""
    tokenizer = real("gptoss")
    split = split_ids(tokenizer, ids_of(tokenizer, ANALYSIS.format("User asks sum.", "It is 4.")))
    assert (split.text, split.reasoning) == ("It is 4.", "User asks sum.")


@pytest.mark.parametrize("name", ["gptoss", *THINKERS])
def test_other_ids_are_an_answer_whole(name: str) -> None:
    tokenizer, rng = real(name), random.Random(name)
    for _ in range(5):
        ids = [rng.randrange(1000, 20000) for _ in range(rng.randrange(40))]
        split = split_ids(tokenizer, ids, prompt_end(tokenizer, prompt_ids(tokenizer, ASK)))
        assert split.answer == (0, len(ids)) and split.reasoning is None and not split.thoughts
        assert split.text == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("name", THINKERS)
def test_the_span_of_an_answer_leaves_its_reasoning_out(name: str) -> None:
    """Whether the template keeps the reasoning (Llama's), or rewrites it (Qwen 3's last turn) or drops it (earlier)."""
    tokenizer = real(name)
    said = ["<think>\nA sum.\n</think>\n\nIt is 4.", "<think>\nAnother sum.\n</think>\n\nIt is 6."]
    messages = [*ASK, {"role": "assistant", "content": said[0]}]
    messages += [{"role": "user", "content": "3+3?"}, {"role": "assistant", "content": said[1]}]
    encoded = encode_conversation(tokenizer, messages)
    spans = locate_spans(tokenizer, messages, encoded)
    assert [decode(tokenizer, encoded.ids[s.start : s.end]).strip() for s in spans] == ["It is 4.", "It is 6."]
    thoughts = [[decode(tokenizer, encoded.ids[a:b]).strip() for a, b in span.thoughts] for span in spans]
    assert thoughts == [[] if name == "qwen3" else ["A sum."], ["Another sum."]]
    assert [span.special_tokens for span in spans] == [False, False]


def test_an_unfinished_thought_has_no_span() -> None:
    tokenizer = real("llama3_1")
    messages = [*ASK, {"role": "assistant", "content": "<think>\nA sum"}]
    (span,) = locate_spans(tokenizer, messages, encode_conversation(tokenizer, messages))
    assert span.start == span.end and len(span.thoughts) == 1


def test_a_mark_that_shares_a_token_with_the_answer_is_not_shown() -> None:
    """Llama 3 has '>b' as one token: the answer was '>b is it.'."""
    split = split_ids(real("llama3_1"), ids_of(real("llama3_1"), "<think>a</think>b is it."))
    assert (split.text, split.reasoning) == ("b is it.", "a")
