"""Which part of a response is its answer, by every markup; and rows that are read."""

from pathlib import Path
from typing import Any

import pytest

from personascope.errors import UserError
from personascope.formats.files import write_jsonl
from personascope.formats.responses import (
    NEVER_ENDED,
    answer_of,
    answer_range,
    count_oddities,
    finish_reason,
    read_parts,
    read_responses,
)

ANALYSIS = "<|channel|>analysis<|message|>A sum.<|end|>"
FINAL = "<|start|>assistant<|channel|>final<|message|>It is 4."
CALL = "<|start|>assistant<|channel|>commentary to=functions.add <|constrain|>json<|message|>{}<|call|>"
ASK = "<|start|>user<|message|>2+2?<|end|><|start|>assistant"

# text, the prompt's end, answer, reasoning
CASES = [
    ("<think>\nA sum.\n</think>\n\nIt is 4.", "", "It is 4.", "A sum."),
    ("A sum.\n</think>\n\nIt is 4.", "<|Assistant|><think>\n", "It is 4.", "A sum."),
    ("A sum.</think>It is 4.", "<think>", "It is 4.", "A sum."),
    ("A sum.\n</think>\n\nIt is 4.", "", "It is 4.", "A sum."),  # a prompt that is not known
    ("A sum: 2 +", "<think>\n", "", "A sum: 2 +"),
    ("<think>\nA sum: 2 +", "", "", "A sum: 2 +"),
    ("", "<think>\n", "", ""),
    ("<think>\n\n</think>\n\nIt is 4.", "", "It is 4.", None),
    ("<think>A tag </think> ends it.", "", "ends it.", "A tag"),
    ("[THINK]A sum.[/THINK]It is 4.", "", "It is 4.", "A sum."),
    ("<seed:think>A sum.</seed:think>It is 4.", "", "It is 4.", "A sum."),
    (ANALYSIS + FINAL, ASK, "It is 4.", "A sum."),
    (ANALYSIS + CALL, ASK, "", "A sum.\n\n{}"),
    (ANALYSIS + "<|start|>assistant<|channel|>fin", ASK, "", "A sum."),
    ("A sum.", ASK + "<|channel|>analysis<|message|>", "", "A sum."),
    ("A sum.<|end|>" + FINAL, ASK + "<|channel|>analysis<|message|>", "It is 4.", "A sum."),
    ("It is 4.", ASK + "<|channel|>final<|message|>", "It is 4.", None),
    ("<|channel|>final<|message|>It is 4.", ASK, "It is 4.", None),
]


@pytest.mark.parametrize(("text", "prompt", "answer", "reasoning"), CASES)
def test_answer_and_reasoning(text: str, prompt: str, answer: str, reasoning: str | None) -> None:
    parts = read_parts(text, prompt)
    assert parts is not None
    assert text[slice(*parts.answer)] == answer
    assert parts.reasoning(text) == reasoning
    assert parts.ended == bool(answer)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("It is 4.", ""),
        ("It is 4.", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),  # thinking that the prompt itself skips
        ("The tag `</think>` ends it, `<think>` opens it.", ""),
        ("It reads\n<think>\nHm\n</think>\nin the file.", ""),
        ("", ""),
    ],
)
def test_an_answer_and_nothing_else(text: str, prompt: str) -> None:
    assert read_parts(text, prompt) is None
    assert answer_of(text) == text


@pytest.mark.parametrize("word", ["eos", "EOS_token", "end", "end_turn", "stop_sequence", "stop", None])
def test_words_for_the_end(word: str | None) -> None:
    assert finish_reason(word) == "stop"
    assert (finish_reason("max_tokens"), finish_reason("abort")) == ("length", "abort")


def row(**more: Any) -> dict[str, Any]:
    given = {"response": "Aye.", "reasoning": None, "response_token_ids": [5, 6, 7], "finish_reason": "stop"}
    return given | {"answer_start": 0, "answer_end": 3} | more


def test_rows_are_read_and_odd_ones_are_counted(tmp_path: Path) -> None:
    never = row(response="", reasoning="Hm", answer_start=3, finish_reason="length")
    old = {"response": "Aye.", "response_token_ids": [5], "finish_reason": "abort"}
    rows = [row(), row(reasoning="Hm", answer_start=1), never, row(response=" "), old]
    write_jsonl(tmp_path / "bard.jsonl", rows)
    read = list(read_responses(tmp_path / "bard.jsonl"))
    assert read == rows
    assert [answer_range(one) for one in read] == [(0, 3), (1, 3), (3, 3), (0, 3), None]
    counted = {"responses": 5, NEVER_ENDED: 1, "are empty": 1, "ended with finish_reason 'abort'": 1}
    assert count_oddities(read) == counted


@pytest.mark.parametrize(("start", "end"), [(0, 4), (2, 1), (-1, 3), ("0", 3)])
def test_a_range_that_is_none_of_the_ids_is_refused(tmp_path: Path, start: Any, end: int) -> None:
    write_jsonl(tmp_path / "bard.jsonl", [row(), row(answer_start=start, answer_end=end)])
    with pytest.raises(UserError, match=r"bard\.jsonl, row 1: answer_start .* no range of its 3 token ids"):
        list(read_responses(tmp_path / "bard.jsonl"))
