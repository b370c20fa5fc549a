"""Conversation files (the input of drift) and simulation files (the script of a user whom a model answers).

A conversation is a JSON list of ``{"role": str, "content": str}``, or an object that holds such a list under
``conversation``; what else the object holds is metadata and is kept. A simulation is ``{"user": [str, ...],
"system": str, "pressure": {"from": int, "prefix": [str, ...]}}``, of which only ``user`` is needed; its other
keys are metadata. Messages and user turns are counted from 0. The files are data from anywhere: every mistake in
them is a UserError of one line that names the file and the message or key.

Needs only the standard library.
"""

import logging
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.formats.files import read_json

log = logging.getLogger(__name__)

CONVERSATION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,149}")  # names of folders and logs are made with it
MESSAGE_ROLES = ("system", "user", "assistant")
MAX_DEPTH = 50  # nested lists and objects; deeper than this, what writes or prints the value may overflow


@dataclass(frozen=True)
class Conversation:
    """Messages in order, each {"role", "content"} and at least one of them the assistant's; metadata is plain JSON."""

    name: str
    messages: list[dict[str, str]]
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


def conversation_name(path: str | Path) -> str:
    """The name of a file's results: its name without ending; UserError where that can't be a name in a path."""
    name = Path(path).stem
    if not CONVERSATION_NAME.fullmatch(name):
        raise UserError(
            f"{str(path)!r}: rename the file; the name {_short(name)} must start with a letter or digit and may "
            "hold only letters, digits, dot, _ and -, at most 150 of them"
        )
    return name


def find_conversations(sources: Iterable[str | Path]) -> dict[str, Path]:
    """Name -> file, for every *.json directly in the folders and every single file, in the order of `sources`.

    Files of a folder come sorted; hidden ones are ignored, and a file that is met twice counts once. UserError where
    a source does not exist, a name can't be used, or two files have the same one. The files are not opened.
    """
    found: dict[str, Path] = {}
    for source in sources:
        for path in _files(Path(source)):
            name = conversation_name(path)
            if name in found and not path.samefile(found[name]):
                raise UserError(f"{found[name]} and {path}: two files of the name {name!r}; rename one of them")
            found.setdefault(name, path)
    return found


def _files(source: Path) -> list[Path]:
    paths = []
    try:
        if not source.exists():
            raise UserError(f"{source}: no such folder or file")
        if not source.is_dir():
            return [source]
        for path in sorted(source.iterdir()):
            if path.suffix != ".json" or path.name.startswith("."):
                continue
            if path.is_file():
                paths.append(path)
            elif path.is_symlink():
                log.warning("%s: a link to nowhere, left out", path)
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}") from None
    return paths


def read_conversation(path: str | Path) -> Conversation:
    """Read and check one conversation file (UTF-8, with or without a byte order mark)."""
    name = conversation_name(path)
    return parse_conversation(read_json(path), str(path), name)


def parse_conversation(payload: Any, where: str, name: str = "conversation") -> Conversation:
    """Check what a conversation file holds; `where` (the file) starts every complaint.

    Keys of a message other than role and content are checked and left out. Empty content is allowed.
    """
    metadata: dict[str, Any] = {}
    messages = payload
    if isinstance(payload, dict):
        if "conversation" not in payload:
            raise UserError(f'{where}: the object has no "conversation" (the list of messages)')
        messages = payload["conversation"]
        metadata = _others(payload, ("conversation",), where)
    if not isinstance(messages, list):
        raise UserError(f"{where}: a conversation must be a list of messages, found {type(messages).__name__}")
    if not messages:
        raise UserError(f"{where}: the conversation is an empty list; give at least one message")
    checked = [_message(message, f"{where}: message {i}") for i, message in enumerate(messages)]
    if not any(message["role"] == "assistant" for message in checked):
        raise UserError(f"{where}: no message of the assistant among messages 0 to {len(checked) - 1}")
    return Conversation(name, checked, metadata)


