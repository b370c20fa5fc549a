"""Trait files, the prompts that bring a trait out or hold it back, and the import of trait files of other projects.

``{trait}.json`` holds ``{"instruction": [{"pos": str, "neg": str}, ...], "questions": [str, ...],
"evaluation_questions": [str, ...], "eval_prompt": str, "adjective": {"pos": str, "neg": str}, "polarity": str,
"label": str}``. Only the first two are needed, which makes it the layout of assistant-axis and of persona_vectors
(Chen et al. 2025, arXiv 2507.21509) too:

- without ``evaluation_questions`` every second question is kept for evaluation, so that none serves both ends;
- without ``adjective`` the system prompt is the instruction alone;
- without ``label`` figures write the name, and ``polarity`` says in words which end of the trait is positive.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.formats.files import read_json, write_json
from personascope.formats.roles import ROLE_NAME, Prompt, Question, select_questions

log = logging.getLogger(__name__)

PLACES = ("{question}", "{answer}")  # what an eval prompt must have room for
SETS = ("extraction", "evaluation")
POLARITIES = ("pos", "neg", "neutral")  # neutral: no system prompt, in the evaluation set only
KEYS = ("set", "pair", "polarity", "question_id", "sample")  # of a row, unique together
NEUTRAL_PAIR = -1
# Sounds, not letters, decide: an hour, a user, a one-sided view.
AN = re.compile(r"(?!uni(?!n|m)|us[aeiu]|ut[aio]|eu|ewe|one|once|ubiq)[aeiou]|hon|hour|heir", re.IGNORECASE)


@dataclass(frozen=True)
class Trait:
    """One trait. pairs: (positive, negative) instructions; eval_prompt: "" where the file has none; adjectives:
    (positive, negative), each "" where the file has none; polarity: which end is positive, in words."""

    name: str
    pairs: tuple[tuple[str, str], ...]
    questions: tuple[str, ...]
    evaluation_questions: tuple[str, ...]
    eval_prompt: str = ""
    adjectives: tuple[str, str] = ("", "")
    polarity: str = ""
    label: str = ""

    def system_prompt(self, pair: int, polarity: str) -> str:
        """The system prompt of one end of a pair, "" for the polarity `neutral`."""
        if polarity == "neutral":
            return ""
        end = POLARITIES.index(polarity)
        adjective, instruction = self.adjectives[end], self.pairs[pair][end]
        return f"You are {with_article(adjective)} assistant. {instruction}" if adjective else instruction


@dataclass(frozen=True)
class TraitPrompt(Prompt):
    """One row of a trait: `role` is the trait's name, `prompt_index` counts its system prompts (2 a pair, then the
    neutral one), `question.id` counts the questions of its set."""

    set: str
    pair: int
    polarity: str
    sample: int

    @property
    def key(self) -> str:
        return f"trait/{self.set}/{super().key}/{self.sample}"

    @property
    def keys(self) -> dict[str, str | int]:
        return {"set": self.set, "pair": self.pair, "polarity": self.polarity, "sample": self.sample}


def with_article(words: str) -> str:
    """The words behind "a" or "an"."""
    return f"{'an' if AN.match(words) else 'a'} {words}"


def trait_name(path: str | Path) -> str:
    """The trait that a file describes; UserError unless the name is letters, digits, `_` and `-`."""
    name = Path(path).name.removesuffix(".json")
    if not ROLE_NAME.fullmatch(name):
        raise UserError(f"{str(path)!r}: {name!r} is no trait name; use letters, digits, _ and -, at most 64 of them")
    return name


def list_traits(folder: str | Path) -> list[str]:
    """Names of the trait files in a folder, sorted; UserError where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of trait files")
    names = sorted(trait_name(path) for path in folder.glob("*.json"))
    if not names:
        raise UserError(f"{folder}: holds no trait file (*.json)")
    return names


def read_trait(path: str | Path) -> Trait:
    """Read and check one trait file; UserError names file and entry."""
    return _parse(Path(path), _read_object(Path(path)))


