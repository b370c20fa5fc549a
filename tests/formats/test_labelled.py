"""The labeled answers that say what a judge is worth, and the personas: complete, balanced, and our own words."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from math import sqrt
from typing import Any

import pytest
from yaml import safe_load

from personascope.formats.roles import Role, list_roles, read_questions, read_role
from tests.formats.test_shipped import REAL, RESOURCES, ROOT, look_alikes, runs, shared_runs, words

Row = dict[str, Any]
TRAITS = ("corrigibility", "deception", "manipulativeness", "paternalism")
LABELS = {"trait": {0, 100}, "coherence": {0, 100}, "adherence": {0, 1, 2, 3}}
NAMES = re.findall(
    r"\w+",
    """
    default default_assistant default_llm default_helpful assistant analyst evaluator generalist storyteller
    philosopher artist rebel mystic trader rationalist cynic naive ghost bohemian oracle bard trickster jester
    """,
)


@pytest.fixture(scope="module")
def labeled() -> list[Row]:
    return [json.loads(line) for line in (RESOURCES / "judge" / "labelled.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def personas() -> dict[str, Role]:
    folder = RESOURCES / "persona_vectors" / "roles"
    return {name: read_role(folder / f"{name}.json") for name in list_roles(folder)}


def auc(high: Sequence[float], low: Sequence[float]) -> float:
    """The chance that one of the high is above one of the low, ties counted half (Mann and Whitney)."""
    above = sum((h > x) + (h == x) / 2 for h in high for x in low)
    return above / (len(high) * len(low))


def grams(text: str) -> Counter[tuple[str, ...]]:
    """Single words and pairs of neighbors."""
    found = words(text)
    return Counter([*((word,) for word in found), *pairwise(found)])


def cosine(a: Counter[Any], b: Counter[Any]) -> float:
    dot = sum(count * b[gram] for gram, count in a.items())
    return dot / sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))


def test_each_row_is_whole(labeled: list[Row]) -> None:
    keys = {"id", "metric", "subject", "question", "answer", "label", "construction"}
    assert [row for row in labeled if set(row) != keys] == []
    assert [row["id"] for row in labeled if row["label"] not in LABELS[row["metric"]]] == []
    texts = [row[key] for row in labeled for key in ("id", "subject", "question", "answer", "construction")]
    assert [t for t in texts if not t or t != t.strip() or "\n" in t or "  " in t] == []
    assert [row["id"] for row in labeled if not 25 <= len(row["answer"].split()) <= 80] == []


def test_each_metric_has_its_labels(labeled: list[Row]) -> None:
    counts = Counter((row["metric"], row["label"]) for row in labeled)
    assert counts[("adherence", 0)] >= 15 and counts[("adherence", 2)] >= 15
    assert counts[("coherence", 0)] >= 20 and counts[("coherence", 100)] >= 20
    assert len(labeled) >= 220


def test_each_selected_role_that_has_a_rubric_is_played_and_not_played(labeled: list[Row]) -> None:
    """Of the default experiment. `default` has no eval prompt by which adherence could be scored, and no filter."""
    selected = safe_load((ROOT / "config/config.yaml").read_text())["roles"]["select"]
    roles = {name: read_role(RESOURCES / "roles" / f"{name}.json") for name in selected}
    counts = Counter((row["subject"], row["label"]) for row in labeled if row["metric"] == "adherence")
    judged = {name for name, role in roles.items() if role.eval_prompt}
    assert judged == set(roles) - {"default"} == {subject for subject, _ in counts}
    assert all(counts[name, 3] == 1 and counts[name, 1] == 1 for name in judged)
    assert {row["subject"] for row in labeled} == set(roles) | set(TRAITS)


@pytest.mark.parametrize("trait", TRAITS)
def test_each_trait_has_both_ends_on_the_same_questions(labeled: list[Row], trait: str) -> None:
    asked: dict[int, list[str]] = defaultdict(list)
    rows = [row for row in labeled if (row["metric"], row["subject"]) == ("trait", trait)]
    for row in rows:
        asked[row["label"]].append(row["question"])
    assert len(asked[100]) == len(asked[0]) >= 10
    assert asked[100] == asked[0]
    assert any(row["label"] == 0 and row["construction"].startswith("hard negative") for row in rows)


@pytest.mark.parametrize("length", [len, lambda text: len(text.split())], ids=["characters", "words"])
@pytest.mark.parametrize(("metric", "high"), [("trait", 100), ("coherence", 100), ("adherence", 3)])
def test_length_does_not_give_the_label_away(
    labeled: list[Row], metric: str, high: int, length: Callable[[str], int]
) -> None:
    lengths: dict[int, list[int]] = defaultdict(list)
    for row in labeled:
        if row["metric"] == metric:
            lengths[row["label"]].append(length(row["answer"]))
    top = lengths.pop(high)
    assert 0.35 <= auc(top, [n for group in lengths.values() for n in group]) <= 0.65
    if length is not len:
        assert all(0.35 <= auc(top, group) <= 0.65 for group in lengths.values())


@pytest.mark.parametrize("trait", TRAITS)
def test_nor_does_it_within_a_trait(labeled: list[Row], trait: str) -> None:
    ends = {
        label: [len(r["answer"].split()) for r in labeled if (r["subject"], r["label"]) == (trait, label)]
        for label in (0, 100)
    }
    assert 0.35 <= auc(ends[100], ends[0]) <= 0.65


def test_no_two_answers_are_near_duplicates(labeled: list[Row]) -> None:
    """Cosine of the counts of single words and pairs; the closest, an answer and its scrambled twin, reach 0.54."""
    assert (
        len({" ".join(words(row["answer"])) for row in labeled}) == len({row["id"] for row in labeled}) == len(labeled)
    )
    counted = [(row["id"], grams(row["answer"])) for row in labeled]
    assert [(i, j) for (i, a), (j, b) in combinations(counted, 2) if cosine(a, b) >= 0.6] == []
    whole = [row["answer"] for row in labeled if (row["metric"], row["label"]) != ("coherence", 0)]
    assert shared_runs(whole, 7) == []


def test_the_coherence_rubric_has_both_places_and_asks_for_a_number_alone() -> None:
    text = (RESOURCES / "judge" / "coherence.txt").read_text(encoding="utf-8")
    assert re.findall(r"\{.*?\}", text) == ["{question}", "{answer}"]
    assert [int(n) for n in re.findall(r"^(\d+) - ", text, re.MULTILINE)] == [0, 25, 50, 75, 100]
    assert text.endswith("Reply with the number and nothing else.\n")


def test_the_personas_are_complete_and_default_is_empty(personas: dict[str, Role]) -> None:
    assert set(personas) == set(NAMES) and len(NAMES) == 23
    assert personas["default"].instructions == ("",) and not personas["default"].eval_prompt
    for name, role in personas.items():
        if name != "default":
            assert len(role.instructions) == 1 and not re.search(r"[{}]", role.instructions[0])
            assert re.findall(r"\{.*?\}", role.eval_prompt) == ["{question}", "{answer}"]
            assert f"**{name}**" in role.eval_prompt


def test_the_philosophical_questions_are_eighteen_and_new() -> None:
    ours = [q.text for q in read_questions(RESOURCES / "persona_vectors" / "questions.jsonl")]
    others = [q.text for q in read_questions(RESOURCES / "questions.jsonl")]
    assert len(ours) == 18
    assert shared_runs(ours + others, 7) == []
    assert look_alikes(ours + others, 0.6) == []


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the role files to compare with are not at {REAL}")
def test_no_text_shares_eight_words_in_a_row_with_published_ones(labeled: list[Row], personas: dict[str, Role]) -> None:
    folder = REAL / "roles" / "instructions"
    published = [read_role(folder / f"{name}.json") for name in list_roles(folder)]
    theirs = [text for role in published for text in (*role.instructions, *role.questions, role.eval_prompt)]
    theirs += [question.text for question in read_questions(REAL / "extraction_questions.jsonl")]
    ours = [text for row in labeled for text in (row["question"], row["answer"])]
    ours += [text for role in personas.values() for text in (*role.instructions, role.eval_prompt)]
    ours += [q.text for q in read_questions(RESOURCES / "persona_vectors" / "questions.jsonl")]
    ours.append((RESOURCES / "judge" / "coherence.txt").read_text(encoding="utf-8"))
    known = {run for text in theirs for run in runs(text, 8)}
    assert known and [text for text in ours if runs(text, 8) & known] == []
