"""Which tokens belong to which message: one rendering, one tokenization, character offsets.

A span is the half-open range of tokens whose characters overlap the message's content in the rendered
conversation; role headers and end-of-turn marks are never in one. The same code serves role responses and drift
conversations. A conversation or prompt is only rendered where all that it says is in the rendering, in its order
(`models.contents`, `models.fields`); else UserError names the message.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from personascope.errors import UserError
from personascope.formats.responses import answer_of
from personascope.models.contents import THINK_END, Range, content_ranges
from personascope.models.fields import call_text, check_fields
from personascope.models.reasoning import rendered_parts
from personascope.models.templates import (
    REFUSALS,
    Form,
    Message,
    apply,
    check_text,
    forms,
    prints_parts,
    settings_of,
    template_hash,
    template_text,
    text_of,
)

__all__ = ["Encoded", "Message", "Span", "encode_conversation", "locate_spans", "message_spans", "prompt_ids"]
__all__ += ["render", "require_whole_answers", "special_ids", "template_hash"]


@dataclass(frozen=True)
class Span:
    """Tokens [start, end) of one message's content; start == end where it is empty or white space.

    Of an assistant's message it is the answer, and the text of tool calls behind it; `thoughts` are the tokens of its
    reasoning, where that is rendered. `special_tokens`: the content holds text that the tokenizer reads as special
    tokens (a template look-alike).
    """

    message_index: int
    start: int
    end: int
    special_tokens: bool = False
    thoughts: tuple[Range, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """A rendered conversation: its text, token ids and each token's character range in the text.

    contents, calls: character range of each message's content, and of the tool calls of those that have some.
    """

    text: str
    ids: list[int]
    offsets: list[Range]
    contents: dict[int, Range] = field(default_factory=dict)
    calls: dict[int, Range] = field(default_factory=dict)

    @cached_property
    def borders(self) -> np.ndarray:
        """The offsets as int64 [2, tokens]: where they begin, and where they end."""
        return np.array(self.offsets, np.int64).reshape(-1, 2).T


def message_spans(tokenizer: Any, messages: Sequence[Message], roles: Sequence[str] = ("assistant",)) -> list[Span]:
    """One span per message of these roles, in order; indices refer to `encode_conversation(...).ids`.

    UserError names the message whose content the chat template does not render.
    """
    return locate_spans(tokenizer, messages, encode_conversation(tokenizer, messages), roles)


def encode_conversation(tokenizer: Any, messages: Sequence[Message]) -> Encoded:
    """Render the whole conversation once and tokenize that text once.

    Messages are {"role", "content"}, and where a message has them `tool_calls`, `reasoning_content` or `thinking`,
    `name` and `tool_call_id`, which the template gets; content is text, a list of text parts, or null beside calls.
    """
    rendering = _rendering(tokenizer, messages)
    encoding = tokenizer(rendering.text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = list(encoding["input_ids"]), list(encoding["offset_mapping"])
    return Encoded(rendering.text, ids, offsets, rendering.contents, _calls(tokenizer, messages, rendering))


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of a prompt, up to where the assistant's answer begins."""
    text = render(tokenizer, messages, add_generation_prompt=True)
    # The template has written BOS where the model wants one; adding special tokens would double it.
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def render(tokenizer: Any, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
    """The conversation as text; UserError where the template refuses it, or leaves out or moves what a message says.

    A system turn that the template refuses (Gemma 2) or drops (Mistral Nemo) goes in front of the first user
    message, separated by a blank line.
    """
    return _rendering(tokenizer, messages, add_generation_prompt).text


@dataclass(frozen=True)
class _Rendering:
    """A text, where each message's content is in it, and what makes it of messages, with or without a prompt."""

    text: str
    contents: dict[int, Range]
    write: Callable[..., str]


def _rendering(tokenizer: Any, messages: Sequence[Message], add_generation_prompt: bool = False) -> _Rendering:
    """The rendering in the first form of the messages that holds all that they say."""
    check_text(messages)
    problem: UserError | None = None
    for form in forms(messages):
        plain = partial(_write, tokenizer, form)
        write = partial(plain, add_generation_prompt=add_generation_prompt)
        try:
            text = write(messages)
            if prints_parts(text, messages):
                continue
        except REFUSALS as error:
            problem = problem or UserError(f"the chat template refuses {_refused(write, messages)}: {error}")
            continue
        try:
            contents = content_ranges(write, messages, text)
            check_fields(plain, messages)
        except UserError as error:
            problem = problem or error
            continue
        return _Rendering(text, contents, plain)
    raise problem or UserError("the conversation is empty")


def _refused(write: Callable[..., str], messages: Sequence[Message]) -> str:
    """What the template refuses: the message behind the longest beginning that it takes, or the conversation."""
    for end in range(len(messages) - 1, 0, -1):
        try:
            write(messages[:end])
        except REFUSALS:
            continue
        return f"message {end} ({messages[end]['role']})"
    return "this conversation"


def _write(tokenizer: Any, form: Form, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
    messages = list(messages)
    if messages and messages[0]["role"] == "system" and not _takes_system_turn(tokenizer):
        messages = _merge_system_turn(messages)
    return apply(tokenizer, [form(message) for message in messages], add_generation_prompt)


_SYSTEM_TURN: weakref.WeakKeyDictionary[Any, dict[str, bool]] = weakref.WeakKeyDictionary()


def _takes_system_turn(tokenizer: Any) -> bool:
    """Whether a system turn survives in a conversation that ends with the assistant."""
    known, key = _SYSTEM_TURN.setdefault(tokenizer, {}), f"{template_text(tokenizer)}{settings_of(tokenizer)}"
    if key not in known:
        probe = [{"role": role, "content": f"probe{role}probe"} for role in ("system", "user", "assistant")]
        known[key] = any(_shows_system_turn(tokenizer, [form(message) for message in probe]) for form in forms(probe))
    return known[key]


def _shows_system_turn(tokenizer: Any, probe: Sequence[Message]) -> bool:
    try:
        return "probesystemprobe" in apply(tokenizer, probe)
    except REFUSALS:
        return False


def _merge_system_turn(messages: Sequence[Message]) -> list[Message]:
    system, *rest = messages
    if not rest or rest[0]["role"] != "user":
        rest = [{"role": "user", "content": ""}, *rest]
    content = "\n\n".join(part for part in (text_of(system), text_of(rest[0])) if part)
    return [{**rest[0], "content": content}, *rest[1:]]


def _calls(tokenizer: Any, messages: Sequence[Message], rendering: _Rendering) -> dict[int, Range]:
    """Character ranges of tool calls, each behind its message's content and the calls before it."""
    found, since = {}, 0
    for index in (i for i, message in enumerate(messages) if message.get("tool_calls")):
        try:
            calls = call_text(rendering.write, tokenizer, messages, index)
        except REFUSALS:
            calls = ""
        start, end = rendering.contents[index]
        # A token at the border may hold the content's last characters too; the content may say what the calls say.
        place = rendering.text.find(calls, max(start, since, end + 1 - len(calls))) if calls else -1
        if place < 0:
            raise UserError(f"message {index} ({messages[index]['role']}): its tool calls are not in the rendering")
        since = place + len(calls)
        found[index] = (max(place, end), since)
    return found


def locate_spans(
    tokenizer: Any, messages: Sequence[Message], encoded: Encoded, roles: Sequence[str] = ("assistant",)
) -> list[Span]:
    """`message_spans` for a conversation that is already encoded."""
    special = special_ids(tokenizer)
    wanted = [i for i, message in enumerate(messages) if message["role"] in roles]
    return [_span(messages, encoded, index, special) for index in wanted]


def require_whole_answers(messages: Sequence[Message], encoded: Encoded) -> None:
    """UserError names the assistant's message of whose answer only a part is rendered.

    What a template takes for reasoning and drops (Qwen 3: all in front of the last </think>) may be part of an answer.
    """
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start, end = rendered_parts(encoded.text, encoded.contents[index], 0, message)[0]
        if "".join(encoded.text[start:end].split()) != "".join(answer_of(text_of(message)).split()):
            raise UserError(
                f"message {index} ({message['role']}): the chat template takes a part of its answer, in front of "
                f"{THINK_END}, for reasoning; write the tag in another way, or choose another model.template"
            )


def _span(messages: Sequence[Message], encoded: Encoded, index: int, special: frozenset[int]) -> Span:
    content, thoughts = encoded.contents[index], []
    if messages[index]["role"] == "assistant":
        since = encoded.contents[index - 1][1] if index else 0
        content, thoughts = rendered_parts(encoded.text, content, since, messages[index])
    span = _token_span(encoded, index, *content, special)
    if index in encoded.calls:
        calls = _token_span(encoded, index, *encoded.calls[index], frozenset())
        span = replace(span, start=span.start if span.end > span.start else calls.start, end=calls.end)
    told = [_token_span(encoded, index, *thought, special) for thought in thoughts]
    return replace(span, thoughts=tuple((one.start, one.end) for one in told if one.end > one.start))


_SPECIAL_IDS: weakref.WeakKeyDictionary[Any, frozenset[int]] = weakref.WeakKeyDictionary()


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Every special token, and the added tokens that the template writes (DeepSeek's role headers).

    `all_special_ids` alone leaves out the role headers of Llama 3, Gemma 3, Mistral and DeepSeek.
    """
    if tokenizer not in _SPECIAL_IDS:
        template = template_text(tokenizer)
        added = tokenizer.added_tokens_decoder.items()
        marks = (i for i, t in added if t.special or (t.content.strip() and t.content in template))
        _SPECIAL_IDS[tokenizer] = frozenset((*tokenizer.all_special_ids, *marks))
    return _SPECIAL_IDS[tokenizer]


def _token_span(encoded: Encoded, index: int, start: int, end: int, special: frozenset[int]) -> Span:
    begins, stops = encoded.borders
    inside = np.flatnonzero((begins < end) & (stops > start) & (stops > begins)).tolist()
    if start == end or not inside:  # empty, or characters that the tokenizer's normalization removes
        behind = np.flatnonzero(begins >= start)
        first = int(behind[0]) if len(behind) else len(encoded.ids)
        return Span(index, first, first)
    return Span(index, inside[0], inside[-1] + 1, any(encoded.ids[t] in special for t in inside))
