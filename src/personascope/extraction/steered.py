"""What steered text is: how the unsteered model reads it, and how far the steered one is from it on the same tokens.

Two forward passes over each response, teacher-forced. Without interventions, behind the plain prompt: the projection at
each layer that is read (mean over the answer's tokens; what the hooks add is not in it) and the text's surprise.
With them, behind the prompt that the arm had: the distribution of each next token, and its KL divergence from the
first pass's, KL(steered || unsteered), mean over the answer's tokens, in nats. Reasoning in front of the answer is read
and not measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personascope.extraction.extract import batches_by_tokens
from personascope.models.hookpoints import HookPoint, hooks
from personascope.models.projection import logits_of, surprise, tokens_at_once
from personascope.models.steering import Steering

GRAM = 4


@dataclass(frozen=True)
class Text:
    """An answer: the plain prompt's token ids, those of the prompt that it was generated from, and its own; reasoning:
    those that were generated before it."""

    plain: list[int]
    prompt: list[int]
    response: list[int]
    reasoning: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Reading:
    """Of one response: nll and nll_steered, its mean surprise under the unsteered and the steered model, and kl, nats a
    token; projections: {layer: mean over its tokens}; repetition: share of its runs of 4 tokens that occurred in it
    before (0 where it is shorter). NaN for a response without tokens."""

    n_tokens: int
    nll: float
    nll_steered: float
    kl: float
    repetition: float
    projections: dict[int, float]


@torch.inference_mode()
def read_steered(
    model: Any,
    texts: Sequence[Text],
    steering: Steering,
    units: Mapping[int, np.ndarray],
    batch_tokens: int,
) -> list[Reading]:
    """A reading of each text, in order. units: {layer: unit vector [d_model]} of what is projected on."""
    found: dict[int, Reading] = {}
    full = [i for i, text in enumerate(texts) if text.response]
    longest = [max(map(len, _contexts(texts[i]))) + len(texts[i].response) for i in full]
    for batch in batches_by_tokens(longest, batch_tokens):
        members = [full[i] for i in batch]
        readings = _read_batch(model, [texts[i] for i in members], steering, units)
        found |= zip(members, readings, strict=True)
    nothing = Reading(0, np.nan, np.nan, np.nan, np.nan, dict.fromkeys(units, np.nan))
    return [found.get(i, nothing) for i in range(len(texts))]


def _read_batch(
    model: Any, texts: Sequence[Text], steering: Steering, units: Mapping[int, np.ndarray]
) -> list[Reading]:
    read: dict[int, list[float]] = {layer: [] for layer in units}
    plains, prompts = zip(*map(_contexts, texts), strict=True)
    starts, counts = [len(plain) for plain in plains], [len(text.response) for text in texts]

    def capture(point: HookPoint, h: Tensor) -> None:
        unit = torch.from_numpy(units[point.layer]).to(h.device)
        p = h.float() @ unit
        read[point.layer] = [
            float(p[row, start : start + n].mean()) for row, (start, n) in enumerate(zip(starts, counts, strict=True))
        ]

    with hooks(model, {HookPoint(layer, "resid_post") for layer in units}, capture):
        plain = _hidden(model, [(before, text.response) for before, text in zip(plains, texts, strict=True)])
    same = not steering and all(text.plain == text.prompt for text in texts)
    steered = plain
    if not same:
        pairs = [(before, text.response) for before, text in zip(prompts, texts, strict=True)]
        lengths = [len(prompt) + len(response) for prompt, response in pairs]
        steering.place([len(text.prompt) for text in texts], lengths=lengths)
        with steering.on():
            steered = _hidden(model, pairs)
    readings = []
    for row, text in enumerate(texts):
        nll, nll_steered, kl = compare(model, plain[row], steered[row], text.response, same=same)
        projections = {layer: values[row] for layer, values in read.items()}
        readings.append(Reading(counts[row], nll, nll_steered, kl, repetition(text.response), projections))
    return readings


def _contexts(text: Text) -> tuple[list[int], list[int]]:
    """What stands before the answer: behind the plain prompt, and behind the one that the arm had."""
    return text.plain + text.reasoning, text.prompt + text.reasoning


def _hidden(model: Any, pairs: Sequence[tuple[list[int], list[int]]]) -> list[Tensor]:
    """The last hidden states from which each response's tokens are predicted, [n_tokens, d_model] a row."""
    rows = [prompt + response for prompt, response in pairs]
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
    device = model.get_input_embeddings().weight.device
    states = model.base_model(input_ids=ids.to(device), use_cache=False).last_hidden_state
    return [states[row, len(p) - 1 : len(p) + len(r) - 1] for row, (p, r) in enumerate(pairs)]


def compare(
    model: Any, plain: Tensor, steered: Tensor, ids: Sequence[int], *, same: bool
) -> tuple[float, float, float]:
    """(mean surprise unsteered, steered, mean KL(steered || unsteered)) of tokens [n], from the last hidden states
    [n, d_model] that predict them. same: both are one."""
    chunk, tokens = tokens_at_once(model), torch.tensor(ids, device=plain.device)
    sums = np.zeros(3)
    for a, b, t in zip(plain.split(chunk), steered.split(chunk), tokens.split(chunk), strict=True):
        p = logits_of(model, a).float()
        q = p if same else logits_of(model, b).float()
        log_q = q.log_softmax(-1)
        kl = 0.0 if same else float((log_q.exp() * (log_q - p.log_softmax(-1))).sum())
        sums += [float(surprise(p, t).sum()), float(surprise(q, t).sum()), kl]
    nll, nll_steered, kl = (sums / len(ids)).tolist()
    return nll, nll_steered, kl


def repetition(ids: Sequence[int]) -> float:
    """Share of the runs of 4 tokens that occurred before; 0 where there are fewer tokens."""
    runs = [tuple(ids[i : i + GRAM]) for i in range(len(ids) - GRAM + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
