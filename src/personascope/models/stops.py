"""The marks with which a chat template ends the assistant's turn, whether or not a configuration lists them."""

from typing import Any

from personascope.errors import UserError
from personascope.models.spans import encode_conversation, special_ids
from personascope.models.templates import Message

QUESTION = {"role": "user", "content": "A question?"}
TALK = [QUESTION, {"role": "assistant", "content": "An answer."}]
CALLS = [
    {"type": "function", "id": f"lookedup{i}", "function": {"name": "look_up", "arguments": {"word": "answer"}}}
    for i in (1, 2)
]


def template_stops(tokenizer: Any) -> list[int]:
    """Token ids of the marks behind an answer and behind tool calls, where a mark is a token that no text is read as.

    A turn in the middle of a conversation is looked at only where the last one has no mark: gpt-oss ends the last with
    <|return|>, and <|end|>, which it writes behind others, also ends each part of an answer.
    """
    behind_answer = _marks(tokenizer, TALK) or _marks(tokenizer, [*TALK, QUESTION])
    # What ends a single call may go on to another: DeepSeek V3. gpt-oss knows no second one.
    behind_calls = _marks(tokenizer, _calling(2)) or _marks(tokenizer, _calling(1))
    return sorted({*behind_answer[:1], *behind_calls[-1:]})


def _calling(n: int) -> list[Message]:
    return [QUESTION, {"role": "assistant", "content": None, "tool_calls": CALLS[:n]}]


def _marks(tokenizer: Any, messages: list[Message]) -> list[int]:
    """The special tokens that follow the assistant's turn at once."""
    try:
        encoded = encode_conversation(tokenizer, messages)
    except UserError:
        return []
    end = encoded.calls.get(1, encoded.contents[1])[1]
    marks, special = [], special_ids(tokenizer)
    for token, (start, stop) in zip(encoded.ids, encoded.offsets, strict=True):
        if start < end or not encoded.text[start:stop].strip():
            continue
        if token not in special:
            break
        marks.append(token)
    return marks
