"""Responses that others have cached, brought into this project's layout.

A cache of responses is what programs around OpenRouter keep: ``{persona: {question: response}}``, or a list of
``{"persona", "question", "response"}``, whose entries may also have ``system_prompt``, ``reasoning``, ``finish_reason``
and ``seed``. Reasoning within a response (think tags) is told apart from its answer.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.formats.files import read_json, write_jsonl
from personascope.formats.responses import finish_reason, read_parts
from personascope.formats.roles import (
    RESERVED,
    ROLE_NAME,
    Prompt,
    Question,
    Role,
    build_prompts,
    read_questions,
    read_role,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cached:
    """One entry of a cache; `system_prompt` is None where the cache does not say it."""

    where: str
    persona: str
    question: str
    response: str
    system_prompt: str | None
    finish_reason: str
    seed: int | None
    reasoning: str | None = None


@dataclass(frozen=True)
class SystemPrompts:
    """Where system prompts come from that the cache does not say: a variant of the files in a folder of roles, or
    (folder None) none at all, where `none` says that the responses were made without."""

    folder: Path | None = None
    variant: int = 0
    none: bool = False

    def role(self, persona: str, where: str) -> Role:
        """The role of a persona; UserError where nothing says what its system prompt is."""
        if self.folder is not None:
            file = self.folder / f"{persona}.json"
            if not file.is_file():
                raise UserError(f"{where}: no role file {file}; write one, or name another folder in --roles")
            return read_role(file)
        if self.none:
            return Role(persona, ("",) * (self.variant + 1), (), "")
        raise UserError(
            f"{where}: the cache does not say the system prompt; give --roles FOLDER, or --no-system if there was none"
        )


def read_cache(path: str | Path) -> list[Cached]:
    """All entries of a cache, in the order of the file; UserError names the persona and question, or the entry."""
    payload = read_json(path)
    entries = list(_of_object(path, payload) if isinstance(payload, dict) else _of_list(path, payload))
    if not entries:
        raise UserError(f"{path}: holds no response")
    seen: dict[tuple[str, str], str] = {}
    for entry in entries:
        if not ROLE_NAME.fullmatch(entry.persona) or entry.persona in RESERVED:
            raise UserError(f"{entry.where}: {entry.persona!r} is no role name; rename it: letters, digits, _ and -")
        other = seen.setdefault((entry.persona, entry.question), entry.where)
        if other != entry.where:
            raise UserError(f"{entry.where}: the same persona and question as {other}; keep one of them")
    return entries


def _of_object(path: str | Path, payload: Mapping[str, Any]) -> Iterator[Cached]:
    for persona, answers in payload.items():
        if not isinstance(answers, dict):
            found = type(answers).__name__
            raise UserError(f"{path}: persona {persona!r} must be an object of questions, found {found}")
        for question, response in answers.items():
            where = f"{path}: persona {persona!r}, question {_short(question)}"
            yield _entry(where, {"persona": persona, "question": question, "response": response})


def _of_list(path: str | Path, payload: Any) -> Iterator[Cached]:
    if not isinstance(payload, list):
        raise UserError(f"{path}: a cache is an object or a list, found {type(payload).__name__}")
    for i, entry in enumerate(payload):
        where = f"{path}: entry {i}"
        if not isinstance(entry, dict):
            raise UserError(f"{where} must be an object, found {type(entry).__name__}")
        yield _entry(where, entry)


def _entry(where: str, entry: Mapping[str, Any]) -> Cached:
    persona, question, response = (_text(where, entry, key) for key in ("persona", "question", "response"))
    system, seed = entry.get("system_prompt"), entry.get("seed")
    if system is not None and not isinstance(system, str):
        raise UserError(f'{where}: "system_prompt" must be text, found {type(system).__name__}')
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise UserError(f'{where}: "seed" must be a whole number, found {seed!r}')
    finish = finish_reason(entry["finish_reason"]) if "finish_reason" in entry else "unknown"
    thought = None if entry.get("reasoning") is None else _text(where, entry, "reasoning")
    return Cached(where, persona, question, response, system, finish, seed, thought)


def _text(where: str, entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        found = "none" if value is None else type(value).__name__
        raise UserError(f'{where}: "{key}" must be text, found {found}; take the entry out, or ask again')
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise UserError(f'{where}: "{key}" holds half of a surrogate pair, which is no character')
    if not value.strip():
        raise UserError(f'{where}: "{key}" is empty; take the entry out, or ask again')
    return value


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def import_responses(
    cache: str | Path,
    destination: str | Path,
    *,
    model: str,
    system: SystemPrompts,
    questions_file: str | Path | None = None,
) -> tuple[int, int]:
    """Write {destination}/responses/general/{model}/{persona}.jsonl; returns (personas, responses).

    Questions have the ids of `questions_file`; without one they are numbered in the cache's order, and written to
    {destination}/questions.jsonl. All is checked before the first file is written; a file that is there is
    not replaced.
    """
    if Path(model).name != model:
        raise UserError(f"--model: {model!r} is no name of a folder; give the model's name without its organization")
    entries = read_cache(cache)
    numbered = _number(entries, questions_file)
    roles: dict[str, Role] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if entry.system_prompt is None and entry.persona not in roles:
            roles[entry.persona] = system.role(entry.persona, entry.where)
        prompt = _prompt(entry, numbered[entry.question], roles, system.variant, model)
        rows.setdefault(entry.persona, []).append(_row(entry, prompt))
    outputs: dict[Path, list[dict[str, Any]]] = {}
    if questions_file is None:  # written first: the workflow makes responses again that are older than their questions
        asked = sorted(numbered.values(), key=lambda question: question.id)
        outputs[Path(destination) / "questions.jsonl"] = [{"question": q.text, "id": q.id} for q in asked]
    outputs |= {Path(destination) / f"responses/general/{model}/{persona}.jsonl": rows[persona] for persona in rows}
    for path in outputs:
        if path.exists():
            raise UserError(f"{path} is there already; remove it, or choose another destination or --model")
    for path, values in outputs.items():
        write_jsonl(path, values)
    for persona, values in rows.items():
        if len(values) < len(numbered):
            log.warning("%s: %d of the cache's %d questions", persona, len(values), len(numbered))
    return len(rows), len(entries)


def _number(entries: list[Cached], questions_file: str | Path | None) -> dict[str, Question]:
    """{text: question} of all questions in a cache; UserError for one that the file of questions does not have."""
    if questions_file is None:
        texts = dict.fromkeys(entry.question for entry in entries)
        return {text: Question(i, text) for i, text in enumerate(texts)}
    known = {question.text: question for question in reversed(read_questions(questions_file))}
    for entry in entries:
        if entry.question not in known:
            raise UserError(f"{entry.where}: not among the questions of {questions_file}")
    return {entry.question: known[entry.question] for entry in entries}


def _prompt(entry: Cached, question: Question, roles: dict[str, Role], variant: int, model: str) -> Prompt:
    if entry.system_prompt is not None:
        return Prompt(entry.persona, variant, question, entry.system_prompt)
    (prompt,) = build_prompts(roles[entry.persona], [variant], [question], model)
    return prompt


def _row(entry: Cached, prompt: Prompt) -> dict[str, Any]:
    """One line of a response file. Its token ids are not known: extraction tokenizes the conversation."""
    parts = read_parts(entry.response)
    return {
        "role": prompt.role,
        "system_prompt": prompt.system_prompt,
        "prompt_index": prompt.prompt_index,
        "question_id": prompt.question.id,
        "question": prompt.question.text,
        "response": entry.response if parts is None else entry.response[slice(*parts.answer)],
        "reasoning": entry.reasoning if parts is None else parts.reasoning(entry.response),
        "conversation": [*prompt.messages, {"role": "assistant", "content": entry.response}],
        "response_token_ids": None,
        "answer_start": None,
        "answer_end": None,
        "finish_reason": entry.finish_reason,
        "seed": entry.seed,
        "prompt_exact": False,
    }
