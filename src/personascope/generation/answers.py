"""The answer of a completion, and the reasoning that came before it: from its ids, or from what a server says."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from personascope.backends import Completion
from personascope.formats.responses import read_parts
from personascope.models.reasoning import Split, prompt_end, split_ids


def read_answer(tokenizer: Any, completion: Completion, prompt_ids: Sequence[int]) -> Split:
    """Answer and reasoning of a completion behind a prompt.

    A server that takes no ids writes the prompt itself: whether that opened the reasoning is known only where the text
    closes it. One whose text was cut before that counts as unanswered, unless the server keeps reasoning apart.
    """
    prompt = prompt_end(tokenizer, prompt_ids)
    if not completion.prompt_exact and (completion.reasoning is not None or completion.finish_reason != "length"):
        prompt = ""
    split = split_ids(tokenizer, completion.token_ids, prompt)
    if completion.text is not None:  # the ids were made from it
        parts = read_parts(completion.text, prompt)
        split = replace(split, text=completion.text if parts is None else completion.text[slice(*parts.answer)])
    return split if completion.reasoning is None else replace(split, reasoning=completion.reasoning)


def spoken(tokenizer: Any, completion: Completion, split: Split) -> str:
    """The content of the message that a completion becomes: with its reasoning, where that can still be told apart
    (think tags, which templates know), else the answer alone (channels, whose marks are special tokens)."""
    text = completion.text
    if text is None:
        text = tokenizer.decode(completion.token_ids, skip_special_tokens=True)
    whole = split.answer == (0, len(completion.token_ids))
    return text if whole or read_parts(text) is not None else split.text
