"""Where conversations are found: folders and those below, JSON lines, names that can't stand in a path."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from personascope.errors import UserError
from personascope.formats.conversation_files import (
    NAME,
    Place,
    conversation_digest,
    find_conversations,
    find_scripts,
    safe_name,
)
from personascope.formats.conversations import read_conversation
from tests.formats.test_conversations import ANSWERED, ASKED, BAD_NAMES, complaint, write

TALK = [ASKED, ANSWERED]


def lines(*values: Any) -> str:
    return "".join(f"{value if isinstance(value, str) else json.dumps(value)}\n" for value in values)


def test_folders_are_searched_with_those_below(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "C-2.v1_x.json", ".hidden.json", "sub/deeper.json", "sub/a.json", ".git/x.json"):
        write(tmp_path / "one" / name, TALK)
    (tmp_path / "one" / "folder.json").mkdir()
    single = write(tmp_path / "two" / "single.json", TALK)
    write(tmp_path / "two" / "other.json", TALK)
    found = find_conversations([str(single), tmp_path / "one"])
    one = tmp_path / "one"
    assert found.places == {
        "single": Place(single),
        "C-2.v1_x": Place(one / "C-2.v1_x.json"),
        "a": Place(one / "a.json"),
        "b": Place(one / "b.json"),
        "sub-a": Place(one / "sub" / "a.json", title="sub/a"),
        "sub-deeper": Place(one / "sub" / "deeper.json", title="sub/deeper"),
    }
    assert found.unread == {} and found.notes == [] and find_conversations([]).places == {}


def test_what_is_passed_over_and_a_folder_that_gives_none_are_named_in_a_line_each(tmp_path: Path) -> None:
    write(tmp_path / "full" / "a.json", TALK)
    for name in ("notes.txt", "sub/run.eval"):
        write(tmp_path / "full" / name, "x")
    (tmp_path / "full" / "gone.json").symlink_to(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "other" / "talk.txt", "x")
    found = find_conversations([tmp_path / name for name in ("full", "empty", "other")])
    assert list(found.places) == ["a"]
    passed, empty, other, other_passed = found.notes
    assert passed.startswith(f"{tmp_path / 'full'}: ")
    assert "gone.json (a link to nowhere), notes.txt, sub/run.eval;" in passed
    assert empty.startswith(f"{tmp_path / 'empty'}: no conversation in it")
    assert other.startswith(f"{tmp_path / 'other'}: no conversation in it") and "talk.txt" in other_passed


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("a-chat_1.v2", "a-chat_1.v2"),
        ("My chat (final)", "My-chat-final"),
        ("file#12", "file-12"),
        ("sub/a", "sub-a"),
        ("$(id); rm -rf x", "id-rm-rf-x"),
        ("_x", "x"),
        ("Gespräch über Äpfel", "Gesprach-uber-Apfel"),
        ("测试", "0b5d7e"),
        ("对话 1", "1-89b6b2"),
    ],
)
def test_a_name_is_made_safe(title: str, name: str) -> None:
    assert safe_name(title) == name


@pytest.mark.parametrize("title", [*BAD_NAMES, "", "...", "测试", "对话 1", "a" * 500])
def test_every_name_can_stand_in_a_path(title: str) -> None:
    assert NAME.fullmatch(safe_name(title)) and safe_name(title) == safe_name(title)


def test_two_long_or_foreign_names_stay_apart() -> None:
    titles = ["对话 一", "对话 二", "a" * 200 + "b", "a" * 200 + "c"]
    assert len({safe_name(title) for title in titles}) == 4


def test_the_name_that_the_user_gave_stays_as_title(tmp_path: Path) -> None:
    path = write(tmp_path / "My chat (1).json", TALK)
    found = find_conversations([tmp_path])
    assert found.places == {"My-chat-1": Place(path)}
    read = read_conversation(path)
    assert (read.name, read.metadata) == ("My-chat-1", {"title": "My chat (1)"})
    own = read_conversation(write(tmp_path / "b c.json", {"title": "T", "conversation": TALK}))
    assert (own.name, own.metadata) == ("b-c", {"title": "T"})


def test_two_files_whose_safe_names_are_one_are_both_named(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.json", TALK) for name in ("a b", "a-b")]
    with pytest.raises(UserError) as error:
        find_conversations([tmp_path])
    assert all(str(path) in complaint(error) for path in paths) and "rename" in complaint(error)


def test_json_lines_are_a_conversation_each(tmp_path: Path) -> None:
    held = [
        {"messages": TALK},
        "",
        {"id": "first", "conversations": [{"from": "human", "value": "A?"}, {"from": "gpt", "value": "B."}]},
        TALK,
        {"id": 7, "messages": TALK},
        {"id": "first", "messages": TALK},
        "{broken",
        {"messages": [ASKED]},
    ]
    path = write(tmp_path / "file.jsonl", lines(*held))
    found = find_conversations([tmp_path])
    assert found.places == {
        "file-1": Place(path, 1, "file#1"),
        "first": Place(path, 3, "first"),
        "file-4": Place(path, 4, "file#4"),
        "7": Place(path, 5, "7"),
        "file-6": Place(path, 6, "file#6"),
        "file-7": Place(path, 7, "file#7"),
        "file-8": Place(path, 8, "file#8"),
    }
    assert list(found.unread) == ["file-7", "file-8"]
    assert found.unread["file-7"].startswith(f"{path}, line 7: not valid JSON")
    assert found.unread["file-8"].startswith(f"{path}, line 8: no message of the assistant")
    read = read_conversation(path, 3)
    assert read.name == "first" and read.metadata == {"id": "first"}
    assert read.messages == [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B."}]
    assert read_conversation(path, 1).metadata == {"title": "file#1"}
    assert read_conversation(path, 6, "file#6").name == "file-6"
    digests = {conversation_digest(path, line) for line in (1, 3, 4, 5, 6)}
    assert len(digests) == 5 and conversation_digest(path, 1) not in {conversation_digest(path, None)}


def test_a_line_is_asked_for_where_there_are_many(tmp_path: Path) -> None:
    path = write(tmp_path / "two.jsonl", lines(TALK, TALK))
    for line, said in ((None, "holds 2 conversations"), (3, "no line 3")):
        with pytest.raises(UserError, match=said):
            read_conversation(path, line)
    assert read_conversation(write(tmp_path / "one.jsonl", lines(TALK))).messages == TALK


def test_json_lines_that_hold_messages_say_so(tmp_path: Path) -> None:
    write(tmp_path / "log.jsonl", lines(*TALK))
    write(tmp_path / "empty.jsonl", "\n")
    found = find_conversations([tmp_path])
    assert "a message alone" in found.unread["log-1"] and "holds no conversation" in found.unread["empty"]


def test_a_file_met_twice_is_one_conversation(tmp_path: Path) -> None:
    path = write(tmp_path / "sub" / "a.json", TALK)
    again = [path, tmp_path / "sub", tmp_path, str(tmp_path / "." / "sub" / "a.json")]
    assert find_conversations(again).places == {"a": Place(path)}


def test_two_files_of_one_name_are_both_named(tmp_path: Path) -> None:
    paths = [write(tmp_path / folder / "a.json", TALK) for folder in ("one", "two")]
    with pytest.raises(UserError) as error:
        find_conversations([tmp_path / "one", paths[1]])
    assert all(str(path) in complaint(error) for path in paths) and "rename" in complaint(error)


@pytest.mark.parametrize("name", ["absent", "absent.json"])
def test_a_source_that_does_not_exist_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError) as error:
        find_conversations([tmp_path / name])
    assert str(tmp_path / name) in complaint(error) and "no such" in complaint(error)


def test_one_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    for name, content in (("a", TALK), ("b", "[{]"), ("c", [ASKED])):
        write(tmp_path / f"{name}.json", content)
    found = find_conversations([tmp_path])
    assert list(found.places) == ["a", "b", "c"] and list(found.unread) == ["b", "c"]
    assert all(str(tmp_path / f"{name}.json") in reason for name, reason in found.unread.items())


def test_tools_that_are_not_shown_to_the_model_are_told(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    path = write(tmp_path / "a.json", {"messages": TALK, "tools": tools})
    assert find_conversations([tmp_path]).notes == [
        "the tools that a define are kept as metadata; the model is not shown them"
    ]
    assert read_conversation(path).metadata == {"tools": tools}


def test_scripts_lie_directly_in_their_folder(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.json", "not opened") for name in ("a", "b")]
    write(tmp_path / "sub" / "c.json", "not opened")
    assert find_scripts(tmp_path) == {"a": paths[0], "b": paths[1]}
    with pytest.raises(UserError, match="no such folder"):
        find_scripts(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", lines(TALK, TALK), "one JSON value a line; let its name end in .jsonl"),
        ("a.jsonl", json.dumps(TALK, indent=1), "one JSON value, not one a line; let its name end in .json"),
        ("a.json", json.dumps(TALK).encode("utf-16"), "not UTF-8; save it as UTF-8"),
        ("a.json", '[{"role": "user", "role": "assistant", "content": "x"}]', "the key 'role' twice"),
        ("a.jsonl", f'{{"messages": [], "messages": {json.dumps(TALK)}}}\n', "line 1: not valid JSON: an object has"),
        ("a.txt", "Human: Why?", "`personascope import-conversations` reads others"),
        ("a.jsonl", '{"id": "\\ud83d", "messages": []}\n', "half of a surrogate pair"),
    ],
)
def test_another_kind_of_file_is_told_in_one_line(tmp_path: Path, name: str, content: Any, said: str) -> None:
    (reason,) = find_conversations([write(tmp_path / name, content)]).unread.values()
    assert reason.startswith(str(tmp_path / name)) and said in reason and len(reason.splitlines()) == 1


def test_a_reason_can_be_written_whatever_the_file_is_called(tmp_path: Path) -> None:
    write(tmp_path / os.fsdecode(b"\xfd.json"), [])
    (reason,) = find_conversations([tmp_path]).unread.values()
    assert reason.encode() and "?.json: the conversation is an empty list" in reason
