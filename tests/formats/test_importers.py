"""Caches of other programs become response files, or are refused with the place of the mistake."""

import json
from pathlib import Path
from typing import Any

import pytest

from personascope.cli import build_parser
from personascope.errors import UserError
from personascope.formats.files import iter_jsonl, write_json, write_jsonl
from personascope.formats.importers import SystemPrompts, import_responses, read_cache
from personascope.formats.roles import read_questions

ANSWERS = {
    "pirate": {"What is truth?": "Arr, the sea.", "Who are you?": "A pirate.\n"},
    "default": {"Who are you?": "A model.", "What is truth?": "A hard question.", "Why?": "Därför."},
}
NO_SYSTEM = SystemPrompts(none=True)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return written(tmp_path, ANSWERS)


def written(folder: Path, payload: Any) -> Path:
    path = folder / "cache.json"
    path.write_text(json.dumps(payload))
    return path


def rows(folder: Path, persona: str) -> list[dict[str, Any]]:
    return list(iter_jsonl(folder / f"out/responses/general/m/{persona}.jsonl"))


def test_an_object_by_persona_and_question(cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_json(tmp_path / "roles/pirate.json", {"instruction": [{"pos": "no"}, {"pos": "You are a pirate."}]})
    write_json(tmp_path / "roles/default.json", {"instruction": [{"pos": ""}, {"pos": "You are {model_name}."}]})
    system = SystemPrompts(tmp_path / "roles", 1)
    assert import_responses(cache, tmp_path / "out", model="m", system=system) == (2, 5)
    first = rows(tmp_path, "pirate")[0]
    assert first == {
        "role": "pirate",
        "system_prompt": "You are a pirate.",
        "prompt_index": 1,
        "question_id": 0,
        "question": "What is truth?",
        "response": "Arr, the sea.",
        "conversation": [
            {"role": "system", "content": "You are a pirate."},
            {"role": "user", "content": "What is truth?"},
            {"role": "assistant", "content": "Arr, the sea."},
        ],
        "reasoning": None,
        "response_token_ids": None,
        "answer_start": None,
        "answer_end": None,
        "finish_reason": "unknown",
        "seed": None,
        "prompt_exact": False,
    }
    default = rows(tmp_path, "default")
    assert [row["question_id"] for row in default] == [1, 0, 2]
    assert {row["system_prompt"] for row in default} == {"You are m."}
    numbered = {question.id: question.text for question in read_questions(tmp_path / "out/questions.jsonl")}
    assert numbered == {0: "What is truth?", 1: "Who are you?", 2: "Why?"}
    assert "pirate: 2 of the cache's 3 questions" in caplog.text


def test_a_list_with_its_own_system_prompts(tmp_path: Path) -> None:
    given = {"system_prompt": "Be bold.", "finish_reason": "length", "seed": 7}
    payload = [{"persona": "bard", "question": "Who?", "response": "I."} | given]
    import_responses(written(tmp_path, payload), tmp_path / "out", model="m", system=SystemPrompts())
    (row,) = rows(tmp_path, "bard")
    assert (row["system_prompt"], row["finish_reason"], row["seed"]) == ("Be bold.", "length", 7)
    assert row["conversation"][0] == {"role": "system", "content": "Be bold."}


def test_questions_of_a_file_keep_their_ids(cache: Path, tmp_path: Path) -> None:
    questions = [{"question": q, "id": i} for q, i in (("Why?", 12), ("Who are you?", 3), ("What is truth?", 40))]
    write_jsonl(tmp_path / "q.jsonl", questions)
    given: Any = {"model": "m", "system": NO_SYSTEM, "questions_file": tmp_path / "q.jsonl"}
    import_responses(cache, tmp_path / "out", **given)
    assert [row["question_id"] for row in rows(tmp_path, "pirate")] == [40, 3]
    assert [len(row["conversation"]) for row in rows(tmp_path, "pirate")] == [2, 2]
    assert not (tmp_path / "out/questions.jsonl").exists()
    write_jsonl(tmp_path / "q.jsonl", questions[1:])
    with pytest.raises(UserError, match=r"persona 'default', question 'Why\?': not among the questions of .*q.jsonl"):
        import_responses(cache, tmp_path / "other", **given)
    assert not (tmp_path / "other").exists()


def test_reasoning_is_told_apart(tmp_path: Path) -> None:
    """In think tags, or in a field of its own; the conversation keeps what was written."""
    payload = [
        {"persona": "bard", "question": "Who?", "response": "<think>\nHm\n</think>\n\nI.", "finish_reason": "eos"},
        {"persona": "bard", "question": "Why?", "response": "Since.", "reasoning": "Hm", "finish_reason": None},
        {"persona": "bard", "question": "How?", "response": "<think>\nHm", "finish_reason": "abort"},
    ]
    import_responses(written(tmp_path, payload), tmp_path / "out", model="m", system=SystemPrompts(none=True))
    read = rows(tmp_path, "bard")
    assert [(row["response"], row["reasoning"]) for row in read] == [("I.", "Hm"), ("Since.", "Hm"), ("", "Hm")]
    assert [row["finish_reason"] for row in read] == ["stop", "stop", "abort"]
    assert read[0]["conversation"][-1]["content"] == payload[0]["response"]


ENTRY = {"persona": "bard", "question": "Who?", "response": "I."}


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, "holds no response"),
        ([], "holds no response"),
        ("text", "a cache is an object or a list, found str"),
        ({"bard": ["I."]}, "persona 'bard' must be an object of questions, found list"),
        ({"bard": {"Who?": None}}, "persona 'bard', question 'Who?': \"response\" must be text, found none; take"),
        ({"bard": {"Who?": " "}}, "persona 'bard', question 'Who?': \"response\" is empty; take the entry out"),
        ({"bard": {"": "I."}}, "persona 'bard', question '': \"question\" is empty"),
        ({"the bard": {"Who?": "I."}}, "'the bard' is no role name"),
        ({"../bard": {"Who?": "I."}}, "is no role name"),
        ({"bard": {"x" * 99: 5}}, f"question '{'x' * 40}...': \"response\" must be text, found int"),
        ([ENTRY, 3], "entry 1 must be an object, found int"),
        ([{"persona": "bard", "question": "Who?"}], 'entry 0: "response" must be text, found none'),
        ([ENTRY, ENTRY], "entry 1: the same persona and question as"),
        ([ENTRY | {"system_prompt": 3}], 'entry 0: "system_prompt" must be text, found int'),
        ([ENTRY | {"seed": "7"}], "entry 0: \"seed\" must be a whole number, found '7'"),
        ([ENTRY | {"response": "\ud800"}], 'entry 0: "response" holds half of a surrogate pair'),
    ],
)
def test_mistakes_are_one_line_with_the_place(tmp_path: Path, payload: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_cache(written(tmp_path, payload))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_assumed_or_replaced(cache: Path, tmp_path: Path) -> None:
    def refusal(**given: Any) -> str:
        with pytest.raises(UserError) as caught:
            import_responses(cache, tmp_path / "out", **{"model": "m", **given})
        return str(caught.value)

    assert "the cache does not say the system prompt; give --roles FOLDER" in refusal(system=SystemPrompts())
    write_json(tmp_path / "roles/pirate.json", {"instruction": [{"pos": "You are a pirate."}]})
    assert "no role file" in refusal(system=SystemPrompts(tmp_path / "roles"))
    assert "variants [1] asked for" in refusal(system=SystemPrompts(tmp_path / "roles", 1))
    assert "--model" in refusal(system=NO_SYSTEM, model="org/m")
    assert not (tmp_path / "out").exists()
    import_responses(cache, tmp_path / "out", model="m", system=NO_SYSTEM)
    before = (tmp_path / "out/responses/general/m/pirate.jsonl").read_bytes()
    assert "is there already; remove it" in refusal(system=NO_SYSTEM)
    (tmp_path / "out/questions.jsonl").unlink()
    assert "pirate.jsonl is there already; remove it" in refusal(system=NO_SYSTEM)
    assert (tmp_path / "out/responses/general/m/pirate.jsonl").read_bytes() == before


def test_the_command(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["import-responses", str(cache), str(tmp_path / "out"), "--model", "m", "--no-system"]
    arguments = build_parser().parse_args(words)
    arguments.run(arguments)
    assert capsys.readouterr().out == f"5 responses of 2 personas are in {tmp_path}/out/responses\n"
    with pytest.raises(SystemExit):
        build_parser().parse_args([*words, "--roles", "roles"])
