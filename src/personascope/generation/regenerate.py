"""A turn of a conversation generated anew, with a patch on the model or without, from the same seeds."""

import hashlib
from collections.abc import Sequence
from typing import Any

from personascope.backends import Request
from personascope.errors import UserError
from personascope.models.spans import Message, prompt_ids


def sample_seed(seed: int, conversation: str, turn: int, sample: int) -> int:
    """31-bit seed of one sample: the same in every arm, so that the arms differ by their patch alone."""
    digest = hashlib.sha256(f"{seed}/causal/{conversation}/{turn}/{sample}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def turn_requests(
    tokenizer: Any, before: Sequence[Message], seeds: Sequence[int], *, max_tokens: int, max_model_len: int
) -> list[Request]:
    """A request a seed for the answer to the messages before a turn; UserError where they leave no room for it."""
    ids = prompt_ids(tokenizer, before)
    room = max_model_len - len(ids)
    if room < 1:
        raise UserError(
            f"the turn's prompt has {len(ids)} tokens, generation.max_model_len is {max_model_len}: no room for an "
            "answer; raise the limit or validate another conversation"
        )
    return [Request(ids, seed, min(max_tokens, room)) for seed in seeds]
