"""A conversation's tokens as runs of whole characters: what a page can show and a reader can point at."""

import itertools
from dataclasses import dataclass

import numpy as np

from personascope.display.text import is_byte_level, whole_characters


@dataclass(frozen=True)
class TextRuns:
    """texts [k]; starts int64 [k]: the first token of each; of_token int64 [n]: the run of each token. Most runs are
    one token; several share a run where each holds only a part of a character's bytes."""

    texts: list[str]
    starts: np.ndarray
    of_token: np.ndarray

    @classmethod
    def of(cls, tokens: list[str], turns: np.ndarray) -> "TextRuns":
        """The runs of the tokens [n] of a conversation; none goes over the border of a turn (turns [n])."""
        texts: list[str] = []
        starts: list[int] = []
        of_token = np.zeros(len(tokens), np.int64)
        borders = [0, *(np.flatnonzero(np.diff(turns)) + 1).tolist(), len(tokens)]
        byte_level = is_byte_level(tokens)
        for lo, hi in itertools.pairwise(borders):
            for text, members in whole_characters(tokens[lo:hi], byte_level):
                of_token[lo + members[0] : lo + members[-1] + 1] = len(texts)
                starts.append(lo + members[0])
                texts.append(text)
        return cls(texts, np.array(starts, np.int64), of_token)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """The sum over each run's tokens, float64 [k]; values [n]."""
        return np.bincount(self.of_token, values, len(self.texts)) if len(values) else np.zeros(len(self.texts))

    def firsts(self, values: np.ndarray) -> np.ndarray:
        """The value of each run's first token [k]; values [n]."""
        return values[self.starts]
