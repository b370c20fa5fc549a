"""Where a rendering holds the contents of the messages, found by rendering again with markers in their place.

The text between the markers is the template's own, so the real rendering can be walked piece by piece, and content that
repeats earlier content or imitates the template cannot be mistaken for it. Where a template decides by what a message
says, one message at a time is marked. What the template leaves out or moves is an error that names the message.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from personascope.errors import UserError
from personascope.models.templates import REFUSALS, Message, text_of

# The rendering of messages (those of the file, or of the same number and roles), in the form that was chosen.
Write = Callable[[Sequence[Message]], str]
Range = tuple[int, int]
THINK_END = "</think>"
# Templates look at these (Qwen 3): a marked content keeps them.
TOOL_RESPONSE = ("<tool_response>", "</tool_response>")


def content_ranges(write: Write, messages: Sequence[Message], text: str) -> dict[int, Range]:
    """Character range of each message's content in `text`, by message index; all messages are there, in order.

    Whole contents are tried first; then thinking is taken as part of the template, so that the content of
    an answer is what follows its thinking (Qwen 3 drops or rewrites the thinking). Then blank contents are left
    without a marker, for a rendering that changes with them (a blank part of a merged system and user turn), and last
    each message is marked alone. UserError names the message that the template leaves out, moves or changes.
    """
    for mark_blank in (True, False):
        for answers_only in (False, True):
            try:
                pieces, order = _template_pieces(write, messages, answers_only, mark_blank)
            except REFUSALS:
                continue
            ranges = _walk(text, messages, pieces, order, answers_only)
            if ranges is not None and _in_order(messages, ranges):
                return _with_blanks(messages, ranges)
    return _one_by_one(write, messages, text)


def _in_order(messages: Sequence[Message], ranges: dict[int, Range]) -> bool:
    """Whether every message with a content is there, each behind the one before."""
    spoken = [index for index, message in enumerate(messages) if text_of(message).strip()]
    return [index for index in sorted(ranges, key=lambda i: ranges[i]) if index in spoken] == spoken


def _with_blanks(messages: Sequence[Message], ranges: dict[int, Range]) -> dict[int, Range]:
    """Blank messages get a place of length 0: the end of the message before, or the start of the text."""
    filled, place = {}, 0
    for index in range(len(messages)):
        filled[index] = ranges.get(index, (place, place))
        place = filled[index][1]
    return filled


def nonce_for(messages: Sequence[Message]) -> str:
    """The start of a marker that is in none of the messages."""
    said, nonce = json.dumps(list(messages), default=str), 0
    while f"qz{nonce}qz" in said:
        nonce += 1
    return f"qz{nonce}qz"


def _template_pieces(
    write: Write, messages: Sequence[Message], answers_only: bool, mark_blank: bool
) -> tuple[list[str], list[int]]:
    """The template's text around the contents, and the message indices in the order they are rendered."""
    nonce = nonce_for(messages)
    marked = [
        _marked(message, f"{nonce}m{i}mzq", answers_only) if mark_blank or text_of(message).strip() else message
        for i, message in enumerate(messages)
    ]
    parts = re.split(rf"{nonce}m(\d+)mzq", write(marked))
    return parts[0::2], [int(i) for i in parts[1::2]]


def _marked(message: Message, marker: str, answers_only: bool) -> Message:
    before, _, after = _framed(message, answers_only)
    content = before + marker + after
    return {**message, "content": [{"type": "text", "text": content}] if _is_list(message) else content}


def _framed(message: Message, answers_only: bool) -> tuple[str, str, str]:
    """A content as what a marker leaves in front of it, what it stands for, and what it leaves behind it."""
    text = text_of(message)
    if answers_only and message["role"] == "assistant":
        answer = _answer(message, text)
        return text[: len(text) - len(answer)], answer, ""
    opening, closing = TOOL_RESPONSE
    if text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening + closing):
        return opening, text[len(opening) : -len(closing)], closing
    return "", text, ""


def _is_list(message: Message) -> bool:
    return isinstance(message.get("content"), list)


def _answer(message: Message, text: str) -> str:
    """What follows the thinking; other roles than the assistant don't think, whatever they write."""
    return text.rpartition(THINK_END)[2] if message["role"] == "assistant" else text


