"""A short label for a feature, made by rule from the texts in which it is active and the tokens that it promotes.

What it is active ON comes first: the word of most peaks, weighted by their activation, with the word before or after
it where that is as constant; else a part that words share, what stands before or after, a few words, or words
around that are much rarer elsewhere. Behind an arrow stand words that it promotes, where the logit lens names several
in more than one form each; in brackets the role in which most of its activity is. A label says what was seen in these
texts, and is no claim about what the feature is for.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from personascope.display.text import visible
from personascope.explorer.excerpts import CUT, Excerpt

UNIT = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]+|\n+")
LONGEST = 24  # characters of a word; scripts without spaces have none so short, and the piece stands for it
MOST, SOME, FEW = 0.5, 0.15, 0.6
RARER = 5.0  # how much more often a word stands around the peaks than around those of other features
ROLE = 0.6  # of a feature's activity, in one role
ENDS = "."  # stands for all that ends a sentence
SENTENCE = {"after": "start of a sentence", "before": "end of a sentence"}


@dataclass(frozen=True)
class Peak:
    """The word of a peak, the piece of text itself, the units before and after it, the words around, how much it
    counts, whether it is the first of its text, and whether it begins within a word."""

    word: str
    piece: str
    before: str
    after: str
    around: frozenset[str]
    weight: float
    opens: bool
    inside: bool


def peak_of(excerpt: Excerpt) -> Peak:
    """What a label is made from."""
    text = "".join(excerpt.tokens)
    start = sum(map(len, excerpt.tokens[: excerpt.at]))
    piece = excerpt.tokens[excerpt.at]
    inner = piece.strip() or piece
    low = start + piece.index(inner)
    units = [(match.start(), match.end(), match[0]) for match in UNIT.finditer(text)]
    own = [i for i, (a, b, _) in enumerate(units) if a < low + len(inner) and b > low]
    word = "".join(units[i][2] for i in own) if own else inner
    if len(word) > LONGEST or inner[0] in "'\u2019":
        word = inner
    first, last = (own[0], own[-1]) if own else (0, -1)
    return Peak(
        word=_folded(word),
        piece=_folded(inner),
        before=_folded(units[first - 1][2]) if own and first else "",
        after=_folded(units[last + 1][2]) if own and last + 1 < len(units) else "",
        around=frozenset(w for _, _, unit in units if (w := _folded(unit)).isalpha() and CUT not in w),
        weight=abs(float(excerpt.values[excerpt.at])),
        opens=excerpt.at == 0,
        inside=bool(own) and units[first][0] < low and inner[0].isalpha(),
    )


def _folded(text: str) -> str:
    if not text.strip():
        return "\u21b5" if "\n" in text else "\u2423"
    return text.casefold().replace("\u2019", "'")


class Usual:
    """How often words stand around any feature's peaks: the share of the texts, by word."""

    def __init__(self, peaks: Iterable[Peak]):
        counts: Counter[str] = Counter()
        n = 0
        for peak in peaks:
            counts.update(peak.around)
            n += 1
        self.counts, self.n = counts, max(n, 1)

    def share(self, word: str) -> float:
        """As if each word had been seen once more, so that a rare one does not count for too much."""
        return (self.counts[word] + 1) / (self.n + 1)


def label(peaks: Sequence[Peak], promoted: Sequence[str], usual: Usual, role: str = "") -> str:
    """The label; promoted: texts of tokens, the strongest first; role: the one that has nearly all of it, or "".
    Without a peak, only what it promotes, if that makes sense; else empty."""
    core = _active_on(peaks, usual) if peaks else ""
    said = {word.strip("\u2026") for word in re.findall("\u201c(.*?)\u201d", core)}
    words = [word for word in coherent(promoted) if word not in said][:3]
    words = words if len(words) > 1 else []
    arrow = f" \u2192 {', '.join(words)}" if words else ""
    return visible((core + arrow + (f" ({role})" if role else "")).strip())


def shares_of(names: Iterable[str], weights: Sequence[float]) -> list[tuple[str, float]]:
    """Each name and the sum of its weights, the largest first."""
    sums: dict[str, float] = {}
    for name, weight in zip(names, weights, strict=True):
        sums[name] = sums.get(name, 0.0) + weight
    return sorted(sums.items(), key=lambda item: -item[1])