def _read_object(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: a trait file holds a JSON object, found {type(data).__name__}")
    return data


def _parse(path: Path, data: dict[str, Any]) -> Trait:
    name = trait_name(path)
    pairs = []
    for i, entry in enumerate(_list(path, data, "instruction")):
        if not isinstance(entry, dict) or not {"pos", "neg"} <= entry.keys():
            raise UserError(f'{path}: instruction {i} needs "pos" and "neg" (two system prompts)')
        pairs.append(tuple(_text(path, f'instruction {i} "{end}"', entry[end]) for end in ("pos", "neg")))
    questions, evaluation = _questions(path, data)
    eval_prompt = _text(path, "eval_prompt", data.get("eval_prompt", ""), may_be_empty=True)
    if eval_prompt and (missing := [place for place in PLACES if place not in eval_prompt]):
        raise UserError(f"{path}: eval_prompt has no {missing[0]}; the judge is shown question and answer there")
    adjective = data.get("adjective", {})
    if not isinstance(adjective, dict):
        raise UserError(f'{path}: adjective must be an object with "pos" and "neg", found {type(adjective).__name__}')
    adjectives = tuple(
        _text(path, f'adjective "{end}"', adjective.get(end, ""), may_be_empty=True).strip() for end in ("pos", "neg")
    )
    words = [_text(path, key, data.get(key, ""), may_be_empty=True) for key in ("polarity", "label")]
    return Trait(
        name,
        tuple(pairs),
        questions,
        evaluation,
        eval_prompt,
        (adjectives[0], adjectives[1]),
        words[0],
        words[1] or name,
    )


def _questions(path: Path, data: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Questions for extraction and for evaluation, without a question in both."""
    questions = _texts(path, data, "questions")
    if "evaluation_questions" not in data:
        if len(questions) < 2:
            raise UserError(f'{path}: "questions" holds one; give two, or "evaluation_questions" beside it')
        return questions[::2], questions[1::2]
    evaluation = _texts(path, data, "evaluation_questions")
    if both := [i for i, question in enumerate(evaluation) if question in set(questions)]:
        raise UserError(
            f'{path}: evaluation question {both[0]} is among "questions" too; a vector is judged by others than made it'
        )
    return questions, evaluation


def _list(path: Path, data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key, [])
    if not isinstance(value, list):
        raise UserError(f'{path}: "{key}" must be a list, found {type(value).__name__}')
    if not value:
        raise UserError(f'{path}: "{key}" is missing or empty; give at least one')
    return value


def _texts(path: Path, data: dict[str, Any], key: str) -> tuple[str, ...]:
    return tuple(_text(path, f"{key} {i}", text) for i, text in enumerate(_list(path, data, key)))


def _text(path: Path, where: str, value: Any, *, may_be_empty: bool = False) -> str:
    if not isinstance(value, str):
        raise UserError(f"{path}: {where} must be text, found {type(value).__name__}")
    if not value.strip() and not may_be_empty:
        raise UserError(f"{path}: {where} is empty")
    return value


def select_pairs(trait: Trait, selection: str | Sequence[int]) -> list[int]:
    """The pairs asked for ("all" or indices), sorted; UserError names those that the file lacks."""
    if selection == "all":
        return list(range(len(trait.pairs)))
    chosen = [int(pair) for pair in selection]
    if outside := [pair for pair in chosen if not 0 <= pair < len(trait.pairs)]:
        have = len(trait.pairs)
        raise UserError(f"traits.pairs: {outside} asked for, trait {trait.name} has {have} (0 to {have - 1})")
    return sorted(set(chosen))


def _select(texts: Sequence[str], count: str | int, key: str, name: str) -> list[Question]:
    if isinstance(count, int) and count > len(texts):
        raise UserError(f"traits.{key}: {count} asked for, trait {name} has {len(texts)}")
    return select_questions([Question(i, text) for i, text in enumerate(texts)], count)


def trait_prompts(
    trait: Trait,
    pairs: str | Sequence[int] = "all",
    questions: str | int = "all",
    evaluation_questions: str | int = "all",
    samples: int = 1,
) -> list[TraitPrompt]:
    """All rows of a trait: the extraction set, then the evaluation set with its neutral rows.

    In each: pair, polarity, question, sample, the last running fastest. questions, evaluation_questions: "all" or how
    many, spread over the file. UserError where the file has fewer, or lacks a pair.
    """
    chosen = select_pairs(trait, pairs)
    asked = {
        "extraction": _select(trait.questions, questions, "questions", trait.name),
        "evaluation": _select(trait.evaluation_questions, evaluation_questions, "evaluation_questions", trait.name),
    }
    ends = [(pair, end) for pair in chosen for end in POLARITIES[:2]]
    neutral = [(NEUTRAL_PAIR, "neutral")]
    prompts = []
    for part, conditions in (("extraction", ends), ("evaluation", ends + neutral)):
        for pair, polarity in conditions:
            index = 2 * len(trait.pairs) if polarity == "neutral" else 2 * pair + POLARITIES.index(polarity)
            system = trait.system_prompt(pair, polarity)
            prompts += [
                TraitPrompt(trait.name, index, question, system, part, pair, polarity, sample)
                for question in asked[part]
                for sample in range(samples)
            ]
    return prompts


def write_trait(path: str | Path, trait: Trait) -> None:
    """Write a trait file that `read_trait` reads as the same trait."""
    data: dict[str, Any] = {
        "label": trait.label,
        "polarity": trait.polarity,
        "adjective": {end: text for end, text in zip(("pos", "neg"), trait.adjectives, strict=True) if text},
        "instruction": [{"pos": pos, "neg": neg} for pos, neg in trait.pairs],
        "questions": list(trait.questions),
        "evaluation_questions": list(trait.evaluation_questions),
        "eval_prompt": trait.eval_prompt,
    }
    write_json(path, {key: value for key, value in data.items() if value})


def import_traits(source: str | Path, destination: str | Path) -> int:
    """Bring trait files of another project into a folder of trait files; returns how many.

    source: a checkout of persona_vectors or its data folder (found by `trait_data_extract` and `trait_data_eval` in
    it), a checkout of assistant-axis or its data folder (`traits/instructions`), or a folder of trait files in the
    layout of assistant-axis. Every file is read and checked before the first one is written.
    """
    source, destination = Path(source), Path(destination)
    bases = [source, source / "data", source / "data_generation"]
    extract = next((base for base in bases if (base / "trait_data_extract").is_dir()), None)
    if extract is not None:
        traits = list(_persona_vectors(extract))
    else:
        folders = [base / "traits" / "instructions" for base in bases] + [source]
        folder = next((folder for folder in folders if folder.is_dir()), None)
        if folder is None:
            raise UserError(f"{source}: no such folder of trait files")
        traits = [read_trait(folder / f"{name}.json") for name in list_traits(folder)]
    for trait in traits:
        write_trait(destination / f"{trait.name}.json", trait)
    return len(traits)


def _persona_vectors(base: Path) -> Iterable[Trait]:
    """Traits of the layout of persona_vectors: a file with the questions for extraction, one with those for evaluation.

    There the adjectives are no part of the files: the trait's own name against "helpful" (Chen et al. 2025).
    """
    for name in list_traits(base / "trait_data_extract"):
        paths = [base / folder / f"{name}.json" for folder in ("trait_data_extract", "trait_data_eval")]
        data, evaluation = map(_read_object, paths)
        asked = set(_texts(paths[0], data, "questions"))
        others = [question for question in _texts(paths[1], evaluation, "questions") if question not in asked]
        if left_out := len(evaluation["questions"]) - len(others):
            log.warning("%s: %d questions are among those for extraction too, left out", paths[1], left_out)
        adjective = {"pos": name.replace("_", " "), "neg": "helpful"}
        yield _parse(paths[0], {"adjective": adjective} | data | {"evaluation_questions": others})
