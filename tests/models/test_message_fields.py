"""Tool calls, reasoning, names, null and parts: as the tokenizer's own chat template has them, or refused by name."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from personascope.errors import UserError
from personascope.models.spans import encode_conversation, locate_spans, message_spans, render
from personascope.models.templates import Template
from tests.models.test_spans import ROLES, chat, decode, real, span_texts, with_template

Messages = list[dict[str, Any]]


def call(name: str = "lookalpha", arguments: Any = None, id: str = "abcdefgh1") -> dict[str, Any]:
    given = {"city": "Parisbeta"} if arguments is None else arguments
    return {"id": id, "type": "function", "function": {"name": name, "arguments": given}}


def with_tools(content: str | None, *calls: dict[str, Any], **fields: Any) -> Messages:
    """A question, calls, their results and an answer; every word is there once."""
    results = [
        {"role": "tool", "name": c["function"]["name"], "tool_call_id": c["id"], "content": f"result{i}word"}
        for i, c in enumerate(calls)
    ]
    asked = {"role": "assistant", "content": content, "tool_calls": list(calls), **fields}
    question, answer = chat("Howdelta?", "Sunnygamma.")
    return [question, asked, *results, answer]


TWO = (call(), call("findomega", {"n": 3, "text": "Ahepsilon"}, "abcdefgh2"))
CASES: dict[str, Messages] = {
    "plain": chat("Howalpha?", "Thusbeta.", "Whygamma?", "Sodelta.", system="Bebrief."),
    "names": [{**message, "name": "Ann"} for message in chat("Howalpha?", "Thusbeta.")],
    "null": with_tools(None, call()),
    "empty": with_tools("", call()),
    "content beside the call": with_tools("Lookingzeta.", call()),
    "two calls": with_tools(None, *TWO),
    "arguments as text": with_tools(None, call(arguments='{"city": "Parisbeta"}')),
    "reasoning of the last turn": [*chat("Howalpha?"), {**chat("", "Thusbeta.")[1], "reasoning_content": "Hmgamma."}],
    "reasoning of an earlier turn": [
        *chat("Howalpha?"),
        {**chat("", "Thusbeta.")[1], "reasoning_content": "Hmgamma."},
        *chat("Whydelta?", "Sozeta."),
    ],
    "reasoning and a call": with_tools(None, call(), reasoning_content="Hmgamma."),
    "thinking in the content": chat("Howalpha?", "<think>\nHmgamma.\n</think>\n\nThusbeta."),
    "empty fields": [{**m, "tool_calls": [], "reasoning_content": None, "name": None} for m in chat("Howa?", "Thusb.")],
    "a part": [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in chat("Howalpha?", "Thusbeta.")],
    "two parts": [
        {"role": "user", "content": [{"type": "text", "text": "Howalpha?"}, {"type": "text", "text": "Andbeta?"}]},
        *chat("", "Thusgamma.")[1:],
    ],
    "a second system turn": [
        *chat("Howalpha?", "Thusbeta.", system="Bebrief."),
        {"role": "system", "content": "Berude."},
        *chat("Whygamma?", "Sodelta."),
    ],
}


def words(value: Any) -> list[str]:
    """All that a message says, in order: names are labels."""
    if isinstance(value, dict):
        said = [value.get(key) for key in ("reasoning_content", "content", "text", "tool_calls", "function")]
        called = [value["name"], str(value["arguments"])] if "arguments" in value else []
        return [word for part in (*said, *called) for word in words(part)]
    if isinstance(value, list | tuple):
        return [word for part in value for word in words(part)]
    return re.findall(r"\w{5,}", value) if isinstance(value, str) else []


@pytest.mark.parametrize("case", CASES)
def test_a_rendering_is_the_tokenizers_own(case: str, tokenizer: Any) -> None:
    """Where it holds all that was said in its order; else it is refused, or said in a form that holds it."""
    messages = CASES[case]
    try:
        expected = own(tokenizer, messages)
        holding = holds(decode(tokenizer, expected), messages)
    except Exception:  # whatever the template raises
        expected, holding = None, False
    try:
        encoded = encode_conversation(tokenizer, messages)
    except UserError as error:
        assert not holding, str(error)
        assert re.match(r"message \d \(\w+\): |the chat template refuses (message \d \(\w+\)|this conv)", str(error))
        return
    if case != "reasoning of an earlier turn":  # which a template may drop
        assert holds(encoded.text, messages)
    spans = locate_spans(tokenizer, messages, encoded, (*ROLES, "tool"))
    assert [span.message_index for span in spans] == list(range(len(messages)))
    if holding and not (case == "arguments as text" and tokenizer is not real("qwen3")):
        assert encoded.ids == expected


def own(tokenizer: Any, messages: Messages) -> list[int]:
    values = Template().values
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **values)


def holds(text: str, messages: Sequence[dict[str, Any]]) -> bool:
    """Whether the words of the messages are in the text, those of one message behind those of the one before."""
    place = 0
    if "'type': 'text'" in text:  # a list printed as code
        return False
    for message in messages:
        places = [text.find(word, place) for word in words(message)]
        if min(places, default=place) < 0:
            return False
        place = max(places, default=place)
    return True


@pytest.fixture(scope="session", params=["trained", "gemma3", "gptoss", "llama3_1", "mistral_nemo", "qwen2_5", "qwen3"])
def tokenizer(request: pytest.FixtureRequest, chat_tokenizer: Any) -> Any:
    return chat_tokenizer if request.param == "trained" else real(request.param)


# As gpt-oss writes them: reasoning and calls in channels of their own, a tool's result as JSON, and one call a turn.
HARMONY = (
    "{% set last = namespace(call='') %}{% for message in messages %}{% if message.role == 'assistant' %}"
    "{% if message.thinking and (loop.last or message.tool_calls) %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' }}{% endif %}"
    "{% if message.tool_calls %}{% set call = message.tool_calls[0].function %}{% set last.call = call.name %}"
    "{{ '<|start|>assistant to=functions.' + call.name + '<|channel|>commentary json<|message|>' }}"
    "{{ (call.arguments | tojson) + '<|call|>' }}{% else %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + message.content }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% endif %}{% elif message.role == 'tool' %}"
    "{{ '<|start|>functions.' + last.call + ' to=assistant<|channel|>commentary<|message|>' }}"
    "{{ (message.content | tojson) + '<|end|>' }}"
    "{% else %}{{ '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)


def test_harmony_calls() -> None:
    tokenizer = with_template(real("gptoss"), HARMONY)
    messages = with_tools(None, call(), reasoning_content="Hmgamma.")
    messages[2]["content"] = 'Say "19 °C"\n'
    assert span_texts(tokenizer, messages, ["assistant", "tool"]) == [
        'to=functions.lookalpha<|channel|>commentary json<|message|>{"city": "Parisbeta"}',
        r"Say \"19 °C\"\n",
        "Sunnygamma.",
    ]
    assert "analysis<|message|>Hmgamma.<|end|>" in render(tokenizer, messages)
    with pytest.raises(UserError, match=re.escape("1 (assistant): the chat template does not render its tool call 2")):
        render(tokenizer, with_tools(None, *TWO))


def test_what_is_left_out_is_named() -> None:
    talk = [*chat("Howalpha?"), {**chat("", "Thusbeta.")[1], "reasoning_content": "Hmgamma."}]
    with pytest.raises(UserError, match=re.escape("message 1 (assistant): the chat template does not render its reas")):
        message_spans(real("qwen2_5"), talk)
    with pytest.raises(UserError, match=re.escape("1 (assistant): the chat template does not render its tool call 1")):
        message_spans(real("llama3_1"), CASES["null"])
    with pytest.raises(UserError, match=re.escape("refuses message 2 (tool): ")):
        message_spans(real("gemma3"), CASES["content beside the call"])


def test_arguments_that_are_text_are_not_quoted_twice() -> None:
    """OpenAI's files hold JSON in a string; templates that expect an object would quote it again."""
    parsed = [{**m, "tool_calls": [call()]} if "tool_calls" in m else m for m in CASES["arguments as text"]]
    for name in ("qwen2_5", "mistral_nemo"):
        assert encode_conversation(real(name), CASES["arguments as text"]).ids == own(real(name), parsed)


