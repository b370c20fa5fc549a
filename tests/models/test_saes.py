"""SAEs that do not fit: a scale that is not in the weights, another model, and what the reconstruction tells."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, SkipTranscoder, SkipTranscoderConfig, TemporalSAE, TemporalSAEConfig

from personascope.errors import UserError
from personascope.extraction.extract import Item, unexplained_variance
from personascope.formats.saes import other_model, read_config, trained_on
from personascope.models.hookpoints import HookPoint, run_to
from personascope.models.saes import LoadedSAE, SAESpec, load_sae, unexplained
from tests.extraction.test_extract import HOOK, save_sae


def saved(folder: Path, **changes: Any) -> SAESpec:
    """An SAE whose cfg.json says otherwise."""
    spec, file = save_sae(folder), folder / "cfg.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return spec


@pytest.mark.parametrize("kind", ["expected_average_only_in", "covariance_whitening"])
def test_a_scale_that_is_not_in_the_weights_is_refused(tmp_path: Path, kind: str) -> None:
    """SAELens encodes as if there were none: its features are those of activations of another size."""
    spec = saved(tmp_path, normalize_activations=kind)
    plain = SAE.load_from_disk(str(tmp_path))
    tokens = torch.randn(4, 32)
    plain.cfg.normalize_activations = "none"
    assert torch.equal(SAE.load_from_disk(str(tmp_path)).encode(tokens), plain.encode(tokens))
    with pytest.raises(UserError, match=rf"sae.path: {tmp_path}: normalize_activations is {kind}, .* fold it with"):
        load_sae(spec)


def test_a_scale_that_is_folded_in_is_read(tmp_path: Path) -> None:
    save_sae(tmp_path / "raw")
    sae = SAE.load_from_disk(str(tmp_path / "raw"))
    sae.cfg.normalize_activations = "expected_average_only_in"
    tokens = torch.randn(4, 32)
    expected = sae.encode(tokens * 0.25)
    sae.fold_activation_norm_scaling_factor(0.25)
    sae.save_model(tmp_path / "folded")
    folded = load_sae(SAESpec(path=str(tmp_path / "folded")))
    torch.testing.assert_close(folded.sae.encode(tokens), expected)


@pytest.mark.parametrize("kind", ["layer_norm", "constant_norm_rescale"])
def test_what_is_scaled_token_by_token_needs_nothing(tmp_path: Path, kind: str) -> None:
    sae = load_sae(saved(tmp_path, normalize_activations=kind))
    tokens = torch.randn(4, 32)
    torch.testing.assert_close(sae.sae.encode(3 * tokens), sae.sae.encode(tokens), rtol=1e-3, atol=1e-3)


def test_an_sae_of_sequences_is_refused(tmp_path: Path) -> None:
    sae = TemporalSAE(TemporalSAEConfig(d_in=32, d_sae=16, n_heads=2, bottleneck_factor=8))
    sae.cfg.metadata.hook_name = HOOK
    sae.save_model(tmp_path)
    with pytest.raises(UserError, match="a temporal SAE encodes whole sequences"):
        load_sae(SAESpec(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("trained", "model"),
    [
        ("gemma-2-2b", "google/gemma-2-2b"),
        ("google/gemma-2-2b", "google/gemma-2-2b"),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Meta-Llama-3.1-8B-Instruct"),
        ("gpt2-small", "openai-community/gpt2"),
        ("pythia-70m-deduped", "EleutherAI/pythia-70m-deduped"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b-instruct"),
        (None, "org/any"),
    ],
)
def test_names_of_the_same_model(trained: str | None, model: str) -> None:
    assert other_model(trained, model) is None


@pytest.mark.parametrize(
    ("trained", "model"), [("gemma-2-2b", "google/gemma-2-9b"), ("gemma-2-2b", "google/gemma-2-2b-it"), ("a", "org/b")]
)
def test_another_model_is_told(trained: str, model: str) -> None:
    said = other_model(trained, model)
    assert said is not None and f"trained on {trained}, the model is {model}" in said


def test_a_folder_is_known_by_its_path_and_its_config(tmp_path: Path) -> None:
    cached = tmp_path / "models--google--gemma-2-2b" / "snapshots" / "c5ebcd40d208"
    cached.mkdir(parents=True)
    assert other_model("gemma-2-2b", str(cached)) is None and other_model("gemma-2-9b", str(cached)) is not None
    own = tmp_path / "mine"
    own.mkdir()
    assert other_model("gemma-2-9b", str(own)) is not None
    (own / "config.json").write_text(json.dumps({"_name_or_path": "google/gemma-2-9b"}))
    assert other_model("gemma-2-9b", str(own)) is None


def test_both_layouts_of_cfg_json_name_the_model(tmp_path: Path) -> None:
    saved(tmp_path, model_name="gemma-2-2b")
    assert trained_on(read_config(tmp_path)) == "gemma-2-2b"
    saved(tmp_path, metadata={"hook_name": HOOK, "model_name": "gemma-2-9b"})
    assert trained_on(read_config(tmp_path)) == "gemma-2-9b"
    assert read_config(tmp_path / "absent") == {}


def exact(scale: float = 1.0) -> LoadedSAE:
    """An SAE that reconstructs what it reads, 16 features a direction and its opposite, times a scale."""
    from sae_lens import StandardSAE, StandardSAEConfig

    sae = StandardSAE(StandardSAEConfig(d_in=32, d_sae=64))
    with torch.no_grad():
        sae.W_enc.copy_(torch.cat([torch.eye(32), -torch.eye(32)], 1))
        sae.W_dec.copy_(scale * torch.cat([torch.eye(32), -torch.eye(32)]))
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    return LoadedSAE(sae.requires_grad_(False).eval(), HookPoint(1, "resid_post"), 64, HOOK)


def test_the_unexplained_variance_by_hand(tiny_llama: Any) -> None:
    rng = torch.Generator().manual_seed(1)
    items = [
        Item(torch.randint(0, 320, (n,), generator=rng).tolist(), [(start, n)])
        for n, start in ((40, 7), (9, 9), (600, 80), (50, 0))
    ]
    point = HookPoint(1, "resid_post")
    h = torch.cat([run_to(tiny_llama, torch.tensor([i.ids]), {point}, [i.ranges])[point] for i in items[:3]])[:512]
    spread = (h - h.mean(0)).square().sum()
    for scale, sae in ((1.0, exact()), (0.5, exact(0.5)), (0.0, exact(0.0)), (9.0, exact(9.0))):
        expected = ((1 - scale) ** 2 * h.square().sum() / spread).item()
        assert unexplained_variance(tiny_llama, sae, items, 64) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert unexplained_variance(tiny_llama, exact(), [Item([1, 2], [])]) is None


def test_a_transcoder_reconstructs_something_else() -> None:
    transcoder = SkipTranscoder(SkipTranscoderConfig(d_in=32, d_out=32, d_sae=16, apply_b_dec_to_input=False))
    loaded = LoadedSAE(transcoder.eval(), HookPoint(1, "resid_post"), 16, HOOK)
    assert unexplained(loaded, torch.randn(9, 32)) is None
