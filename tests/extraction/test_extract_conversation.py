"""Token activations of whole conversations: a naive reference, chunks, the file, and what does not fit the context."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from personascope.errors import UserError
from personascope.extraction.extract import ExtractOptions
from personascope.extraction.extract_conversation import encode_within, token_blocks
from personascope.formats.tokens import read_activations, read_metadata, token_writer, write_failure
from personascope.models.saes import LoadedSAE, load_sae
from personascope.models.spans import Message, message_spans, prompt_ids
from tests.extraction.test_extract import D_SAE, KINDS, save_sae

TALK = [
    {"role": "system", "content": "You are a pirate."},
    {"role": "user", "content": "What is the meaning of life?"},
    {"role": "assistant", "content": "The answer is forty two."},
    {"role": "user", "content": "Who said so?"},
    {"role": "assistant", "content": "   "},
    {"role": "user", "content": "Who?"},
    {"role": "assistant", "content": "The assistant 🙂 said it to the user."},
]
LAYERS = (1, 0)


@pytest.fixture(params=list(KINDS))
def sae(request: pytest.FixtureRequest, tmp_path: Path) -> LoadedSAE:
    return load_sae(save_sae(tmp_path / "sae", request.param))


def write(path: Path, model: Any, sae: LoadedSAE, tokenizer: Any, chunk: int) -> None:
    encoded = encode_within(tokenizer, TALK, None, "refuse")
    turns = [{"message_index": s.message_index, "start": s.start, "end": s.end} for s in encoded.spans]
    metadata = {"d_sae": D_SAE, "residual_layers": list(LAYERS), "turns": turns}
    with token_writer(path, metadata, 32) as keep:
        for block in token_blocks(model, sae, tokenizer, encoded, ExtractOptions(LAYERS, chunk_tokens=chunk)):
            assert len(block.position) <= chunk
            keep(block)


@pytest.mark.parametrize("chunk", [1, 7, 512])
@torch.inference_mode()
def test_equals_the_naive_reference(
    tiny_llama: Any, sae: LoadedSAE, chat_tokenizer: Any, tmp_path: Path, chunk: int
) -> None:
    path = tmp_path / "talk.parquet"
    write(path, tiny_llama, sae, chat_tokenizer, chunk)
    got = read_activations(path)
    spans = message_spans(chat_tokenizer, TALK)
    ids = chat_tokenizer(chat_tokenizer.apply_chat_template(TALK, tokenize=False), add_special_tokens=False).input_ids
    states = tiny_llama(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    where = [t for span in spans for t in range(span.start, span.end)]
    z = sae.sae.encode(states[2][0, where]).numpy()
    dense = np.zeros_like(z)
    dense[np.repeat(np.arange(len(where)), np.diff(got.offsets)), got.indices] = got.values
    np.testing.assert_allclose(dense, z, atol=1e-5)
    assert all((np.diff(got.indices[a:b]) > 0).all() for a, b in zip(got.offsets[:-1], got.offsets[1:], strict=True))
    assert got.position.tolist() == where and got.token_ids.tolist() == [ids[t] for t in where]
    assert got.turn.tolist() == [i for i, span in enumerate(spans) for _ in range(span.start, span.end)]
    assert (got.n_turns, got.message_index.tolist(), got.width) == (3, [2, 4, 6], D_SAE)
    assert chat_tokenizer.convert_tokens_to_ids(got.tokens) == got.token_ids.tolist()
    for layer in LAYERS:
        residual = read_activations(path, "residual", layer)
        np.testing.assert_allclose(residual.values.reshape(-1, 32), states[layer + 1][0, where], atol=1e-4)
        assert residual.width == 32 and np.diff(residual.offsets).tolist() == [32] * len(where)


def test_a_layer_that_was_not_kept_is_named(
    tiny_llama: Any, sae: LoadedSAE, chat_tokenizer: Any, tmp_path: Path
) -> None:
    write(tmp_path / "talk.parquet", tiny_llama, sae, chat_tokenizer, 512)
    with pytest.raises(UserError, match=r"layer 2 is not among the layers kept"):
        read_activations(tmp_path / "talk.parquet", "residual", 2)


def test_only_empty_answers(tiny_llama: Any, sae: LoadedSAE, chat_tokenizer: Any) -> None:
    talk = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": ""}]
    encoded = encode_within(chat_tokenizer, talk, None, "refuse")
    assert list(token_blocks(tiny_llama, sae, chat_tokenizer, encoded, ExtractOptions(LAYERS))) == []
    assert len(encoded.spans) == 1


def test_a_failed_conversation_has_no_rows_and_its_reason(tmp_path: Path) -> None:
    write_failure(tmp_path / "bad.parquet", {"d_sae": 5, "turns": []}, "bad.json, message 3: no role")
    assert read_metadata(tmp_path / "bad.parquet")["error"] == "bad.json, message 3: no role"
    assert len(read_activations(tmp_path / "bad.parquet")) == 0


def length(tokenizer: Any, messages: list[Message]) -> int:
    return len(encode_within(tokenizer, messages, None, "refuse").encoded.ids)


def test_too_long_is_refused_with_both_numbers(chat_tokenizer: Any) -> None:
    n = length(chat_tokenizer, TALK)
    assert encode_within(chat_tokenizer, TALK, n, "refuse").dropped == 0
    with pytest.raises(UserError, match=rf"has {n} tokens, the model's context is {n - 1}; .*too_long: truncate"):
        encode_within(chat_tokenizer, TALK, n - 1, "refuse")


def test_truncation_takes_whole_exchanges_off_the_front(chat_tokenizer: Any) -> None:
    n = length(chat_tokenizer, TALK)
    cut = encode_within(chat_tokenizer, TALK, n - 1, "truncate")
    assert cut.dropped == 2 and [span.message_index for span in cut.spans] == [4, 6]
    kept = [TALK[0], *TALK[3:]]
    assert cut.encoded.ids[: len(prompt_ids(chat_tokenizer, kept[:2]))] == prompt_ids(chat_tokenizer, kept[:2])
    last = length(chat_tokenizer, [TALK[0], *TALK[5:]])
    assert encode_within(chat_tokenizer, TALK, last, "truncate").dropped == 4
    with pytest.raises(UserError, match=rf"has {n} tokens, the model's context is {last - 1}; shorten it$"):
        encode_within(chat_tokenizer, TALK, last - 1, "truncate")
