"""Pages of drift runs: what conversations contain stays text, tokens are readable, colors keep their sign."""

import base64
import hashlib
import html
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from personascope.display.html import SORT
from personascope.display.text import is_byte_level, visible, whole_characters
from personascope.drift.options import FIGURES
from personascope.drift.pages.heat import heat_html
from personascope.drift.pages.ranking import ranking_html
from personascope.drift.result import Verdict
from tests.helpers.drift_examples import (
    make_nulls,
    make_pieces,
    make_summary,
    make_tokens,
    make_turn_meta,
    make_verdict,
)

ATTACK = '</span></div></style></title><script>alert(1)</script><img src=x onerror=alert(1)> " \' onclick="x" --> ]]>'
LOOK_ALIKE = "<|im_start|>assistant\n&lt;b&gt; &#60;script&#62;"
REORDER = "user \u202egnitaluger\u202c \u2066x\u2069 \u200fy \x00\x07\x1b[31m\x85 \ud800 \ufeff"
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "div", "i", "span", "p", "nav", "a", "main"),
    *("section", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "h3", "button", "details", "summary", "img"),
    "script",
}
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; unbalanced tags are an error."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: list[str] = []
        self.scripts: list[str] = []
        self.tokens: list[tuple[str, str, str]] = []
        self.title = self.text = ""
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        element = (tag, dict(attrs))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)
        if "b" in str(element[1].get("class")).split():
            self.blocks.append("")
        if tag == "span" and "title" in element[1]:
            self.tokens.append((str(element[1]["class"]), str(element[1]["title"]), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self.open]
        if "title" in tags:
            self.title += data
        if any("b" in str(attributes.get("class")).split() for _, attributes in self.open):
            self.blocks[-1] += data
            if self.open[-1][0] == "span":
                self.tokens[-1] = (*self.tokens[-1][:2], self.tokens[-1][2] + data)
        elif "script" in tags:
            self.scripts.append(data)
        elif "style" not in tags:
            self.text += data


def make_conversation(*answers: str) -> list[dict[str, Any]]:
    """A system message, then a question and an answer in turn."""
    pairs = [({"role": "user", "content": "Well?"}, {"role": "assistant", "content": text}) for text in answers]
    return [{"role": "system", "content": "Be kind."}, *(message for pair in pairs for message in pair)]


def make_page(pieces: list[list[str]], values: list[list[float]] | None = None, **calibration: Any) -> tuple[Page, str]:
    """The page of a conversation whose assistant turns are these pieces."""
    scores = [12.0 - turn if tokens else float("nan") for turn, tokens in enumerate(pieces)]
    meta = make_turn_meta(scores, **calibration).assign(message_index=2 * np.arange(len(pieces)) + 2)
    source = heat_html(make_tokens(pieces, values), make_conversation(*("".join(p) for p in pieces)), meta, "A title")
    return Page(source), source


def assert_safe(page: Page, source: str, *, script: str = "", folders: tuple[str, ...] = ()) -> None:
    """Only our elements and our script, no event handler, no address but places in the page and files of the folders,
    and the policy comes first."""
    assert {tag for tag, _ in page.elements} <= ALLOWED and page.scripts == ([script] if script else [])
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") or name in ("srcset", "action") for name in attributes)
        assert tag == "img" or "src" not in attributes
        assert str(attributes.get("src", "data:image/png;base64,")).startswith("data:image/png;base64,")
        assert str(attributes.get("href", "#")).startswith(("#", *folders))
    (policy,) = [item["content"] for tag, item in page.elements if tag == "meta" and "http-equiv" in item]
    allowed = [part.strip() for part in str(policy).split(";")]
    assert allowed[:2] == ["default-src 'none'", "style-src 'unsafe-inline'"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert set(allowed[2:]) <= {"img-src data:", f"script-src 'sha256-{digest}'"}
    assert any("script-src" in part for part in allowed) == bool(script)
    assert source.index("Content-Security-Policy") < source.index("<style>")
    assert source.lower().count("<script") == bool(script) and "url(" not in source and "@import" not in source
    source.encode()
    hidden = {c for c in source if c < " " and c not in "\n\t"} | set(
        re.findall("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]", source)
    )
    assert not hidden


@pytest.mark.parametrize("text", [ATTACK, LOOK_ALIKE, REORDER])
def test_texts_stay_texts_wherever_they_stand(text: str) -> None:
    messages = [
        {"role": text, "content": text},
        {"role": "user", "content": text},
        {"role": "assistant", "content": text},
        {"role": "assistant", "content": text},
    ]
    meta = make_turn_meta([3.0, float("nan")]).assign(message_index=[2, 3])
    piece = text.replace("\ud800", "")  # a table cannot hold lone surrogates, a message read from JSON can
    source = heat_html(make_tokens([[piece, "\u2581" + piece], []]), messages, meta, text)
    page = Page(source)
    assert_safe(page, source)
    assert page.title == visible(text)
    assert page.blocks[0] == page.blocks[1] == page.blocks[3] == visible(text)
    shown = visible(piece).replace("\n", "\u21b5\n")
    assert page.blocks[2] == f"{shown} {shown}"


def test_every_message_is_isolated_and_takes_its_own_direction() -> None:
    page, source = make_page([["\u2581\u05e9\u05dc\u05d5\u05dd", "\u2581abc"], ["x"]])
    blocks = [item for _, item in page.elements if "b" in str(item.get("class")).split()]
    assert len(blocks) == 5 and all(item["dir"] == "auto" for item in blocks)
    assert "unicode-bidi: isolate" in source
    assert page.blocks[2] == " \u05e9\u05dc\u05d5\u05dd abc"


def test_the_class_of_a_token_has_its_sign_and_only_zero_is_white() -> None:
    page, source = make_page([["a", "b", "c", "d", "e"]], [[2.0, -2.0, 0.0, 1e-6, -1e-6]])
    assert [name for name, *_ in page.tokens] == ["p10", "n10", "z", "p1", "n1"]
    assert [said for _, said, _ in page.tokens] == ["u +2", "u -2", "u +0", "u +1e-06", "u -1e-06"]
    styles = dict(re.findall(r"^\.([pn]\d+|z) \{ background: (#\w{6}); \}$", source, re.MULTILINE))
    assert len(styles) == 21 and styles["z"] == "#ffffff"
    for name, color in styles.items():
        red, blue = int(color[1:3], 16), int(color[5:], 16)
        assert (blue > red) == name.startswith("p") and (blue < red) == name.startswith("n")


def test_all_turns_share_one_scale_and_the_legend_marks_zero() -> None:
    page, _ = make_page([["a", "b"], ["c", "d"]], [[4.0, 1.0], [1.0, -1.0]])
    named = {text: name for name, _, text in page.tokens}
    assert named["b"] == named["c"] and named["d"] == named["c"].replace("p", "n")
    swatches = [item["class"] for tag, item in page.elements if tag == "i"]
    assert swatches == [*(f"n{i}" for i in range(10, 0, -1)), "z", *(f"p{i}" for i in range(1, 11))]
    assert re.search(r"\u22123\.\d+\n?0\n?\+3\.\d+", page.text.replace(" ", ""))


def test_a_turn_shows_what_is_known_of_it() -> None:
    page, source = make_page([["a"], ["b"], [], ["c"]], tested=True, alarm_turn=1)
    assert page.text.count("alarm at this turn") == 1
    assert "plain conversations here: 13.36 to 16.64 (middle 90 %), z -4.00" in page.text
    assert "evidence 1.60, alarm level 1.40" in page.text and "p as a single answer" in page.text
    sections = [item for tag, item in page.elements if tag == "section"]
    assert [item.get("id") for item in sections if item.get("id")] == ["t0", "t1", "t2", "t3"]
    assert [item.get("id") for item in sections if "alarmed" in str(item["class"])] == ["t1"]
    links = {item["href"] for tag, item in page.elements if tag == "a"}
    assert links == {"#t0", "#t1", "#t2", "#t3"}
    assert "no tokens: not scored" in page.text and "not the mean of its u" in page.text
    assert_safe(page, source)


def test_the_page_says_the_verdict() -> None:
    meta, q3 = make_turn_meta([15.0, 9.0], tested=True, alarm_turn=1), make_tokens([["a"], ["b"]])
    verdict = make_verdict(1, domain=ATTACK)
    source = heat_html(q3, make_conversation("a", "b"), meta, "t", verdict)
    page = Page(source)
    assert_safe(page, source)
    assert "alarm at turn 1 (evidence since turn 0, set 0\u20131), p = 0.0083" in page.text
    assert f"of the domain {ATTACK}: 4.2 %" in page.text
    untested = Page(heat_html(q3, make_conversation("a", "b"), meta, "t", Verdict(0.05, reason="no references")))
    assert "no test: no references" in untested.text and "false alarms" not in untested.text


def test_exact_weights_are_shown_where_there_are_some() -> None:
    q3 = make_tokens([["\u0120a", "\u00c3", "\u00a9"]], [[1.0, 2.0, 3.0]]).assign(w=[0.5, -0.125, -0.25])
    page = Page(heat_html(q3, make_conversation("x"), make_turn_meta([1.0]).assign(message_index=2), "t"))
    said = [(tooltip, text) for _, tooltip, text in page.tokens]
    assert said == [("w +0.5", " a"), ("w -0.375, sum of the 2 tokens of the character", "\u00e9")]
    assert "the w of a turn add up to its projection" in page.text


def test_an_assistant_message_outside_the_analysis_is_marked() -> None:
    messages = make_conversation("first", "second")
    page = Page(heat_html(make_tokens([["second"]]), messages, make_turn_meta([1.0]).assign(message_index=4), "t"))
    assert page.blocks == ["Be kind.", "Well?", "first", "Well?", "second"]
    assert page.text.count("not part of the analysis") == 1


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": "Hi"}]])
def test_empty_tables_give_a_page(messages: list[dict[str, Any]]) -> None:
    source = heat_html(pd.DataFrame(), messages, pd.DataFrame(), "t")
    page = Page(source)
    assert_safe(page, source)
    assert "no assistant turn" in page.text and len(page.blocks) == len(messages)


def test_a_page_of_eight_thousand_tokens_is_small_and_made_fast() -> None:
    pieces = [make_pieces(400) for _ in range(20)]
    start = time.perf_counter()
    page, source = make_page(pieces, tested=True)
    assert time.perf_counter() - start < 5
    assert len(source.encode()) < 1_500_000 and len(page.tokens) == 8000


TEXTS = [
    "Hello, caf\u00e9 \u00bd na\u00efve",
    "\U0001f642 \U0001f469\u200d\U0001f4bb",
    "\u4f60\u597d\uff0c\u4e16\u754c",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd",
    "a\tb\r\n\n  c \x00",
    "</script> <|im_start|>user",
    "\u0120 and \u2581 and <0x41>",
]


@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_pieces_become_the_text_again(chat_tokenizer: Any, text: str) -> None:
    tokens = chat_tokenizer.convert_ids_to_tokens(chat_tokenizer(f"I am {text}", add_special_tokens=False)["input_ids"])
    runs = whole_characters(tokens)
    assert [index for _, pieces in runs for index in pieces] == list(range(len(tokens)))
    assert "".join(shown for shown, _ in runs) == f"I am {text}"
    assert all(len(shown) == 1 for shown, pieces in runs if len(pieces) > 1 and shown.isprintable())


def test_a_character_split_over_pieces_is_one_box(chat_tokenizer: Any) -> None:
    tokens = chat_tokenizer.convert_ids_to_tokens(chat_tokenizer("\U0001f642!", add_special_tokens=False)["input_ids"])
    assert len(tokens) == 5 and is_byte_level(tokens)
    assert whole_characters(tokens) == [("\U0001f642", [0, 1, 2, 3]), ("!", [4])]
    page, _ = make_page([tokens], [[1.0, 2.0, 3.0, 4.0, -1.0]])
    assert page.blocks[2] == "\U0001f642!"
    assert [tooltip for _, tooltip, _ in page.tokens] == ["u +2.5, mean of the 4 tokens of the character", "u -1"]


def test_sentencepiece_pieces_become_text_with_byte_fallback() -> None:
    tokens = ["\u2581It", "\n", "\u2581\u2581caf\u00e9", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>", "\u2581\u0120enju"]
    assert not is_byte_level(tokens)
    ends = [(" It", [0]), ("\n", [1]), ("  caf\u00e9", [2])]
    assert whole_characters(tokens) == [*ends, ("\U0001f642", [3, 4, 5, 6]), (" \u0120enju", [7])]


def test_pieces_that_end_one_character_and_begin_another_stay_together() -> None:
    first, second = ("<0xC3>", "<0xA9>"), ("<0xC3>", "<0xBC>")
    assert whole_characters([*first, *second]) == [("\u00e9", [0, 1]), ("\u00fc", [2, 3])]
    assert whole_characters(["\u0120\u00c3", "\u00a9\u00c3", "\u00bc"]) == [(" \u00e9\u00fc", [0, 1, 2])]


@pytest.mark.parametrize("tokens", [[], ["x"], ["\u00e9"], ["\u4f60\u597d"], ["\u00e9", "\u4f60"]])
def test_pieces_without_marks_are_text_unless_their_bytes_are_utf8(tokens: list[str]) -> None:
    assert not is_byte_level(tokens) and [text for text, _ in whole_characters(tokens)] == tokens


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert whole_characters(["\u0120a", "\u00f0\u0141"]) == [(" a", [0]), ("\ufffd", [1])]
    assert whole_characters(["<0xFF>", "\u2581a"]) == [("\ufffd", [0]), (" a", [1])]
    assert whole_characters(["<0xF0>", "\u2581a"]) == [("\ufffd", [0]), (" a", [1])]


def test_visible_signs_for_what_cannot_be_seen() -> None:
    assert visible("a\x00\x1b\x7f\tb\n") == "a\u2400\u241b\u2421\tb\n"
    assert visible("\u202e\u2069\u200b") == "\u27e8U+202E\u27e9\u27e8U+2069\u27e9\u27e8U+200B\u27e9"
    assert visible("\ud800\ufffe") == "\ufffd\ufffd"
    assert visible("\U0001f469\u200d\U0001f4bb \u0645\u200c\u0631") == "\U0001f469\u200d\U0001f4bb \u0645\u200c\u0631"


FOLDER = "../../../drift/general/m_s/default"


def test_the_ranking_page_has_every_conversation_and_the_failures_at_the_end() -> None:
    summary = make_summary(5)
    links = {("default", f"conversation_{i}"): f"{FOLDER}/conversation_{i}" for i in range(5)}
    source = ranking_html(summary, make_nulls(), links)
    page = Page(source)
    assert_safe(page, source, script=SORT, folders=("../",))
    names = re.findall(r"(?<=>)conversation_\d|broken(?=</td>)", source)
    assert len(names) == 11 and names[-1] == "broken"
    assert "broken.json: no messages" in page.text and '{"domain": "cooking"}' in page.text
    classes = [item.get("class") for tag, item in page.elements if tag == "tr"]
    assert classes.count("alarm") == 4 and classes.count("quiet") == 6
    assert "i" not in {tag for tag, _ in page.elements} and "bar" not in classes, (
        "no bar that favors long conversations"
    )


def test_the_ranking_page_links_runs_that_have_figures() -> None:
    links = {("default", "conversation_4"): f"{FOLDER}/conversation_4"}
    page = Page(ranking_html(make_summary(5), make_nulls(), links))
    found = [str(item["href"]).rpartition("/") for tag, item in page.elements if tag == "a"]
    assert {folder for folder, _, _ in found} == {f"{FOLDER}/conversation_4"}
    assert {Path(name).stem for _, _, name in found} == set(FIGURES)
    assert "look at" not in Page(ranking_html(make_summary(5))).text


def test_the_ranking_page_says_the_false_alarms_by_domain() -> None:
    page = Page(ranking_html(make_summary(5), make_nulls()))
    for words in ("5 % (95 % interval 2 % to 11 %, n = 120)", "3.3 % (95 % interval 0.4 % to 12 %, n = 60)", "poems"):
        assert words in page.text
    assert "No test: no reference conversations: drift.references is empty" in page.text


def test_columns_are_sorted_by_numbers_not_by_how_they_are_shown() -> None:
    page = Page(ranking_html(make_summary(5, ("default",))))
    heads = [tag for tag, item in page.elements if tag == "button" and item["type"] == "button"]
    values = [float(str(item["data-v"])) for tag, item in page.elements if tag == "td" and "data-v" in item]
    assert len(heads) == 20 and -3.8 in values and 4004 in values


def test_the_ranking_begins_with_what_could_not_be_analyzed_and_names_files_as_the_user_did() -> None:
    summary = make_summary(3)
    names = {"conversation_0": "My-chat-1"}
    summary["metadata"] = [{"title": "My chat (1)"} if name in names else {} for name in summary["conversation"]]
    summary["conversation"] = [names.get(name, name) for name in summary["conversation"]]
    page = Page(ranking_html(summary, make_nulls()))
    said = "1 of 4 conversations could not be analyzed: broken: broken.json: no messages"
    assert said in page.text and page.text.index(said) < page.text.index("Analysis cosine")
    assert "My chat (1)" in page.text and "My-chat-1" not in page.text
    assert "could not be analyzed" not in Page(ranking_html(summary.loc[summary["status"] == "ok"])).text


def test_tool_calls_stand_in_the_text_of_a_conversation() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "blue"},
    ]
    text = html.unescape(heat_html(pd.DataFrame(), messages, pd.DataFrame()))
    assert '"name": "look"' in text and ">blue<" in text and ">None<" not in text


def test_texts_in_the_ranking_stay_texts() -> None:
    texts = dict.fromkeys(("conversation", "analysis", "reason", "nearest_role_end", "confound_verdict"), ATTACK)
    summary = make_summary(3).assign(**texts, metadata=[{ATTACK: REORDER}] * 7, flags=[[ATTACK, LOOK_ALIKE]] * 7)
    source = ranking_html(summary, {ATTACK: {"reason": ATTACK}}, title=ATTACK)
    page = Page(source)
    assert_safe(page, source, script=SORT)
    assert page.title == ATTACK and page.text.count(ATTACK) > 10


def test_a_ranking_of_nothing_is_a_page() -> None:
    for summary in (pd.DataFrame(), make_summary().iloc[:0]):
        source = ranking_html(summary)
        assert_safe(Page(source), source, script=SORT)
        assert "No conversation was analyzed." in source
