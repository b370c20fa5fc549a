"""Which tokens belong to which message: one rendering, one tokenization, character offsets.

A span is the half-open range of tokens whose characters overlap the message's content in the rendered
conversation; role headers and end-of-turn marks are never in one. The content is located by rendering the
conversation a second time with a marker in place of each content: the text between the markers is the
template's own, so the real rendering can be walked piece by piece, and content that repeats earlier content
or imitates the template cannot be mistaken for it. The same code serves role responses and drift conversations.
"""

import hashlib
import re
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2.exceptions import TemplateError

from personascope.errors import UserError
from personascope.models.reasoning import rendered_parts

Message = dict[str, str]
THINK_END = "</think>"
# Llama 3.1 writes today's date unless one is given: the same text must give the same tokens on any day.
TEMPLATE_VARIABLES = {"date_string": "26 Jul 2024"}


@dataclass(frozen=True)
class Span:
    """Tokens [start, end) of one message's content; start == end where it is empty or white space.

    Of an assistant's message it is the answer; `thoughts` are the tokens of its reasoning, where it is rendered.
    `special_tokens`: the content holds text that the tokenizer reads as special tokens (a template look-alike).
    """

    message_index: int
    start: int
    end: int
    special_tokens: bool = False
    thoughts: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Encoded:
    """A rendered conversation: its text, token ids and each token's character range in the text."""

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]


def message_spans(tokenizer: Any, messages: Sequence[Message], roles: Sequence[str] = ("assistant",)) -> list[Span]:
    """One span per message of these roles, in order; indices refer to `encode_conversation(...).ids`.

    UserError names the message whose content the chat template does not render.
    """
    return locate_spans(tokenizer, messages, encode_conversation(tokenizer, messages), roles)


def encode_conversation(tokenizer: Any, messages: Sequence[Message]) -> Encoded:
    """Render the whole conversation once and tokenize that text once."""
    text = render(tokenizer, messages)
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return Encoded(text, list(encoding["input_ids"]), list(encoding["offset_mapping"]))


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of a prompt, up to where the assistant's answer begins."""
    text = render(tokenizer, messages, add_generation_prompt=True)
    # The template has written BOS where the model wants one; adding special tokens would double it.
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def template_hash(tokenizer: Any) -> str:
    """Short hash of the chat template, for metadata and cache keys."""
    return hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest()[:16]


