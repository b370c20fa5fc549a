"""Contexts as text: the tokens around each peak as pieces that are ready to join."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personascope.display.text import is_byte_level, whole_characters
from personascope.explorer.merging import Merged
from personascope.formats.contexts import AFTER, BEFORE, Texts

CUT = "\ufffd"  # what a piece that is only a part of a character shows


@dataclass(frozen=True)
class Excerpt:
    """The pieces of text around a peak, the activation on each, and the index of the peak; it is 0 only where the peak
    is the first of its text."""

    tokens: list[str]
    values: Sequence[float] | np.ndarray
    at: int


class Vocabulary:
    """Text of token ids; pieces: {token id: the tokenizer's own piece}."""

    def __init__(self, pieces: dict[int, str]):
        self.pieces = pieces
        self.byte_level = is_byte_level(list(pieces.values()))
        self.text = {token: self._join([token])[0][0] for token in pieces}

    def _join(self, tokens: Sequence[int]) -> list[tuple[str, list[int]]]:
        return whole_characters([self.pieces[token] for token in tokens], self.byte_level)

    def runs(self, tokens: Sequence[int]) -> list[tuple[str, list[int]]]:
        """The text of tokens in runs of whole characters: (text, indices of its tokens)."""
        texts = [self.text[token] for token in tokens]
        if any(CUT in text for text in texts):
            return self._join(tokens)
        return [(text, [i]) for i, text in enumerate(texts)]


def vocabulary(texts: Sequence[Texts]) -> Vocabulary:
    """That of all texts."""
    pieces: dict[int, str] = {}
    for some in texts:
        pieces |= some.pieces
    return Vocabulary(pieces)


def excerpts(contexts: Merged, texts: Sequence[Texts], words: Vocabulary) -> list[Excerpt]:
    """One of each context; texts: of each file. A character that is spelled by several tokens is one piece, as active
    as the most active of them, by magnitude."""
    found = []
    columns = contexts.contexts
    rows = zip(contexts.file.tolist(), columns.row.tolist(), columns.at.tolist(), columns.window, strict=True)
    for file, row, at, window in rows:
        start, end = texts[file].offsets[row : row + 2].tolist()
        first, last = max(start, start + at - BEFORE), min(end, start + at + AFTER + 1)
        values = window[BEFORE - at - start + first : BEFORE - at - start + last]
        found.append(_excerpt(words, texts[file].token_ids[first:last].tolist(), values, start + at - first))
    return found


def _excerpt(words: Vocabulary, tokens: list[int], values: np.ndarray, at: int) -> Excerpt:
    runs = words.runs(tokens)
    if len(runs) == len(tokens):
        return Excerpt([text for text, _ in runs], values, at)
    place = next(i for i, (_, pieces) in enumerate(runs) if at in pieces)
    most = [float(max(values[pieces].tolist(), key=abs)) for _, pieces in runs]
    return Excerpt([text for text, _ in runs], most, place)
