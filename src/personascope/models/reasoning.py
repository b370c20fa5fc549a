"""The answer among generated token ids, and the reasoning before it.

The text of the ids, special tokens with it, is read as `formats.responses` says; the ranges found in it are then those
of the tokens that overlap them. In a rendered conversation the same is done with the characters of a message's content.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from personascope.formats.responses import Range, read_parts
from personascope.models.templates import REASONING, text_of

PROMPT_TOKENS = 32  # of a prompt's end that are looked at: a template opens the reasoning there, or a channel


@dataclass(frozen=True)
class Split:
    """Of n generated ids: text and token range of the answer, the reasoning's text (None: there was none) and its token
    ranges. answer == (n, n) where the reasoning never ended."""

    text: str
    answer: Range
    reasoning: str | None
    thoughts: tuple[Range, ...] = ()


def prompt_end(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of the last tokens of a prompt."""
    return _decode(tokenizer, ids[-PROMPT_TOKENS:])


def split_ids(tokenizer: Any, ids: Sequence[int], prompt: str = "") -> Split:
    """Reasoning and answer of ids that were generated behind a prompt, which ends with this text."""
    whole = _decode(tokenizer, ids)
    parts = read_parts(whole, prompt)
    if parts is None:
        return Split(tokenizer.decode(ids, skip_special_tokens=True), (0, len(ids)), None)
    start, end = answer = _tokens(tokenizer, ids, whole, parts.answer)
    before = max(0, parts.answer[0] - len(_decode(tokenizer, ids[:start])))  # of a mark that shares its first token
    text = tokenizer.decode(ids[start:end], skip_special_tokens=True)[before:].lstrip()
    thoughts = tuple(_tokens(tokenizer, ids, whole, thought) for thought in parts.thoughts)
    return Split(text, answer, parts.reasoning(whole), thoughts)


def rendered_parts(text: str, content: Range, since: int, message: Mapping[str, Any]) -> tuple[Range, list[Range]]:
    """Characters of an assistant message's answer in a rendering, and of its reasoning where that is rendered.

    content: where its content is, or what the template left of it; since: the end of the content before it.
    """
    start, end = content
    parts = read_parts(text[start:end])
    if parts is not None:
        thoughts = [(start + a, start + b) for a, b in parts.thoughts]
        return (start + parts.answer[0], start + parts.answer[1]), thoughts
    given = text_of(dict(message))
    parts = read_parts(given)
    said = [given[a:b] for a, b in parts.thoughts] if parts else []
    said += [message[field] for field in REASONING if isinstance(message.get(field), str)]
    said = [thought for one in said if (thought := one.strip())]
    places = [(text.find(thought, since, start), thought) for thought in said]
    return content, sorted({(at, at + len(thought)) for at, thought in places if at >= 0})


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _tokens(tokenizer: Any, ids: Sequence[int], whole: str, characters: Range) -> Range:
    """The half-open range of the tokens that overlap characters of their text."""
    start, end = characters
    first = _length(tokenizer, ids, whole[:start])
    if first and len(_decode(tokenizer, ids[:first])) > start:  # this token began before the range
        first -= 1
    return (first, _length(tokenizer, ids, whole[:end])) if end > start else (first, first)


def _length(tokenizer: Any, ids: Sequence[int], beginning: str) -> int:
    """The fewest ids whose text begins so, by bisection: half a character is no beginning of a whole one."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        if _decode(tokenizer, ids[:middle]).startswith(beginning):
            high = middle
        else:
            low = middle + 1
    return low
