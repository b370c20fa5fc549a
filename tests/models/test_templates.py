"""Chat templates that use a clock, have names, take variables, or do not render all that they are given."""

import datetime
import json
import re
from pathlib import Path
from typing import Any, cast

import pytest

from personascope.errors import UserError
from personascope.models.loading import ModelSpec, load_tokenizer
from personascope.models.spans import encode_conversation, message_spans, prompt_ids, render, template_hash
from personascope.models.templates import Template, use_template
from tests.models.test_spans import chat, real, span_texts, with_template

TURN = "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
CHATML = "{% for message in messages %}" + TURN + "{% endfor %}"
DATED = "{{ 'Today: ' + strftime_now('%B %d, %Y') + ', ' + date_string + '\n' }}" + CHATML
THINKING = CHATML + "{% if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}{% endif %}"
# A template of a model that also sees pictures: text is a part among others.
PARTS = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As R1-Distill: the last system turn stands in front of everything.
SYSTEM_FIRST = (
    "{% set said = namespace(system='') %}{% for message in messages %}{% if message.role == 'system' %}"
    "{% set said.system = said.system + message.content %}{% endif %}{% endfor %}{{ said.system + '\n' }}"
    "{% for message in messages %}{% if message.role != 'system' %}" + TURN + "{% endif %}{% endfor %}"
)
# As gpt-oss: a system turn is only known in front.
SYSTEM_ONCE = (
    "{% for message in messages %}{% if message.role != 'system' or loop.first %}" + TURN + "{% endif %}{% endfor %}"
)


def loaded_with(folder: Path, tokenizer: Any, template: Any, **settings: Any) -> Any:
    """The tokenizer, saved with this template and loaded as a model's is."""
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": template}))
    return load_tokenizer(ModelSpec(str(folder), template=Template(**settings)))


# ---- the clock ------------------------------------------------------------------------------------------------------


def test_the_clock_of_a_template_stands(chat_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = with_template(chat_tokenizer, DATED)
    texts = set()
    for year in (2025, 2031):

        class Day(datetime.datetime):
            @classmethod
            def now(cls, tz: Any = None, year: int = year) -> Any:
                return cls(year, 1, 2)

        monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Day)
        assert f"Today: January 02, {year}" in tokenizer.apply_chat_template(
            chat("hi"), tokenize=False, date_string="", add_generation_prompt=True
        )
        texts.add(render(tokenizer, chat("hi")))
    assert [text.splitlines()[0] for text in texts] == ["Today: July 26, 2024, 26 Jul 2024"]


def test_the_date_is_a_setting_and_part_of_the_key(chat_tokenizer: Any, tmp_path: Path) -> None:
    one = loaded_with(tmp_path / "one", chat_tokenizer, DATED)
    other = loaded_with(tmp_path / "other", chat_tokenizer, DATED, date="2025-03-09")
    assert render(other, chat("hi")).splitlines()[0] == "Today: March 09, 2025, 09 Mar 2025"
    assert template_hash(one) != template_hash(other)
    assert template_hash(one) == template_hash(with_template(chat_tokenizer, DATED))
    assert span_texts(other, chat("March 09, 2025", "09 Mar 2025")) == ["March 09, 2025", "09 Mar 2025"]


@pytest.mark.parametrize("day", ["26 Jul 2024", "2024-02-31", "today"])
def test_a_date_that_is_no_day(day: str) -> None:
    with pytest.raises(UserError, match=r"model\.template\.date: .* is no day"):
        Template(date=day)


# ---- several templates, and variables -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_named_templates(kind: str, chat_tokenizer: Any, tmp_path: Path) -> None:
    """Command R has three; the one named default is taken, or the one that the configuration names."""
    named = {"default": CHATML, "rag": "{{ 'Documents:\n' }}" + CHATML}
    given = named if kind == "dict" else [{"name": name, "template": text} for name, text in named.items()]
    default = loaded_with(tmp_path / "a", chat_tokenizer, given)
    rag = loaded_with(tmp_path / "b", chat_tokenizer, given, name="rag")
    assert render(default, chat("hi")) == "<|im_start|>user\nhi<|im_end|>\n"
    assert render(rag, chat("hi")) == "Documents:\n<|im_start|>user\nhi<|im_end|>\n"
    assert span_texts(rag, chat("hi", "ho")) == ["hi", "ho"]
    assert template_hash(default) == template_hash(with_template(chat_tokenizer, CHATML)) != template_hash(rag)
    assert span_texts(with_template(chat_tokenizer, cast(Any, named)), chat("hi", "ho")) == ["hi", "ho"]
    with pytest.raises(UserError, match=r"model.template.name: there is no template 'tools'; there are default, rag"):
        loaded_with(tmp_path / "c", chat_tokenizer, given, name="tools")


