"""Where a response ends: every source of end tokens counts, and the template's own mark."""

# ruff: noqa: RUF001 (odd characters are the point)
import json
from pathlib import Path
from typing import Any

import pytest

from personascope.models.loading import ModelSpec, stop_ids
from personascope.models.stops import template_stops
from tests.models.test_message_fields import HARMONY
from tests.models.test_spans import LLAMA_3_1, real, with_template

BETWEEN = (
    "{% for message in messages %}{{ message.role + ': ' + message.content }}"
    "{% if not loop.last %}{{ '<|im_end|>' }}{% endif %}{% endfor %}"
)


def test_marks_of_templates(chat_tokenizer: Any) -> None:
    expected = {"qwen3": ["<|im_end|>"], "gemma3": ["<end_of_turn>"], "llama3": ["<|eot_id|>"]}
    expected |= {"deepseek_v3": ["<｜end▁of▁sentence｜>"], "mistral_nemo": ["</s>"], "llama2": ["</s>"]}
    for name, marks in expected.items():
        assert real(name).convert_ids_to_tokens(template_stops(real(name))) == marks, name
    between = with_template(chat_tokenizer, BETWEEN)
    assert chat_tokenizer.convert_ids_to_tokens(template_stops(between)) == ["<|im_end|>"]
    assert template_stops(with_template(chat_tokenizer, BETWEEN.replace("<|im_end|>", " "))) == []


def test_gpt_oss_does_not_stop_between_channels() -> None:
    tokenizer = with_template(real("gptoss"), HARMONY)
    assert tokenizer.convert_ids_to_tokens(template_stops(tokenizer)) == ["<|return|>", "<|call|>"]


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        ({}, None, [0, 1]),
        ({"eos_token_id": 7}, None, [0, 1, 7]),
        ({"eos_token_id": [7, 8]}, {"eos_token_id": 9}, [0, 1, 7, 8, 9]),
        ({"text_config": {"eos_token_id": 7}}, {"eos_token_id": [9]}, [0, 1, 7, 9]),
    ],
)
def test_every_source_counts(
    config: dict[str, Any], generation: dict[str, Any] | None, expected: list[int], tmp_path: Path, chat_tokenizer: Any
) -> None:
    """Here the tokenizer ends with <|im_start|> (0), the template with <|im_end|> (1), and Llama's class with 2."""
    tokenizer = with_template(chat_tokenizer, LLAMA_3_1)
    tokenizer.eos_token = "<|im_start|>"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert stop_ids(ModelSpec(str(tmp_path)), tokenizer) == expected
