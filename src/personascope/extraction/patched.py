"""What stands behind one prompt, read with a patch on it or without: a turn's own tokens, or answers to the prompt.

The prompt's keys and values are computed once, without a patch, for all that is read behind it. Only what stands
behind the prompt is patched, so that a patch on a turn leaves the conversation before it alone.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personascope.extraction.extract import batches_by_tokens
from personascope.extraction.extract_conversation import sparse_rows
from personascope.formats.responses import Range
from personascope.formats.tokens import TokenActivations
from personascope.models.hookpoints import HookPoint, hooks, run_to
from personascope.models.interventions import intervene
from personascope.models.saes import LoadedSAE
from personascope.models.steering import Intervention

Axes = Mapping[int, np.ndarray]  # {layer: unit vector float32 [d_model]}


class Prompt:
    """A prompt whose keys and values are kept; ids: at least one token."""

    @torch.inference_mode()
    def __init__(self, model: Any, ids: Sequence[int]):
        self.model, self.ids = model, list(ids)
        self.device = model.get_input_embeddings().weight.device
        given = torch.tensor([self.ids], device=self.device)
        self._cache = model.base_model(input_ids=given, use_cache=True).past_key_values

    @torch.inference_mode()
    def read(
        self, rows: Sequence[Sequence[int]], points: set[HookPoint], interventions: Sequence[Intervention] = ()
    ) -> dict[HookPoint, Tensor]:
        """Activations [rows, tokens, d] at the points, of rows of tokens behind the prompt, padded on the right: in a
        causal model no token sees what stands to its right."""
        return self._run(self.model.base_model, rows, points, interventions)[0]

    @torch.inference_mode()
    def read_with_logits(
        self, ids: Sequence[int], points: set[HookPoint], interventions: Sequence[Intervention] = ()
    ) -> tuple[dict[HookPoint, Tensor], Tensor]:
        """The same of one row, and its logits [tokens, vocabulary]."""
        captured, output = self._run(self.model, [ids], points, interventions)
        return captured, output.logits[0]

    def _run(
        self, model: Any, rows: Sequence[Sequence[int]], points: set[HookPoint], interventions: Sequence[Intervention]
    ) -> tuple[dict[HookPoint, Tensor], Any]:
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        cache = copy.deepcopy(self._cache)
        if len(rows) > 1:
            cache.batch_repeat_interleave(len(rows))
        captured: dict[HookPoint, Tensor] = {}
        # Hooks run in the order in which they are set: what is captured has been patched.
        with intervene(self.model, interventions), hooks(self.model, points, captured.__setitem__):
            output = model(input_ids=ids.to(self.device), past_key_values=cache, use_cache=True)
        return captured, output


@dataclass(frozen=True)
class TurnRead:
    """A turn's n tokens: at the patched place h float32 [n, d]; projections {layer: float64 [n]}; log_p float32
    [n, vocabulary]: what follows each token."""

    h: Tensor
    projections: dict[int, np.ndarray]
    log_p: Tensor

    def moved(self, plain: "TurnRead") -> float:
        """By how much a patch moves a token at its place: root mean square of |h - h_plain|."""
        return float((self.h - plain.h).square().sum(-1).mean().sqrt())

    def divergence(self, plain: "TurnRead") -> np.ndarray:
        """KL(plain || patched) of the next token, in nats, behind each token, float64 [n]."""
        parts = [
            (p.exp() * (p - q)).sum(-1) for p, q in zip(plain.log_p.split(BLOCK), self.log_p.split(BLOCK), strict=True)
        ]
        return torch.cat(parts).double().cpu().numpy()

    def log_likelihood(self, ids: Sequence[int]) -> np.ndarray:
        """log p of each of the turn's tokens but the first, given those before it, float64 [n - 1]."""
        following = torch.tensor(ids[1:], device=self.log_p.device)
        return self.log_p[:-1].gather(-1, following[:, None])[:, 0].double().cpu().numpy()


BLOCK = 64  # tokens whose distributions are compared at once


@torch.inference_mode()
def read_turn(
    prompt: Prompt, ids: Sequence[int], point: HookPoint, axes: Axes, interventions: Sequence[Intervention] = ()
) -> TurnRead:
    """A turn's own tokens behind all that stands before it, patched from its first token on; point: the place of the
    patch."""
    layers = {layer: HookPoint(layer, "resid_post") for layer in axes}
    captured, logits = prompt.read_with_logits(ids, {point, *layers.values()}, interventions)
    along = {layer: _along(captured[place][0], axes[layer]) for layer, place in layers.items()}
    projections = {layer: values.double().cpu().numpy() for layer, values in along.items()}
    return TurnRead(captured[point][0].float(), projections, logits.float().log_softmax(-1))


