"""Transcripts of other programs, brought in as conversation files: a file each, as drift reads them.

Read are the dialogues of Anthropic HH (texts of Human and Assistant; JSON lines of chosen and rejected), logs of
Inspect (.json), transcripts of Petri, and the layouts that drift reads itself, also as one JSON list. What a transcript
holds that can't be read faithfully is not written, and told with its reason.

Needs only the standard library.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.formats.checks import others
from personascope.formats.conversation_files import (
    files_below,
    line_title,
    listed,
    not_analyzed,
    printable,
    safe_name,
)
from personascope.formats.conversation_layouts import LISTS, Message, messages_of
from personascope.formats.files import parse_json, write_json
from personascope.formats.transcript_layouts import inspect_sample, petri_messages

TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):(?: |(?=\n)|\Z)")
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
SUFFIXES = (".json", ".jsonl", ".ndjson", ".txt")
TEXTS = ("chosen", "rejected", "transcript")  # keys of HH's objects that hold a dialogue


@dataclass
class Transcript:
    """One conversation of a source: what it is called, how complaints name it, its messages and what is known of it."""

    title: str
    where: str
    messages: list[Message] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """How many conversations were written, of how many; unread: {title: reason}; notes: what else to say."""

    written: int
    unread: dict[str, str]
    notes: list[str]

    def lines(self) -> list[str]:
        """What to say beside the number."""
        said = not_analyzed(self.unread, self.written + len(self.unread), "can't be read")
        return [*self.notes, *([said] if said else [])]


Item = tuple[str, str, Any]  # what it is called, how complaints name it, and its JSON or why there is none
Made = Iterator[Transcript | tuple[str, UserError]]


def import_conversations(source: str | Path, destination: str | Path) -> Imported:
    """Write DESTINATION/NAME.json for every conversation of a file, or of the files in a folder and those below.

    All is read before the first file is written; a file that is there is not replaced. UserError where nothing can be
    read.
    """
    root = Path(source)
    files, passed = _files(root)
    found: dict[str, Transcript] = {}
    unread: dict[str, str] = {}
    for path in files:
        title = path.relative_to(root).as_posix() if root.is_dir() else path.name
        for made in _of_file(path, re.sub(r"(\.(json|jsonl|ndjson|txt))?(\.gz)?\Z", "", title)):
            if not isinstance(made, Transcript):
                unread[made[0]] = str(made[1])
                continue
            name = safe_name(made.title)
            if name in found:
                raise UserError(f"{found[name].where} and {made.where}: both are called {name!r}; rename one of them")
            found[name] = made
    notes = [f"{root}: passed over {listed(passed)}"] if passed else []
    if not found:
        first = next(iter(unread.values()), f"{root}: no transcript in it; read are {', '.join(SUFFIXES)}, also as .gz")
        raise UserError(first)
    _write(found, Path(destination))
    hidden = [made.title for made in found.values() if made.metadata.get("redacted_reasoning")]
    notes += [f"the reasoning in {listed(hidden)} is redacted in the log, and left out"] if hidden else []
    return Imported(len(found), unread, notes)


def _write(found: dict[str, Transcript], destination: Path) -> None:
    outputs = {name: destination / f"{name}.json" for name in found}
    for path in outputs.values():
        if path.exists():
            raise UserError(f"{path} is there already; remove it, or choose another destination")
    for name, made in found.items():
        title = {} if made.title == name else {"title": printable(made.title)}
        write_json(outputs[name], title | made.metadata | {"conversation": made.messages})


def _files(root: Path) -> tuple[list[Path], list[str]]:
    """Files to read, sorted, and those of a folder that are passed over; hidden ones are left out."""
    if not root.exists():
        raise UserError(f"{printable(str(root))}: no such folder or file")
    if not root.is_dir():
        return [root], []
    files, passed = [], []
    for path in files_below(root):
        read = path.is_file() and path.name.removesuffix(".gz").endswith(SUFFIXES)
        files.append(path) if read else passed.append(printable(path.relative_to(root).as_posix()))
    return files, passed


def _of_file(path: Path, title: str) -> Made:
    """The conversations of a file, or why one of them can't be read."""
    try:
        text = _text(path)
        if TURN.match(text):
            yield from _each([(title, str(path), text.replace("\r\n", "\n"))])
        else:
            yield from _each(_items(path, title, text))
    except UserError as error:
        yield title, error


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    except UnicodeDecodeError as error:
        hint = "; `inspect log convert --to json` makes a .json of it" if path.suffix == ".eval" else ""
        raise UserError(f"{path}: not UTF-8: {error}{hint}") from None


def _items(path: Path, title: str, text: str) -> list[Item]:
    """What a file of JSON holds: one value, a list of conversations, or a value a line."""
    by_line = path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson"))
    if by_line and not text.lstrip().startswith("["):
        return _titled(_lines(path, text), path, title)
    try:
        payload = parse_json(text)
    except (ValueError, RecursionError) as error:
        if by_line or "Extra data" in str(error):
            return _titled(_lines(path, text), path, title)
        raise UserError(f"{path}: not valid JSON, and no text that begins with Human or Assistant: {error}") from None
    return _titled(_entries(path, payload), path, title) if _is_many(payload) else [(title, str(path), payload)]


def _titled(numbered: Iterable[tuple[int, str, Any]], path: Path, title: str) -> list[Item]:
    """The items of a file with what they are called: by number where an earlier one has the same id."""
    items, seen = [], set()
    for number, where, payload in numbered:
        called = line_title(title, number, payload)
        called = f"{title}#{number}" if safe_name(called) in seen else called
        seen.add(safe_name(called))
        items.append((called, where, payload))
    if not items:
        raise UserError(f"{path}: holds no conversation")
    return items


