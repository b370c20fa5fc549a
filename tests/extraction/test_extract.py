"""extract() against a naive reference: one conversation at a time, dense, no padding."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import (
    AbsTopKSAE,
    AbsTopKSAEConfig,
    JumpReLUSAE,
    JumpReLUSAEConfig,
    StandardSAE,
    StandardSAEConfig,
    TopKSAE,
    TopKSAEConfig,
)

from personascope.errors import UserError
from personascope.extraction.extract import ExtractOptions, batches_by_tokens, extract, layers_available
from personascope.extraction.items import Item, make_item
from personascope.formats.features import Pooled
from personascope.models.saes import LoadedSAE, SAESpec, check_fit, encode_blocks, load_sae, sae_identity
from personascope.models.spans import encode_conversation, message_spans

D_SAE = 32
KINDS = {
    "standard": lambda **cfg: StandardSAE(StandardSAEConfig(**cfg)),
    "topk": lambda **cfg: TopKSAE(TopKSAEConfig(k=5, **cfg)),
    "jumprelu": lambda **cfg: JumpReLUSAE(JumpReLUSAEConfig(**cfg)),
    "abstopk": lambda **cfg: AbsTopKSAE(AbsTopKSAEConfig(k=5, **cfg)),  # activations of both signs
}
HOOK = "blocks.1.hook_resid_post"


def save_sae(folder: Path, kind: str = "standard", d_in: int = 32, hook_name: str | None = HOOK) -> SAESpec:
    torch.manual_seed(3)
    sae = KINDS[kind](d_in=d_in, d_sae=D_SAE, apply_b_dec_to_input=True, normalize_activations="none")
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.copy_(torch.rand_like(parameter) if name == "threshold" else torch.randn_like(parameter) * 0.2)
    if hook_name:
        sae.cfg.metadata.hook_name = hook_name
    sae.save_model(folder)
    return SAESpec(path=str(folder))


@pytest.fixture(params=list(KINDS))
def sae(request: pytest.FixtureRequest, tmp_path: Path) -> LoadedSAE:
    return load_sae(save_sae(tmp_path / "sae", request.param))


def test_blocks_of_features_are_what_the_sae_encodes(sae: LoadedSAE, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("personascope.models.saes.BLOCK_FEATURES", 5)
    blocks = list(encode_blocks(sae, tokens))
    assert torch.cat([torch.arange(D_SAE)[columns] for columns, _ in blocks]).tolist() == list(range(D_SAE))
    z, expected = torch.cat([z for _, z in blocks], dim=1), sae.sae.encode(tokens)
    assert torch.allclose(z, expected, atol=1e-6) and 0 < (expected != 0).float().mean() < 1
    assert (len(blocks) > 1) == ("TopK" not in type(sae.sae).__name__)


def items() -> list[Item]:
    rng = np.random.default_rng(5)
    lengths = [7, 23, 12, 1, 23, 5, 16]
    ranges = [[(2, 7)], [(3, 9), (11, 20)], [], [(0, 1)], [(22, 23)], [(1, 2), (2, 5)], [(0, 16)]]
    return [Item(rng.integers(0, 320, n).tolist(), spans) for n, spans in zip(lengths, ranges, strict=True)]


def largest(z: np.ndarray) -> np.ndarray:
    """Of z [tokens, D] the values of largest magnitude, with their sign, [D]."""
    return np.take_along_axis(z, np.abs(z).argmax(0)[None], 0)[0] if len(z) else np.zeros(z.shape[1])


def reference(model: Any, sae: LoadedSAE, item: Item, layers: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Dense (mean, max, residual means)."""
    states = model(input_ids=torch.tensor([item.ids]), output_hidden_states=True).hidden_states
    chosen = [token for start, end in item.ranges for token in range(start, end)]
    if not chosen:
        return np.zeros(D_SAE), np.zeros(D_SAE), np.zeros((len(layers), 32))
    z = torch.stack([sae.sae.encode(states[sae.point.layer + 1][:, t])[0] for t in chosen])
    residuals = [states[layer + 1][0, chosen].mean(0).numpy() for layer in layers]
    return z.mean(0).numpy(), largest(z.numpy()), np.array(residuals).reshape(len(layers), 32)


def dense(pooled: Pooled, values: np.ndarray) -> np.ndarray:
    row = np.zeros(D_SAE, np.float32)
    row[pooled.indices] = values
    return row


