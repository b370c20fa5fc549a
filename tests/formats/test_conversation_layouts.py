"""The layouts of other people's conversations: what is read of them, and what is refused by name."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from personascope.errors import UserError
from personascope.formats.conversations import parse_conversation, read_conversation
from tests.formats.test_conversations import ANSWERED, ASKED, complaint, write

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "blue", "tool_call_id": "c1"}


def messages(payload: Any) -> list[dict[str, Any]]:
    return parse_conversation(payload, "talk.json").messages


@pytest.mark.parametrize("key", ["conversation", "messages", "conversations"])
def test_an_object_holds_its_messages_under_one_of_three_keys(key: str) -> None:
    read = parse_conversation({key: [ASKED, ANSWERED], "model": "m"}, "talk.json")
    assert read.messages == [ASKED, ANSWERED] and read.metadata == {"model": "m"}


def test_openai_messages_keep_tool_calls_and_reasoning(tmp_path: Path) -> None:
    held = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Why"}, "is", {"type": "input_text", "text": "it so?"}],
        },
        CALLED | {"reasoning_content": "I look.", "refusal": None, "audio": None},
        RESULT | {"name": "look"},
        {"role": "assistant", "content": "Because.", "thinking": "So.", "tool_calls": [], "name": None},
    ]
    read = read_conversation(write(tmp_path / "talk.json", {"messages": held})).messages
    assert read == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why\nis\nit so?"},
        CALLED | {"reasoning_content": "I look."},
        RESULT | {"name": "look"},
        {"role": "assistant", "content": "Because.", "thinking": "So."},
    ]


def test_content_may_be_missing_beside_tool_calls_and_reasoning_has_another_name() -> None:
    call = {"role": "assistant", "tool_calls": [CALL], "reasoning": "I look."}
    assert messages([ASKED, call]) == [ASKED, CALLED | {"reasoning_content": "I look."}]


def test_sharegpt_is_read(tmp_path: Path) -> None:
    held = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Which color?"},
        {"from": "function_call", "value": '{"name": "look", "arguments": {"at": "sky"}}'},
        {"from": "observation", "value": "blue"},
        {"from": "gpt", "value": "Blue.", "weight": 1},
        {"from": "tool", "value": "x"},
        {"from": "assistant", "value": "y"},
    ]
    path = write(tmp_path / "talk.json", {"id": "x1", "conversations": held})
    function = {"name": "look", "arguments": {"at": "sky"}}
    assert read_conversation(path).messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Which color?"},
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]},
        {"role": "tool", "content": "blue"},
        {"role": "assistant", "content": "Blue."},
        {"role": "tool", "content": "x"},
        {"role": "assistant", "content": "y"},
    ]
    assert read_conversation(path).metadata == {"id": "x1"}


def test_a_system_prompt_beside_the_messages_is_the_first_of_them() -> None:
    first = {"role": "system", "content": "Be brief."}
    read = parse_conversation({"system": "Be brief.", "messages": [ASKED, ANSWERED]}, "talk.json")
    assert read.messages == [first, ASKED, ANSWERED] and read.metadata == {}
    assert messages({"system": "Be brief.", "messages": [first, ASKED, ANSWERED]}) == [first, ASKED, ANSWERED]
    with pytest.raises(UserError, match="keep one of them"):
        messages({"system": "Be long.", "messages": [first, ASKED, ANSWERED]})
    parts = [{"type": "text", "text": "Be brief."}]  # as Anthropic's requests have it
    for system in ({"system": parts}, {"system_prompt": "Be brief."}, {"system": "", "system_prompt": "Be brief."}):
        read = parse_conversation({**system, "messages": [ASKED, ANSWERED]}, "talk.json")
        assert read.messages == [first, ASKED, ANSWERED]
    with pytest.raises(UserError, match="system and system_prompt differ"):
        messages({"system": "Be brief.", "system_prompt": "Be long.", "messages": [ASKED, ANSWERED]})


def test_a_count_of_messages_is_metadata_and_two_lists_are_refused() -> None:
    read = parse_conversation({"conversation": [ASKED, ANSWERED], "messages": 2}, "talk.json")
    assert read.metadata == {"messages": 2}
    with pytest.raises(UserError, match='both "conversation" and "messages"'):
        messages({"conversation": [ASKED, ANSWERED], "messages": [ANSWERED]})


def test_the_hash_of_a_plain_list_is_that_of_its_json() -> None:
    text = json.dumps([ASKED, ANSWERED], sort_keys=True)
    same = json.dumps(messages({"messages": [ASKED, ANSWERED]}), sort_keys=True)
    assert hashlib.sha1(text.encode()).hexdigest() == hashlib.sha1(same.encode()).hexdigest()


def user(*parts: Any) -> list[Any]:
    return [ASKED, {"role": "user", "content": list(parts)}, ANSWERED]


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (user("x", {"type": "image_url", "image_url": {"url": "data:"}}), ["message 1: part 1", "image_url", "image"]),
        (user({"type": "input_audio", "input_audio": {}}), ["message 1: part 0", "input_audio", "audio is not read"]),
        (user({"type": "image", "source": {}}), ["message 1: part 0", "image is not read"]),
        (user({"type": "video"}), ["message 1: part 0", "video is not read"]),
        (user({"type": "tool_result", "content": "x"}), ["message 1: part 0", "tool_result", "not text"]),
        (user({"text": "x"}), ["message 1: part 0", "type"]),
        (user(7), ["message 1: part 0", "int"]),
        (user({"type": "text", "text": None}), ["message 1: part 0", "text", "NoneType"]),
        ([ASKED, {"role": "assistant", "content": None}], ["message 1", "null", "tool_calls"]),
        ([ASKED, {"role": "assistant", "content": None, "tool_calls": []}], ["message 1", "null"]),
        ([ASKED, {**ASKED, "tool_calls": [CALL]}, ANSWERED], ["message 1", "tool_calls", "user"]),
        ([ASKED, {**CALLED, "tool_calls": ["look()"]}], ["message 1", "list of objects"]),
        ([ASKED, {**CALLED, "tool_calls": None, "function_call": {"name": "look"}}], ["message 1", "function_call"]),
        ([ASKED, {**ANSWERED, "reasoning_content": ["x"]}], ["message 1", "reasoning_content", "list"]),
        ([ASKED, {"role": "function", "content": "x"}, ANSWERED], ["message 1", "unknown role 'function'"]),
        ({"conversations": [{"from": "bing", "value": "x"}]}, ["message 0", "'bing'", "human, gpt"]),
        ({"conversations": [{"from": "gpt", "value": None}]}, ["message 0", "value", "null"]),
        ({"conversations": [{"from": "function_call", "value": "look at"}]}, ["message 0", "function_call", "JSON"]),
        ([[ASKED, ANSWERED]], ["list of 1 conversations", ".jsonl"]),
        ([{"messages": [ASKED, ANSWERED]}] * 3, ["list of 3 conversations", "import-conversations"]),
        ([ASKED, {**ANSWERED, "content": "", "refusal": "I can't."}], ["message 1", "refusal", "content"]),
        ([{**ASKED, "images": ["a.png"]}, ANSWERED], ["message 0", "'images'", "only text"]),
        ({"image": "a.png", "conversations": [{"from": "gpt", "value": "x"}]}, ["'image'", "only text"]),
        ([{**ASKED, "from": "human", "value": "How?"}, ANSWERED], ["message 0", "value", "keep one"]),
        ({"system": 7, "messages": [ASKED, ANSWERED]}, ["system", "int"]),
        ({"eval": {}, "samples": []}, ["import-conversations"]),
        ({"metadata": {}, "events": [], "target_messages": []}, ["import-conversations"]),
        ({"chosen": "\n\nHuman: A", "rejected": "x"}, ["import-conversations"]),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(payload: Any, said: list[str]) -> None:
    with pytest.raises(UserError) as error:
        messages(payload)
    assert complaint(error).startswith("talk.json")
    assert all(part in complaint(error) for part in said), complaint(error)
