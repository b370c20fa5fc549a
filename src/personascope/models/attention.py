"""Grouped-query attention on a CPU, where the library's own paths copy far more than they compute.

A CPU is bound by memory traffic: repeating keys and values for every group of query heads at each decoding step
is most of a step, and for whole conversations the library falls back from the fused kernel to one that writes
the scores of all pairs of tokens. The results are those of the library up to rounding.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

CPU_ATTENTION = "personascope_cpu"


def use_cpu_attention(model: Any) -> None:
    """Switch a model that is on a CPU, and uses the library's default attention, to `cpu_attention`."""
    if next(model.parameters()).device.type == "cpu" and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(CPU_ATTENTION)


def cpu_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """query [rows, heads, q tokens, d], key and value [rows, kv heads, tokens, d] -> [rows, q tokens, heads, d].

    What it does not know (soft caps, sinks, masks by head, partial masks over several query tokens) goes to the
    library's path.
    """
    known = not kwargs.get("softcap") and kwargs.get("s_aux") is None
    if known and query.shape[2] == 1 and (attention_mask is None or attention_mask.shape[1] == 1):
        return _one_token(query, key, value, attention_mask, kwargs.get("scaling")), None
    whole = query.shape[2] == key.shape[2] and getattr(module, "is_causal", True)
    if known and attention_mask is None and whole and kwargs.get("is_causal") is not False:
        return _causal(query, key, value, kwargs.get("scaling")), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def _one_token(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """One new token over the cache: each group of query heads reads its keys and values in place."""
    rows, heads, _, width = query.shape
    groups = key.shape[1]
    grouped = query.reshape(rows, groups, heads // groups, width) * (scaling or width**-0.5)
    scores = grouped @ key.transpose(-1, -2)
    if mask is not None:
        mask = mask[..., : key.shape[2]]
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    out = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype) @ value
    return out.reshape(rows, 1, heads, value.shape[-1])  # DeepSeek's values are narrower than its keys


def _causal(query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    """A whole conversation: torch's fused kernel, which on a CPU wants as many key heads as query heads."""
    repeats = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
    out = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    return out.transpose(1, 2).contiguous()


AttentionInterface.register(CPU_ATTENTION, cpu_attention)
AttentionMaskInterface.register(CPU_ATTENTION, sdpa_mask)
