"""The roles and questions that ship with the project: complete, distinct, and our own words."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer

from personascope.formats.role_groups import read_role_groups
from personascope.formats.roles import Role, list_roles, read_questions, read_role

ROOT = Path(__file__).parents[2]
RESOURCES = ROOT / "resources"
REAL = Path(__file__).parents[3] / "shared" / "data" / "assistant-axis"
# The names are facts of the published list, where it is there; the texts are our own.
NAMES = sorted({role for roles in read_role_groups(RESOURCES / "role_groups.yaml").values() for role in roles})
PERSONAS = [name for name in NAMES if name != "default"]
# Roles of the default experiment, older than the others: results rest on their instructions as they are.
FIRST = set(yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))["roles"]["select"])
# Word sets of two texts that overlap so far (Jaccard) are near-duplicates; of whole roles the cosine of their words and
# pairs of words is taken, weighted by how rare they are (the nearest two, immigrant and expatriate, are at 0.11).
INSTRUCTIONS_ALIKE, QUESTIONS_ALIKE, ROLES_ALIKE = 0.4, 0.6, 0.2


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def runs(text: str, length: int) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


def shared_runs(texts: Iterable[str], length: int) -> list[str]:
    """Runs of so many words that stand in more than one of the texts."""
    counts = Counter(run for text in texts for run in runs(text, length))
    return [" ".join(run) for run, count in counts.items() if count > 1]


def look_alikes(texts: Sequence[str], limit: float) -> list[tuple[str, str]]:
    """Pairs whose sets of words overlap (Jaccard) by at least `limit`."""
    sets = [frozenset(words(text)) for text in texts]
    places = {word: i for i, word in enumerate(sorted(frozenset().union(*sets)))}
    rows, columns = np.array([(i, places[word]) for i, found in enumerate(sets) for word in found]).T
    present = csr_array((np.ones(len(rows), np.int32), (rows, columns)), shape=(len(sets), len(places)))
    both, sizes = (present @ present.T).toarray(), np.array([len(found) for found in sets])
    alike = np.argwhere(np.triu(both >= limit * (sizes[:, None] + sizes - both), 1))
    return [(texts[i], texts[j]) for i, j in alike.tolist()]


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


def test_the_folder_holds_275_roles_and_default() -> None:
    files = sorted(path.name for path in (RESOURCES / "roles").iterdir())
    assert files == [f"{name}.json" for name in NAMES] and len(files) == 276


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the role files to compare with are not at {REAL}")
def test_the_names_are_those_of_the_published_roles() -> None:
    assert list_roles(REAL / "roles" / "instructions") == NAMES


@pytest.mark.parametrize("name", PERSONAS)
def test_a_role_is_complete(roles: dict[str, Role], name: str) -> None:
    role = roles[name]
    assert len(role.instructions) == 5 and len(role.questions) == 20
    assert all(15 <= len(text.split()) <= 60 for text in role.instructions)
    assert re.findall(r"\{.*?\}", role.eval_prompt) == ["{question}", "{answer}"]
    assert f"**{name.replace('_', ' ')}**" in role.eval_prompt.lower()
    assert not any("{" in text for text in (*role.instructions, *role.questions))


@pytest.mark.parametrize("name", sorted(set(PERSONAS) - FIRST))
def test_a_role_has_plain_instructions(roles: dict[str, Role], name: str) -> None:
    """A scene full of its own nouns moves the topic as well as the persona."""
    plain = [text for text in roles[name].instructions if re.search(r"\byou are (an?|the)\b", text.lower())]
    assert len(plain) >= 2


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
    assert len(instructions) == 5 * 276 - 1 and len(questions) == 240 + 20 * 275
    assert [text for text, count in counts.items() if count > 1] == []


def test_no_two_instructions_are_near_duplicates(instructions: list[str]) -> None:
    assert shared_runs(instructions, 7) == []
    assert look_alikes(instructions, INSTRUCTIONS_ALIKE) == []


def test_no_two_questions_are_near_duplicates(questions: list[str]) -> None:
    assert shared_runs(questions, 7) == []
    assert look_alikes(questions, QUESTIONS_ALIKE) == []


def test_no_two_roles_are_near_duplicates(roles: dict[str, Role]) -> None:
    texts = [" ".join((*roles[name].instructions, *roles[name].questions)) for name in PERSONAS]
    weights = csr_array(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(texts))
    alike = np.argwhere(np.triu((weights @ weights.T).toarray() >= ROLES_ALIKE, 1)).tolist()
    assert [(PERSONAS[i], PERSONAS[j]) for i, j in alike] == []


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
