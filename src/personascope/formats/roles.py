"""Role files, question files and the import of an assistant-axis checkout.

Layout (that of assistant-axis): ``roles/<role>.json`` holds ``{"instruction": [{"pos": str}, ...],
"questions": [str, ...], "eval_prompt": str}`` (the role ``default`` only needs ``instruction``);
``questions.jsonl`` holds ``{"question": str, "id": int}`` a line.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope.errors import UserError, did_you_mean
from personascope.formats.files import iter_jsonl, read_json, write_json, write_jsonl

log = logging.getLogger(__name__)

ROLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
RESERVED = ("role", "space")  # columns of the tables that have one column a role
MOST_NAMED = 5  # missing roles that a message names
GOLDEN_RATIO = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Role:
    """One role: its instruction variants (system prompts, "" means none), own questions and eval prompt."""

    name: str
    instructions: tuple[str, ...]
    questions: tuple[str, ...]
    eval_prompt: str


@dataclass(frozen=True)
class Question:
    """A question and the id that identifies it in every output."""

    id: int
    text: str


@dataclass(frozen=True)
class Prompt:
    """One row of a role: the messages sent to the model and the keys of the row."""

    role: str
    prompt_index: int
    question: Question
    system_prompt: str

    @property
    def key(self) -> str:
        """What tells the row from all others of an experiment: its seed is made of it."""
        return f"{self.role}/{self.prompt_index}/{self.question.id}"

    @property
    def keys(self) -> dict[str, str | int]:
        """What is written with the row, beside role, prompt_index and question_id, to tell it from others."""
        return {}

    @property
    def messages(self) -> list[dict[str, str]]:
        """System turn (left out when the instruction is empty) and user turn."""
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        return [*system, {"role": "user", "content": self.question.text}]


def role_name(path: str | Path) -> str:
    """The role that a file describes; UserError unless the name is letters, digits, `_` and `-`."""
    name = Path(path).name.removesuffix(".json")
    if not ROLE_NAME.fullmatch(name) or name in RESERVED:
        raise UserError(f"{str(path)!r}: {name!r} is no role name; use letters, digits, _ and -, at most 64 of them")
    return name


def _text(path: Path, where: str, value: Any, *, may_be_empty: bool = False) -> str:
    if not isinstance(value, str):
        raise UserError(f"{path}: {where} must be text, found {type(value).__name__}")
    if not value.strip() and not may_be_empty:
        raise UserError(f"{path}: {where} is empty")
    return value


def _list(path: Path, data: dict[str, Any], key: str, *, required: bool) -> list[Any]:
    value = data.get(key, [])
    if not isinstance(value, list):
        raise UserError(f'{path}: "{key}" must be a list, found {type(value).__name__}')
    if required and not value:
        raise UserError(f'{path}: "{key}" is missing or empty; give at least one')
    return value


def read_role(path: str | Path) -> Role:
    """Read and check one role file; UserError names file and entry."""
    path = Path(path)
    name = role_name(path)
    data = read_json(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: a role file holds a JSON object, found {type(data).__name__}")
    instructions = []
    for i, entry in enumerate(_list(path, data, "instruction", required=True)):
        if not isinstance(entry, dict) or "pos" not in entry:
            raise UserError(f'{path}: instruction {i} has no "pos" (the system prompt)')
        instructions.append(_text(path, f'instruction {i} "pos"', entry["pos"], may_be_empty=name == "default"))
    questions = [
        _text(path, f"question {i}", question)
        for i, question in enumerate(_list(path, data, "questions", required=False))
    ]
    eval_prompt = data.get("eval_prompt", "")
    return Role(name, tuple(instructions), tuple(questions), _text(path, "eval_prompt", eval_prompt, may_be_empty=True))


def list_roles(folder: str | Path) -> list[str]:
    """Names of the role files in a folder, sorted; UserError where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of role files")
    names = sorted(role_name(path) for path in folder.glob("*.json"))
    if not names:
        raise UserError(f"{folder}: holds no role file (*.json)")
    return names


def select_roles(folder: str | Path, selection: str | Sequence[str]) -> list[str]:
    """The roles asked for ("all" or a list of names), sorted; UserError names those that do not exist."""
    available = list_roles(folder)
    if selection == "all":
        return available
    missing = sorted(set(selection) - set(available))
    if len(missing) > MOST_NAMED:
        few = ", ".join(missing[:MOST_NAMED])
        raise UserError(
            f"roles.select: no file in {folder} for {few} and {len(missing) - MOST_NAMED} more; "
            f"`select: all` takes the {len(available)} that are there"
        )
    if missing:
        near = did_you_mean(missing[0], available)
        raise UserError(f"roles.select: no file in {folder} for {', '.join(missing)}{near}")
    return sorted(set(selection))


