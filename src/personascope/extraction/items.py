"""What is extracted of a conversation or response: its token ids, and which of them are pooled over.

A conversation is rendered by the chat template. So is a response that is an answer and nothing else, as part of its
conversation; one with reasoning, or with a think tag in its answer, is read as it was generated, its token ids behind
those of its prompt, since templates drop or rewrite reasoning.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from personascope.errors import UserError
from personascope.formats.responses import Range, answer_range
from personascope.models.contents import THINK_END
from personascope.models.reasoning import prompt_end, split_ids
from personascope.models.spans import (
    Message,
    encode_conversation,
    locate_spans,
    prompt_ids,
    require_whole_answers,
    special_ids,
)


@dataclass(frozen=True)
class Item:
    """One conversation to extract: token ids and the half-open token ranges to pool over.

    prompt: how many tokens the prompt has, where that is not all that stands in front of the first range.
    """

    ids: list[int]
    ranges: list[Range]
    prompt: int | None = None

    @property
    def n_selected(self) -> int:
        return sum(end - start for start, end in self.ranges)

    @property
    def shareable(self) -> int:
        """Tokens in front of the first that is pooled over; the last token is never among them."""
        return min([start for start, _ in self.ranges] + [len(self.ids) - 1])

    def after(self, prefix: int) -> "Item":
        """What follows the first `prefix` tokens."""
        return Item(self.ids[prefix:], [(start - prefix, end - prefix) for start, end in self.ranges])


@dataclass(frozen=True)
class _Text:
    """Token ids, the ranges of the assistant's answers and reasoning in them, and which ids are special tokens."""

    ids: list[int]
    answers: list[Range]
    thoughts: list[Range]
    special: frozenset[int]


def _plain_tokens(text: _Text) -> list[Range]:
    """Runs of tokens that are not special."""
    runs, start = [], 0
    for special, members in groupby(text.ids, lambda token: token in text.special):
        end = start + len(list(members))
        runs += [] if special else [(start, end)]
        start = end
    return runs


# extraction.token_selection
SELECTIONS: dict[str, Callable[[_Text], list[Range]]] = {
    "response_only": lambda text: text.answers,
    "response_with_reasoning": lambda text: sorted(text.thoughts + text.answers),
    "all": _plain_tokens,
    "all_with_special": lambda text: [(0, len(text.ids))],
}


def make_item(tokenizer: Any, messages: Sequence[Message], selection: str, context: int | None) -> Item:
    """Tokens of a conversation and the selected ranges; UserError where it is longer than the context."""
    encoded = encode_conversation(tokenizer, messages)
    require_whole_answers(messages, encoded)
    answers, thoughts = [], []
    if not selection.startswith("all"):
        for span in locate_spans(tokenizer, messages, encoded):
            answers.append((span.start, span.end))
            thoughts += span.thoughts
    return _item(_Text(encoded.ids, answers, thoughts, special_ids(tokenizer)), selection, context)


def response_item(tokenizer: Any, row: Mapping[str, Any], selection: str, context: int | None) -> Item:
    """Tokens of a response (a row of its file) with its conversation; UserError where it is longer than the context, or
    where reasoning is wanted that is not among its token ids."""
    ids, answer = row.get("response_token_ids"), answer_range(row)
    prompt: list[int] | None = None
    if ids is not None and answer is None:  # written before these fields
        prompt = prompt_ids(tokenizer, row["conversation"][:-1])
        answer = split_ids(tokenizer, ids, prompt_end(tokenizer, prompt)).answer
    whole = ids is None or answer == (0, len(ids))
    if selection == "response_with_reasoning" and whole and ids is not None and row.get("reasoning"):
        raise UserError(
            "its reasoning came apart from its token ids and was not tokenized; set extraction.token_selection: "
            "response_only"
        )
    if ids is None or (whole and THINK_END not in row["conversation"][-1]["content"]):
        return make_item(tokenizer, row["conversation"], selection, context)
    assert answer is not None
    prompt = prompt or prompt_ids(tokenizer, row["conversation"][:-1])
    thoughts = split_ids(tokenizer, ids, prompt_end(tokenizer, prompt)).thoughts
    (found, *told) = [(len(prompt) + start, len(prompt) + end) for start, end in (answer, *thoughts)]
    item = _item(_Text([*prompt, *ids], [found], told, special_ids(tokenizer)), selection, context)
    return replace(item, prompt=len(prompt))


def _item(text: _Text, selection: str, context: int | None) -> Item:
    if context is not None and len(text.ids) > context:
        raise UserError(f"the conversation has {len(text.ids)} tokens, the model's context is {context}")
    return Item(text.ids, [(start, end) for start, end in SELECTIONS[selection](text) if end > start])