def _along(h: Tensor, axis: np.ndarray) -> Tensor:
    """h . axis of tokens [..., d] in float32."""
    return h.float() @ torch.from_numpy(axis).to(h.device)


@dataclass(frozen=True)
class AnswersRead:
    """N answers, read without hooks: projections {layer: float64 [N]}, the mean over each one's tokens, NaN where it
    has none; activations: their SAE features, each answer as a turn of its own."""

    projections: dict[int, np.ndarray]
    activations: TokenActivations


@torch.inference_mode()
def read_answers(
    prompt: Prompt,
    texts: Sequence[Sequence[int]],
    ranges: Sequence[Range],
    axes: Axes,
    sae: LoadedSAE,
    *,
    batch_tokens: int,
) -> AnswersRead:
    """Answers to the prompt: token ids of the texts that were written, and the half-open range of the answer in each.

    batch_tokens: padded tokens of a forward pass, the prompt's among them.
    """
    layers = {layer: HookPoint(layer, "resid_post") for layer in axes}
    projections = {layer: np.full(len(texts), np.nan) for layer in axes}
    features: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    filled = [i for i, (start, end) in enumerate(ranges) if end > start]
    for batch in batches_by_tokens([len(prompt.ids) + len(texts[i]) for i in filled], batch_tokens):
        rows = [filled[i] for i in batch]
        captured = prompt.read([texts[i] for i in rows], {sae.point, *layers.values()})
        for place, i in enumerate(rows):
            answer = slice(*ranges[i])
            for layer, point in layers.items():
                projections[layer][i] = float(_along(captured[point][place, answer], axes[layer]).double().mean())
            features[i] = sparse_rows(sae, captured[sae.point][place, answer])
    answers = [text[start:end] for text, (start, end) in zip(texts, ranges, strict=True)]
    return AnswersRead(projections, _as_turns(answers, features, sae.d_sae))


def _as_turns(
    answers: Sequence[Sequence[int]], features: Mapping[int, tuple[Tensor, Tensor, Tensor]], width: int
) -> TokenActivations:
    order = sorted(features)
    counts = np.concatenate([[0], *(np.diff(features[i][0].numpy()) for i in order)]).astype(np.int64)
    lengths = [len(answer) for answer in answers]
    ids = np.concatenate([np.zeros(0, np.int32), *(np.asarray(answer, np.int32) for answer in answers)])
    return TokenActivations(
        turn=np.repeat(np.arange(len(answers)), lengths).astype(np.int32),
        n_turns=len(answers),
        tokens=[""] * sum(lengths),
        token_ids=ids,
        position=np.concatenate([np.zeros(0, np.int32), *(np.arange(n, dtype=np.int32) for n in lengths)]),
        message_index=np.zeros(len(answers), np.int32),
        offsets=np.cumsum(counts),
        indices=np.concatenate([np.zeros(0, np.int32), *(features[i][1].numpy() for i in order)]),
        values=np.concatenate([np.zeros(0, np.float32), *(features[i][2].numpy() for i in order)]),
        width=width,
    )


@torch.inference_mode()
def reconstruction_change(
    model: Any,
    sae: LoadedSAE,
    ids: Sequence[int],
    turns: tuple[tuple[int, int], tuple[int, int]],
    axis: np.ndarray,
) -> tuple[float, float]:
    """(a . (h_t - h_t'), the same of the SAE's reconstruction) of two turns' means, t' first, at the SAE's place."""
    given = torch.tensor([list(ids)], device=model.get_input_embeddings().weight.device)
    h = run_to(model, given, {sae.point}, [list(turns)])[sae.point]
    rebuilt = torch.cat([sae.sae.decode(sae.sae.encode(part.to(sae.device, sae.dtype))) for part in h.split(BLOCK)]).to(
        h.device
    )
    n = turns[0][1] - turns[0][0]
    before, now = ((x[:n].float().mean(0), x[n:].float().mean(0)) for x in (h, rebuilt))
    return tuple(float(_along(after - first, axis)) for first, after in (before, now))  # type: ignore[return-value]


@torch.inference_mode()
def decoder_facts(sae: LoadedSAE, axis: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """|W_dec,f| and W_dec,f . axis (0 without one) of every feature, float64 [d_sae] each."""
    direction = torch.zeros(sae.sae.cfg.d_in) if axis is None else torch.from_numpy(axis)
    norms, along = [], []
    for rows in torch.arange(sae.d_sae, device=sae.device).split(4096):
        decoder = sae.directions(rows).float()
        norms.append(decoder.norm(dim=-1).double().cpu())
        along.append((decoder @ direction.to(decoder.device)).double().cpu())
    return torch.cat(norms).numpy(), torch.cat(along).numpy()
