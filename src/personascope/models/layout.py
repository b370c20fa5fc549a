"""Which message every token of a rendered conversation belongs to, and whether it is of its content.

What the template writes in front of a message's content belongs to that message, and what it writes behind it too,
as far as a rendering that ends with this message has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from personascope.errors import UserError
from personascope.models.spans import Encoded, Message, locate_spans, render


@dataclass(frozen=True)
class Layout:
    """message_index int32 [tokens]; in_content bool [tokens]: no template token."""

    message_index: np.ndarray
    in_content: np.ndarray


def token_layout(tokenizer: Any, messages: Sequence[Message], encoded: Encoded) -> Layout:
    """The layout of `encode_conversation(tokenizer, messages)`; UserError names a message that is not rendered."""
    n = len(encoded.ids)
    spans = locate_spans(tokenizer, messages, encoded, sorted({message["role"] for message in messages}))
    in_content = np.zeros(n, bool)
    for span in spans:
        in_content[span.start : span.end] = True
    starts = np.array([start for start, _ in encoded.offsets], np.int64)
    ends = np.array([_message_end(tokenizer, messages[: i + 1], encoded.text) for i in range(len(messages))])
    # A content that goes beyond, and the messages before, are not cut.
    inside = [encoded.offsets[span.end - 1][1] if span.end > span.start else 0 for span in spans]
    ends = np.maximum.accumulate(np.maximum(ends, inside))
    message_index = np.searchsorted(ends, starts, side="right").clip(max=len(messages) - 1)
    return Layout(message_index.astype(np.int32), in_content)


def _message_end(tokenizer: Any, messages: Sequence[Message], text: str) -> int:
    """How far the rendering of the first messages is that of all of them; 0 where they cannot stand alone."""
    try:
        alone = render(tokenizer, messages)
    except UserError:
        return 0
    return next((i for i, (a, b) in enumerate(zip(alone, text, strict=False)) if a != b), min(len(alone), len(text)))