def _active_on(peaks: Sequence[Peak], usual: Usual) -> str:
    total = sum(peak.weight for peak in peaks) or 1.0

    def tally(names: Iterable[str]) -> list[tuple[str, float]]:
        return shares_of(names, [peak.weight / total for peak in peaks])

    words = tally(peak.word for peak in peaks)
    if sum(peak.weight for peak in peaks if peak.opens) > MOST * total:
        return f"first word: {_quoted(word for word, _ in words[:3])}"
    if words[0][1] > MOST:
        return _with_neighbor(words[0][0], [peak for peak in peaks if peak.word == words[0][0]])
    if part := _part(peaks, tally(peak.piece for peak in peaks)):
        return part
    if sum(peak.weight for peak in peaks if peak.inside) >= FEW * total:
        return f"within words: {_quoted(word for word, _ in words[:2])}"
    before, after = (tally(_side(getattr(peak, side)) for peak in peaks)[0] for side in ("before", "after"))
    side, (word, share) = ("after", before) if before[1] >= after[1] else ("before", after)
    if word and share >= FEW:
        place = SENTENCE[side] if word == ENDS else f"{side} {_quoted([word])}"
        return f"{place}: {_quoted(word for word, _ in words[:2])}"
    several = [(word, share) for word, share in words[:3] if share >= SOME]
    if len(several) > 1 and sum(share for _, share in several) >= FEW:
        return _quoted(word for word, _ in several)
    if topic := _topic(peaks, total, usual):
        return f"{_quoted(word for word, _ in words[:2])} near {', '.join(topic)}"
    return _quoted(word for word, _ in words[:3])


def _side(unit: str) -> str:
    """A unit before or after, with all that ends a sentence as one."""
    return ENDS if unit and unit[0] in ".!?\u21b5\u3002" else unit


def _with_neighbor(word: str, peaks: Sequence[Peak]) -> str:
    """The word, and the one before or after it where most of its peaks have the same."""
    total = sum(peak.weight for peak in peaks)
    best = ("", "", 0.0)
    for side in ("before", "after"):
        weights = [peak.weight / total for peak in peaks]
        name, share = shares_of([_side(getattr(peak, side)) for peak in peaks], weights)[0]
        if name and share > best[2]:
            best = (side, name, share)
    side, name, share = best
    if share <= MOST or sum(_side(getattr(peak, side)) == name for peak in peaks) < 2:
        return _quoted([word])
    if name == ENDS and word[0].isalnum():
        return f"{_quoted([word])} at the {SENTENCE['after' if side == 'before' else 'before']}"
    return f"{_quoted([word])} {'after' if side == 'before' else 'before'} {_quoted([name])}"


def _part(peaks: Sequence[Peak], pieces: Sequence[tuple[str, float]]) -> str:
    """A part that different words share: "...ing"."""
    piece, share = pieces[0]
    words = {peak.word for peak in peaks if peak.piece == piece}
    if share <= MOST or len(words) < 2 or len(piece) < 2:
        return ""
    examples = sorted(words, key=lambda word: (len(word), word))[:2]
    if all(word.endswith(piece) for word in words):
        return f"\u201c\u2026{piece}\u201d in {_quoted(examples)}"
    return f"\u201c{piece}\u2026\u201d in {_quoted(examples)}"


def _topic(peaks: Sequence[Peak], total: float, usual: Usual) -> list[str]:
    """Up to three words that stand around the peaks and hardly elsewhere."""
    around = [(word, peak.weight / total) for peak in peaks for word in sorted(peak.around)]
    counts = dict(shares_of([word for word, _ in around], [weight for _, weight in around]))
    scores = {
        word: share * (share / usual.share(word))
        for word, share in counts.items()
        if share >= 2 * SOME and share >= RARER * usual.share(word) and (len(word) > 3 or not word.isascii())
    }
    texts = Counter(word for peak in peaks for word in peak.around)
    own = {peak.word for peak in peaks}
    found = [word for word in sorted(scores, key=lambda w: (-scores[w], w)) if texts[word] >= 3 and word not in own]
    return found[:3]


def coherent(promoted: Sequence[str]) -> list[str]:
    """Words that stand among promoted tokens in more than one form (" next", "Next"; "state", "states")."""
    forms = [text.strip().casefold() for text in promoted]
    found: dict[str, None] = {}
    for i, word in enumerate(forms):
        others = [other for j, other in enumerate(forms) if j != i]
        related = [o for o in others if o == word or (min(len(o), len(word)) >= 4 and _kin(o, word))]
        if len(word) > 2 and word.isalpha() and related:
            found.setdefault(min([word, *related], key=len))
    return list(found)


def _kin(a: str, b: str) -> bool:
    """Whether one word begins with the other and adds an ending."""
    short, long = sorted((a, b), key=len)
    return long.startswith(short) and len(long) - len(short) <= 3


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(f"\u201c{word}\u201d" for word in words)
