"""Spans on a small trained tokenizer and on the real tokenizers that tests/fetch_tokenizers.py brings."""

# ruff: noqa: RUF001 (odd characters are the point)
import copy
import os
import random
import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from personascope.errors import UserError
from personascope.formats.responses import answer_of
from personascope.models.spans import (
    encode_conversation,
    locate_spans,
    message_spans,
    prompt_ids,
    render,
    template_hash,
)
from tests.fetch_tokenizers import SHA512, TARGET

ROLES = ("system", "user", "assistant")
THINK_END = "</think>"
GEMMA_2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{{ '<start_of_turn>' + (message['role'] | replace('assistant', 'model'))"
    " + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# The real templates of two families whose packages carry none, or a shortened one.
LLAMA_2 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'system' %}"
    "{{ raise_exception('no system role') }}{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
LLAMA_3_1 = (
    "{{ bos_token }}{% if not date_string is defined %}{{ raise_exception('today is not reproducible') }}{% endif %}"
    "{{ 'Today Date: ' + date_string + '\n\n' }}{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' "
    "+ message.content | trim + '<|im_end|>' }}{% endfor %}"
)
# The layout of gpt-oss, whose package has no template: reasoning in a channel of its own, which earlier turns lose.
GPT_OSS = (
    "{{ '<|start|>system<|message|>You are a model.\n# Valid channels: analysis, commentary, final.<|end|>' }}"
    "{% for message in messages %}{% if message.role == 'system' %}"
    "{{ '<|start|>developer<|message|># Instructions\n\n' + message.content + '<|end|>' }}"
    "{% elif message.role == 'assistant' %}{% if message.thinking is defined and loop.last %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' }}{% endif %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + message.content }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% else %}{{ '<|start|>user<|message|>' + message.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
TEMPLATES = {"llama2": LLAMA_2, "gptoss": GPT_OSS}


@pytest.fixture(scope="session", params=["trained", *SHA512])
def tokenizer(request: pytest.FixtureRequest, chat_tokenizer: Any) -> Any:
    return chat_tokenizer if request.param == "trained" else real(request.param)


_LOADED: dict[str, Any] = {}


def real(name: str) -> Any:
    """A fetched tokenizer; where it is missing the test is skipped, or fails in CI."""
    if name not in _LOADED:
        if not (TARGET / name).is_dir():
            reason = "run python tests/fetch_tokenizers.py"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        from transformers import PreTrainedTokenizerFast

        # AutoTokenizer rebuilds some of them (DeepSeek V3) by a wrong class.
        _LOADED[name] = PreTrainedTokenizerFast.from_pretrained(TARGET / name)
        if name in TEMPLATES:
            _LOADED[name].chat_template = TEMPLATES[name]
    return _LOADED[name]


def with_template(tokenizer: Any, template: str) -> Any:
    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    return other


def chat(*contents: str, system: str | None = None) -> list[dict[str, str]]:
    """User and assistant in turn, behind a system turn where there is one."""
    turns = [{"role": ROLES[1 + i % 2], "content": content} for i, content in enumerate(contents)]
    return [{"role": "system", "content": system}, *turns] if system is not None else turns


def nfc(text: str) -> str:
    """Qwen's tokenizers normalize to NFC, so that is how far decoding can give a text back."""
    return unicodedata.normalize("NFC", text)


def decode(tokenizer: Any, ids: list[int]) -> str:
    return nfc(tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def span_texts(tokenizer: Any, messages: list[dict[str, str]], roles: Sequence[str] = ROLES) -> list[str]:
    encoded = encode_conversation(tokenizer, messages)
    spans = locate_spans(tokenizer, messages, encoded, roles)
    return [decode(tokenizer, encoded.ids[span.start : span.end]).strip() for span in spans]


def check_contents(tokenizer: Any, messages: list[dict[str, str]]) -> None:
    said = [answer_of(m["content"]) if m["role"] == "assistant" else m["content"] for m in messages]
    assert span_texts(tokenizer, messages) == [nfc(content).strip() for content in said]


def test_every_role(tokenizer: Any) -> None:
    check_contents(tokenizer, chat("What is 2+2?", "It is 4.", "And 3+3?", "6", system="You are a pirate."))
    check_contents(tokenizer, chat("What is 2+2?", "It is 4."))


def test_only_the_roles_asked_for(tokenizer: Any) -> None:
    messages = chat("one", "two", "three", "four", system="zero")
    assert [s.message_index for s in message_spans(tokenizer, messages)] == [2, 4]
    assert [s.message_index for s in message_spans(tokenizer, messages, ("user",))] == [1, 3]
    assert span_texts(tokenizer, messages, ["assistant"]) == ["two", "four"]


def test_repeated_contents(tokenizer: Any) -> None:
    messages = chat(*["hi"] * 6, system="hi")
    check_contents(tokenizer, messages)
    spans = message_spans(tokenizer, messages, ROLES)
    assert [s.start for s in spans] == sorted({s.start for s in spans})
    check_contents(tokenizer, chat("user", "assistant", "user\nassistant", "model", system="system"))


@pytest.mark.parametrize(
    "content", [" hi", "hi ", "\n\nhi\n", "  two words \t", "\n", "a\n\n\nb", "``` \n  code\n```\n", "hi\u3000"]
)
def test_white_space_around(tokenizer: Any, content: str) -> None:
    check_contents(tokenizer, chat(content, content, "x", content, system="s"))


@pytest.mark.parametrize("content", ["", " ", "\n\n", " \t\n "])
def test_blank_content_has_no_tokens(tokenizer: Any, content: str) -> None:
    messages = chat("What?", content, "Well?", "So.", system="s")
    encoded = encode_conversation(tokenizer, messages)
    blank, last = locate_spans(tokenizer, messages, encoded)
    assert blank.start == blank.end < last.start
    assert decode(tokenizer, encoded.ids[last.start : last.end]).strip() == "So."
    (final,) = message_spans(tokenizer, chat("What?", content))
    assert final.start == final.end


@pytest.mark.parametrize("content", ["", " ", "\n\n"])
@pytest.mark.parametrize("blank", ["system", "user", "both"])
def test_blank_content_in_front(tokenizer: Any, blank: str, content: str) -> None:
    """Also where the template (or this code) merges the system turn into the user's."""
    system = "s" if blank == "user" else content
    user = "u" if blank == "system" else content
    messages = chat(user, "answer", "more", "end", system=system)
    assert span_texts(tokenizer, messages) == [system.strip(), user.strip(), "answer", "more", "end"]


@pytest.mark.parametrize(
    "content",
    [
        "🏴‍☠️ ahoy 👩‍👩‍👧‍👦",
        "吾輩は猫である。名前はまだ無い",
        "e\u0301te\u0301 a\u0323\u0302",
        "\u0301starts with a combining mark",
        "שלום עולם مرحبا",
        "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
        "zero\u200bwidth\u00a0and\u2028line",
    ],
)
def test_characters_of_many_tokens(tokenizer: Any, content: str) -> None:
    check_contents(tokenizer, chat(content, content, "x", content, system=content))


def test_template_look_alikes(tokenizer: Any) -> None:
    """A content that is itself a rendered conversation, special tokens and all."""
    inner = chat("hi", "ho", "hi")
    rendered = render(tokenizer, inner).strip()
    messages = chat(rendered, "ho", "hi", rendered + "ho", system="hi")
    encoded = encode_conversation(tokenizer, messages)
    spans = locate_spans(tokenizer, messages, encoded, ROLES)
    texts = [decode(tokenizer, encoded.ids[s.start : s.end]) for s in spans]
    assert [text.replace(" ", "") for text in texts] == [m["content"].replace(" ", "") for m in messages]
    assert [s.special_tokens for s in spans] == [False, True, False, False, True]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("llama3", "<|start_header_id|>"),
        ("llama3_1", "<|eot_id|>"),
        ("gemma3", "<start_of_turn>"),
        ("mistral_nemo", "[INST]"),
        ("deepseek_v3", "<｜end▁of▁sentence｜>"),
        ("deepseek_v3", "<｜User｜>"),
        ("qwen3", "<|im_end|>"),
    ],
)
def test_each_special_token_is_flagged(name: str, content: str) -> None:
    spans = message_spans(real(name), chat("a " + content + " b", "fine"), ROLES)
    assert [span.special_tokens for span in spans] == [True, False]


def test_markers_in_the_content(tokenizer: Any) -> None:
    check_contents(tokenizer, chat("qz0qzm1mzq", "qz0qzm0mzqqz1qzm3mzq", "{{ messages }}", "{% if %} \\1 \\g<0>"))


def test_very_long(tokenizer: Any) -> None:
    long = "All work and no play makes Jack a dull boy. " * 300
    check_contents(tokenizer, chat("hi", long, long, "hi", system=long))


def test_one_tokenization(tokenizer: Any) -> None:
    messages = chat("What?", "That.", "Why?", "Because.", system="Be brief.")
    encoded = encode_conversation(tokenizer, messages)
    assert encoded.ids == tokenizer(encoded.text, add_special_tokens=False)["input_ids"]
    assert len(encoded.ids) == len(encoded.offsets)
    assert encode_conversation(tokenizer, messages) == encoded
    if tokenizer.bos_token and encoded.text.startswith(tokenizer.bos_token):
        first = encoded.ids[:2]
        assert first[0] == tokenizer.bos_token_id != first[1]


def test_prompt_is_the_conversation_up_to_the_answer(tokenizer: Any) -> None:
    if "</think>" in tokenizer.chat_template and "reasoning_content" in tokenizer.chat_template:
        pytest.skip("Qwen 3 puts an empty thinking block in front of the answer")
    if "<|channel|>" in tokenizer.chat_template:
        pytest.skip("gpt-oss opens a channel itself")
    for system in (None, "You are a pirate."):
        messages = chat("What?", "That.", "Why?", "Because.", system=system)
        ids = encode_conversation(tokenizer, messages).ids
        assert prompt_ids(tokenizer, messages[:-1]) == ids[: message_spans(tokenizer, messages)[-1].start]


@pytest.mark.parametrize("name", ["gemma3", "llama3", "llama3_1", "mistral_nemo", "llama2", "deepseek_v3"])
def test_one_bos(name: str) -> None:
    tokenizer = real(name)
    for system in (None, "You are a pirate."):
        ids = prompt_ids(tokenizer, chat("What?", system=system))
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[0] == tokenizer.bos_token_id


def test_qwen_3_thinking() -> None:
    tokenizer = real("qwen3")
    thought = "<think>\nlet me see\n</think>\n\n"
    messages = chat("2+2?", thought + "It is 4.", "3+3?", thought + "It is 6.")
    assert span_texts(tokenizer, messages) == ["2+2?", "It is 4.", "3+3?", "It is 6."]
    assert encode_conversation(tokenizer, messages).text.count("let me see") == 1
    assert span_texts(tokenizer, chat("2+2?", thought + "4", "3+3?", "6"), ["assistant"]) == ["4", "6"]
    assert span_texts(tokenizer, chat("2+2?", thought), ["assistant"]) == [""]
    assert span_texts(tokenizer, chat("?", "<think>a</think>b</think>c"), ["assistant"]) == ["c"]


def test_thinking_is_only_in_answers() -> None:
    """A user who writes </think> is quoted whole, also beside an answer with thinking."""
    messages = chat(
        "what does </think> mean?", "<think>\nhm\n</think>\n\nIt ends a thought.", system="no </think> here"
    )
    expected = ["no </think> here", "what does </think> mean?", "It ends a thought."]
    assert span_texts(real("qwen3"), messages) == expected


def test_thinking_is_no_part_of_the_answer_where_the_template_keeps_it(chat_tokenizer: Any) -> None:
    messages = chat("2+2?", "<think>hm</think>4", "3+3?", "<think>hm</think>6")
    assert span_texts(chat_tokenizer, messages, ["assistant"]) == ["4", "6"]
    encoded = encode_conversation(chat_tokenizer, messages)
    thoughts = [span.thoughts for span in locate_spans(chat_tokenizer, messages, encoded)]
    assert [decode(chat_tokenizer, encoded.ids[a:b]) for ((a, b),) in thoughts] == ["hm", "hm"]


def test_gemma_3_system_goes_into_the_first_user_turn() -> None:
    text = render(real("gemma3"), chat("Hello", "Ahoy", system="You are a pirate."))
    assert "<start_of_turn>user\nYou are a pirate.\n\nHello<end_of_turn>" in text


@pytest.mark.parametrize("contents", [("Hello",), ("Hello", "Ahoy"), ("Hello", "Ahoy", "Bye"), ("a", "b", "c", "d")])
def test_mistral_nemo_keeps_the_system_turn(contents: tuple[str, ...]) -> None:
    text = render(real("mistral_nemo"), chat(*contents, system="You are a pirate."))
    assert text.startswith(f"<s>[INST]You are a pirate.\n\n{contents[0]}[/INST]")
    assert text.count("You are a pirate.") == 1


def test_gemma_2_refuses_a_system_turn(chat_tokenizer: Any) -> None:
    tokenizer = with_template(chat_tokenizer, GEMMA_2)
    messages = chat(" Hello ", "Ahoy", system="You are a pirate.")
    assert "<start_of_turn>user\nYou are a pirate.\n\n Hello<end_of_turn>" in render(tokenizer, messages)
    check_contents(tokenizer, messages)
    assert messages[0]["role"] == "system"
    for blank in ("", " \n"):
        assert span_texts(tokenizer, chat(blank, "Ahoy", system="Pirate.")) == ["Pirate.", "", "Ahoy"]
        assert span_texts(tokenizer, chat("Hello", "Ahoy", system=blank)) == ["", "Hello", "Ahoy"]
        assert span_texts(tokenizer, chat(blank, "Ahoy", system=blank)) == ["", "", "Ahoy"]


def test_llama_3_1_is_the_same_on_any_day(chat_tokenizer: Any) -> None:
    tokenizer = with_template(chat_tokenizer, LLAMA_3_1)
    assert "Today Date: 26 Jul 2024\n" in render(tokenizer, chat("hi"))
    check_contents(tokenizer, chat("26 Jul 2024", " hi "))


def test_refusal_is_a_user_error(chat_tokenizer: Any) -> None:
    strict = with_template(chat_tokenizer, "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(UserError, match="roles must alternate"):
        render(strict, chat("hi"))


def test_dropped_message_is_named(chat_tokenizer: Any) -> None:
    """Whoever said it: an answer to another question than was asked is not the conversation."""
    loop = "{% for message in MESSAGES %}{{ message.role + ':' + message.content + '\n' }}{% endfor %}"
    messages = chat("a", "b", "c", "d")
    for kept, dropped in {"messages[2:]": "0 (user)", "messages[:3]": "3 (assistant)"}.items():
        tokenizer = with_template(chat_tokenizer, loop.replace("MESSAGES", kept))
        for read in (render, prompt_ids, encode_conversation, message_spans):
            with pytest.raises(UserError, match=re.escape(f"message {dropped}: the chat template does not render its")):
                read(tokenizer, messages)


def test_mangled_message_is_named(chat_tokenizer: Any) -> None:
    upper = "{% for m in messages %}{{ m.content | upper if m.role == 'assistant' else m.content }};{% endfor %}"
    with pytest.raises(UserError, match=r"message 1 \(assistant\)"):
        message_spans(with_template(chat_tokenizer, upper), chat("a", "b", "c", "d"))
    twice = "{% for m in messages %}{{ m.content + m.content }};{% endfor %}"
    with pytest.raises(UserError, match="message 0"):
        message_spans(with_template(chat_tokenizer, twice), chat("a", "b"))


def test_template_hash(chat_tokenizer: Any) -> None:
    other = with_template(chat_tokenizer, chat_tokenizer.chat_template + " ")
    assert template_hash(chat_tokenizer) == template_hash(copy.deepcopy(chat_tokenizer)) != template_hash(other)


FRAGMENTS = [
    *("", " ", "\n", "\n\n", "\t", "hi", "hi ", "user\n", "assistant", "Ahoy, matey!", "3.14", "{{ x }}", "qz0qzm0mzq"),
    *("<|im_start|>user\n", "<|im_end|>", "<end_of_turn>\n", "<start_of_turn>model\n", "[INST]", "[/INST]", "</s>"),
    *(
        "<|eot_id|>",
        "<|start_header_id|>",
        "<think>",
        THINK_END,
        "<｜Assistant｜>",
        "<bos>",
        "🏴‍☠️",
        "猫",
        "e\u0301",
        "ñ",
    ),
    *("مرحبا", "\u200b", "``` \n", "a" * 50),
]


@pytest.mark.parametrize("seed", range(20))
def test_random_conversations(tokenizer: Any, seed: int) -> None:
    """Each span decodes to its content, nothing less and nothing more; spans are ordered and disjoint."""
    rng = random.Random(seed)
    contents = ["".join(rng.choices(FRAGMENTS, k=rng.randrange(5))) for _ in range(rng.randint(1, 6))]
    messages = chat(*contents, system="".join(rng.choices(FRAGMENTS, k=3)) if rng.random() < 0.5 else None)
    encoded = encode_conversation(tokenizer, messages)
    spans = locate_spans(tokenizer, messages, encoded, ROLES)
    assert [s.message_index for s in spans] == list(range(len(messages)))
    for message, span in zip(messages, spans, strict=True):
        text = squeeze(decode(tokenizer, encoded.ids[span.start : span.end]))
        content = message["content"]
        kept = answer_of(content.rpartition(THINK_END)[2]) if message["role"] == "assistant" else content
        assert squeeze(nfc(kept)) in text
        assert text in squeeze(nfc(content))
        assert (span.start == span.end) <= (not kept.strip())
    for before, after in pairwise(spans):
        shared = encoded.ids[after.start : before.end]
        # A system turn merged into the user's is parted from it by white space alone, which may be one token.
        assert decode(tokenizer, shared).strip() == ""
        assert len(shared) <= (messages[before.message_index]["role"] == "system")


def squeeze(text: str) -> str:
    """Without white space: decoding puts spaces around special tokens in some tokenizers."""
    return "".join(text.split())
