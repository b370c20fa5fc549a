"""The roles and questions that ship with the project: complete, distinct, and our own words."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from personascope.formats.roles import Role, list_roles, read_questions, read_role

RESOURCES = Path(__file__).parents[2] / "resources"
REAL = Path(__file__).parents[3] / "shared" / "data" / "assistant-axis"
NAMES = re.findall(
    r"\w+",
    """
    aberration absurdist accountant activist actor addict adolescent advocate alien altruist amateur analyst
    anarchist anthropologist assistant avatar biologist bohemian caveman collaborator demon doctor economist
    engineer exile fool ghost gossip guru hedonist historian immigrant journalist lawyer loner marketer
    mathematician mentor musician pirate programmer psychologist rogue sommelier spy student swarm teacher
    trickster zealot
    """,
)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def runs(text: str, length: int) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


def shared_runs(texts: Iterable[str], length: int) -> list[str]:
    """Runs of so many words that stand in more than one of the texts."""
    counts = Counter(run for text in texts for run in runs(text, length))
    return [" ".join(run) for run, count in counts.items() if count > 1]


def look_alikes(texts: Iterable[str], limit: float) -> list[tuple[str, str]]:
    """Pairs whose sets of words overlap (Jaccard) by at least `limit`."""
    sets = [(text, frozenset(words(text))) for text in texts]
    return [(s, t) for (s, a), (t, b) in combinations(sets, 2) if len(a & b) >= limit * len(a | b)]


@pytest.fixture(scope="module")
def roles() -> dict[str, Role]:
    return {name: read_role(RESOURCES / "roles" / f"{name}.json") for name in list_roles(RESOURCES / "roles")}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RESOURCES / "questions.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def instructions(roles: dict[str, Role]) -> list[str]:
    return [text for role in roles.values() for text in role.instructions if text]


@pytest.fixture(scope="module")
def questions(roles: dict[str, Role], rows: list[dict[str, Any]]) -> list[str]:
    return [row["question"] for row in rows] + [text for role in roles.values() for text in role.questions]


def test_the_folder_holds_the_fifty_roles_and_default() -> None:
    files = sorted(path.name for path in (RESOURCES / "roles").iterdir())
    assert files == sorted(f"{name}.json" for name in [*NAMES, "default"]) and len(files) == 51


@pytest.mark.parametrize("name", NAMES)
def test_a_role_is_complete(roles: dict[str, Role], name: str) -> None:
    role = roles[name]
    assert len(role.instructions) == 5 and len(role.questions) == 10
    assert re.findall(r"\{.*?\}", role.eval_prompt) == ["{question}", "{answer}"]
    assert name in words(role.eval_prompt)
    assert not any("{" in text for text in (*role.instructions, *role.questions))


def test_default_has_one_empty_instruction_and_names_the_model(roles: dict[str, Role]) -> None:
    default = roles["default"]
    assert len(default.instructions) == 5 and default.instructions.count("") == 1
    assert any("{model_name}" in text for text in default.instructions)
    assert not default.questions and not default.eval_prompt


def test_there_are_240_questions_forty_a_topic(rows: list[dict[str, Any]]) -> None:
    assert [q.id for q in read_questions(RESOURCES / "questions.jsonl")] == list(range(240))
    topics = Counter(row["topic"] for row in rows)
    assert len(topics) == 6 and set(topics.values()) == {40}


def test_all_texts_are_distinct(instructions: list[str], questions: list[str]) -> None:
    counts = Counter(" ".join(words(text)) for text in instructions + questions)
    assert len(instructions) == 254 and len(questions) == 740
    assert [text for text, count in counts.items() if count > 1] == []


def test_no_two_instructions_are_near_duplicates(instructions: list[str]) -> None:
    assert shared_runs(instructions, 7) == []
    assert look_alikes(instructions, 0.4) == []


def test_no_two_questions_are_near_duplicates(questions: list[str]) -> None:
    assert shared_runs(questions, 7) == []
    assert look_alikes(questions, 0.6) == []


def test_the_texts_are_clean(instructions: list[str], questions: list[str]) -> None:
    assert [t for t in instructions + questions if t != t.strip() or "\n" in t or "  " in t] == []


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the role files to compare with are not at {REAL}")
def test_no_text_is_taken_from_the_published_roles(
    roles: dict[str, Role], instructions: list[str], questions: list[str]
) -> None:
    folder = REAL / "roles" / "instructions"
    published = [read_role(folder / f"{name}.json") for name in list_roles(folder)]
    theirs = [text for role in published for text in (*role.instructions, *role.questions, role.eval_prompt)]
    theirs += [question.text for question in read_questions(REAL / "extraction_questions.jsonl")]
    ours = instructions + questions + [role.eval_prompt for role in roles.values()]
    known = {" ".join(words(text)) for text in theirs if text}
    assert [text for text in ours if text and " ".join(words(text)) in known] == []
    known_runs = {run for text in theirs for run in runs(text, 8)}
    assert [text for text in ours if runs(text, 8) & known_runs] == []
