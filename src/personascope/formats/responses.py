"""Responses as they are read: which part of one is its answer, which its reasoning, and why it ended.

JSON lines, a response each. Of its fields: ``response`` is the answer's text, ``reasoning`` that of the reasoning or
null; ``response_token_ids`` are all ids that were generated (null: imported), and ``answer_start``, ``answer_end`` the
half-open range of the answer in them, start = end = length where the reasoning never ended. ``finish_reason`` is
``stop``, ``length``, or the server's own word. Rows that were written before these fields are read as they are.

Models mark their reasoning in one text with the answer; `MARKUP` has the ways to do so that are known.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.formats.files import iter_jsonl

Row = dict[str, Any]
Range = tuple[int, int]

# Words of servers for what "stop" and "length" mean; a word that is not here is kept as it is.
FINISH_REASONS: dict[str, str] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end", "end_turn", "stop_sequence"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens"), "length"),
}
KNOWN_ENDS = ("stop", "length")
NEVER_ENDED = "have reasoning that never ended, and no answer"
EMPTY = "are empty"


def finish_reason(word: str | None) -> str:
    """What a server's word means; none at all beside a text means that the text ended."""
    return FINISH_REASONS.get(word.lower(), word) if word else "stop"


@dataclass(frozen=True)
class Parts:
    """Character ranges in a response's text: of its answer, and of what was thought before it, in order.

    ended: False where the reasoning never ended; the answer is then empty, at the text's end.
    """

    answer: Range
    thoughts: tuple[Range, ...] = ()
    ended: bool = True

    def reasoning(self, text: str) -> str | None:
        """The reasoning's text; None where nothing was thought."""
        said = [text[start:end] for start, end in self.thoughts]
        return "\n\n".join(said) if said else None if self.ended else ""


# (text, the end of the prompt that it follows) -> its parts; None where the text is not marked in this way.
Reader = Callable[[str, str], Parts | None]


def _tags(opening: str, closing: str) -> Reader:
    """Reasoning between two tags at the text's start; the prompt may have written the first of them.

    Where that prompt is not known, a closing tag that ends its line, and no opening one before it, says as much.
    """

    def read(text: str, prompt: str) -> Parts | None:
        first = len(text) - len(text.lstrip())
        if text.startswith(opening, first):
            start = first + len(opening)
        elif prompt.rstrip().endswith(opening) or _closes(text):
            start = 0
        else:
            return None
        end = text.find(closing, start)
        if end < 0:
            return Parts((len(text), len(text)), _thought(text, start, len(text)), ended=False)
        return Parts(_trimmed(text, end + len(closing), len(text)), _thought(text, start, end))

    def _closes(text: str) -> bool:
        before, found, behind = text.partition(closing)
        return bool(found) and opening not in before and (not behind.strip() or behind.lstrip(" \t")[:1] == "\n")

    return read


_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)(?:(?!<\|message\|>|<\|end\|>|<\|channel\|>).)*<\|message\|>", re.DOTALL)
_MESSAGE_END = re.compile(r"<\|(?:end|return|call|start)\|>")


def _channels(text: str, prompt: str) -> Parts | None:
    """Messages in channels (gpt-oss): the answer is the first in `final`, all others are reasoning."""
    opened = prompt.rpartition("<|start|>assistant")[2] if "<|start|>assistant" in prompt else ""
    if "<|channel|>" not in opened and not text.lstrip().startswith("<|channel|>"):
        return None
    whole, shift = opened + text, len(opened)
    thoughts: list[Range] = []
    for head in _CHANNEL.finditer(whole):
        closing = _MESSAGE_END.search(whole, head.end())
        start, end = (max(place - shift, 0) for place in (head.end(), closing.start() if closing else len(whole)))
        if head[1] == "final":
            return Parts(_trimmed(text, start, end), tuple(thoughts))
        thoughts += _thought(text, start, end)
    return Parts((len(text), len(text)), tuple(thoughts), ended=False)


def _thought(text: str, start: int, end: int) -> tuple[Range, ...]:
    """The range without the white space around it; none where nothing else is in it."""
    said = text[start:end].strip()
    first = start + text[start:end].find(said)
    return ((first, first + len(said)),) if said else ()


def _trimmed(text: str, start: int, end: int) -> Range:
    """The range without the white space in front of it."""
    return end - len(text[start:end].lstrip()), end


MARKUP: dict[str, Reader] = {
    "think tags": _tags("<think>", "</think>"),
    "channels": _channels,
    "think brackets": _tags("[THINK]", "[/THINK]"),
    "thought tags": _tags("<thought>", "</thought>"),
    "seed tags": _tags("<seed:think>", "</seed:think>"),
}


def read_parts(text: str, prompt: str = "") -> Parts | None:
    """The parts of a response's text, behind a prompt that ends so; None where it is an answer and nothing else."""
    return next((parts for read in MARKUP.values() if (parts := read(text, prompt)) is not None), None)


def answer_of(text: str) -> str:
    """A text without its reasoning."""
    parts = read_parts(text)
    return text if parts is None else text[slice(*parts.answer)]


def unanswered(row: Mapping[str, Any]) -> bool:
    """Whether there was reasoning and no answer came."""
    return row.get("reasoning") is not None and not _response(row)


def _response(row: Mapping[str, Any]) -> str:
    return str(row.get("response") or "").strip()


def read_responses(path: str | Path) -> Iterator[Row]:
    """The rows of a file of responses; UserError names the row whose answer's range is not one of its token ids."""
    for number, row in enumerate(iter_jsonl(path)):
        if (found := answer_range(row)) is not None:
            start, end, n = *found, len(row["response_token_ids"])
            if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= n):
                raise UserError(
                    f"{path}, row {number}: answer_start {start!r} and answer_end {end!r} are no range of its {n} "
                    "token ids; generate it again"
                )
        yield row


def answer_range(row: Mapping[str, Any]) -> Range | None:
    """The range of the answer in the row's token ids; None where it has no ids, or was written without these fields."""
    if row.get("response_token_ids") is None or row.get("answer_start") is None or row.get("answer_end") is None:
        return None
    return row["answer_start"], row["answer_end"]


def oddities(row: Mapping[str, Any]) -> list[str]:
    """What is odd of a response: no answer, nothing at all, an end for a reason that only the server knows."""
    odd = []
    if unanswered(row):
        odd.append(NEVER_ENDED)
    elif "response" in row and not _response(row):
        odd.append(EMPTY)
    if row.get("finish_reason", "stop") not in KNOWN_ENDS:
        odd.append(f"ended with finish_reason {row['finish_reason']!r}")
    return odd


def count_oddities(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """{what is odd: how many responses}, and under "responses" how many there are."""
    odd: Counter[str] = Counter()
    for row in rows:
        odd.update(["responses", *oddities(row)])
    return {"responses": 0} | dict(odd)
