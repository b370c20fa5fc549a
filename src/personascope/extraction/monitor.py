"""The trace of a conversation: what every token of it projects on directions, and how surprising it is.

ONE forward pass over prompt and response; the logits are made for a chunk of tokens at a time.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personascope.formats.traces import Trace
from personascope.models.layout import token_layout
from personascope.models.projection import Probe, logits_of, projecting, surprise, tokens_at_once
from personascope.models.spans import Encoded, Message


@torch.inference_mode()
def monitor(model: Any, tokenizer: Any, messages: Sequence[Message], encoded: Encoded, probe: Probe) -> Trace:
    """The trace of `encode_conversation(tokenizer, messages)`; indices of messages count in `messages`."""
    layout = token_layout(tokenizer, messages, encoded)
    ids = torch.tensor(encoded.ids, device=model.get_input_embeddings().weight.device)
    with projecting(model, probe) as reader:
        hidden = model.base_model(input_ids=ids[None], use_cache=False).last_hidden_state[0]
    return Trace(
        columns=probe.columns,
        message_index=layout.message_index,
        roles=[messages[i]["role"] for i in layout.message_index],
        token_ids=ids.int().cpu().numpy(),
        tokens=tokenizer.convert_ids_to_tokens(encoded.ids),
        in_content=layout.in_content,
        surprise=_surprises(model, hidden, ids),
        projections=reader.take().numpy(),
    )


def _surprises(model: Any, hidden: Tensor, ids: Tensor) -> np.ndarray:
    """float32 [n] from the last hidden states [n, d_model]; NaN for the first token, before which there is nothing."""
    before, after, rows = hidden[:-1], ids[1:].to(hidden.device), tokens_at_once(model)
    parts = [surprise(logits_of(model, h), t).cpu() for h, t in zip(before.split(rows), after.split(rows), strict=True)]
    return np.concatenate([np.full(1, np.nan, np.float32), *(part.numpy() for part in parts)])