def read_questions(path: str | Path) -> list[Question]:
    """Read the shared questions; a duplicate id is an error, duplicate text a warning."""
    questions: list[Question] = []
    lines: dict[int, int] = {}
    texts: dict[str, int] = {}
    for number, row in enumerate(iter_jsonl(path), start=1):
        where = f"{path}, question {number}"
        text, identity = row.get("question"), row.get("id")
        if not isinstance(text, str) or not text.strip():
            raise UserError(f'{where}: "question" is missing or empty')
        if not isinstance(identity, int) or isinstance(identity, bool) or not 0 <= identity < 2**31:
            raise UserError(f'{where}: "id" must be a whole number from 0, found {identity!r}')
        if identity in lines:
            raise UserError(f"{where}: id {identity} is used by question {lines[identity]} too; ids must be unique")
        if text in texts:
            log.warning("%s: same text as id %d", where, texts[text])
        lines[identity] = number
        texts[text] = identity
        questions.append(Question(identity, text))
    if not questions:
        raise UserError(f"{path}: holds no question")
    return questions


def select_questions(questions: Sequence[Question], selection: str | int | Sequence[int]) -> list[Question]:
    """ "all", a number n (n of them, spread over the file) or a list of ids, in file order.

    The spread is by multiples of the golden ratio: the first n contain the first n - 1, and topics that
    are interleaved with any period are all met (an even step over a file of period 6 would miss half).
    """
    if selection == "all":
        return list(questions)
    if isinstance(selection, int):
        if not 1 <= selection <= len(questions):
            raise UserError(f"questions.select: {selection} asked for, the file holds {len(questions)}")
        spread = sorted(range(len(questions)), key=lambda i: i * GOLDEN_RATIO % 1)
        return [questions[i] for i in sorted(spread[:selection])]
    missing = sorted(set(selection) - {q.id for q in questions})
    if missing:
        raise UserError(f"questions.select: no question with id {missing}")
    return [q for q in questions if q.id in set(selection)]


def questions_for(role: Role, mode: str, shared: Sequence[Question]) -> list[Question]:
    """The questions of a role: the shared ones ("general") or its own ("role_specific", ids from 0)."""
    if mode == "general":
        return list(shared)
    if not role.questions:
        raise UserError(f'role {role.name}: question mode role_specific needs "questions" in its file')
    return [Question(i, text) for i, text in enumerate(role.questions)]


def build_prompts(role: Role, variants: Sequence[int], questions: Sequence[Question], model_name: str) -> list[Prompt]:
    """The rows of a role: variants outer, questions inner; `{model_name}` is filled in the role `default`."""
    outside = [v for v in variants if not 0 <= v < len(role.instructions)]
    if outside:
        have = len(role.instructions)
        raise UserError(f"role {role.name}: variants {outside} asked for, the file has {have} (0 to {have - 1})")
    prompts = []
    for variant in variants:
        system = role.instructions[variant]
        if role.name == "default":
            system = system.replace("{model_name}", model_name)
        prompts += [Prompt(role.name, variant, question, system) for question in questions]
    return prompts


def import_roles(source: str | Path, destination: str | Path) -> tuple[int, int]:
    """Bring an assistant-axis checkout into this project's layout; returns (roles, questions).

    Every file is read and checked before the first one is written. `source` may be the checkout or
    its data folder: the folder `roles/instructions` and `extraction_questions.jsonl` are looked for in both.
    """
    source, destination = Path(source), Path(destination)
    bases = [source, source / "data"]
    folder = next((b / "roles" / "instructions" for b in bases if (b / "roles" / "instructions").is_dir()), None)
    if folder is None:
        raise UserError(f"{source}: no folder roles/instructions in it or in its data folder")
    questions_file = next((f for b in bases for f in sorted(b.glob("extraction_questions.jsonl"))), None)
    if questions_file is None:
        raise UserError(f"{source}: no extraction_questions.jsonl in it or in its data folder")
    roles = [read_role(folder / f"{name}.json") for name in list_roles(folder)]
    questions = read_questions(questions_file)
    for role in roles:
        data: dict[str, Any] = {"instruction": [{"pos": text} for text in role.instructions]}
        if role.questions:
            data["questions"] = list(role.questions)
        if role.eval_prompt:
            data["eval_prompt"] = role.eval_prompt
        write_json(destination / "roles" / f"{role.name}.json", data)
    write_jsonl(destination / "questions.jsonl", ({"question": q.text, "id": q.id} for q in questions))
    return len(roles), len(questions)
