"""Labels made by rule: what a reader is told of texts of which one knows what they have in common."""

import pytest

from personascope.explorer.excerpts import Excerpt
from personascope.explorer.labels import Usual, coherent, label, peak_of

FILLER = ["the red house by a lake", "some birds fly over it", "we went there in May", "they read old maps"]


def excerpt(text: str, value: float = 1.0) -> Excerpt:
    """The text with its peak in square brackets; a piece of text a word, and the bracketed part one of its own."""
    before, rest = text.split("[")
    peak, after = rest.split("]")
    tokens = [*(part for part in before.replace(" ", "| ").split("|") if part), peak]
    at = len(tokens) - 1
    tokens += [part for part in after.replace(" ", "| ").split("|") if part]
    return Excerpt(tokens, [value if i == at else 0.0 for i in range(len(tokens))], at)


def told(*texts: str, promoted: list[str] | None = None, role: str = "") -> str:
    peaks = [peak_of(excerpt(text)) for text in texts]
    others = [peak_of(excerpt(f"{text} [word]")) for text in FILLER * 10]
    return label(peaks, promoted or [], Usual([*peaks, *others]), role)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["go to a[ place] near", "the only[ place] where", "what a[ place]", "in[ Place] of"], "\u201cplace\u201d"),
        (
            ["if I were to[ change] it", "you were to[ change] one", "she had to[ change] all", "a small[ change]"],
            "\u201cchange\u201d after \u201cto\u201d",
        ),
        (
            ["moral[ or] social", "a survey[ or] test", "shapes[ and] sizes", "minds[ and] hands"],
            "\u201cor\u201d, \u201cand\u201d",
        ),
        (["he[ runn]ing fast", "[ runn]ers all"], "\u201crunn\u2026\u201d in \u201crunners\u201d, \u201crunning\u201d"),
        (
            ["was sing[ing] loud", "we were danc[ing] on", "keep look[ing] up"],
            "\u201c\u2026ing\u201d in \u201cdancing\u201d, \u201clooking\u201d",
        ),
        (
            ["being[ praised] now", "being[ seen] at", "being[ lost] in"],
            "after \u201cbeing\u201d: \u201cpraised\u201d, \u201cseen\u201d",
        ),
        (
            ["it fell.[ Rain] came", "They left![ Snow] was", "so?[ Wind] blew"],
            "start of a sentence: \u201crain\u201d, \u201csnow\u201d",
        ),
        (["[I] am", "[You] are", "[We] were"], "first word: \u201ci\u201d, \u201cyou\u201d, \u201cwe\u201d"),
        (["but the line ends[\n] there", "a second one[\n\n] here", "third[\n] row"], "\u201c\u21b5\u201d"),
        (["that[\u2019s] it", "what[\u2019s] new", "it[\u2019s] so"], "\u201c's\u201d"),
    ],
)
def test_what_is_constant_is_said(texts: list[str], expected: str) -> None:
    assert told(*texts) == expected


def test_a_topic_is_what_stands_around() -> None:
    texts = [
        "knead the dough until[ soft] with yeast",
        "more yeast makes dough[ rise] up",
        "in the dough the yeast[ eats] sugar",
        "yeast and dough[ bake] well",
        "her dough had[ less] yeast",
        "yeast lifts[ any] dough",
        "no yeast,[ flat] dough",
        "a dough of yeast[ grows] old",
    ]
    said = told(*texts)
    assert said.startswith("\u201csoft\u201d, \u201crise\u201d near ")
    assert {"dough", "yeast"} == set(said.rpartition("near ")[2].split(", "))


def test_stronger_texts_count_for_more() -> None:
    strong, weak = (
        [excerpt(f"x[ {w}] y", v) for w, v in (("sun", 9.0), ("sun", 9.0))],
        [excerpt(f"x{i}[ {w}] y", 1.0) for i, w in enumerate(["a", "b", "c", "d"])],
    )
    peaks = [peak_of(one) for one in strong + weak]
    assert label(peaks, [], Usual(peaks)).startswith("\u201csun\u201d")


def test_promoted_words_and_the_role() -> None:
    texts = ["the[ next] day", "a[ next] one", "my[ next] step"]
    promoted = [" next", " Next", " further", "Further", " state", " states", "Q"]
    assert told(*texts, promoted=promoted, role="pirate") == "\u201cnext\u201d \u2192 further, state (pirate)"
    assert told(*texts, promoted=[" lone", " odd"]) == "\u201cnext\u201d"


def test_coherent_words_have_several_forms() -> None:
    assert coherent([" capital", " Capital", "xyz", " states", " state", " un", "Un"]) == ["capital", "state"]
    assert coherent([]) == []


def test_nothing_seen_nothing_said() -> None:
    assert label([], [" next", "qz", "wv"], Usual([])) == ""
    assert label([], [" next", "Next", " state", "states"], Usual([])) == "\u2192 next, state"


@pytest.mark.parametrize("piece", ["\u202e", "\ufffd", "  ", "\u200b", "</script>", "\u6d77"])
def test_strange_pieces_are_told_safely(piece: str) -> None:
    said = told(f"a[{piece}]b", f"c[{piece}]d")
    assert "\u202e" not in said and "\u200b" not in said
    assert said.strip("\u201c\u201d ")
