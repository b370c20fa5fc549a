"""The decoder along residual axes: what sae-lens's own decode gives, whatever it does to its features."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig

from personascope.errors import UserError
from personascope.extraction.project_decoder import project_decoder, write_decoder
from personascope.formats.decoder import DecoderProjection
from personascope.formats.tables import save_npz
from personascope.models.saes import LoadedSAE, load_sae
from tests.extraction.test_extract import D_SAE, KINDS, save_sae


def axes(layer: int = 1, d_model: int = 32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3, d_model))
    names = (f"diff_residual_layer_{layer}", f"pc1_residual_layer_{layer}", "diff_sae")
    return {name: (v / np.linalg.norm(v)).astype(np.float32) for name, v in zip(names, vectors, strict=True)}


def loaded(sae: Any, hook: str = "blocks.1.hook_resid_post") -> LoadedSAE:
    from personascope.models.hookpoints import parse_hook_name

    return LoadedSAE(sae.eval().requires_grad_(False), parse_hook_name(hook), D_SAE, hook)


def scrambled(sae: Any) -> Any:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return sae


def require_decodes(sae: LoadedSAE, projection: DecoderProjection, known: dict[str, np.ndarray]) -> None:
    """Along each axis, weights and bias give what decode gives, on features of either sign."""
    z = torch.randn(40, D_SAE, generator=torch.Generator().manual_seed(2)) * 3
    decoded = sae.sae.decode(z).double().numpy()
    assert projection.methods == ["diff", "pc1"] and projection.layer == 1 and not projection.reason
    for row, name in enumerate(projection.methods):
        expected = decoded @ known[f"{name}_residual_layer_1"].astype(np.float64)
        ours = z.double().numpy() @ projection.weights[row].astype(np.float64) + projection.bias[row]
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", list(KINDS))
def test_weights_and_bias_are_what_the_sae_decodes(kind: str, tmp_path: Path) -> None:
    spec, known = save_sae(tmp_path / "sae", kind), axes()
    save_npz(tmp_path / "axis.npz", **known)
    write_decoder(spec, tmp_path / "axis.npz", tmp_path / "decoder.npz")
    projection = DecoderProjection.load(tmp_path / "decoder.npz")
    require_decodes(load_sae(spec), projection, known)
    assert projection.weights.dtype == np.float32 and projection.weights.shape == (2, D_SAE)


def test_features_that_the_decoder_rescales_are_rescaled() -> None:
    config = TopKSAEConfig(k=5, d_in=32, d_sae=D_SAE, normalize_activations="none", rescale_acts_by_decoder_norm=True)
    sae, known = loaded(scrambled(TopKSAE(config))), axes()
    require_decodes(sae, project_decoder(sae, known), known)


def test_what_is_normalized_token_by_token_has_no_linear_split() -> None:
    for how in ("layer_norm", "constant_norm_rescale"):
        config = StandardSAEConfig(d_in=32, d_sae=D_SAE, normalize_activations=how)  # pyright: ignore[reportArgumentType]
        projection = project_decoder(loaded(scrambled(StandardSAE(config))), axes())
        assert "token by token" in projection.reason and projection.methods == []


def test_a_decoder_that_is_not_linear_is_found_out() -> None:
    sae = scrambled(StandardSAE(StandardSAEConfig(d_in=32, d_sae=D_SAE)))
    plain = sae.decode
    sae.decode = lambda z: torch.tanh(plain(z))
    assert "no linear map" in project_decoder(loaded(sae), axes()).reason


def test_the_layer_is_that_of_the_residual_stream_or_there_is_a_reason(tmp_path: Path) -> None:
    sae = scrambled(StandardSAE(StandardSAEConfig(d_in=32, d_sae=D_SAE)))
    before = project_decoder(loaded(sae, "blocks.2.hook_resid_pre"), axes())
    assert before.layer == 1 and before.methods == ["diff", "pc1"]
    assert "layer 1 is not among" in project_decoder(loaded(sae), axes(layer=0)).reason
    none = project_decoder(loaded(sae, "blocks.1.hook_mlp_out"), axes())
    assert "blocks.1.hook_mlp_out" in none.reason
    none.save(tmp_path / "decoder.npz")
    assert DecoderProjection.load(tmp_path / "decoder.npz").reason == none.reason
    with pytest.raises(UserError, match="32 dimensions, the axes have 16"):
        project_decoder(loaded(sae), axes(d_model=16))