def test_a_name_needs_names(chat_tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.template\.name: 'rag'; the tokenizer has one template without a name"):
        loaded_with(tmp_path / "a", chat_tokenizer, CHATML, name="rag")


def test_variables_reach_every_rendering_and_the_key(chat_tokenizer: Any, tmp_path: Path) -> None:
    plain = loaded_with(tmp_path / "a", chat_tokenizer, THINKING)
    off = loaded_with(tmp_path / "b", chat_tokenizer, THINKING, variables={"enable_thinking": False})
    assert not render(plain, chat("hi", "ho")).endswith("<think></think>")
    assert render(off, chat("hi", "ho")).endswith("<think></think>")
    assert encode_conversation(off, chat("hi", "ho")).text == render(off, chat("hi", "ho"))
    assert off.decode(prompt_ids(off, chat("hi"))).endswith("<think></think>")
    assert span_texts(off, chat("hi", "ho")) == ["hi", "ho"]
    assert template_hash(plain) != template_hash(off)


def test_qwen_3_without_thinking() -> None:
    tokenizer = with_template(real("qwen3"), real("qwen3").chat_template)
    use_template(tokenizer, Template(variables={"enable_thinking": False}))
    expected = tokenizer.apply_chat_template(
        chat("2+2?"), tokenize=True, add_generation_prompt=True, enable_thinking=False, return_dict=False
    )
    assert prompt_ids(tokenizer, chat("2+2?")) == expected
    assert tokenizer.decode(expected).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_a_template_that_demands_tools(chat_tokenizer: Any) -> None:
    demands = "{% if tools is none %}{{ raise_exception('give tools') }}{% endif %}" + CHATML
    tokenizer = with_template(chat_tokenizer, demands)
    with pytest.raises(UserError, match="refuses this conversation: give tools"):
        render(tokenizer, chat("hi"))
    use_template(tokenizer, Template(variables={"tools": []}))
    assert span_texts(tokenizer, chat("hi", "ho")) == ["hi", "ho"]


@pytest.mark.parametrize("name", ["tokenize", "add_generation_prompt", "strftime_now"])
def test_variables_that_are_not_the_templates(name: str) -> None:
    with pytest.raises(UserError, match=f"model.template.variables: {name} is not the template's"):
        Template(variables={name: True})


# ---- what a template does not say -----------------------------------------------------------------------------------


def test_content_is_given_as_parts_where_the_template_wants_them(chat_tokenizer: Any) -> None:
    """As text, every turn was empty: all responses answered an empty prompt."""
    tokenizer, messages = with_template(chat_tokenizer, PARTS), chat("What?", "That.", system="Be brief.")
    parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    assert "What?" not in tokenizer.apply_chat_template(messages, tokenize=False)
    expected = tokenizer.apply_chat_template(parts, tokenize=True, return_dict=False)
    assert encode_conversation(tokenizer, messages).ids == encode_conversation(tokenizer, parts).ids == expected
    assert span_texts(tokenizer, messages) == ["Be brief.", "What?", "That."]
    prompt = tokenizer.apply_chat_template(parts[:2], tokenize=True, add_generation_prompt=True, return_dict=False)
    assert prompt_ids(tokenizer, messages[:2]) == prompt


def test_a_prompt_that_is_not_rendered_is_refused(chat_tokenizer: Any) -> None:
    silent = with_template(chat_tokenizer, CHATML.replace("message.content", "(message.content if loop.first else '')"))
    with pytest.raises(UserError, match=re.escape("message 1 (user): the chat template does not render its content")):
        prompt_ids(silent, chat("hi", system="Be a pirate."))
    quoting = with_template(chat_tokenizer, CHATML.replace("message.content", "(message.content | string | upper)"))
    with pytest.raises(UserError, match=re.escape("message 0 (user): the chat template does not render its content")):
        prompt_ids(quoting, chat("hi"))


@pytest.mark.parametrize("template", [SYSTEM_FIRST, SYSTEM_ONCE])
def test_a_second_system_turn_is_named(template: str, chat_tokenizer: Any) -> None:
    tokenizer = with_template(chat_tokenizer, template)
    talk = [*chat("a", "b", system="s"), {"role": "system", "content": "Now be rude."}, *chat("c", "d")]
    with pytest.raises(UserError, match=re.escape("message 3 (system): the chat template ")):
        encode_conversation(tokenizer, talk)
    assert span_texts(tokenizer, [talk[0], *talk[1:3], *talk[4:]]) == ["s", "a", "b", "c", "d"]
    assert span_texts(with_template(chat_tokenizer, CHATML), talk) == ["s", "a", "b", "Now be rude.", "c", "d"]


def test_deepseek_moves_a_second_system_turn() -> None:
    talk = [*chat("a", "b", system="s"), {"role": "system", "content": "Now be rude."}, *chat("c", "d")]
    with pytest.raises(UserError, match=re.escape("message 3 (system): the chat template moves it")):
        message_spans(real("deepseek_v3"), talk)


def test_a_picture_is_named(chat_tokenizer: Any) -> None:
    talk = [{"role": "user", "content": [{"type": "image", "url": "x"}]}]
    with pytest.raises(UserError, match=re.escape("message 0 (user): a part is 'image'; only text can be read")):
        render(chat_tokenizer, talk)