def test_spans_of_tool_calls() -> None:
    calls = '<tool_call>\n{"name": "lookalpha", "arguments": {"city": "Parisbeta"}}\n</tool_call>'
    for name in ("qwen2_5", "qwen3"):
        assert span_texts(real(name), CASES["null"], ["assistant"]) == [calls, "Sunnygamma."]
        beside = span_texts(real(name), CASES["content beside the call"], ["assistant"])
        assert beside == ["Lookingzeta.\n" + calls, "Sunnygamma."]


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3"])
def test_the_same_call_again_has_a_span_of_its_own(name: str) -> None:
    """Both had the first one's tokens, where its result is empty."""
    again = {"role": "assistant", "content": None, "tool_calls": [call()]}
    talk = [*chat("Howdelta?"), again, {"role": "tool", "content": ""}, again, *chat("", "Sunnygamma.")[1:]]
    calls = '<tool_call>\n{"name": "lookalpha", "arguments": {"city": "Parisbeta"}}\n</tool_call>'
    assert span_texts(real(name), talk, ["assistant"]) == [calls, calls, "Sunnygamma."]
    first, second, _ = message_spans(real(name), talk)
    assert first.end < second.start
    # The content may say what the calls say, and blank messages may stand in front.
    twice = [*chat("Howdelta?"), {**again, "content": calls}, *chat("", "Sunnygamma.")[1:]]
    assert span_texts(real(name), twice, ["assistant"]) == [f"{calls}\n{calls}", "Sunnygamma."]
    blank = [*chat(""), {**again, "content": ""}, {"role": "tool", "content": "19"}, *chat("", "Sunnygamma.")[1:]]
    assert span_texts(real(name), blank, ["assistant", "tool"]) == [calls, "19", "Sunnygamma."]


