"""The logit lens on decoder rows: which tokens a feature makes likelier and less likely, all else left out.

A row r of the decoder is put through the final norm and the unembedding as if it were the residual stream
(nostalgebraist 2020, "interpreting GPT: the logit lens"): l = W_U (norm(r) - norm(0)), where the norm's own scale
changes no order. Some tokens are far from the others for every row, which says nothing of one feature. So tokens are
ranked by

    z[f, v] = (l[f, v] - mean_v) / sd_v,

with mean_v and sd_v over all features of the SAE. Neither needs a pass of its own: with x_f = norm(r_f) - norm(0),
mean_v is w_v . mean(x) and sd_v the root of w_v' cov(x) w_v. What later blocks make of the feature is not seen.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from personascope.errors import UserError
from personascope.formats.logit_lens import LogitLens
from personascope.models.hookpoints import decoder_layers
from personascope.models.saes import LoadedSAE

TOKENS = 10  # of each sign
LOGIT_BYTES = 1 << 26  # of the float32 logits that are in memory at once
NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f", "final_norm", "norm_f", "output_norm")


@torch.inference_mode()
def logit_lens(model: Any, sae: LoadedSAE, tokenizer: Any, most: int = TOKENS) -> LogitLens:
    """The `most` tokens of each sign of every feature; tokens without text of their own (special ones, rows of the
    unembedding that pad the vocabulary) are left out. UserError where the model's final norm is not found."""
    head = model.get_output_embeddings()
    norm = final_norm(model)
    device, dtype = head.weight.device, head.weight.dtype
    usable = torch.from_numpy(_usable(tokenizer, len(head.weight))).to(device)
    x = torch.cat([_normed(norm, rows, device, dtype) for rows in _rows(sae)])
    mean, spread = x.mean(0), torch.cov(x.T.double(), correction=0).float().to(device)
    step = max(1, LOGIT_BYTES // (4 * len(head.weight)))
    found: list[tuple[Tensor, ...]] = []
    deviation = torch.cat([_deviation(rows.float(), spread) for rows in head.weight.split(4096)])
    for rows in x.split(step):
        scores = (rows - mean).to(dtype) @ head.weight.T
        scores = scores.float() / deviation
        both = [(sign * scores).masked_fill(~usable, -torch.inf).topk(min(most, int(usable.sum()))) for sign in (1, -1)]
        found.append((both[0].indices.cpu(), both[1].indices.cpu(), both[0].values.cpu(), -both[1].values.cpu()))
    promoted, suppressed, up, down = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    used = np.unique(np.concatenate([promoted, suppressed])).tolist()
    pieces = dict(zip(used, tokenizer.convert_ids_to_tokens(used), strict=True))
    return LogitLens(promoted.astype(np.int32), suppressed.astype(np.int32), up, down, pieces)


def final_norm(model: Any) -> nn.Module:
    """The norm between the last block and the unembedding: it stands beside the blocks."""
    layers = decoder_layers(model)
    for parent in model.modules():
        if any(child is layers for child in parent.children()):
            for name in NORMS:
                if isinstance(norm := getattr(parent, name, None), nn.Module):
                    return norm
    raise UserError(f"{type(model).__name__}: no final norm found in it, which the logit lens goes through")


def _rows(sae: LoadedSAE, step: int = 8192) -> list[Tensor]:
    """What a unit of each feature adds, in blocks."""
    ids = torch.arange(sae.d_sae, device=sae.device)
    return [sae.directions(block) for block in ids.split(step)]


def _normed(norm: nn.Module, rows: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """norm(r) - norm(0), float32 [n, d]; rows are made as long as a stream of unit mean square, so that the norm's
    epsilon is small beside them."""
    long = rows.float() * (rows.shape[1] ** 0.5 / rows.float().norm(dim=1, keepdim=True).clamp(min=1e-12))
    long = long.to(device, dtype)
    return norm(long).float() - norm(torch.zeros_like(long[:1])).float()


def _deviation(weights: Tensor, spread: Tensor) -> Tensor:
    """sd_v of some tokens' logits over features, float32 [n]."""
    return ((weights @ spread) * weights).sum(1).clamp(min=1e-24).sqrt()


def _usable(tokenizer: Any, n: int) -> np.ndarray:
    """Which rows of the unembedding are tokens with text of their own, bool [n]."""
    usable = np.arange(n) < len(tokenizer)
    special = [token for token in tokenizer.all_special_ids if token < n]
    added = [token for token, entry in tokenizer.added_tokens_decoder.items() if token < n and entry.special]
    usable[[*special, *added]] = False
    return usable
