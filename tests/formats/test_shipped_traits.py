"""The traits that ship with the project: complete, balanced between their two ends, and our own words."""

import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from personascope.formats.roles import list_roles, read_questions, read_role
from personascope.formats.traits import Trait, list_traits, read_trait
from tests.formats.test_shipped import REAL, RESOURCES, look_alikes, runs, shared_runs, words

FOLDER = RESOURCES / "traits"
NAMES = ["corrigibility", "deception", "manipulativeness", "paternalism"]
TRAITS = {name: read_trait(FOLDER / f"{name}.json") for name in NAMES}
# How strongly to do a thing rather than what: a pair that differs in these words differs in more than its trait.
STRENGTH = ("always", "never", "must", "every", "all", "only", "completely", "wholly")


def texts() -> list[str]:
    return [t for trait in TRAITS.values() for t in (*sum(trait.pairs, ()), *questions(trait), trait.eval_prompt)]


def questions(trait: Trait) -> list[str]:
    return [*trait.questions, *trait.evaluation_questions]


def test_the_folder_holds_the_four_traits() -> None:
    assert list_traits(FOLDER) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_trait_is_complete(name: str) -> None:
    trait = TRAITS[name]
    assert len(trait.pairs) == 5 and len(trait.questions) == 20 and len(trait.evaluation_questions) == 40
    assert re.findall(r"\{.*?\}", trait.eval_prompt) == ["{question}", "{answer}"]
    assert trait.label in trait.eval_prompt and "0 to 100" in trait.eval_prompt
    assert all(trait.adjectives) and trait.polarity


def test_the_fourth_trait_says_that_it_is_the_opposite_of_its_name() -> None:
    trait = TRAITS["corrigibility"]
    assert trait.label == "corrigibility (resistance to correction)" and "RESISTANCE" in trait.polarity
    assert trait.adjectives == ("stubborn", "corrigible")


@pytest.mark.parametrize("name", NAMES)
def test_the_ends_of_a_pair_differ_in_the_trait_and_not_in_length(name: str) -> None:
    for pos, neg in TRAITS[name].pairs:
        lengths = [len(words(text)) for text in (pos, neg)]
        assert max(lengths) <= 1.15 * min(lengths) and min(lengths) >= 25
        assert len(re.findall(r"[.!?]", pos)) == len(re.findall(r"[.!?]", neg))
    counts = [Counter(w for pair in TRAITS[name].pairs for w in words(pair[end]) if w in STRENGTH) for end in (0, 1)]
    assert abs(sum(counts[0].values()) - sum(counts[1].values())) <= 2


def test_all_texts_are_distinct_and_clean() -> None:
    lines = [t for trait in TRAITS.values() for t in (*sum(trait.pairs, ()), *questions(trait))]
    assert len(lines) == 4 * 70
    assert [t for t, count in Counter(" ".join(words(t)) for t in lines).items() if count > 1] == []
    assert [t for t in lines if t != t.strip() or "\n" in t or "  " in t] == []


def test_no_two_questions_are_near_duplicates() -> None:
    """By shared runs of six words, by shared words, and by the cosine of their counts of four letters, below 0.5."""
    asked = [text for trait in TRAITS.values() for text in questions(trait)]
    assert shared_runs(asked, 6) == []
    assert look_alikes(asked, 0.6) == []
    grams = [Counter(text[i : i + 4] for i in range(len(text) - 3)) for text in (" ".join(words(t)) for t in asked)]
    norms = [float(np.linalg.norm(list(gram.values()))) for gram in grams]
    alike = [
        (asked[i], asked[j])
        for i, j in combinations(range(len(asked)), 2)
        if sum(grams[i][g] * grams[j][g] for g in grams[i].keys() & grams[j].keys()) >= 0.5 * norms[i] * norms[j]
    ]
    assert alike == []


def test_no_question_of_a_trait_is_one_of_the_shared_questions() -> None:
    shared = {" ".join(words(question.text)) for question in read_questions(RESOURCES / "questions.jsonl")}
    assert [t for trait in TRAITS.values() for t in questions(trait) if " ".join(words(t)) in shared] == []


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the role files to compare with are not at {REAL}")
def test_no_text_is_taken_from_the_published_roles() -> None:
    folder: Path = REAL / "roles" / "instructions"
    published = [read_role(folder / f"{name}.json") for name in list_roles(folder)]
    theirs = [text for role in published for text in (*role.instructions, *role.questions, role.eval_prompt)]
    known = {run for text in theirs for run in runs(text, 8)}
    assert [text for text in texts() if runs(text, 8) & known] == []
