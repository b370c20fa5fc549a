"""An SAE's decoder along the residual axes of its layer: what each feature adds to the projection of h, linearly."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from personascope.errors import UserError
from personascope.formats.decoder import DecoderProjection
from personascope.formats.tables import load_all_npz
from personascope.models.saes import LoadedSAE, SAESpec, load_sae

METHODS = ("diff", "pc1")
CLOSE = 1e-3  # of the largest value: float32 sums over many features


def write_decoder(spec: SAESpec, axes_file: str | Path, output: str | Path) -> None:
    """From the axis stage's axis.npz to decoder.npz; where there is no linear split, it says why."""
    project_decoder(load_sae(spec), load_all_npz(axes_file)).save(output)


def project_decoder(sae: LoadedSAE, axes: dict[str, np.ndarray]) -> DecoderProjection:
    """The decoder along the axes {"diff_residual_layer_15": float32 [d_model], ...} of the SAE's layer.

    There is none where the SAE does not reconstruct the residual stream, its layer was not kept, or its decoder is not
    one linear map for all tokens (activations normalized token by token).
    """
    layer = sae.point.layer - (sae.point.site == "resid_pre")
    if sae.point.site not in ("resid_post", "resid_pre") or layer < 0:
        return DecoderProjection.none(f"the SAE is read at {sae.hook_name}, which is no output of a block")
    known = {method: axes.get(f"{method}_residual_layer_{layer}") for method in METHODS}
    kept = {method: axis for method, axis in known.items() if axis is not None}
    if not kept:
        return DecoderProjection.none(f"the SAE's layer {layer} is not among extraction.residual_layers")
    directions = np.stack(list(kept.values())).astype(np.float32)
    if directions.shape[1] != sae.sae.cfg.d_in:
        raise UserError(f"the SAE reads {sae.sae.cfg.d_in} dimensions, the axes have {directions.shape[1]}")
    sae.sae.to(torch.float32)
    try:
        weights, bias = _linear_map(sae, torch.from_numpy(directions).to(sae.device))
    except NotLinear as reason:
        return DecoderProjection.none(str(reason))
    return DecoderProjection(list(kept), layer, directions, weights.cpu().numpy(), bias.double().cpu().numpy())


class NotLinear(Exception):
    """The decoder is not one linear map."""


def _linear_map(sae: LoadedSAE, directions: Tensor) -> tuple[Tensor, Tensor]:
    """(weights [M, d_sae], bias [M]) with directions . decode(z) = weights z + bias.

    The weights are the gradient at z = 0, so that whatever the decoder does to its features (rescaled by the norm of
    their rows, say) is in them; that it is linear is tried on random features.
    """
    z = torch.zeros(1, sae.d_sae, device=sae.device, requires_grad=True)
    try:
        along = directions @ sae.sae.decode(z)[0]
        rows = [torch.autograd.grad(value, z, retain_graph=True)[0][0] for value in along]
        tried = torch.rand(1, sae.d_sae, generator=torch.Generator().manual_seed(0)).to(sae.device)
        decoded = directions @ sae.sae.decode(tried)[0]
    except AttributeError:  # sae-lens keeps the statistics of the tokens that it has encoded, and has none
        raise NotLinear("the SAE normalizes its activations token by token; its decoder is no linear map") from None
    weights, bias = torch.stack(rows), along.detach()
    expected = (weights @ tried[0]) + bias
    scale = (weights.abs() @ tried[0]) + bias.abs()
    if bool(((decoded.detach() - expected).abs() > CLOSE * scale).any()):
        raise NotLinear("the SAE's decoder is no linear map of its features")
    return weights, bias
