"""Token activations of a whole conversation: ONE forward pass, kept for every assistant token.

Of what the user says before each assistant turn, the same pass gives the residual mean. It ends at the last layer
needed, attention builds no tokens x tokens matrix, and the SAE is applied to a chunk of tokens at a time: peak memory
is linear in the tokens.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personascope.errors import UserError
from personascope.extraction.extract import SAVE_WIDER, ExtractOptions
from personascope.formats.tokens import TokenBlock, UserMeans
from personascope.models.hookpoints import HookPoint, require_finite, run_to
from personascope.models.saes import LoadedSAE, encode_blocks
from personascope.models.spans import Encoded, Message, Span, encode_conversation, locate_spans, require_whole_answers


@dataclass(frozen=True)
class EncodedConversation:
    """A conversation's tokens and its assistant spans; `dropped` messages were taken off the front.

    user_spans: for each assistant span, those of the user messages between the assistant span before and this one.
    """

    encoded: Encoded
    spans: list[Span]
    dropped: int
    user_spans: list[list[Span]]


def encode_within(
    tokenizer: Any, messages: Sequence[Message], context: int | None, too_long: str
) -> EncodedConversation:
    """Tokens and spans; UserError where the conversation is longer than the model's context.

    With too_long="truncate" the oldest messages go, whole exchanges at a time (a system turn stays), until the rest
    fits; span.message_index counts in `messages` all the same.
    """
    keep = 1 if messages[0]["role"] == "system" else 0
    last = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=0)
    later = [i for i in range(keep + 1, last) if messages[i]["role"] == "user"]

    def encoded_from(start: int) -> Encoded:
        return encode_conversation(tokenizer, [*messages[:keep], *messages[start:]])

    def fits(encoded: Encoded) -> bool:
        return context is None or len(encoded.ids) <= context

    start, encoded = keep, encoded_from(keep)
    require_whole_answers(messages, encoded)
    n = len(encoded.ids)
    if later and not fits(encoded) and too_long == "truncate":  # the later the start, the fewer the tokens
        place = bisect_left(later, True, key=lambda start: fits(encoded_from(start)))
        start = later[min(place, len(later) - 1)]
        encoded = encoded_from(start)
    if fits(encoded):
        kept, dropped = [*messages[:keep], *messages[start:]], start - keep
        located = locate_spans(tokenizer, kept, encoded, ("user", "assistant"))
        spans, user_spans = _by_turn(messages, [replace(s, message_index=s.message_index + dropped) for s in located])
        return EncodedConversation(encoded, spans, dropped, user_spans)
    advice = "shorten it" if too_long == "truncate" else "shorten it or set drift.too_long: truncate"
    raise UserError(f"the conversation has {n} tokens, the model's context is {context}; {advice}")


def _by_turn(messages: Sequence[Message], spans: Sequence[Span]) -> tuple[list[Span], list[list[Span]]]:
    """Of the spans of user and assistant in order: the assistant's, and for each the user's since the one before."""
    turns, said, since = [], [], []
    for span in spans:
        if messages[span.message_index]["role"] == "user":
            since.append(span)
        else:
            turns.append(span)
            said.append(since)
            since = []
    return turns, said


@torch.inference_mode()
def conversation_activations(
    model: Any,
    sae: LoadedSAE,
    tokenizer: Any,
    conversation: EncodedConversation,
    options: ExtractOptions,
    measure: Callable[[Tensor], None] | None = None,
) -> tuple[UserMeans, Iterator[TokenBlock]]:
    """Run the model once: the user's residual means, and the activations of the assistant tokens, at most
    `options.chunk_tokens` at a time. measure: sees what the SAE reads, [assistant tokens, d_in]."""
    turns = _ranges(conversation.spans)
    # Without a layer kept, nothing is wanted of the user's tokens.
    said = [_ranges(spans) if options.residual_layers else [] for spans in conversation.user_spans]
    points = {HookPoint(layer, "resid_post") for layer in options.residual_layers} | {sae.point}
    ids = torch.tensor([conversation.encoded.ids], device=model.get_input_embeddings().weight.device)
    selected = run_to(model, ids, points, [[*turns, *chain.from_iterable(said)]])
    n = sum(end - start for start, end in turns)
    layers = [selected[HookPoint(layer, "resid_post")] for layer in options.residual_layers]
    user = _user_means([h[n:] for h in layers], [_length(spans) for spans in conversation.user_spans])
    if measure is not None:
        measure(selected[sae.point][:n])
    blocks = _token_blocks(sae, tokenizer, conversation, options, selected[sae.point][:n], [h[:n] for h in layers])
    return user, blocks


def _ranges(spans: Sequence[Span]) -> list[tuple[int, int]]:
    return [(span.start, span.end) for span in spans if span.end > span.start]


def _length(spans: Sequence[Span]) -> int:
    return sum(span.end - span.start for span in spans)


def _user_means(layers: list[Tensor], counts: list[int]) -> UserMeans:
    """From the residuals [sum(counts), d] of the user's tokens at each layer to the mean before each turn."""
    # A model may lie on several devices.
    means = [torch.stack([rows.float().mean(0) for rows in h.split(counts)], 0).cpu() for h in layers]
    stacked = torch.stack(means, 1) if means else torch.zeros(len(counts), 0, 0)
    return UserMeans(np.array(counts, np.int32), stacked.numpy())


@torch.inference_mode()
def _token_blocks(
    sae: LoadedSAE,
    tokenizer: Any,
    conversation: EncodedConversation,
    options: ExtractOptions,
    at_sae: Tensor,
    layers: list[Tensor],
) -> Iterator[TokenBlock]:
    """The assistant's tokens, n of them: at_sae [n, d_in], where the SAE is read, and layers [n, d_model] each."""
    ranges = _ranges(conversation.spans)
    position = torch.cat([torch.arange(*r) for r in ranges]) if ranges else torch.zeros(0, dtype=torch.long)
    turn = torch.repeat_interleave(torch.tensor([_length([span]) for span in conversation.spans]))
    token_id = torch.tensor(conversation.encoded.ids)[position]
    for start in range(0, len(position), options.chunk_tokens):
        chunk = slice(start, start + options.chunk_tokens)
        offsets, indices, values = sparse_rows(sae, at_sae[chunk])
        n = len(position[chunk])
        residuals = torch.stack([h[chunk].float().cpu() for h in layers], 1) if layers else torch.zeros(n, 0, 0)
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


def sparse_rows(sae: LoadedSAE, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compressed sparse rows of z = sae.encode(tokens): offsets int64 [n + 1], indices int32, values float32."""
    rows, columns, values = [], [], []
    for block, z in encode_blocks(sae, tokens):
        row, column = z.nonzero(as_tuple=True)
        rows.append(row)
        columns.append(column + block.start)
        values.append(z[row, column])
        require_finite(values[-1][:, None], "SAE", sae.dtype, SAVE_WIDER)
    row = torch.cat(rows)
    order = torch.sort(row, stable=True).indices
    offsets = torch.zeros(len(tokens) + 1, dtype=torch.int64)
    offsets[1:] = torch.bincount(row, minlength=len(tokens)).cumsum(0).cpu()
    return offsets, torch.cat(columns)[order].int().cpu(), torch.cat(values)[order].cpu()
