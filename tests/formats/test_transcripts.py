"""Transcripts of other programs, in small files of their layouts, and what is written of them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from personascope.cli import main
from personascope.errors import UserError
from personascope.formats.conversations import read_conversation
from personascope.formats.transcripts import dialogue, import_conversations
from tests.formats.test_conversations import ANSWERED, ASKED, complaint, write

HH = "\n\nHuman: Why?\n\nAssistant: Because.\nAnd so.\n\nHuman: And?\n\nAssistant: That's all.\n\nHuman: no colon"


def hh(answer: str) -> str:
    return f"\n\nHuman: Why?\n\nAssistant: {answer}"


CALL = {"id": "c1", "function": "look", "arguments": {"at": "sky"}, "type": "function", "view": None}
SAMPLE: dict[str, Any] = {
    "id": 3,
    "epoch": 1,
    "attachments": {"ab12": "a long text"},
    "messages": [
        {"id": "m0", "role": "system", "content": "Be brief.", "source": "input"},
        {"id": "m1", "role": "user", "content": [{"type": "text", "text": "Why"}, {"type": "text", "text": "so?"}]},
        {
            "id": "m2",
            "role": "assistant",
            "content": [{"type": "reasoning", "reasoning": "I look."}, {"type": "text", "text": ""}],
            "tool_calls": [CALL],
        },
        {"id": "m3", "role": "tool", "content": "attachment://ab12", "tool_call_id": "c1", "function": "look"},
        {
            "id": "m4",
            "role": "tool",
            "content": "",
            "function": "look",
            "error": {"type": "timeout", "message": "late"},
        },
        {"id": "m5", "role": "assistant", "content": "Blue.", "model": "org/m"},
    ],
}
READ = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Why\nso?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": {"at": "sky"}}}],
        "reasoning_content": "I look.",
    },
    {"role": "tool", "content": "a long text", "name": "look", "tool_call_id": "c1"},
    {"role": "tool", "content": "Error: late", "name": "look"},
    {"role": "assistant", "content": "Blue."},
]


def log(*samples: dict[str, Any], task: str = "bench/riddle") -> dict[str, Any]:
    return {"version": 2, "status": "success", "eval": {"model": "org/m", "task": task}, "samples": list(samples)}


def messages(path: Path) -> list[dict[str, Any]]:
    return read_conversation(path).messages


def test_a_dialogue_is_cut_at_its_marks_alone() -> None:
    assert dialogue(HH, "x") == [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "Because.\nAnd so."},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "That's all."},
        {"role": "user", "content": "no colon"},
    ]
    quoted = dialogue("\n\nHuman: Say Human: A\nAssistant: B\n\nAssistant: No.\n\nAssistant:", "x")
    assert [m["content"] for m in quoted] == ["Say Human: A\nAssistant: B", "No.", ""]
    for text in ("Hello.", " x\n\nHuman: A", 7):
        with pytest.raises(UserError, match="x"):
            dialogue(text, "x")


def test_hh_pairs_become_two_conversations_a_line(tmp_path: Path) -> None:
    pairs = [{"chosen": hh("Yes."), "rejected": hh("No.")}, {"chosen": hh("A."), "rejected": "broken"}]
    source = tmp_path / "train.jsonl.gz"
    source.write_bytes(gzip.compress("".join(f"{json.dumps(pair)}\n" for pair in pairs).encode()))
    result = import_conversations(source, tmp_path / "out")
    assert result.written == 2 and list(result.unread) == ["train#2"] and "line 2: rejected" in result.lines()[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "train-1-chosen.json",
        "train-1-rejected.json",
    ]
    read = read_conversation(tmp_path / "out" / "train-1-rejected.json")
    assert read.messages == [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "No."}]
    about = {"title": "train#1-rejected", "source": f"{source}, line 1", "layout": "hh"}
    assert read.metadata == about


def test_hh_texts_and_red_team_attempts(tmp_path: Path) -> None:
    write(tmp_path / "in" / "talk.txt", HH)
    write(tmp_path / "in" / "red.json", [{"transcript": hh("No."), "rating": 4.0}])
    assert import_conversations(tmp_path / "in", tmp_path / "out").written == 2
    assert len(messages(tmp_path / "out" / "talk.json")) == 5
    assert read_conversation(tmp_path / "out" / "red-1.json").metadata["rating"] == 4.0


def test_an_inspect_log_is_a_conversation_a_sample(tmp_path: Path) -> None:
    image = {"role": "user", "content": [{"type": "image", "image": "attachment://ab12"}]}
    bad = SAMPLE | {"id": 4, "messages": [image, SAMPLE["messages"][-1]]}
    gone = SAMPLE | {"id": "gone", "attachments": {}}
    source = write(tmp_path / "log.json", log(SAMPLE, bad, gone))
    result = import_conversations(source, tmp_path / "out")
    assert result.written == 1 and list(result.unread) == ["log#4", "log#gone"]
    assert "sample 4: message 0: part 0 is of type 'image'" in result.unread["log#4"]
    assert "sample gone: message 3: its text is an attachment" in result.unread["log#gone"]
    read = read_conversation(tmp_path / "out" / "log-3.json")
    assert read.messages == READ
    assert read.metadata == {
        "title": "log#3",
        "source": f"{source}, sample 3",
        "model": "org/m",
        "task": "bench/riddle",
        "id": 3,
        "epoch": 1,
        "layout": "inspect",
    }


def test_epochs_of_a_sample_have_names_of_their_own_and_redacted_reasoning_is_told(tmp_path: Path) -> None:
    hidden = [{"type": "reasoning", "reasoning": "x9f", "redacted": True}, {"type": "text", "text": "Blue."}]
    second = SAMPLE | {"epoch": 2, "messages": [ASKED, {"role": "assistant", "content": hidden}]}
    result = import_conversations(write(tmp_path / "log.json", log(SAMPLE, second)), tmp_path / "out")
    names = sorted(path.stem for path in (tmp_path / "out").iterdir())
    assert names == ["log-3-epoch-1", "log-3-epoch-2"]
    assert messages(tmp_path / "out" / "log-3-epoch-2.json") == [ASKED, {"role": "assistant", "content": "Blue."}]
    assert result.notes == ["the reasoning in log#3-epoch-2 is redacted in the log, and left out"]


def event(edit: dict[str, Any], view: Any = "target") -> dict[str, Any]:
    return {"type": "transcript_event", "id": "e", "view": view, "edit": edit}


def added(index: int, role: str, view: Any = "target") -> dict[str, Any]:
    message = {"id": f"m{index}", "role": role, "content": f"{role} {index}"}
    return event({"operation": "add", "message": message}, view)


def test_a_petri_transcript_is_what_its_target_saw(tmp_path: Path) -> None:
    about = {"transcript_id": "t1", "target_model": "org/m", "version": "v3.0", "judge_output": {"scores": {}}}
    held = {"metadata": about, "events": [], "messages": [ASKED], "target_messages": SAMPLE["messages"][-1:]}
    assert import_conversations(write(tmp_path / "t.json", held), tmp_path / "out").written == 1
    read = read_conversation(tmp_path / "out" / "t.json")
    assert read.messages == READ[-1:] and (read.metadata["model"], read.metadata["id"]) == ("org/m", "t1")


def test_petri_events_are_replayed_with_what_was_taken_back(tmp_path: Path) -> None:
    patch = [{"op": "replace", "path": "/0", "value": {"role": "system", "content": "patched"}}]
    events = [
        added(0, "system", ["target", "combined"]),
        added(9, "user", ["auditor"]),
        {"type": "tool_creation_event", "tool": {}},
        *(added(i, role) for i, role in enumerate(("user", "assistant", "user", "assistant"), start=1)),
        event({"operation": "rollback", "count": 2}),
        added(5, "user"),
        event({"operation": "rollback", "count": 1, "to_id": "m2"}),
        added(6, "user"),
        added(7, "assistant", ["combined", "target"]),
        event({"operation": "json_patch", "patch": patch}),
    ]
    write(tmp_path / "t.json", {"metadata": {}, "events": events})
    import_conversations(tmp_path / "t.json", tmp_path / "out")
    contents = [message["content"] for message in messages(tmp_path / "out" / "t.json")]
    assert contents == ["patched", "user 1", "assistant 2", "user 6", "assistant 7"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (log(SAMPLE, task="petri/audit"), ["Petri's auditor"]),
        (log(), ["no samples"]),
        (log(SAMPLE | {"messages": []}), ["sample 3", "no messages"]),
        ({"metadata": {}, "events": []}, ["target's view"]),
        ({"metadata": {}, "events": [event({"operation": "rollback", "count": 3})]}, ["event 0", "3 of 0"]),
        ({"metadata": {}, "events": [event({"operation": "melt"})]}, ["event 0", "'melt'"]),
        (
            {"metadata": {}, "events": [event({"operation": "json_patch", "patch": [{"op": "move"}]})]},
            ["patch", "move"],
        ),
        ({"metadata": {}, "events": [event({"operation": "json_patch", "patch": 3})]}, ["event 0", "patch", "int"]),
        ({"metadata": {}, "events": [event({}) | {"edit": "add"}]}, ["event 0", "edit", "str"]),
        (log({"id": 1, "messages": [ASKED | {"tool_calls": True}]}), ["message 0", "tool_calls", "bool"]),
        ("Hello there.", ["not valid JSON", "Human or Assistant"]),
        ([ASKED], ["no message of the assistant"]),
        (b"PK\x03\x04\xff", ["not UTF-8"]),
    ],
)
def test_what_cannot_be_read_is_not_written(tmp_path: Path, content: Any, said: list[str]) -> None:
    source = write(tmp_path / "source.json", content)
    with pytest.raises(UserError) as error:
        import_conversations(source, tmp_path / "out")
    assert complaint(error).startswith(str(source)) and all(part in complaint(error) for part in said)
    assert not (tmp_path / "out").exists()


def test_lists_one_a_line_are_read_and_a_bad_line_fails_alone(tmp_path: Path) -> None:
    talk = json.dumps([ASKED, ANSWERED])
    write(tmp_path / "in" / "all.jsonl", f"{talk}\r\n\r\n{{bad\r\n{talk}\r\n")
    write(tmp_path / "in" / "named.json", f"{talk}\n{talk}\n")  # JSON lines, as some data sets are named
    write(tmp_path / "in" / "empty.jsonl", "\n")
    result = import_conversations(tmp_path / "in", tmp_path / "out")
    written = ["all-1", "all-4", "named-1", "named-2"]
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == written
    assert all(messages(tmp_path / "out" / f"{name}.json") == [ASKED, ANSWERED] for name in written)
    assert "all.jsonl, line 3" in result.unread["all#3"] and "no conversation" in result.unread["empty"]


def test_conversations_of_one_id_are_told_apart_by_their_number(tmp_path: Path) -> None:
    same = [{"id": "q", "conversations": [ASKED, ANSWERED]}] * 2
    import_conversations(write(tmp_path / "all.json", same), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["all-2.json", "q.json"]


def test_linked_folders_are_searched_and_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "a.txt", b"Assistant: Hi.\r\n\r\nHuman: Why?\r\n\r\nAssistant: Because.")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    import_conversations(tmp_path / "in", tmp_path / "out")
    hi = {"role": "assistant", "content": "Hi."}
    assert messages(tmp_path / "out" / "link-a.json") == [hi, ASKED, ANSWERED]


def test_a_list_of_conversations_is_split_and_nothing_is_replaced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    talk = [ASKED, ANSWERED]
    write(tmp_path / "in" / "all.json", [{"id": "a/1", "conversations": talk}, {"messages": talk}, {"messages": []}])
    write(tmp_path / "in" / "run.eval", "PK")
    command = ["personascope", "import-conversations", str(tmp_path / "in"), str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", command)
    main()
    assert capsys.readouterr().out == f"2 conversations are in {tmp_path / 'out'}\n"
    passed, lost = (record.message for record in caplog.records)
    assert passed == f"{tmp_path / 'in'}: passed over run.eval"
    assert lost.startswith("1 of 3 conversations can't be read: all#3: ") and "entry 3" in lost
    assert read_conversation(tmp_path / "out" / "a-1.json").metadata["title"] == "a/1"
    assert messages(tmp_path / "out" / "all-2.json") == talk
    with pytest.raises(UserError, match="is there already"):
        import_conversations(tmp_path / "in", tmp_path / "out")
