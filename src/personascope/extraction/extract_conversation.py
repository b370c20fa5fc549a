"""Token activations of a whole conversation: ONE forward pass, kept for every assistant token.

The pass ends at the last layer needed, attention builds no tokens x tokens matrix, and the SAE is applied to a
chunk of tokens at a time: peak memory is linear in the tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from personascope.errors import UserError
from personascope.extraction.extract import ExtractOptions
from personascope.formats.tokens import TokenBlock
from personascope.models.hookpoints import HookPoint, run_to
from personascope.models.saes import LoadedSAE, encode_blocks
from personascope.models.spans import Encoded, Message, Span, encode_conversation, locate_spans

TOO_LONG = ("refuse", "truncate")


@dataclass(frozen=True)
class EncodedConversation:
    """A conversation's tokens and its assistant spans; `dropped` messages were taken off the front."""

    encoded: Encoded
    spans: list[Span]
    dropped: int


def encode_within(
    tokenizer: Any, messages: Sequence[Message], context: int | None, too_long: str
) -> EncodedConversation:
    """Tokens and assistant spans; UserError where the conversation is longer than the model's context.

    With too_long="truncate" the oldest messages go, whole exchanges at a time (a system turn stays), until the rest
    fits; span.message_index counts in `messages` all the same.
    """
    keep = 1 if messages[0]["role"] == "system" else 0
    starts = [keep, *(i for i in range(keep + 1, len(messages)) if messages[i]["role"] == "user")]
    first = None
    for start in starts if too_long == "truncate" else starts[:1]:
        kept = [*messages[:keep], *messages[start:]]
        encoded = encode_conversation(tokenizer, kept)
        first = first or len(encoded.ids)
        if context is None or len(encoded.ids) <= context:
            dropped = start - keep
            spans = locate_spans(tokenizer, kept, encoded)
            moved = [Span(s.message_index + dropped, s.start, s.end, s.special_tokens) for s in spans]
            if not moved:
                break
            return EncodedConversation(encoded, moved, dropped)
    advice = "shorten it" if too_long == "truncate" else "shorten it or set drift.too_long: truncate"
    raise UserError(f"the conversation has {first} tokens, the model's context is {context}; {advice}")


@torch.inference_mode()
def token_blocks(
    model: Any, sae: LoadedSAE, tokenizer: Any, conversation: EncodedConversation, options: ExtractOptions
) -> Iterator[TokenBlock]:
    """Activations of the assistant tokens, at most `options.chunk_tokens` at a time."""
    ids = conversation.encoded.ids
    ranges = [(span.start, span.end) for span in conversation.spans if span.end > span.start]
    points = {HookPoint(layer, "resid_post") for layer in options.residual_layers} | {sae.point}
    device = model.get_input_embeddings().weight.device
    selected = run_to(model, torch.tensor([ids], device=device), points, [ranges])
    layers = [selected[HookPoint(layer, "resid_post")] for layer in options.residual_layers]
    position = torch.cat([torch.arange(*r) for r in ranges]) if ranges else torch.zeros(0, dtype=torch.long)
    turn = torch.repeat_interleave(torch.tensor([s.end - s.start for s in conversation.spans]))
    token_id = torch.tensor(ids)[position]
    for start in range(0, len(position), options.chunk_tokens):
        chunk = slice(start, start + options.chunk_tokens)
        offsets, indices, values = _sparse(sae, selected[sae.point][chunk])
        n = len(position[chunk])
        residuals = torch.stack([h[chunk].float() for h in layers], 1).cpu() if layers else torch.zeros(n, 0, 0)
        yield TokenBlock(
            position=position[chunk].int().numpy(),
            turn=turn[chunk].int().numpy(),
            token_id=token_id[chunk].int().numpy(),
            tokens=tokenizer.convert_ids_to_tokens(token_id[chunk].tolist()),
            offsets=offsets.numpy(),
            indices=indices.numpy(),
            values=values.numpy(),
            residuals=residuals.numpy(),
        )


def _sparse(sae: LoadedSAE, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compressed sparse rows of z = sae.encode(tokens): offsets int64 [n + 1], indices int32, values float32."""
    rows, columns, values = [], [], []
    for block, z in encode_blocks(sae, tokens):
        row, column = z.nonzero(as_tuple=True)
        rows.append(row)
        columns.append(column + block.start)
        values.append(z[row, column])
    row = torch.cat(rows)
    order = torch.sort(row, stable=True).indices
    offsets = torch.zeros(len(tokens) + 1, dtype=torch.int64)
    offsets[1:] = torch.bincount(row, minlength=len(tokens)).cumsum(0).cpu()
    return offsets, torch.cat(columns)[order].int().cpu(), torch.cat(values)[order].cpu()
