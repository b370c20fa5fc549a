"""Where conversations are: files in folders and the folders below, lines of a file, and the names of their results.

A conversation's results are named as its file, or, in JSON lines (one conversation a line), by its id, else as
``file#12``. Where such a name can't stand in a path it is made safe, and the name that the user gave stays as the
conversation's title.

Needs only the standard library.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.formats.checks import short
from personascope.formats.conversation_layouts import messages_of
from personascope.formats.files import file_digest, parse_json, read_json

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,149}")  # names of folders and logs are made with it
JSON_LINES = (".jsonl", ".ndjson")
READ = (".json", *JSON_LINES)
IDS = ("id", "conversation_id")
NAMED = 20  # files and conversations that a line names


@dataclass(frozen=True)
class Place:
    """Where a conversation stands: its file, the line of it (from 1; None: the file is one conversation), and what it
    is called, where that is not the file's name without ending."""

    path: Path
    line: int | None = None
    title: str | None = None


@dataclass(frozen=True)
class Found:
    """{name: where} of conversations, {name: why not} of those among them that can't be read, the names of those that
    define tools, and what else to say."""

    places: dict[str, Place] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    with_tools: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def safe_name(title: str) -> str:
    """The title as a name in paths, of letters, digits, dot, _ and -; itself where it is one.

    Where letters are lost, or the end, a few digits of its hash keep two titles apart.
    """
    if NAME.fullmatch(title):
        return title
    plain = unicodedata.normalize("NFKD", title)
    kept = "".join(letter for letter in plain if letter.isascii())
    name = re.sub(r"[^A-Za-z0-9._]+", "-", kept).strip("-._")
    lost = any(letter.isalnum() and not letter.isascii() for letter in plain)
    if lost or not name or len(name) > 150:
        digest = hashlib.sha1(title.encode("utf-8", "surrogatepass")).hexdigest()[:6]
        name = f"{name[:140].rstrip('-._')}-{digest}".lstrip("-")
    return name


def printable(title: str) -> str:
    """The title as one line of text: what UTF-8 can't hold and control characters are replaced by a mark."""
    text = title.encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def read_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, bytes) of each line of a file that is not blank; UserError where it can't be opened."""
    try:
        lines = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def conversation_digest(path: Path, line: int | None) -> str:
    """sha256 (hex) of the bytes of a conversation: its file, or its line of the file."""
    if line is None:
        return file_digest(path)
    return hashlib.sha256(dict(read_lines(path)).get(line, b"")).hexdigest()


def parse_line(line: bytes, where: str) -> Any:
    """The JSON value of a line; UserError that starts with `where`."""
    try:
        return parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8; save the file as UTF-8: {error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON: {error}") from None


def line_title(stem: str, number: int, payload: Any) -> str:
    """What a conversation of JSON lines is called: its id, else the file and the line."""
    ids = (payload.get(key) for key in IDS) if isinstance(payload, dict) else ()
    known = (str(value) for value in ids if isinstance(value, str | int) and not isinstance(value, bool))
    return next((value for value in known if value.strip()), f"{stem}#{number}")


def find_scripts(folder: str | Path) -> dict[str, Path]:
    """Name -> file, for every *.json directly in the folder, sorted; hidden ones are ignored and none is opened.

    UserError where there is no such folder or a name can't be used.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = sorted(path for path in root.iterdir() if path.suffix == ".json" and not path.name.startswith("."))
    return {plain_name(path): path for path in files if path.is_file()}


def plain_name(path: str | Path) -> str:
    """The name of a file without ending; UserError where that can't be a name in a path."""
    name = Path(path).stem
    if not NAME.fullmatch(name):
        raise UserError(
            f"{str(path)!r}: rename the file; the name {short(name)} must start with a letter or digit and may "
            "hold only letters, digits, dot, _ and -, at most 150 of them"
        )
    return name


def find_conversations(sources: Iterable[str | Path]) -> Found:
    """The conversations of files, and of all *.json, *.jsonl and *.ndjson in folders and the folders below; each is
    read and checked.

    Files of a folder come sorted; hidden ones are left out, and a file that is met twice counts once. UserError where
    a source does not exist, or two conversations would have one name.
    """
    found, seen = Found(), set()
    for source in map(Path, sources):
        for path, title in _files(source, found.notes):
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                _add(found, path, title)
    if found.with_tools:
        named = listed(found.with_tools)
        found.notes.append(f"the tools that {named} define are kept as metadata; the model is not shown them")
    return found


def _files(source: Path, notes: list[str]) -> list[tuple[Path, str]]:
    """(file, its title) of a source; what is passed over goes to the notes."""
    try:
        if not source.exists():
            raise UserError(f"{printable(str(source))}: no such folder or file")
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}") from None
    if not source.is_dir():
        return [(source, source.stem)]
    paths, passed = [], []
    for path in files_below(source):
        relative = path.relative_to(source)
        if path.suffix in READ and path.is_file():
            paths.append((path, relative.with_suffix("").as_posix()))
        else:
            passed.append(printable(relative.as_posix()) + ("" if path.is_file() else " (a link to nowhere)"))
    if not paths:
        notes.append(f"{source}: no conversation in it; read are files that end in {', '.join(READ)}")
    if passed:
        notes.append(f"{source}: passed over {listed(passed)}; read are files that end in {', '.join(READ)}")
    return paths


