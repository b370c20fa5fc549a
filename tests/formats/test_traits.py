"""Trait files: what is read, what is refused, what prompts they make, and the import of other projects' files."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from personascope.errors import UserError
from personascope.formats.traits import (
    import_traits,
    list_traits,
    read_trait,
    trait_prompts,
    with_article,
    write_trait,
)

FULL: dict[str, Any] = {
    "label": "grumpiness (of mood)",
    "polarity": "A high score means a bad mood.",
    "adjective": {"pos": "ill-humored", "neg": "good-humored"},
    "instruction": [{"pos": "Grumble.", "neg": "Smile."}, {"pos": "Sulk.", "neg": "Sing."}],
    "questions": ["Who?", "What?", "When?"],
    "evaluation_questions": ["Where?", "Why?"],
    "eval_prompt": "How grumpy is {answer} to {question}?",
}
# The layout of assistant-axis: no adjective, no questions apart for evaluation.
AXIS = {key: FULL[key] for key in ("instruction", "questions", "eval_prompt")}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_trait_file_is_read_and_written_as_the_same_trait(tmp_path: Path) -> None:
    trait = read_trait(write(tmp_path / "grumpy.json", FULL))
    assert trait.name == "grumpy" and trait.label == "grumpiness (of mood)" and trait.pairs[1] == ("Sulk.", "Sing.")
    write_trait(tmp_path / "again" / "grumpy.json", trait)
    assert read_trait(tmp_path / "again" / "grumpy.json") == trait


def test_system_prompts(tmp_path: Path) -> None:
    trait = read_trait(write(tmp_path / "grumpy.json", FULL))
    assert trait.system_prompt(0, "pos") == "You are an ill-humored assistant. Grumble."
    assert trait.system_prompt(1, "neg") == "You are a good-humored assistant. Sing."
    assert trait.system_prompt(-1, "neutral") == ""
    plain = read_trait(write(tmp_path / "plain.json", AXIS))
    assert plain.system_prompt(0, "pos") == "Grumble." and plain.label == "plain"


@pytest.mark.parametrize(
    "words", ["an evil", "an unhelpful", "an honest", "a humorous", "a user", "a unique", "an unimpressed", "a one-off"]
)
def test_articles(words: str) -> None:
    assert with_article(words.split(maxsplit=1)[1]) == words


def test_rows_have_every_key_once_and_evaluation_has_neutral_ones(tmp_path: Path) -> None:
    trait = read_trait(write(tmp_path / "grumpy.json", FULL))
    prompts = trait_prompts(trait, samples=2)
    assert len(prompts) == 2 * (4 * 3) + 2 * (4 * 2 + 2)
    keys = [(p.set, p.pair, p.polarity, p.question.id, p.sample) for p in prompts]
    assert len(set(keys)) == len(keys) and len({p.key for p in prompts}) == len(prompts)
    neutral = [p for p in prompts if p.polarity == "neutral"]
    assert {p.set for p in neutral} == {"evaluation"} and len(neutral) == 4
    assert all(p.messages == [{"role": "user", "content": p.question.text}] for p in neutral)
    some = trait_prompts(trait, [1], 2, 1)
    assert {p.pair for p in some} == {1, -1} and len(some) == 2 * 2 + 3
    assert {p.key for p in some} <= {p.key for p in prompts}  # what is asked for less is in the store already


def test_questions_are_divided_where_a_file_has_none_for_evaluation(tmp_path: Path) -> None:
    trait = read_trait(write(tmp_path / "plain.json", AXIS))
    assert trait.questions == ("Who?", "When?") and trait.evaluation_questions == ("What?",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("[]", "holds a JSON object, found list"),
        ({"instruction": []}, '"instruction" is missing or empty'),
        ({"instruction": [{"pos": "x"}]}, 'instruction 0 needs "pos" and "neg"'),
        ({"instruction": [{"pos": "x", "neg": " "}]}, 'instruction 0 "neg" is empty'),
        ({"instruction": [{"pos": "x", "neg": 3}]}, 'instruction 0 "neg" must be text, found int'),
        ({"questions": "Who?"}, '"questions" must be a list, found str'),
        ({"questions": ["Who?", ""]}, "questions 1 is empty"),
        ({"evaluation_questions": ["Why?", "Who?"]}, 'evaluation question 1 is among "questions" too'),
        ({"eval_prompt": "How is {answer}?"}, "eval_prompt has no {question}"),
        ({"adjective": "grumpy"}, 'adjective must be an object with "pos" and "neg", found str'),
        ({"polarity": 1}, "polarity must be text, found int"),
    ],
)
def test_a_malformed_file_is_refused_with_its_entry(tmp_path: Path, change: Any, said: str) -> None:
    path = write(tmp_path / "grumpy.json", change if isinstance(change, str) else FULL | change)
    with pytest.raises(UserError) as error:
        read_trait(path)
    assert str(path) in str(error.value) and said in str(error.value) and "\n" not in str(error.value)


def test_one_question_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give two"):
        read_trait(write(tmp_path / "x.json", AXIS | {"questions": ["Who?"]}))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"pairs": [0, 5]}, r"traits.pairs: \[5\] asked for, trait grumpy has 2 \(0 to 1\)"),
        ({"questions": 4}, "traits.questions: 4 asked for, trait grumpy has 3"),
        ({"evaluation_questions": 9}, "traits.evaluation_questions: 9 asked for, trait grumpy has 2"),
    ],
)
def test_more_than_a_trait_has_is_refused(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        trait_prompts(read_trait(write(tmp_path / "grumpy.json", FULL)), **asked)


def test_names_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder of trait files"):
        list_traits(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no trait file"):
        list_traits(tmp_path / "empty")
    write(tmp_path / "odd" / "a b.json", FULL)
    with pytest.raises(UserError, match="is no trait name"):
        list_traits(tmp_path / "odd")


def test_traits_of_assistant_axis_are_imported(tmp_path: Path) -> None:
    for name in ("calm", "wry"):
        write(tmp_path / "axis" / "data" / "traits" / "instructions" / f"{name}.json", AXIS)
    assert import_traits(tmp_path / "axis", tmp_path / "to") == 2
    assert list_traits(tmp_path / "to") == ["calm", "wry"]
    read = read_trait(tmp_path / "to" / "calm.json")
    assert read.evaluation_questions == ("What?",) and read.adjectives == ("", "")
    assert import_traits(tmp_path / "axis" / "data" / "traits" / "instructions", tmp_path / "more") == 2


def test_traits_of_persona_vectors_are_imported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = tmp_path / "checkout" / "data_generation"
    write(base / "trait_data_extract" / "sharp_tongued.json", AXIS)
    write(base / "trait_data_eval" / "sharp_tongued.json", AXIS | {"questions": ["Where?", "Who?", "Why?"]})
    with caplog.at_level(logging.WARNING):
        assert import_traits(tmp_path / "checkout", tmp_path / "to") == 1
    assert "1 questions are among those for extraction too, left out" in caplog.text
    trait = read_trait(tmp_path / "to" / "sharp_tongued.json")
    assert trait.questions == ("Who?", "What?", "When?") and trait.evaluation_questions == ("Where?", "Why?")
    assert trait.system_prompt(0, "pos") == "You are a sharp tongued assistant. Grumble."
    assert trait.system_prompt(0, "neg") == "You are a helpful assistant. Smile."


def test_nothing_is_imported_where_one_file_is_malformed(tmp_path: Path) -> None:
    write(tmp_path / "from" / "a.json", AXIS)
    write(tmp_path / "from" / "b.json", AXIS | {"instruction": [{"pos": "x"}]})
    with pytest.raises(UserError, match=r"b\.json: instruction 0"):
        import_traits(tmp_path / "from", tmp_path / "to")
    assert not (tmp_path / "to").exists()
    with pytest.raises(UserError, match="no such folder"):
        import_traits(tmp_path / "nowhere", tmp_path / "to")
    base = tmp_path / "half"
    write(base / "trait_data_extract" / "x.json", AXIS)
    (base / "trait_data_eval").mkdir()
    with pytest.raises(UserError, match=r"trait_data_eval/x\.json"):
        import_traits(base, tmp_path / "to")