def test_qwen_3_thinks_calls_and_answers_as_text() -> None:
    """As in transcripts of agents: the call in the answer's text, its result in a turn of the user."""
    called = '<tool_call>\n{"name": "look", "arguments": {"city": "Paris"}}\n</tool_call>'
    result = "<tool_response>\n19 degrees\n</tool_response>"
    talk = chat(
        "How warm is Paris?",
        f"<think>\nI must look.\n</think>\n\n{called}",
        result,
        "<think>\nNow I know.\n</think>\n\nIt is 19 degrees.",
    )
    assert span_texts(real("qwen3"), talk) == [talk[0]["content"], called, result, "It is 19 degrees."]
    text = render(real("qwen3"), talk)
    assert (text.count("I must look."), text.count("Now I know.")) == (1, 1)
    again = [*talk, *chat("And Rome?", "<think>\nHm.\n</think>\n\nWarmer.")]
    assert span_texts(real("qwen3"), again, ["assistant"]) == [called, "It is 19 degrees.", "Warmer."]
    assert encode_conversation(real("qwen3"), talk).ids == own(real("qwen3"), talk)


@pytest.mark.parametrize("name", ["mistral_nemo", "qwen3", "llama3_1", "gemma3", "deepseek_v3"])
def test_empty_fields_say_nothing(name: str) -> None:
    """Logs write them beside every answer; Mistral Nemo took an empty list for a call and left the answer out."""
    plain = chat("Howa?", "Thusb.", "Whyc?", "Sod.")
    empty = [{**message, "tool_calls": [], "reasoning_content": None} for message in plain]
    assert encode_conversation(real(name), empty).ids == encode_conversation(real(name), plain).ids
    assert span_texts(real(name), empty) == [message["content"] for message in plain]


def test_reasoning_under_another_name_and_under_two() -> None:
    answer = {"role": "assistant", "content": "Thusbeta.", "thinking": "Hmgamma."}
    own_name = [*chat("Howalpha?"), {"role": "assistant", "content": "Thusbeta.", "reasoning_content": "Hmgamma."}]
    assert encode_conversation(real("qwen3"), [*chat("Howalpha?"), answer]).ids == own(real("qwen3"), own_name)
    two = [*chat("Howalpha?"), {**answer, "reasoning_content": "Another."}]
    with pytest.raises(
        UserError, match=re.escape("message 1 (assistant): the chat template does not render its thinking")
    ):
        encode_conversation(real("qwen3"), two)
    same = [*chat("Howalpha?"), {**answer, "reasoning_content": "Hmgamma."}]
    assert encode_conversation(real("qwen3"), same).ids == own(real("qwen3"), own_name)
