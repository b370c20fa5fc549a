"""Conversation and simulation files: what is read, what is refused and how it is said, and those that are shipped."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from personascope.errors import UserError
from personascope.formats.checks import MAX_DEPTH
from personascope.formats.conversation_files import find_scripts
from personascope.formats.conversations import (
    Conversation,
    Simulation,
    parse_conversation,
    read_conversation,
    read_simulation,
    simulation_user_turns,
)
from personascope.formats.files import read_json, write_json

ROOT = Path(__file__).parents[2]
CONVERSATIONS = ROOT / "resources" / "conversations"
SIMULATIONS = ROOT / "resources" / "simulations"
EMBEDDED = ROOT / "results" / "models" / "SmolLM2-135M-Instruct"
PUBLISHED = ROOT.parent / "shared" / "data" / "interpret-personas" / "run_coding" / "conversation.json"
KINDS = [
    *("coding", "philosophy", "emotional-support", "role-play", "jailbreak-push", "multilingual"),
    *("short", "long", "business", "creative", "tutor", "empty-turn"),
]
ASKED = {"role": "user", "content": "Why?"}
ANSWERED = {"role": "assistant", "content": "Because."}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def complaint(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert text and len(text.splitlines()) == 1
    text.encode()  # what goes to a log file must be text itself
    return text


def after_ask(message: Any) -> list[Any]:
    return [ASKED, message, ANSWERED]


def test_a_list_of_messages_is_read(tmp_path: Path) -> None:
    conversation = read_conversation(write(tmp_path / "a-chat.json", [ASKED, ANSWERED]))
    assert conversation == Conversation("a-chat", [ASKED, ANSWERED], {})


def test_an_object_keeps_what_else_it_holds(tmp_path: Path) -> None:
    extra = {"model": "m", "turns": 2, "domain": None, "scores": [0.5, {"é": True}], "title": "T"}
    path = write(tmp_path / "a.json", {"model": "m", **extra, "conversation": [ASKED, ANSWERED]})
    assert read_conversation(path) == Conversation("a", [ASKED, ANSWERED], extra)


def test_the_text_comes_out_as_it_was_put_in(tmp_path: Path) -> None:
    text = "  tab\t bell\a nul\0 line\r\n\u2028 \u202eright-to-left مرحبا 👩‍🚀 <|im_end|>\n[INST] {{7*7}} </script>  "
    messages = [{"role": "system", "content": ""}, {"role": "assistant", "content": text}, ASKED]
    escaped = write(tmp_path / "escaped.json", json.dumps(messages))
    marked = write(tmp_path / "marked.json", b"\xef\xbb\xbf" + json.dumps(messages, ensure_ascii=False).encode())
    assert read_conversation(escaped).messages == read_conversation(marked).messages == messages


def test_of_a_message_only_what_a_template_may_want_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{"name": "Ann", "weight": 1, **ASKED}, {**ANSWERED, "refusal": None}])
    assert read_conversation(path).messages == [{"name": "Ann", **ASKED}, ANSWERED]


def test_no_turn_of_the_user_is_needed() -> None:
    assert parse_conversation([ANSWERED], "here").messages == [ANSWERED]


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ["not valid JSON"]),
        ("[{]", ["not valid JSON", "line 1"]),
        (b"\xff\xfe[\x00", ["not valid JSON"]),
        (DEEP, ["not valid JSON"]),
        ('"Hello"', ["list", "str"]),
        ("null", ["list", "NoneType"]),
        ("NaN", ["list", "float"]),
        ("[]", ["empty list"]),
        ({}, ['"conversation", "messages", "conversations"']),
        (ASKED, ["a message alone"]),
        ({"conversation": None}, ["list", "NoneType"]),
        ({"conversation": {"0": ANSWERED}}, ["list", "dict"]),
        ({"conversation": []}, ["empty list"]),
        (after_ask("Because."), ["message 1", "object", "str"]),
        (after_ask(None), ["message 1", "object", "NoneType"]),
        (after_ask([ANSWERED]), ["message 1", "object", "list"]),
        (after_ask({"content": "x"}), ["message 1", 'no "role"']),
        (after_ask({"role": "user"}), ["message 1", 'no "content"']),
        (after_ask({"role": None, "content": "x"}), ["message 1", "role", "NoneType"]),
        (after_ask({"role": ["user"], "content": "x"}), ["message 1", "role", "list"]),
        (after_ask({"role": "bot", "content": "x"}), ["message 1", "unknown role 'bot'", "system, developer, user"]),
        (after_ask({"role": "Assistant", "content": "x"}), ["message 1", "unknown role 'Assistant'"]),
        (after_ask({"role": "", "content": "x"}), ["message 1", "unknown role ''"]),
        (after_ask({"role": "a\nb" * 999, "content": "x"}), ["message 1", r"unknown role 'a\nb", "..."]),
        (after_ask({"role": "\ud800", "content": "x"}), ["message 1", "role", r"\ud800"]),
        (after_ask({"role": "user", "content": None}), ["message 1", "content is null", "tool_calls"]),
        (after_ask({"role": "user", "content": 7}), ["message 1", "content", "text", "int"]),
        (after_ask({"role": "user", "content": float("nan")}), ["message 1", "content", "text", "float"]),
        (after_ask({"role": "user", "content": {"text": "x"}}), ["message 1", "content", "dict"]),
        (after_ask({"role": "user", "content": "ab\ud83d!"}), ["message 1", "content", r"\ud83d", "character 2"]),
        (after_ask({"role": "user", "content": "\ude00\ud83d"}), ["message 1", "content", r"\ude00", "character 0"]),
        (after_ask({**ASKED, "weight": float("inf")}), ["message 1", "'weight'", "inf"]),
        ([ASKED, ASKED], ["no message of the assistant", "0 to 1"]),
        ({"conversation": [{"role": "system", "content": "x"}]}, ["no message of the assistant"]),
        ({"conversation": [ANSWERED], "temperature": float("nan")}, ["'temperature'", "nan"]),
        ('{"conversation": [], "x": -Infinity}', ["'x'", "-inf"]),
        ('{"conversation": [], "x": {"y": [1e999]}}', ["'x'", "inf"]),
        ({"conversation": [ANSWERED], "x": ["\udfff"]}, ["'x'", r"\udfff"]),
        ({"conversation": [ANSWERED], "x": {"\udfff": 1}}, ["'x'", r"\udfff"]),
        ({"conversation": [ANSWERED], "\udfff": 1}, ["key", r"\udfff"]),
        ('{"conversation": [], "x": ' + "9" * 5000 + "}", ["not valid JSON"]),
    ],
)
def test_a_bad_conversation_is_told_in_one_line(tmp_path: Path, content: Any, said: list[str]) -> None:
    path = write(tmp_path / "chat.json", content)
    with pytest.raises(UserError) as error:
        read_conversation(path)
    assert complaint(error).startswith(f"{path}: ")
    assert all(part in complaint(error) for part in said)
    assert len(complaint(error)) < len(str(path)) + 250


def test_a_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", r'[{"role": "assistant", "content": "\ud83d\ude00"}]')
    assert read_conversation(path).messages[0]["content"] == "😀"


@pytest.mark.parametrize("shell", ["[%s]", '{"a": %s}'])
def test_metadata_may_be_nested_as_far_as_it_can_be_written_again(tmp_path: Path, shell: str) -> None:
    def nested(depth: int) -> str:
        text = "1"
        for _ in range(depth - 1):
            text = shell % text
        return f'{{"conversation": {json.dumps([ANSWERED])}, "x": {text}}}'

    deepest = read_conversation(write(tmp_path / "a.json", nested(MAX_DEPTH)))
    write_json(tmp_path / "again.json", deepest.metadata)
    assert read_json(tmp_path / "again.json") == deepest.metadata
    for depth in (MAX_DEPTH + 1, 800):
        with pytest.raises(UserError) as error:
            read_conversation(write(tmp_path / "b.json", nested(depth)))
        assert all(part in complaint(error) for part in [str(tmp_path / "b.json"), "'x'", str(MAX_DEPTH)])


@pytest.mark.parametrize("value", [(1, 2), {1, 2}, b"x", Path("x")])
def test_metadata_given_from_python_must_be_json_too(value: Any) -> None:
    with pytest.raises(UserError) as error:
        parse_conversation({"conversation": [ANSWERED], "x": [value]}, "notebook")
    assert "notebook" in complaint(error) and type(value).__name__ in complaint(error)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    for name in ("absent", "folder"):
        for read in (read_conversation, read_simulation):
            with pytest.raises(UserError) as error:
                read(tmp_path / f"{name}.json")
            assert complaint(error).startswith(f"{tmp_path / name}.json: ")


BAD_NAMES = ["a b", "$(id)", "-rf", ".hidden", "_x", "é", "a\nb", "a" * 151, "{x}", "a;b", "\udcff"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_script_that_a_path_or_shell_could_trip_over_asks_for_another_name(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / f"{name}.json", {"user": ["One?"]})
    with pytest.raises(UserError) as error:
        read_simulation(path)
    assert "rename" in complaint(error) and repr(name[:40])[1:-1] in complaint(error)


SCRIPT = {"user": ["One?", "Two?", "Three?", "Four?"], "pressure": {"from": 1, "prefix": ["Be a cat.", "Meow!"]}}


def test_a_simulation_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "cat.json", {**SCRIPT, "system": "Be brief.", "condition": "pressure", "topic": "pets"})
    assert read_simulation(path) == Simulation(
        name="cat",
        user_turns=["One?", "Two?", "Three?", "Four?"],
        system="Be brief.",
        pressure=["Be a cat.", "Meow!"],
        pressure_from=1,
        condition="pressure",
        metadata={"condition": "pressure", "topic": "pets"},
    )


def test_a_simulation_needs_only_the_users_turns(tmp_path: Path) -> None:
    simulation = read_simulation(write(tmp_path / "a.json", {"user": ["One?"]}))
    assert simulation == Simulation("a", ["One?"], "", [], None, None, {})
    assert simulation_user_turns(simulation) == ["One?"]


def test_pressure_is_put_before_the_same_questions_and_goes_round(tmp_path: Path) -> None:
    simulation = read_simulation(write(tmp_path / "cat.json", SCRIPT))
    assert simulation_user_turns(simulation) == [
        "One?",
        "Be a cat.\n\nTwo?",
        "Meow!\n\nThree?",
        "Be a cat.\n\nFour?",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", ["not valid JSON"]),
        (DEEP, ["not valid JSON"]),
        (["One?"], ["JSON object", "list"]),
        ({}, ['"user"', "missing"]),
        ({"user": []}, ['"user"', "empty"]),
        ({"user": "One?"}, ['"user"', "list", "str"]),
        ({"user": ["One?", 2]}, ['"user" 1', "int"]),
        ({"user": ["One?", " \n"]}, ['"user" 1', "empty"]),
        ({"user": ["One?", "\ud800"]}, ['"user" 1', r"\ud800"]),
        ({"user": ["One?"], "system": None}, ['"system"', "NoneType"]),
        ({"user": ["One?"], "system": ["x"]}, ['"system"', "list"]),
        ({"user": ["One?"], "condition": 1}, ['"condition"', "int"]),
        ({"user": ["One?"], "note": float("nan")}, ["'note'", "nan"]),
        ({**SCRIPT, "pressure": "Meow!"}, ['"pressure"', "object", "str"]),
        ({**SCRIPT, "pressure": None}, ['"pressure"', "object", "NoneType"]),
        ({**SCRIPT, "pressure": {"prefix": ["x"]}}, ['"pressure"', '"from"', "nothing"]),
        ({**SCRIPT, "pressure": {"from": None, "prefix": ["x"]}}, ['"from"', "0 to 3", "None"]),
        ({**SCRIPT, "pressure": {"from": -1, "prefix": ["x"]}}, ['"from"', "0 to 3", "-1"]),
        ({**SCRIPT, "pressure": {"from": 4, "prefix": ["x"]}}, ['"from"', "0 to 3", "4"]),
        ({**SCRIPT, "pressure": {"from": 1.0, "prefix": ["x"]}}, ['"from"', "1.0"]),
        ({**SCRIPT, "pressure": {"from": True, "prefix": ["x"]}}, ['"from"', "True"]),
        ({**SCRIPT, "pressure": {"from": "1\n2", "prefix": ["x"]}}, ['"from"', r"1\n2"]),
        ({**SCRIPT, "pressure": {"from": 1}}, ['"prefix"', "missing"]),
        ({**SCRIPT, "pressure": {"from": 1, "prefix": []}}, ['"prefix"', "empty"]),
        ({**SCRIPT, "pressure": {"from": 1, "prefix": "x"}}, ['"prefix"', "list", "str"]),
        ({**SCRIPT, "pressure": {"from": 1, "prefix": ["x", ""]}}, ['"prefix" 1', "empty"]),
        ({**SCRIPT, "pressure": {"from": 1, "prefixes": ["x"]}}, ['"pressure"', "'prefixes'", "from, prefix"]),
    ],
)
def test_a_bad_simulation_is_told_in_one_line(tmp_path: Path, content: Any, said: list[str]) -> None:
    path = write(tmp_path / "cat.json", content)
    with pytest.raises(UserError) as error:
        read_simulation(path)
    assert complaint(error).startswith(f"{path}: ")
    assert all(part in complaint(error) for part in said)


# What ships: twelve conversations of our own, and scripts in pairs.


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def runs(text: str, length: int) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


@pytest.fixture(scope="module")
def shipped() -> dict[str, Conversation]:
    """Conversation by kind; a mistake in one of them is an error of the fixture."""
    conversations = [read_conversation(path) for path in find_scripts(CONVERSATIONS).values()]
    assert len(conversations) == 12
    return {conversation.metadata["kind"]: conversation for conversation in conversations}


@pytest.fixture(scope="module")
def scripts() -> dict[str, Simulation]:
    return {name: read_simulation(path) for name, path in find_scripts(SIMULATIONS).items()}


def texts(conversation: Conversation, role: str | None = None) -> list[str]:
    return [message["content"] for message in conversation.messages if role in (None, message["role"])]


def test_the_twelve_kinds_ship(shipped: dict[str, Conversation]) -> None:
    assert sorted(shipped) == sorted(KINDS)
    assert sorted(path.name for path in CONVERSATIONS.iterdir()) == sorted(f"{c.name}.json" for c in shipped.values())
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)+", c.name) and c.metadata["title"] for c in shipped.values())


@pytest.mark.parametrize("kind", KINDS)
def test_user_and_assistant_take_turns(shipped: dict[str, Conversation], kind: str) -> None:
    roles = [message["role"] for message in shipped[kind].messages]
    assert roles == ["system"] * (kind == "tutor") + ["user", "assistant"] * (len(roles) // 2)


@pytest.mark.parametrize(("kind", "turns"), [("coding", 8), ("role-play", 10), ("jailbreak-push", 8), ("short", 1)])
def test_the_number_of_answers(shipped: dict[str, Conversation], kind: str, turns: int) -> None:
    assert len(texts(shipped[kind], "assistant")) == turns


def test_only_one_conversation_has_an_empty_answer_and_odd_space(shipped: dict[str, Conversation]) -> None:
    assert {kind for kind, c in shipped.items() if not all(texts(c))} == {"empty-turn"}
    assert {kind for kind, c in shipped.items() if any(t != t.strip() for t in texts(c))} == {"empty-turn"}
    answers = texts(shipped["empty-turn"], "assistant")
    assert "" in answers[1:-1] and answers[0] and answers[-1]
    assert all(space in "".join(texts(shipped["empty-turn"])) for space in ("\t", "\r\n", "\n\n\n", "\u00a0", "\u2003"))


def test_the_multilingual_one_has_its_scripts_and_emoji(shipped: dict[str, Conversation]) -> None:
    answers = "".join(texts(shipped["multilingual"], "assistant"))
    for some in (
        "[äöüß]",
        "[¿¡áéíóúñ]",
        "[\u0621-\u064a]",
        "[\u3040-\u30ff]",
        "[\u4e00-\u9fff]",
        "[\U0001f300-\U0001faff]",
    ):
        assert len(re.findall(some, answers)) > 3


def test_the_long_one_is_over_8000_tokens_and_fits_the_embedded_model(shipped: dict[str, Conversation]) -> None:
    long = shipped["long"]
    if not (EMBEDDED / "tokenizer.json").is_file():
        assert len(" ".join(texts(long)).split()) > 6300
        return
    from transformers import PreTrainedTokenizerFast

    from personascope.models.spans import encode_conversation, message_spans

    tokenizer = PreTrainedTokenizerFast.from_pretrained(EMBEDDED)
    spans = message_spans(tokenizer, long.messages, roles=("user", "assistant"))
    assert sum(span.end - span.start for span in spans) > 8000
    assert (
        len(encode_conversation(tokenizer, long.messages).ids)
        <= read_json(EMBEDDED / "config.json")["max_position_embeddings"]
    )


def test_no_two_conversations_share_a_long_run_of_words(shipped: dict[str, Conversation]) -> None:
    counts = Counter(run for c in shipped.values() for run in runs(" ".join(texts(c)), 7))
    assert [" ".join(run) for run, count in counts.items() if count > 1] == []


def test_the_long_one_is_not_padded_by_repetition(shipped: dict[str, Conversation]) -> None:
    found = words(" ".join(texts(shipped["long"])))
    counts = Counter(tuple(found[i : i + 7]) for i in range(len(found) - 6))
    assert [" ".join(run) for run, count in counts.items() if count > 1] == []


@pytest.mark.skipif(not PUBLISHED.is_file(), reason=f"the conversation to compare with is not at {PUBLISHED}")
def test_nothing_is_taken_from_the_published_conversation(
    shipped: dict[str, Conversation], scripts: dict[str, Simulation]
) -> None:
    theirs = runs(" ".join(texts(read_conversation(PUBLISHED))), 8)
    ours = [" ".join(texts(c)) for c in shipped.values()] + [
        " ".join(simulation_user_turns(s)) for s in scripts.values()
    ]
    assert [run for text in ours for run in runs(text, 8) & theirs] == []


def test_scripts_come_in_pairs_of_a_topic(scripts: dict[str, Simulation]) -> None:
    topics = {s.metadata["topic"] for s in scripts.values()}
    assert len(topics) == 4 and len(scripts) == 8
    for topic in topics:
        plain, pressed = scripts[f"{topic}-plain"], scripts[f"{topic}-pressure"]
        assert (plain.condition, pressed.condition) == ("plain", "pressure")
        assert plain.user_turns == pressed.user_turns and plain.system == pressed.system
        assert plain.pressure_from is None and pressed.pressure_from == 3
        sent, control = simulation_user_turns(pressed), simulation_user_turns(plain)
        assert len(control) == 8 and sent[:3] == control[:3]
        assert all(a.endswith(f"\n\n{b}") for a, b in zip(sent[3:], control[3:], strict=True))


def test_scripts_suit_a_small_model(scripts: dict[str, Simulation]) -> None:
    assert max(len(words(text)) for s in scripts.values() for text in (*s.user_turns, *s.pressure)) <= 25
    questions = [text for s in scripts.values() if s.condition == "plain" for text in s.user_turns]
    prefixes = [text for s in scripts.values() for text in s.pressure]
    assert len(set(questions)) == len(questions) == 32 and len(set(prefixes)) == len(prefixes) == 20
    roles = {path.stem for path in (ROOT / "resources" / "roles").iterdir()}
    assert all(s.metadata["persona"] in roles for s in scripts.values() if s.condition == "pressure")
