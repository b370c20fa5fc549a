"""What a response is like besides showing a trait or not, from its text alone; words are English.

A contrast of two instructions differs in these too, so that part of a trait vector may be one of them.
"""

import math
import re

import numpy as np

NUISANCES = ("length", "refusal", "repetition", "first person", "formatting")
WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
FIRST_PERSON = frozenset(["i", "me", "my", "mine", "myself", "we", "us", "our", "ours", "ourselves"])
OPENING = 240  # characters in which an answer declines, where it does
REFUSAL = re.compile(
    r"\bi(?:['\u2019]m| am)(?: really| very)? (?:sorry|unable|not able)"
    r"|\bi (?:can(?:no|['\u2019])t|won['\u2019]t|will not|must decline|have to decline)"
    r"|\bas an ai\b|\bi(?:['\u2019]d| would) rather not|\bnot (?:something|a thing) i can",
    re.IGNORECASE,
)
MARKED = re.compile(r"^\s*(?:[-*\u2022]\s|\d+[.)]\s|#{1,6}\s|>\s|```|\|)|\*\*[^*]+\*\*|`[^`]+`")
RUN = 4


def nuisances(text: str, n_tokens: int) -> list[float]:
    """Those of one response, in the order of NUISANCES.

    length: log of 1 + tokens; refusal: 1 where its opening declines, else 0; repetition: share of its runs of 4 words
    that occurred in it before; first person: share of its words; formatting: share of its lines with list marks,
    headings, quotes, tables, bold or code.
    """
    words = [word.lower() for word in WORD.findall(text)]
    runs = [tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]
    lines = [line for line in text.splitlines() if line.strip()]
    first = sum(re.split("['\u2019]", word)[0] in FIRST_PERSON for word in words)
    return [
        math.log1p(n_tokens),
        float(bool(REFUSAL.search(text[:OPENING]))),
        1 - len(set(runs)) / len(runs) if runs else 0.0,
        first / len(words) if words else 0.0,
        sum(bool(MARKED.search(line)) for line in lines) / len(lines) if lines else 0.0,
    ]


def screen_weights(
    sign: np.ndarray, question: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The regression of a trait's kept rows on their sign and their nuisances, within question, as weights of rows.

    With X = [sign / 2, nuisances], each minus its mean in the row's question, the coefficients of any activation h are
    pinv(X) @ h. That of the sign is the direction with nuisances held equal; with B_j the coefficient of nuisance j and
    delta_j its mean difference between the signs, the plain contrast is exactly that plus sum_j B_j delta_j.

    sign: +1 or -1 [n], as many of each in every question; question [n]; values float64 [n, K]. Returns (adjusted
    float64 [n]; parts [K, n]: B_j delta_j; usable bool [K]: nuisances that differ within a question, the parts of
    others are 0), or None where too few rows are left to estimate it.
    """
    inside = within(question, values)
    scale = inside.std(0)
    usable = scale > 1e-9
    z = inside[:, usable] / scale[usable]
    half = within(question, sign[:, None] / 2)
    x = np.concatenate([half, z], axis=1)
    left = len(sign) - len(np.unique(question)) - x.shape[1]
    if left < values.shape[1]:
        return None
    weights = np.linalg.pinv(x)
    delta = (half.T @ z)[0] / float((half**2).sum())
    parts = np.zeros((values.shape[1], len(sign)))
    parts[usable] = weights[1:] * delta[:, None]
    return weights[0], parts, usable


def within(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values [n, K] minus the mean of their group."""
    _, index, counts = np.unique(group, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, index, values)
    return values - (sums / counts[:, None])[index]
