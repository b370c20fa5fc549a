"""What a message holds beside its content: reasoning and tool calls, and whether the chat template renders them."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from personascope.errors import UserError
from personascope.models.contents import Write, nonce_for
from personascope.models.templates import REASONING, REFUSALS, Message, text_of, with_calls

CONTEXT = 512  # characters before a difference of two texts from which they are tokenized


def check_fields(write: Write, messages: Sequence[Message]) -> None:
    """UserError names the message whose tool calls or reasoning the template does not render.

    write: without a generation prompt. A template may drop the reasoning of earlier turns, as Qwen 3 does, where it
    renders that of the last one.
    """
    marked, wanted = _marked_fields(messages)
    if not any(wanted):
        return
    try:
        text = write(marked)
    except REFUSALS as error:
        index = next(i for i, parts in enumerate(wanted) if parts)
        raise UserError(
            f"message {index} ({messages[index]['role']}): it cannot be told whether the chat template renders its "
            f"tool calls and reasoning: {error}"
        ) from None
    for index, parts in enumerate(wanted):
        for what, markers in parts.items():
            if all(marker in text for marker in markers):
                continue
            if what in REASONING and _shown(write, marked[: index + 1], markers):
                continue
            raise UserError(
                f"message {index} ({messages[index]['role']}): the chat template does not render its {what}; leave it "
                "out, or choose another model.template"
            )


def _shown(write: Write, messages: Sequence[Message], markers: Sequence[str]) -> bool:
    try:
        text = write(messages)
    except REFUSALS:
        return False
    return all(marker in text for marker in markers)


def _marked_fields(messages: Sequence[Message]) -> tuple[list[Message], list[dict[str, list[str]]]]:
    """The messages with markers for reasoning, names and arguments of tool calls, and what must be rendered of each."""
    nonce = nonce_for(messages)
    marked, wanted = [], []
    for index, message in enumerate(messages):
        parts: dict[str, list[str]] = {}
        new = dict(message)
        for key in REASONING:
            if isinstance(message.get(key), str) and message[key].strip():
                # One marker a text: the same under two keys is said once.
                same = next(other for other in REASONING if message.get(other) == message[key])
                new[key] = f"{nonce}{same}{index}mzq"
                parts[key] = [new[key]]
        calls = iter(range(len(message.get("tool_calls") or [])))

        def mark(function: Message, index: int = index, calls: Iterator[int] = calls, parts: dict = parts) -> Message:
            number = next(calls)
            name, key, value = (f"{nonce}{kind}{index}c{number}mzq" for kind in "nkv")
            arguments: str | dict[str, str] = {key: value}
            found = [name, key, value]
            if isinstance(function.get("arguments"), str):
                arguments = json.dumps(arguments)
                found = [name, arguments]
            parts[f"tool call {number + 1}"] = found if "arguments" in function else [name]
            return {**function, "name": name} | ({"arguments": arguments} if "arguments" in function else {})

        marked.append(with_calls(new, mark))
        wanted.append(parts)
    return marked, wanted


def call_text(write: Write, tokenizer: Any, messages: Sequence[Message], index: int) -> str:
    """The text of a message's tool calls, as the template writes it behind content and reasoning.

    write: without a generation prompt. It is what a rendering up to this message has more than one without the calls,
    compared token by token, but for white space and the special tokens at its end; "" where there is nothing.
    """
    before = list(messages[:index])
    bare = {key: value for key, value in messages[index].items() if key != "tool_calls"}
    with_them = write([*before, messages[index]])
    try:
        without = write([*before, bare | {"content": text_of(messages[index])}])
    except REFUSALS:
        without = write(before)
    # What both begin with was compared as text; only the tokens at its end may differ.
    cut = max(0, common(with_them, without) - CONTEXT)
    with_them, without = with_them[cut:], without[cut:]
    encoding = tokenizer(with_them, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = list(encoding["input_ids"]), list(encoding["offset_mapping"])
    other = list(tokenizer(without, add_special_tokens=False)["input_ids"])
    start = common(ids, other)
    end = len(ids) - min(common(ids[::-1], other[::-1]), len(ids) - start, len(other) - start)
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    while start < end and (ids[end - 1] in special or not with_them[slice(*offsets[end - 1])].strip()):
        end -= 1
    return with_them[offsets[start][0] : offsets[end - 1][1]].strip() if start < end else ""


def common(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many tokens or characters two sequences begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