def files_below(source: Path) -> list[Path]:
    """Every file of a folder and the folders below, sorted, but for hidden ones; links to folders are followed once."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: {error.strerror}") from None

    files, entered = [], set()
    for root, folders, names in os.walk(source, onerror=refuse, followlinks=True):
        real = os.path.realpath(root)
        folders[:] = [] if real in entered else sorted(name for name in folders if not name.startswith("."))
        files += [] if real in entered else [Path(root, name) for name in names if not name.startswith(".")]
        entered.add(real)
    return sorted(files)


def display_name(name: str, metadata: Any) -> str:
    """What pages call a conversation: its title where the name was made of it, else the name."""
    title = metadata.get("title") if isinstance(metadata, Mapping) else None
    return title if isinstance(title, str) and title and safe_name(title) == name else name


def not_analyzed(reasons: Mapping[str, str], of: int, what: str = "could not be analyzed") -> str:
    """One line that says which of so many conversations fail and why, {name: reason}; empty where all is well."""
    if not reasons:
        return ""
    lines = [f"{name}: {reason}" for name, reason in reasons.items()]
    more = [f"and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return f"{len(reasons)} of {of} conversations {what}: {'; '.join([*lines[:NAMED], *more])}"


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """The names, cut where there are many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _whole(path: Path) -> Any:
    """The JSON of a file; where there is none, the UserError says what else the file may be."""
    try:
        return read_json(path)
    except UserError as error:
        if path.suffix != ".json":
            hint = f"read are files that end in {', '.join(READ)}; `personascope import-conversations` reads others"
            raise UserError(f"{error}; {hint}") from None
        if "Extra data" in str(error) and all(line.lstrip()[:1] in (b"{", b"[") for _, line in read_lines(path)):
            raise UserError(f"{path}: it holds one JSON value a line; let its name end in .jsonl") from None
        raise


def _is_json(path: Path) -> bool:
    """Whether a file is one JSON value as a whole."""
    try:
        read_json(path)
    except UserError:
        return False
    return True


def _items(path: Path, title: str) -> Iterator[tuple[Place, Any, str]]:
    """(where it stands, its JSON or the UserError in place of that, how complaints name it) of each conversation."""
    try:
        if path.suffix not in JSON_LINES:
            yield Place(path, title=None if title == path.stem else title), _whole(path), str(path)
            return
        lines = list(read_lines(path))
        if not lines:
            raise UserError(f"{path}: holds no conversation")
        if len(lines) > 1 and _is_json(path):
            raise UserError(f"{path}: it is one JSON value, not one a line; let its name end in .json")
    except UserError as error:
        yield Place(path, title=None if title == path.stem else title), error, str(path)
        return
    for number, line in lines:
        where = f"{path}, line {number}"
        try:
            payload = parse_line(line, where)
        except UserError as error:
            yield Place(path, number, f"{title}#{number}"), error, where
        else:
            yield Place(path, number, line_title(title, number, payload)), payload, where


def _add(found: Found, path: Path, title: str) -> None:
    """Read and check the conversations of a file, and add them."""
    for place, payload, where in _items(path, title):
        name = safe_name(place.title or path.stem)
        if name in found.places and place.line is not None:  # two lines with one id
            place = Place(path, place.line, f"{title}#{place.line}")
            name = safe_name(f"{title}#{place.line}")
        if name in found.places:
            raise UserError(f"{found.places[name].path} and {path}: two files of the name {name!r}; rename one of them")
        found.places[name] = place
        try:
            if isinstance(payload, UserError):
                raise payload
            _, metadata = messages_of(payload, where)
        except UserError as error:
            found.unread[name] = printable(str(error))
        else:
            if metadata.get("tools"):
                found.with_tools.append(name)