def _lines(path: Path, text: str) -> Iterator[tuple[int, str, Any]]:
    """(number, how complaints name it, its JSON or why there is none) of each line."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                payload = parse_json(line)
            except (ValueError, RecursionError) as error:
                yield number, where, UserError(f"{where}: not valid JSON: {error}")
            else:
                yield number, where, payload


def _is_many(payload: Any) -> bool:
    """Whether it is a list of conversations, not of messages."""
    first = payload[0] if isinstance(payload, list) and payload else None
    return isinstance(first, list) or (
        isinstance(first, dict) and "role" not in first and bool({*LISTS, *TEXTS} & first.keys())
    )


def _entries(path: Path, payload: list[Any]) -> Iterator[tuple[int, str, Any]]:
    for number, entry in enumerate(payload, start=1):
        yield number, f"{path}, entry {number}", entry


def _each(items: list[Item]) -> Made:
    """Each (title, how complaints name it, payload) in the layout that it is in."""
    for title, where, payload in items:
        try:
            if isinstance(payload, UserError):
                raise payload
            layout = next(layout for layout, fits in FITS.items() if fits(payload))
            parts = list(LAYOUTS[layout](title, where, payload))
        except UserError as error:
            yield title, error
            continue
        for part in parts:
            if not isinstance(part, Transcript):
                yield part
                continue
            try:
                yield _checked(part, layout)
            except UserError as error:
                yield part.title, error


def _checked(part: Transcript, layout: str) -> Transcript:
    """As drift would read it."""
    messages, _ = messages_of(part.messages, part.where)
    metadata = others({"source": printable(part.where)} | part.metadata, (), part.where)
    return Transcript(part.title, part.where, messages, metadata | ({} if layout == "plain" else {"layout": layout}))


def _hh(title: str, where: str, payload: Any) -> Made:
    """A dialogue's text, or an object that holds some."""
    texts = {"": payload} if isinstance(payload, str) else {key: payload[key] for key in TEXTS if key in payload}
    rest = {} if isinstance(payload, str) else {key: value for key, value in payload.items() if key not in TEXTS}
    for key, text in texts.items():
        called = f"{title}-{key}" if len(texts) > 1 else title
        yield Transcript(called, where, dialogue(text, f"{where}: {key}" if key else where), rest)


def dialogue(text: Any, where: str) -> list[Message]:
    """The messages of a text in which blank lines and "Human:" or "Assistant:" begin the turns."""
    if not isinstance(text, str):
        raise UserError(f"{where} must be text, found {type(text).__name__}")
    marks = list(TURN.finditer(text))
    if not marks or marks[0].start():
        raise UserError(f"{where}: the text does not begin with Human: or Assistant:")
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [
        {"role": SPEAKERS[mark[1]], "content": text[mark.end() : end]} for mark, end in zip(marks, ends, strict=True)
    ]


def _inspect(title: str, where: str, log: dict[str, Any]) -> Made:
    """The samples of a log: id, or file#id, with the epoch where there are several."""
    run = log["eval"] if isinstance(log["eval"], dict) else {}
    samples = log["samples"]
    if "petri" in str(run.get("task", "")).lower():
        raise UserError(f"{where}: its samples are those of Petri's auditor; import the transcripts that Petri saved")
    if not isinstance(samples, list) or not samples or not all(isinstance(sample, dict) for sample in samples):
        raise UserError(f"{where}: the log holds no samples")
    epochs = len({str(sample.get("epoch")) for sample in samples}) > 1
    for number, sample in enumerate(samples, start=1):
        epoch = f"-epoch-{sample.get('epoch')}" if epochs else ""
        called = f"{title}#{sample.get('id', number)}{epoch}"
        known = {"model": run.get("model"), "task": run.get("task")}
        known |= {"id": sample.get("id"), "epoch": sample.get("epoch")}
        place = f"{where}, sample {sample.get('id', number)}"
        try:
            messages, redacted = inspect_sample(sample, place)
        except UserError as error:
            yield called, error
        else:
            yield Transcript(called, place, messages, known | _hidden(redacted))


def _petri(title: str, where: str, payload: dict[str, Any]) -> Made:
    """What the target has seen and said at the end of the audit."""
    about = payload["metadata"] if isinstance(payload["metadata"], dict) else {}
    messages, redacted = petri_messages(payload, where)
    known = {"model": about.get("target_model"), "id": about.get("transcript_id"), "tags": about.get("tags")}
    yield Transcript(title, where, messages, known | _hidden(redacted))


def _hidden(redacted: int) -> dict[str, int]:
    return {"redacted_reasoning": redacted} if redacted else {}


def _plain(title: str, where: str, payload: Any) -> Made:
    messages, metadata = messages_of(payload, where)
    yield Transcript(title, where, messages, metadata)


def _holds(payload: Any, *keys: str) -> bool:
    return isinstance(payload, dict) and all(key in payload for key in keys)


LAYOUTS: dict[str, Callable[[str, str, Any], Made]] = {
    "hh": _hh,
    "inspect": _inspect,
    "petri": _petri,
    "plain": _plain,
}
FITS: dict[str, Callable[[Any], bool]] = {
    "hh": lambda payload: isinstance(payload, str) or any(_holds(payload, key) for key in TEXTS),
    "inspect": lambda payload: _holds(payload, "eval", "samples"),
    "petri": lambda payload: _holds(payload, "metadata", "events") or _holds(payload, "metadata", "target_messages"),
    "plain": lambda payload: True,
}