@pytest.mark.parametrize(
    ("batch_tokens", "chunk_tokens"), [(2048, 512), (1, 512), (50, 3), (2048, 1), (46, 7), (2048, 4), (90, 16)]
)
@torch.inference_mode()
def test_equals_the_naive_reference(tiny_llama: Any, sae: LoadedSAE, batch_tokens: int, chunk_tokens: int) -> None:
    layers = (1, 0)
    pooled = extract(tiny_llama, sae, items(), ExtractOptions(layers, batch_tokens, chunk_tokens))
    assert len(pooled) == len(items())
    for item, got in zip(items(), pooled, strict=True):
        mean, peak, residuals = reference(tiny_llama, sae, item, layers)
        assert got.n_tokens == item.n_selected
        np.testing.assert_allclose(dense(got, got.mean), mean, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(dense(got, got.max), peak, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(got.residual_means, residuals, rtol=1e-5, atol=1e-5)
        assert np.array_equal(got.indices, np.flatnonzero(peak))
        dtypes = (got.indices.dtype, got.mean.dtype, got.max.dtype, got.residual_means.dtype)
        assert dtypes == (np.int32, np.float32, np.float32, np.float32)
    assert any(len(got.indices) for got in pooled)
    signed = type(sae.sae).__name__ == "AbsTopKSAE"
    assert any((got.max < 0).any() and (got.max > 0).any() for got in pooled) == signed


@pytest.mark.parametrize("batch_tokens", [1, 60, 2048])
@torch.inference_mode()
def test_a_shared_prefix_changes_nothing(tiny_llama: Any, sae: LoadedSAE, batch_tokens: int) -> None:
    """Instructions and questions repeat; some responses are empty, and one is pooled from its first token on."""
    rng = np.random.default_rng(2)
    instructions, questions = ([rng.integers(0, 320, n).tolist() for _ in range(2)] for n in (20, 9))
    prompts = [a + b for a in instructions for b in questions for _ in range(3)]
    answers = [rng.integers(0, 320, 1 + i).tolist() for i in range(len(prompts))]
    shared = [Item(p + a, [(len(p), len(p + a))]) for p, a in zip(prompts, answers, strict=True)]
    shared[4], shared[7] = Item(shared[4].ids, []), Item(shared[7].ids, [(0, 3), (12, 31)])
    layers = (0, 2, 1)
    for item, got in zip(shared, extract(tiny_llama, sae, shared, ExtractOptions(layers, batch_tokens)), strict=True):
        mean, peak, residuals = reference(tiny_llama, sae, item, (0, 1))
        scale = 1e-5 * max(float(np.abs(peak).max()), 1)
        np.testing.assert_allclose(dense(got, got.mean), mean, rtol=1e-5, atol=scale)
        np.testing.assert_allclose(dense(got, got.max), peak, rtol=1e-5, atol=scale)
        np.testing.assert_allclose(
            got.residual_means[[0, 2]], residuals, rtol=1e-5, atol=1e-5 * np.abs(residuals).max(initial=1)
        )


@torch.inference_mode()
def test_other_hook_points(tiny_llama: Any, tmp_path: Path) -> None:
    """resid_pre of block 2 is resid_post of block 1; layers behind the SAE's are still reached."""
    post = load_sae(save_sae(tmp_path / "post"))
    pre = load_sae(save_sae(tmp_path / "pre", hook_name="blocks.2.hook_resid_pre"))
    first = extract(tiny_llama, post, items(), ExtractOptions((0, 2)))
    second = extract(tiny_llama, pre, items(), ExtractOptions((0, 2)))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.residual_means, other.residual_means, rtol=1e-5, atol=1e-6)


def test_soft_capped_attention_is_kept(tmp_path: Path) -> None:
    """Gemma 2 caps its attention scores, which only the library's eager path does."""
    from personascope.models.loading import ModelSpec, load_model
    from tests.models.test_hookpoints import make

    made = make("gemma2")
    made.save_pretrained(tmp_path)
    loaded: Any = load_model(ModelSpec(str(tmp_path), dtype="float32", device="cpu"))
    assert loaded.config._attn_implementation == "eager"


def test_nothing_selected(tiny_llama: Any, sae: LoadedSAE) -> None:
    for batch in ([Item([1, 2, 3], [])], [Item([1, 2, 3], []), Item([4, 5], [(1, 2)])]):
        empty = extract(tiny_llama, sae, batch, ExtractOptions((0,)))[0]
        assert (empty.n_tokens, len(empty.indices), len(empty.mean), len(empty.max)) == (0, 0, 0, 0)
        assert empty.residual_means.shape == (1, 32)
        assert not empty.residual_means.any()
    assert extract(tiny_llama, sae, [], ExtractOptions()) == []


def test_without_residual_layers(tiny_llama: Any, sae: LoadedSAE) -> None:
    (pooled,) = extract(tiny_llama, sae, [Item([1, 2, 3], [(0, 3)])], ExtractOptions())
    assert pooled.residual_means.shape[0] == 0


def test_batches_by_tokens() -> None:
    lengths = [7, 23, 12, 1, 23, 5, 16]
    for budget in (1, 30, 50, 1000):
        batches = list(batches_by_tokens(lengths, budget))
        assert sorted(i for batch in batches for i in batch) == list(range(7))
        for batch in batches:
            assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
        flat = [lengths[i] for batch in batches for i in batch]
        assert flat == sorted(lengths, reverse=True)


def test_saes_of_a_model(tiny_llama: Any, tmp_path: Path) -> None:
    check_fit(load_sae(save_sae(tmp_path / "fits")), tiny_llama)
    with pytest.raises(UserError, match="reads 24 dimensions, the model's d_model is 32"):
        check_fit(load_sae(save_sae(tmp_path / "narrow", d_in=24)), tiny_llama)
    with pytest.raises(UserError, match="SAE layer 9: the model has layers 0 to 2"):
        check_fit(load_sae(save_sae(tmp_path / "deep", hook_name="blocks.9.hook_resid_post")), tiny_llama)
    layers_available(tiny_llama, [0, 2])
    with pytest.raises(UserError, match=r"residual_layers: \[3, -1\]: the model has layers 0 to 2"):
        layers_available(tiny_llama, [0, 3, -1])


def test_saes_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hook_name"):
        load_sae(save_sae(tmp_path / "nowhere", hook_name=None))
    with pytest.raises(UserError, match=r"blocks\.1\.attn\.hook_z"):
        load_sae(save_sae(tmp_path / "z", hook_name="blocks.1.attn.hook_z"))
    with pytest.raises(UserError, match=r"absent: cfg.json, sae_weights.safetensors not found"):
        load_sae(SAESpec(path=str(tmp_path / "absent")))
    spec = save_sae(tmp_path / "half")
    (tmp_path / "half" / "sae_weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"half: sae_weights.safetensors not found"):
        load_sae(spec)


@pytest.mark.parametrize("damage", ["no json", "no architecture", "cut weights", "wrong shape"])
def test_damaged_files(tmp_path: Path, damage: str) -> None:
    spec = save_sae(tmp_path)
    config, weights = tmp_path / "cfg.json", tmp_path / "sae_weights.safetensors"
    settings = json.loads(config.read_text())
    if damage == "no json":
        config.write_text("{")
    elif damage == "no architecture":
        config.write_text(json.dumps({key: value for key, value in settings.items() if key != "architecture"}))
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        config.write_text(json.dumps(settings | {"d_sae": 64}))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_sae(spec)


def test_identity_follows_the_files(tmp_path: Path) -> None:
    one, two = save_sae(tmp_path / "one"), save_sae(tmp_path / "two")
    assert sae_identity(one) == sae_identity(two)
    assert sae_identity(one) != sae_identity(save_sae(tmp_path / "other", "topk"))
    assert sae_identity(SAESpec(release="r", id="i")) == "r/i"


MESSAGES = [
    {"role": "user", "content": "What is it?"},
    {"role": "assistant", "content": "The answer."},
    {"role": "user", "content": "So?"},
    {"role": "assistant", "content": ""},
]


def test_token_selection(chat_tokenizer: Any) -> None:
    ids = encode_conversation(chat_tokenizer, MESSAGES).ids
    assert make_item(chat_tokenizer, MESSAGES, "all_with_special", None) == Item(ids, [(0, len(ids))])
    answer, _ = message_spans(chat_tokenizer, MESSAGES)
    item = make_item(chat_tokenizer, MESSAGES, "response_only", None)
    assert item == Item(ids, [(answer.start, answer.end)])
    assert item.n_selected == answer.end - answer.start
    assert make_item(chat_tokenizer, MESSAGES[:1], "response_only", None).ranges == []


def test_longer_than_the_context(chat_tokenizer: Any) -> None:
    length = len(encode_conversation(chat_tokenizer, MESSAGES).ids)
    assert len(make_item(chat_tokenizer, MESSAGES, "all", length).ids) == length
    with pytest.raises(UserError, match=f"has {length} tokens, the model's context is {length - 1}"):
        make_item(chat_tokenizer, MESSAGES, "all", length - 1)