def render(tokenizer: Any, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
    """The conversation as text; UserError where the template refuses it.

    A system turn that the template refuses (Gemma 2) or drops (Mistral Nemo) goes in front of the first user
    message, separated by a blank line.
    """
    messages = list(messages)
    if messages and messages[0]["role"] == "system" and not _takes_system_turn(tokenizer):
        messages = _merge_system_turn(messages)
    try:
        return _apply(tokenizer, messages, add_generation_prompt)
    except TemplateError as error:
        raise UserError(f"the chat template refuses this conversation: {error}") from None


def _apply(tokenizer: Any, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
    return tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=add_generation_prompt, **TEMPLATE_VARIABLES
    )


_SYSTEM_TURN: weakref.WeakKeyDictionary[Any, dict[str, bool]] = weakref.WeakKeyDictionary()


def _takes_system_turn(tokenizer: Any) -> bool:
    """Whether a system turn survives in a conversation that ends with the assistant."""
    known = _SYSTEM_TURN.setdefault(tokenizer, {})
    if tokenizer.chat_template not in known:
        probe = [{"role": role, "content": f"probe{role}probe"} for role in ("system", "user", "assistant")]
        try:
            known[tokenizer.chat_template] = "probesystemprobe" in _apply(tokenizer, probe)
        except TemplateError:
            known[tokenizer.chat_template] = False
    return known[tokenizer.chat_template]


def _merge_system_turn(messages: Sequence[Message]) -> list[Message]:
    system, *rest = messages
    if not rest or rest[0]["role"] != "user":
        rest = [{"role": "user", "content": ""}, *rest]
    content = "\n\n".join(part for part in (system["content"], rest[0]["content"]) if part)
    return [{**rest[0], "content": content}, *rest[1:]]


def locate_spans(
    tokenizer: Any, messages: Sequence[Message], encoded: Encoded, roles: Sequence[str] = ("assistant",)
) -> list[Span]:
    """`message_spans` for a conversation that is already encoded."""
    ranges = _content_ranges(tokenizer, messages, encoded.text)
    wanted = [i for i, message in enumerate(messages) if message["role"] in roles]
    for i in wanted:
        if i not in ranges:
            role = messages[i]["role"]
            raise UserError(f"message {i} ({role}): the chat template does not render its content")
    special = special_ids(tokenizer)
    ends = {i: max([end for _, end in ranges.values() if end <= ranges[i][0]], default=0) for i in wanted}
    return [_message_span(encoded, i, messages[i], ranges[i], ends[i], special) for i in wanted]


_SPECIAL_IDS: weakref.WeakKeyDictionary[Any, frozenset[int]] = weakref.WeakKeyDictionary()


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Every special token, and the added tokens that the template writes (DeepSeek's role headers).

    `all_special_ids` alone leaves out the role headers of Llama 3, Gemma 3, Mistral and DeepSeek.
    """
    if tokenizer not in _SPECIAL_IDS:
        template = str(tokenizer.chat_template)
        added = tokenizer.added_tokens_decoder.items()
        marks = (i for i, t in added if t.special or (t.content.strip() and t.content in template))
        _SPECIAL_IDS[tokenizer] = frozenset((*tokenizer.all_special_ids, *marks))
    return _SPECIAL_IDS[tokenizer]


def _message_span(
    encoded: Encoded, index: int, message: Message, content: tuple[int, int], since: int, special: frozenset[int]
) -> Span:
    """The span of a message's content; of an assistant's the answer in it. since: where the content before it ends."""
    thoughts = []
    if message["role"] == "assistant":
        content, thoughts = rendered_parts(encoded.text, content, since, message)
    span = _token_span(encoded, index, *content, special)
    told = [_token_span(encoded, index, *thought, special) for thought in thoughts]
    return replace(span, thoughts=tuple((one.start, one.end) for one in told if one.end > one.start))


def _token_span(encoded: Encoded, index: int, start: int, end: int, special: frozenset[int]) -> Span:
    inside = [t for t, (begin, stop) in enumerate(encoded.offsets) if begin < end and stop > start and stop > begin]
    if start == end or not inside:  # empty, or characters that the tokenizer's normalization removes
        first = next((t for t, (begin, _) in enumerate(encoded.offsets) if begin >= start), len(encoded.ids))
        return Span(index, first, first)
    return Span(index, inside[0], inside[-1] + 1, any(encoded.ids[t] in special for t in inside))


def _content_ranges(tokenizer: Any, messages: Sequence[Message], text: str) -> dict[int, tuple[int, int]]:
    """Character range of each message's content in `text`, by message index.

    Whole contents are tried first; then thinking is taken as part of the template, so that the content of
    an answer is what follows its thinking (Qwen 3 drops or rewrites the thinking). Last, blank contents are left
    without a marker, for a rendering that changes with them (a blank part of a merged system and user turn).
    """
    for mark_blank in (True, False):
        for answers_only in (False, True):
            pieces, order = _template_pieces(tokenizer, messages, answers_only, mark_blank)
            ranges = _walk(text, messages, pieces, order, answers_only)
            if ranges is not None:
                return ranges if mark_blank else _with_blanks(messages, ranges)
    place = _first_failure(tokenizer, messages, text)
    raise UserError(f"message {place} ({messages[place]['role']}): its content is not found in the chat's rendering")


def _with_blanks(messages: Sequence[Message], ranges: dict[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """Blank messages get a place of length 0: the end of the message before, or the start of the first one."""
    place = min((start for start, _ in ranges.values()), default=0)
    filled = dict(ranges)
    for index, message in enumerate(messages):
        if index in ranges:
            place = ranges[index][1]
        elif not message["content"].strip():
            filled[index] = (place, place)
    return filled


def _template_pieces(
    tokenizer: Any, messages: Sequence[Message], answers_only: bool, mark_blank: bool
) -> tuple[list[str], list[int]]:
    """The template's text around the contents, and the message indices in the order they are rendered."""
    nonce = 0
    while any(f"qz{nonce}qzm" in message["content"] for message in messages):
        nonce += 1
    marked = [
        {**message, "content": _thinking(message, answers_only) + f"qz{nonce}qzm{i}mzq"}
        if mark_blank or message["content"].strip()
        else message
        for i, message in enumerate(messages)
    ]
    parts = re.split(rf"qz{nonce}qzm(\d+)mzq", render(tokenizer, marked))
    return parts[0::2], [int(i) for i in parts[1::2]]


def _thinking(message: Message, answers_only: bool) -> str:
    content = message["content"]
    return content[: len(content) - len(_answer(message))] if answers_only else ""


def _answer(message: Message) -> str:
    """What follows the thinking; other roles than the assistant don't think, whatever they write."""
    content = message["content"]
    return content.rpartition(THINK_END)[2] if message["role"] == "assistant" else content


def _walk(
    text: str, messages: Sequence[Message], pieces: list[str], order: list[int], answers_only: bool
) -> dict[int, tuple[int, int]] | None:
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
        ranges[index] = (position, end if form.strip() else position)
        position = end + len(following)
    return ranges


def _rendered_forms(message: Message, answers_only: bool) -> Iterator[str]:
    """The forms that templates give a content: as it is, trimmed, or without its thinking."""
    for base in (_answer(message),) if answers_only else (message["content"], _answer(message)):
        yield from (base, base.strip(), base.lstrip(), base.rstrip(), base.strip("\n"), base.lstrip("\n"))


def _first_failure(tokenizer: Any, messages: Sequence[Message], text: str) -> int:
    """The first message whose content, in none of its forms, is in the rendering at all (else message 0)."""
    for index, message in enumerate(messages):
        if not any(form and form in text for form in _rendered_forms(message, False)):
            return index
    return 0
