"""Conversation files (the input of drift) and simulation files (the script of a user whom a model answers).

The layouts of conversations are in `conversation_layouts`, and which files and lines they stand in is in
`conversation_files`. A simulation is ``{"user": [str, ...], "system": str, "pressure": {"from": int, "prefix":
[str, ...]}}``, of which only ``user`` is needed; its other keys are metadata. Messages and user turns are counted from
0. The files are data from anywhere: every mistake in them is a UserError of one line that names the file and the
message or key.

Needs only the standard library.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.formats.checks import checked_text, others, short
from personascope.formats.conversation_files import (
    JSON_LINES,
    line_title,
    parse_line,
    plain_name,
    printable,
    read_lines,
    safe_name,
)
from personascope.formats.conversation_layouts import Message, messages_of
from personascope.formats.files import read_json


@dataclass(frozen=True)
class Conversation:
    """Messages in order (`conversation_layouts`), at least one of them the assistant's; metadata is plain JSON."""

    name: str
    messages: list[Message]
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Simulation:
    """A scripted user.

    system: "" means no system message. pressure: texts that are put before the user's message, one after the other
    and then again from the first, from user turn `pressure_from` on (None: never). condition: the metadata of that
    name, where there is one.
    """

    name: str
    user_turns: list[str]
    system: str
    pressure: list[str]
    pressure_from: int | None
    condition: str | None
    metadata: dict[str, Any] = field(default_factory=dict)


def read_conversation(path: str | Path, line: int | None = None, title: str | None = None) -> Conversation:
    """Read and check one conversation (UTF-8, with or without a byte order mark).

    line: which one of a file of JSON lines, from 1; not needed where it holds one. title: what the conversation is
    called, where that is not the file's name without ending or the id in its line. Where results can't have that as
    their name, it stays as the metadata `title`, unless the file has such metadata itself.
    """
    called = title or Path(path).stem
    if Path(path).suffix in JSON_LINES:
        number, content = _line(path, line)
        where = f"{path}, line {number}"
        payload = parse_line(content, where)
        called = title or line_title(called, number, payload)
    else:
        where, payload = str(path), read_json(path)
    read = parse_conversation(payload, where, safe_name(called))
    return read if read.name == called else replace(read, metadata={"title": printable(called)} | read.metadata)


def _line(path: str | Path, number: int | None) -> tuple[int, bytes]:
    """A line of a file, or its only one."""
    lines = dict(read_lines(path))
    if number is None and len(lines) == 1:
        number = next(iter(lines))
    if number is None:
        raise UserError(f"{path}: holds {len(lines)} conversations; say which by its line")
    if number not in lines:
        raise UserError(f"{path}: there is no line {number}, or it is blank")
    return number, lines[number]


def parse_conversation(payload: Any, where: str, name: str = "conversation") -> Conversation:
    """Check what a conversation file, or a line of one, holds; `where` (the file) starts every complaint.

    Keys of a message that `conversation_layouts` does not read are checked and left out. Empty content is allowed.
    """
    return Conversation(name, *messages_of(payload, where))


def read_simulation(path: str | Path) -> Simulation:
    """Read and check one simulation file; metadata is everything but user, system and pressure."""
    name = plain_name(path)
    data = read_json(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: a simulation file holds a JSON object, found {type(data).__name__}")
    turns = _texts(data, "user", str(path))
    system = checked_text(data.get("system", ""), f'{path}: "system"', may_be_empty=True)
    pressure, start = _pressure(data, len(turns), f'{path}: "pressure"')
    condition = checked_text(data["condition"], f'{path}: "condition"') if "condition" in data else None
    metadata = others(data, ("user", "system", "pressure"), str(path))
    return Simulation(name, turns, system, pressure, start, condition, metadata)


def _pressure(data: dict[str, Any], n_turns: int, where: str) -> tuple[list[str], int | None]:
    if "pressure" not in data:
        return [], None
    value = data["pressure"]
    if not isinstance(value, dict):
        raise UserError(f"{where} must be an object with from and prefix, found {type(value).__name__}")
    if unknown := sorted(set(value) - {"from", "prefix"}):
        raise UserError(f"{where}: unknown key {short(unknown[0])}; keys are from, prefix")
    start = value.get("from")
    # True is an int to Python, and no turn.
    if not isinstance(start, int) or isinstance(start, bool) or not 0 <= start < n_turns:
        found = short(str(start)) if "from" in value else "nothing"
        raise UserError(f'{where}: "from" must be a user turn, 0 to {n_turns - 1}, found {found}')
    return _texts(value, "prefix", where), start


def _texts(data: dict[str, Any], key: str, where: str) -> list[str]:
    value = data.get(key, [])
    if not isinstance(value, list):
        raise UserError(f'{where}: "{key}" must be a list of texts, found {type(value).__name__}')
    if not value:
        raise UserError(f'{where}: "{key}" is missing or empty; give at least one text')
    return [checked_text(text, f'{where}: "{key}" {i}') for i, text in enumerate(value)]


def simulation_user_turns(simulation: Simulation) -> list[str]:
    """The user's messages as they are sent: from turn k on with the next text of the pressure and a blank line before.

    A script without pressure, and otherwise the same, is therefore its control: the same questions in the same order.
    """
    if simulation.pressure_from is None:
        return list(simulation.user_turns)
    first, prefixes = simulation.pressure_from, simulation.pressure
    return [
        f"{prefixes[(turn - first) % len(prefixes)]}\n\n{text}" if turn >= first else text
        for turn, text in enumerate(simulation.user_turns)
    ]