def _message(message: Any, where: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise UserError(f"{where} must be an object with role and content, found {type(message).__name__}")
    for key in ("role", "content"):
        if key not in message:
            raise UserError(f'{where} has no "{key}"')
    _others(message, ("role", "content"), where)
    role = _text(message["role"], f"{where}: role", may_be_empty=True)
    if role not in MESSAGE_ROLES:
        raise UserError(f"{where}: unknown role {_short(role)}; roles are {', '.join(MESSAGE_ROLES)}")
    return {"role": role, "content": _text(message["content"], f"{where}: content", may_be_empty=True)}


def _text(value: Any, where: str, *, may_be_empty: bool = False) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where} must be text, found {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise UserError(
            f"{where} holds {half} at character {error.start}, half of a surrogate pair, which is no character"
        ) from None
    if not value.strip() and not may_be_empty:
        raise UserError(f"{where} is empty")
    return value


def _short(text: str, limit: int = 40) -> str:
    """The text as one quoted line, cut where it is long."""
    return repr(text if len(text) <= limit else f"{text[:limit]}...")


def _others(data: dict[str, Any], known: tuple[str, ...], where: str) -> dict[str, Any]:
    """What is not under the `known` keys, checked to be plain JSON: finite numbers, real text, and not too deep."""
    others = {key: value for key, value in data.items() if key not in known}
    for name, value in others.items():
        _text(name, f"{where}: a key", may_be_empty=True)
        place = f"{where}: key {_short(name)}"
        # A list of what is still to be looked at: recursion would overflow on the depth that is to be refused.
        pending = [(value, 1)]
        while pending:
            item, depth = pending.pop()
            if depth > MAX_DEPTH:
                raise UserError(f"{place} is nested deeper than {MAX_DEPTH} levels")
            if isinstance(item, dict):
                pending += [(part, depth + 1) for pair in item.items() for part in pair]
            elif isinstance(item, list):
                pending += [(part, depth + 1) for part in item]
            else:
                _plain(item, place)
    return others


def _plain(value: Any, where: str) -> None:
    if isinstance(value, str):
        _text(value, where, may_be_empty=True)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} holds {value}, which is no number in JSON; use null")
    elif value is not None and not isinstance(value, bool | int | float):
        raise UserError(f"{where} holds {type(value).__name__}, which is not JSON")


def read_simulation(path: str | Path) -> Simulation:
    """Read and check one simulation file; metadata is everything but user, system and pressure."""
    name = conversation_name(path)
    data = read_json(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: a simulation file holds a JSON object, found {type(data).__name__}")
    turns = _texts(data, "user", str(path))
    system = _text(data.get("system", ""), f'{path}: "system"', may_be_empty=True)
    pressure, start = _pressure(data, len(turns), f'{path}: "pressure"')
    condition = _text(data["condition"], f'{path}: "condition"') if "condition" in data else None
    metadata = _others(data, ("user", "system", "pressure"), str(path))
    return Simulation(name, turns, system, pressure, start, condition, metadata)


def _pressure(data: dict[str, Any], n_turns: int, where: str) -> tuple[list[str], int | None]:
    if "pressure" not in data:
        return [], None
    value = data["pressure"]
    if not isinstance(value, dict):
        raise UserError(f"{where} must be an object with from and prefix, found {type(value).__name__}")
    if unknown := sorted(set(value) - {"from", "prefix"}):
        raise UserError(f"{where}: unknown key {_short(unknown[0])}; keys are from, prefix")
    start = value.get("from")
    # True is an int to Python, and no turn.
    if not isinstance(start, int) or isinstance(start, bool) or not 0 <= start < n_turns:
        found = _short(str(start)) if "from" in value else "nothing"
        raise UserError(f'{where}: "from" must be a user turn, 0 to {n_turns - 1}, found {found}')
    return _texts(value, "prefix", where), start


def _texts(data: dict[str, Any], key: str, where: str) -> list[str]:
    value = data.get(key, [])
    if not isinstance(value, list):
        raise UserError(f'{where}: "{key}" must be a list of texts, found {type(value).__name__}')
    if not value:
        raise UserError(f'{where}: "{key}" is missing or empty; give at least one text')
    return [_text(text, f'{where}: "{key}" {i}') for i, text in enumerate(value)]


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