def _walk(
    text: str, messages: Sequence[Message], pieces: list[str], order: list[int], answers_only: bool
) -> dict[int, Range] | None:
    """Follow template piece, content, template piece, ... through `text`; None where it does not fit."""
    if len(set(order)) != len(order) or not text.startswith(pieces[0]):
        return None
    position = len(pieces[0])
    ranges = {}
    for n, index in enumerate(order):
        following = pieces[n + 1]
        last = n + 1 == len(order)
        for form in _rendered_forms(messages[index], answers_only):
            end = position + len(form)
            fits = text.startswith(form, position) and text.startswith(following, end)
            if fits and (not last or end + len(following) == len(text)):
                break
        else:
            return None
        ranges[index] = _whole(messages[index], answers_only, position, end, form)
        position = end + len(following)
    return ranges


def _whole(message: Message, answers_only: bool, start: int, end: int, form: str) -> Range:
    """The range of a content whose frame, but for thinking, belongs to it."""
    before, _, after = _framed(message, answers_only)
    if after:  # that of a tool's response
        return start - len(before), end + len(after)
    return start, end if form.strip() else start


def _rendered_forms(message: Message, answers_only: bool) -> Iterator[str]:
    """The forms that templates give a content: as it is, trimmed, without its thinking, or in quotes (a tool's)."""
    core = _framed(message, answers_only)[1]
    bases = [core, _answer(message, core)]
    if _is_list(message):
        texts = [part["text"] for part in message["content"]]
        bases += ["".join(texts), "".join(text.strip() for text in texts)]
    if message["role"] == "tool":
        bases.append(json.dumps(core, ensure_ascii=False)[1:-1])
    for base in bases:
        yield from (base, base.strip(), base.lstrip(), base.rstrip(), base.strip("\n"), base.lstrip("\n"))


def _one_by_one(write: Write, messages: Sequence[Message], text: str) -> dict[int, Range]:
    """The ranges, each from a rendering in which this message alone is marked."""
    for answers_only in (False, True):
        ranges: dict[int, Range] = {}
        problems = []
        for index, message in enumerate(messages):
            if text_of(message).strip():
                found = _alone(write, messages, index, text, answers_only)
                if isinstance(found, str):
                    problems.append(f"message {index} ({message['role']}): {found}")
                else:
                    ranges[index] = found
        if not problems:
            return _with_blanks(messages, _ordered(messages, ranges))
    raise UserError(problems[0])


def _alone(write: Write, messages: Sequence[Message], index: int, text: str, answers_only: bool) -> Range | str:
    """Where one message's content is, or why it is not there once, as it was written."""
    marker = f"{nonce_for(messages)}m{index}mzq"
    marked = list(messages)
    marked[index] = _marked(messages[index], marker, answers_only)
    try:
        pieces = write(marked).split(marker)
    except REFUSALS as error:
        return f"the chat template refuses it: {error}"
    if len(pieces) == 1:
        return "the chat template does not render its content as it is; leave it out, or choose another model.template"
    if len(pieces) > 2:
        return f"the chat template renders its content {len(pieces) - 1} times"
    first, last = pieces
    start, end = len(first), len(text) - len(last)
    if start <= end and text.startswith(first) and text.endswith(last):
        form = text[start:end]
        if form in _rendered_forms(messages[index], answers_only):
            return _whole(messages[index], answers_only, start, end, form)
    return "the chat template changes its content; leave it out, or choose another model.template"


def _ordered(messages: Sequence[Message], ranges: dict[int, Range]) -> dict[int, Range]:
    """The ranges; UserError names the message that is rendered before one that it follows."""
    order = sorted(ranges, key=lambda i: ranges[i])
    if order == list(ranges):
        return ranges
    index = _moved(order)
    raise UserError(
        f"message {index} ({messages[index]['role']}): the chat template moves it to another place; put it there, or "
        "leave it out"
    )


def _moved(order: Sequence[int]) -> int:
    """The message without which the others are in order; a later one where two would do."""
    for index in sorted(order, reverse=True):
        rest = [other for other in order if other != index]
        if rest == sorted(rest):
            return index
    return next(a for a, b in pairwise(order) if a > b)
