"""Role and question files: what is read, what is refused and how it is said, which rows are asked."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from personascope.errors import UserError
from personascope.formats.roles import (
    Question,
    Role,
    build_prompts,
    import_roles,
    list_roles,
    questions_for,
    read_questions,
    read_role,
    select_questions,
    select_roles,
)

REAL = Path(__file__).parents[3] / "shared" / "data" / "assistant-axis"
RESOURCES = Path(__file__).parents[2] / "resources"
GOOD = {"instruction": [{"pos": "Be a baker."}], "questions": ["Which flour?"], "eval_prompt": "Is it a baker?"}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def lines(*rows: Any) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def complaint(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert text and "\n" not in text
    return text


def test_a_role_is_read(tmp_path: Path) -> None:
    content = {**GOOD, "instruction": [{"pos": "Be a baker."}, {"pos": "Knead — daily."}]}
    role = read_role(write(tmp_path / "baker.json", content))
    assert role == Role("baker", ("Be a baker.", "Knead — daily."), ("Which flour?",), "Is it a baker?")


def test_default_needs_only_instructions_and_may_have_an_empty_one(tmp_path: Path) -> None:
    role = read_role(write(tmp_path / "default.json", {"instruction": [{"pos": ""}, {"pos": "I am {model_name}."}]}))
    assert role == Role("default", ("", "I am {model_name}."), (), "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{not json", ["not valid JSON", "line 1"]),
        (b"\xff\xfe\x00", ["not valid JSON"]),
        ("", ["not valid JSON"]),
        ([GOOD], ["JSON object", "list"]),
        ("null", ["JSON object", "NoneType"]),
        ({"questions": ["x"]}, ['"instruction"', "missing"]),
        ({"instruction": []}, ['"instruction"', "empty"]),
        ({"instruction": "Be a baker."}, ['"instruction"', "list", "str"]),
        ({"instruction": ["Be a baker."]}, ["instruction 0", '"pos"']),
        ({"instruction": [{"pos": "ok"}, {"neg": "x"}]}, ["instruction 1", '"pos"']),
        ({"instruction": [{"pos": 3}]}, ["instruction 0", '"pos"', "int"]),
        ({"instruction": [{"pos": None}]}, ["instruction 0", '"pos"', "NoneType"]),
        ({"instruction": [{"pos": " \n"}]}, ["instruction 0", '"pos"', "empty"]),
        ({**GOOD, "questions": "Which flour?"}, ['"questions"', "list", "str"]),
        ({**GOOD, "questions": ["ok", ""]}, ["question 1", "empty"]),
        ({**GOOD, "questions": [7]}, ["question 0", "int"]),
        ({**GOOD, "eval_prompt": ["x"]}, ["eval_prompt", "list"]),
    ],
)
def test_a_bad_role_file_is_told_in_one_line(tmp_path: Path, content: Any, said: list[str]) -> None:
    path = write(tmp_path / "baker.json", content)
    with pytest.raises(UserError) as error:
        read_role(path)
    assert all(part in complaint(error) for part in [str(path), *said])


def test_a_missing_role_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read_role(tmp_path / "baker.json")
    assert complaint(error) == f"{tmp_path / 'baker.json'}: No such file or directory"


def test_a_folder_in_place_of_a_role_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "baker.json").mkdir()
    with pytest.raises(UserError, match=r"baker\.json"):
        read_role(tmp_path / "baker.json")


@pytest.mark.parametrize(
    "name", ["a b; rm -rf x", "$(id)", "-rf", ".hidden", "a.b", "é", "a" * 65, "a\tb", "role", "space"]
)
def test_names_that_a_shell_or_path_could_trip_over_are_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / f"{name}.json", GOOD)
    with pytest.raises(UserError) as error:
        list_roles(tmp_path)
    assert "is no role name" in complaint(error) and repr(name) in complaint(error)
    with pytest.raises(UserError, match="is no role name"):
        read_role(tmp_path / f"{name}.json")


def test_roles_are_listed_sorted_and_selected_by_name(tmp_path: Path) -> None:
    for name in ("baker", "assistant", "cook"):
        write(tmp_path / f"{name}.json", GOOD)
    write(tmp_path / "notes.txt", "no role")
    assert list_roles(tmp_path) == select_roles(tmp_path, "all") == ["assistant", "baker", "cook"]
    assert select_roles(tmp_path, ["cook", "assistant"]) == ["assistant", "cook"]


@pytest.mark.parametrize("name", ["wizard", "../x", "a b; rm -rf x", "Baker"])
def test_a_role_that_does_not_exist_is_named_with_its_key(tmp_path: Path, name: str) -> None:
    write(tmp_path / "roles" / "baker.json", GOOD)
    write(tmp_path / "x.json", GOOD)
    with pytest.raises(UserError) as error:
        select_roles(tmp_path / "roles", ["baker", name])
    assert all(part in complaint(error) for part in ["roles.select", name, str(tmp_path / "roles")])
    assert "baker," not in complaint(error)


def test_a_role_folder_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "absent", tmp_path / "empty"):
        with pytest.raises(UserError) as error:
            list_roles(folder)
        assert str(folder) in complaint(error)


def test_questions_are_read_in_file_order(tmp_path: Path) -> None:
    # U+2028 ends a line for str.splitlines, not in JSON lines.
    text = lines({"question": "B\u2028b?", "id": 9}, "", {"question": "A?", "id": 0, "topic": "x"})
    assert read_questions(write(tmp_path / "q.jsonl", text)) == [Question(9, "B\u2028b?"), Question(0, "A?")]
    raw = '{"question": "raw \u2028 in it", "id": 1}\r\n'
    assert read_questions(write(tmp_path / "raw.jsonl", raw.encode())) == [Question(1, "raw \u2028 in it")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["no question"]),
        ("\n\n", ["no question"]),
        (lines({"question": "A?", "id": 0}, "{oops"), ["line 2", "not valid JSON"]),
        (lines({"question": "A?", "id": 0}, [1]), ["line 2", "list"]),
        (b"\xff\n", ["UTF-8"]),
        (lines({"id": 0}), ["question 1", '"question"']),
        (lines({"question": " ", "id": 0}), ["question 1", '"question"', "empty"]),
        (lines({"question": 5, "id": 0}), ["question 1", '"question"']),
        (lines({"question": "A?"}), ["question 1", '"id"', "None"]),
        (lines({"question": "A?", "id": "0"}), ["question 1", '"id"', "'0'"]),
        (lines({"question": "A?", "id": 1.0}), ["question 1", '"id"', "1.0"]),
        (lines({"question": "A?", "id": True}), ["question 1", '"id"', "True"]),
        (lines({"question": "A?", "id": -1}), ["question 1", '"id"', "-1"]),
        (lines({"question": "A?", "id": 2**31}), ["question 1", '"id"', str(2**31)]),
        (lines(*({"question": q, "id": i} for q, i in [("A?", 3), ("B?", 4), ("C?", 3)])), ["question 3", "id 3"]),
    ],
)
def test_a_bad_questions_file_is_told_in_one_line(tmp_path: Path, text: str | bytes, said: list[str]) -> None:
    path = write(tmp_path / "q.jsonl", text)
    with pytest.raises(UserError) as error:
        read_questions(path)
    assert all(part in complaint(error) for part in [str(path), *said])


def test_a_missing_questions_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read_questions(tmp_path / "q.jsonl")
    assert complaint(error) == f"{tmp_path / 'q.jsonl'}: No such file or directory"


def test_duplicate_text_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "q.jsonl", lines({"question": "A?", "id": 7}, {"question": "A?", "id": 8}))
    with caplog.at_level(logging.WARNING):
        assert [q.id for q in read_questions(path)] == [7, 8]
    (record,) = caplog.records
    assert "question 2" in record.getMessage() and "id 7" in record.getMessage()


QUESTIONS = [Question(10 * i, f"Q{i}?") for i in range(60)]


def test_all_questions_or_those_with_ids_come_in_file_order() -> None:
    assert select_questions(QUESTIONS, "all") == QUESTIONS
    assert [q.id for q in select_questions(QUESTIONS, [50, 0, 590])] == [0, 50, 590]


def test_a_number_of_questions_is_nested_and_in_file_order() -> None:
    before: set[int] = set()
    for n in range(1, len(QUESTIONS) + 1):
        ids = [q.id for q in select_questions(QUESTIONS, n)]
        assert len(ids) == n and ids == sorted(ids) and before < set(ids)
        before = set(ids)


@pytest.mark.parametrize("period", [2, 3, 4, 5, 6, 7, 8, 10])
def test_the_spread_meets_every_topic_of_an_interleaved_file(period: int) -> None:
    questions = [Question(i, str(i)) for i in range(240)]
    for n in range(3 * period, 241, period):
        assert {q.id % period for q in select_questions(questions, n)} == set(range(period))


def test_twelve_of_the_shipped_questions_meet_all_six_topics() -> None:
    path = RESOURCES / "questions.jsonl"
    topics = {row["id"]: row["topic"] for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    assert len({topics[q.id] for q in select_questions(read_questions(path), 12)}) == 6


@pytest.mark.parametrize(("selection", "said"), [(0, "0"), (-1, "-1"), (61, "61"), ([0, 5], "[5]"), ([999], "[999]")])
def test_questions_that_are_not_there_are_named_with_the_key(selection: int | list[int], said: str) -> None:
    with pytest.raises(UserError) as error:
        select_questions(QUESTIONS, selection)
    assert "questions.select" in complaint(error) and said in complaint(error)


BAKER = Role("baker", ("Bake.", "Knead."), ("Which flour?", "Which oven?"), "")


def test_rows_are_variants_outer_questions_inner() -> None:
    rows = build_prompts(BAKER, [1, 0], QUESTIONS[:2], "m")
    assert [(p.role, p.prompt_index, p.question.id, p.system_prompt) for p in rows] == [
        ("baker", 1, 0, "Knead."),
        ("baker", 1, 10, "Knead."),
        ("baker", 0, 0, "Bake."),
        ("baker", 0, 10, "Bake."),
    ]
    assert rows[0].messages == [{"role": "system", "content": "Knead."}, {"role": "user", "content": "Q0?"}]


def test_an_empty_instruction_is_no_system_turn() -> None:
    (prompt,) = build_prompts(Role("default", ("",), (), ""), [0], QUESTIONS[:1], "m")
    assert prompt.messages == [{"role": "user", "content": "Q0?"}]


def test_the_model_name_is_filled_in_the_default_role_only() -> None:
    for name, expected in [("default", "I am Tiny, I am."), ("baker", "I am {model_name}, I am.")]:
        (prompt,) = build_prompts(Role(name, ("I am {model_name}, I am.",), (), ""), [0], QUESTIONS[:1], "Tiny")
        assert prompt.system_prompt == expected


@pytest.mark.parametrize("variants", [[2], [0, 5], [-1]])
def test_variants_out_of_range_name_role_and_variant(variants: list[int]) -> None:
    with pytest.raises(UserError) as error:
        build_prompts(BAKER, variants, QUESTIONS, "m")
    assert all(part in complaint(error) for part in ["baker", str(variants[-1:]), "0 to 1"])


def test_question_modes_take_the_shared_or_the_own_questions() -> None:
    assert questions_for(BAKER, "general", QUESTIONS) == QUESTIONS
    assert questions_for(BAKER, "role_specific", []) == [Question(0, "Which flour?"), Question(1, "Which oven?")]
    with pytest.raises(UserError) as error:
        questions_for(Role("default", ("",), (), ""), "role_specific", QUESTIONS)
    assert "default" in complaint(error) and '"questions"' in complaint(error)


def checkout(folder: Path, **roles: Any) -> Path:
    for name, content in roles.items():
        write(folder / "roles" / "instructions" / f"{name}.json", content)
    write(folder / "extraction_questions.jsonl", lines({"question": "A?", "id": 0}))
    return folder


@pytest.mark.parametrize("asked", [".", "data"])
def test_a_checkout_or_its_data_folder_is_imported(tmp_path: Path, asked: str) -> None:
    checkout(tmp_path / "source" / "data", baker=GOOD, default={"instruction": [{"pos": ""}]})
    assert import_roles(tmp_path / "source" / asked, tmp_path / "mine") == (2, 1)
    assert list_roles(tmp_path / "mine" / "roles") == ["baker", "default"]
    assert read_role(tmp_path / "mine" / "roles" / "baker.json").questions == ("Which flour?",)
    assert read_questions(tmp_path / "mine" / "questions.jsonl") == [Question(0, "A?")]


def test_nothing_is_written_when_one_file_is_bad(tmp_path: Path) -> None:
    bad_role = checkout(tmp_path / "bad-role", baker=GOOD, zoologist={"instruction": [{}]})
    bad_name = checkout(tmp_path / "bad-name", baker=GOOD, **{"a b; rm -rf x": GOOD})
    bad_questions = checkout(tmp_path / "bad-questions", baker=GOOD)
    write(bad_questions / "extraction_questions.jsonl", lines({"question": "A?", "id": 0}, {"question": "B?", "id": 0}))
    no_questions = checkout(tmp_path / "no-questions", baker=GOOD)
    (no_questions / "extraction_questions.jsonl").unlink()
    for source in (bad_role, bad_name, bad_questions, no_questions, tmp_path):
        with pytest.raises(UserError) as error:
            import_roles(source, tmp_path / "mine")
        assert str(source) in complaint(error)
        assert not (tmp_path / "mine").exists()


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real role files are not at {REAL}")
def test_the_real_checkout_is_imported_unchanged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert import_roles(REAL, tmp_path) == (276, 240)
    names = list_roles(tmp_path / "roles")
    assert len(names) == 276 and "default" in names
    for name in names:
        assert read_role(tmp_path / "roles" / f"{name}.json") == read_role(
            REAL / "roles" / "instructions" / f"{name}.json"
        )
    questions = read_questions(tmp_path / "questions.jsonl")
    assert len({q.id for q in questions}) == 240 and len({q.text for q in questions}) == 239
    assert any("same text as id 7" in record.getMessage() for record in caplog.records)
