"""Conversations of a capped model: each assistant turn as the uncapped model reads it, and how much the cap changes.

Two forward passes over the finished conversation. Without hooks: the mean projection of each turn's tokens, and their
surprise. With the cap: the share of its tokens whose projection was outside, at each capped layer (after what the cap
has done at earlier ones), and the KL divergence of the next-token distributions from the first pass's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personascope.extraction.steered import compare, repetition
from personascope.models.hookpoints import HookPoint, hooks
from personascope.models.interventions import Cap, intervene
from personascope.models.spans import Message, encode_conversation, locate_spans


@dataclass(frozen=True)
class Turn:
    """An assistant turn. nll, nll_capped: mean surprise of its tokens; kl: nats a token; projections: {layer: mean};
    capped: {layer: share of its tokens}. NaN where it has no token."""

    turn: int
    n_tokens: int
    nll: float
    nll_capped: float
    kl: float
    repetition: float
    projections: dict[int, float]
    capped: dict[int, float]


@torch.inference_mode()
def read_turns(
    model: Any, tokenizer: Any, messages: Sequence[Message], caps: Sequence[Cap], units: Mapping[int, np.ndarray]
) -> list[Turn]:
    """The assistant turns of a conversation. units: {layer: unit vector [d_model]} of what is projected on, among them
    every layer that is capped."""
    encoded = encode_conversation(tokenizer, messages)
    spans = locate_spans(tokenizer, messages, encoded)
    ids = torch.tensor([encoded.ids], device=model.get_input_embeddings().weight.device)
    plain, read = _pass(model, ids, units)
    capped, outside = plain, dict[int, Tensor]()
    if caps:
        # Read in front of the cap of the same layer: hooks run in the order in which they were made.
        capped, before = _pass(model, ids, {cap.layer: units[cap.layer] for cap in caps}, caps)
        outside = {cap.layer: (before[cap.layer] < cap.low) | (before[cap.layer] > cap.high) for cap in caps}
    turns = []
    for turn, span in enumerate(spans):
        inside, n = slice(span.start, span.end), span.end - span.start
        if not n:
            nothing = np.nan, np.nan, np.nan, np.nan
            turns.append(Turn(turn, 0, *nothing, dict.fromkeys(units, np.nan), dict.fromkeys(outside, np.nan)))
            continue
        from_states = slice(span.start - 1, span.end - 1)
        compared = compare(model, plain[from_states], capped[from_states], encoded.ids[inside], same=not caps)
        means = {layer: float(p[inside].mean()) for layer, p in read.items()}
        shares = {layer: float(mask[inside].float().mean()) for layer, mask in outside.items()}
        turns.append(Turn(turn, n, *compared, repetition(encoded.ids[inside]), means, shares))
    return turns


def _pass(
    model: Any, ids: Tensor, units: Mapping[int, np.ndarray], caps: Sequence[Cap] = ()
) -> tuple[Tensor, dict[int, Tensor]]:
    """Last hidden states [tokens, d_model], and the projections [tokens] at each layer."""
    read: dict[int, Tensor] = {}

    def capture(point: HookPoint, h: Tensor) -> None:
        read[point.layer] = (h[0].float() @ torch.from_numpy(units[point.layer]).to(h.device)).cpu()

    with hooks(model, {HookPoint(layer, "resid_post") for layer in units}, capture), intervene(model, caps):
        return model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0], read
