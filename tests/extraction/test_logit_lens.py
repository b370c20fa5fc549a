"""The logit lens of decoder rows against the whole matrix of logits, standardized token by token."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from personascope.errors import UserError
from personascope.extraction.logit_lens import final_norm, logit_lens
from personascope.formats.logit_lens import LogitLens
from personascope.models.saes import load_sae
from tests.extraction.test_extract import D_SAE, save_sae


def standardized(model: Any, sae: Any) -> np.ndarray:
    """z [d_sae, vocabulary], from all logits at once."""
    rows = sae.sae.W_dec.detach().double()
    weight, gain = model.lm_head.weight.double(), model.model.norm.weight.double()
    logits = rows / rows.norm(dim=1, keepdim=True) * gain @ weight.T
    return ((logits - logits.mean(0)) / logits.std(0, correction=0)).numpy()


@pytest.mark.parametrize("limit", [1 << 26, 5000])
@pytest.mark.parametrize("kind", ["jumprelu", "topk"])
def test_equals_all_logits_at_once(
    tmp_path: Path, tiny_llama: Any, chat_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, limit: int, kind: str
) -> None:
    monkeypatch.setattr("personascope.extraction.logit_lens.LOGIT_BYTES", limit)
    sae = load_sae(save_sae(tmp_path / "sae", kind))
    lens = logit_lens(tiny_llama, sae, chat_tokenizer, 5)
    z = standardized(tiny_llama, sae)
    # Special tokens, and the rows of the unembedding behind the vocabulary, say nothing.
    usable = np.setdiff1d(np.arange(len(chat_tokenizer)), chat_tokenizer.all_special_ids)
    assert lens.promoted.shape == lens.suppressed.shape == (D_SAE, 5)
    assert np.isin(lens.promoted, usable).all() and np.isin(lens.suppressed, usable).all()
    ordered = np.sort(z[:, usable], axis=1)
    np.testing.assert_allclose(lens.promoted_scores, ordered[:, ::-1][:, :5], atol=2e-3)
    np.testing.assert_allclose(lens.suppressed_scores, ordered[:, :5], atol=2e-3)
    np.testing.assert_allclose(np.take_along_axis(z, lens.promoted.astype(int), 1), lens.promoted_scores, atol=2e-3)
    assert lens.pieces[int(lens.promoted[0, 0])] == chat_tokenizer.convert_ids_to_tokens(int(lens.promoted[0, 0]))


def test_a_row_along_a_token_promotes_it(tmp_path: Path, tiny_llama: Any, chat_tokenizer: Any) -> None:
    sae = load_sae(save_sae(tmp_path / "sae"))
    with torch.no_grad():
        for feature, token in enumerate(range(40, 60)):
            sae.sae.W_dec[feature] = 3 * tiny_llama.lm_head.weight[token] / tiny_llama.model.norm.weight
    lens = logit_lens(tiny_llama, sae, chat_tokenizer)
    assert lens.promoted[:20, 0].tolist() == list(range(40, 60))


def test_a_model_without_a_final_norm_is_refused() -> None:
    layers = torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(2)])
    model = torch.nn.Module()
    model.layers = layers

    class Config:
        num_hidden_layers = 2

        def get_text_config(self) -> "Config":
            return self

    model.config = Config()  # type: ignore[assignment]
    with pytest.raises(UserError, match="no final norm"):
        final_norm(model)


def test_the_file_comes_back(tmp_path: Path) -> None:
    ids, scores = np.array([[1, 2]], np.int32), np.array([[0.5, 0.25]], np.float32)
    LogitLens(ids, ids[:, ::-1], scores, -scores, {1: "\u0120a", 2: "b"}).save(tmp_path / "l.npz", {"model": "m"})
    back = LogitLens.load(tmp_path / "l.npz")
    assert back.pieces == {1: "\u0120a", 2: "b"}
    np.testing.assert_array_equal(back.suppressed, [[2, 1]])
    np.savez(tmp_path / "other.npz", x=ids)
    with pytest.raises(UserError, match="has no promoted"):
        LogitLens.load(tmp_path / "other.npz")
