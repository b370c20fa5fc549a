"""Tokenizers as they are loaded: real files, under the classes that their configurations name."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from personascope.models.loading import ModelSpec, load_tokenizer
from tests.fetch_tokenizers import TARGET
from tests.models.test_spans import real

TEXT = "It's 12345 猫 👩‍👩‍👧\n\n    return x + 1"


def saved(folder: Path, name: str, **settings: Any) -> Path:
    """A fetched tokenizer in a folder of its own, with other settings."""
    expected = real(name)
    folder.mkdir()
    shutil.copy(TARGET / name / "tokenizer.json", folder)
    config = json.loads((TARGET / name / "tokenizer_config.json").read_text())
    config |= {"chat_template": expected.chat_template} | settings
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


@pytest.mark.parametrize("name", ["llama3_1", "deepseek_v3"])
def test_a_wrong_class_does_not_change_the_tokens(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Llama 3.1 as `LlamaTokenizerFast` (R1-Distill-Llama) once lost every space."""
    folder = saved(tmp_path / name, name, tokenizer_class="LlamaTokenizerFast")
    with caplog.at_level(logging.WARNING):
        loaded = load_tokenizer(ModelSpec(str(folder)))
    expected = real(name)
    assert [record for record in caplog.records if "as its tokenizer.json says" in record.getMessage()]
    assert loaded(TEXT, add_special_tokens=False)["input_ids"] == expected(TEXT, add_special_tokens=False)["input_ids"]
    assert loaded.decode(loaded(TEXT, add_special_tokens=False)["input_ids"]) == TEXT
    assert loaded.chat_template == expected.chat_template
    assert (loaded.eos_token_id, loaded.bos_token_id) == (expected.eos_token_id, expected.bos_token_id)


def test_a_right_class_is_kept_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        loaded = load_tokenizer(ModelSpec(str(saved(tmp_path / "llama", "llama3_1"))))
    assert len(loaded(TEXT, add_special_tokens=False)["input_ids"]) == 25
    assert not [record for record in caplog.records if record.name.startswith("personascope")]


@pytest.mark.parametrize("kept", ["truncation", "padding"])
def test_a_file_may_say_how_batches_of_training_were_made(kept: str, tmp_path: Path) -> None:
    """Fine-tuned models have such files: they were refused as ones that do not read text as they say."""
    batches = {
        "truncation": {"direction": "Right", "max_length": 64, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            **{"strategy": {"Fixed": 512}, "direction": "Right", "pad_to_multiple_of": None},
            **{"pad_id": 0, "pad_type_id": 0, "pad_token": "!"},
        },
    }
    file = saved(tmp_path / "qwen", "qwen3") / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {kept: batches[kept]}))
    loaded = load_tokenizer(ModelSpec(str(file.parent)))
    for text in (TEXT, 99 * TEXT):
        assert loaded(text, add_special_tokens=False)["input_ids"] == real("qwen3")(text)["input_ids"]


def test_without_the_file_there_is_nothing_to_compare(tmp_path: Path, chat_tokenizer: Any) -> None:
    from personascope.models.tokenizers import as_its_file_says

    assert as_its_file_says(chat_tokenizer, str(tmp_path), {"revision": None}) is chat_tokenizer
