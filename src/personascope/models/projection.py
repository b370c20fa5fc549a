"""Projections of tokens on directions, read while the model runs, and the surprise of its tokens.

A token's projection on a direction v at layer k is h·v/|v|, h the residual stream at the output of block k (layers as
in `models.loading`). Its surprise is -log p of the token under the model, at temperature 1, given all tokens before it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personascope.errors import UserError
from personascope.formats.directions import Directions, check_fit
from personascope.formats.traces import column_name
from personascope.models.hookpoints import HookPoint, decoder_layers, hooks, require_finite
from personascope.models.loading import d_model

LOGIT_BYTES = 1 << 26  # of the float32 logits that are in memory at once


@dataclass(frozen=True)
class Probe:
    """What is read of each token. columns: names such as "axis@15", layer by layer; units: {layer: float32
    [directions, d_model]}, the unit vectors of the layer's columns in their order."""

    columns: list[str]
    units: dict[int, Tensor]


def make_probe(
    model: Any, name: str, directions: Mapping[str, Directions], layers: Sequence[int], weights: str | None = None
) -> Probe:
    """A probe of every direction at every layer; UserError where one is of another model, or not known at a layer.

    name: the model's id or folder; weights: what they are, where it is known. directions: {name: a file's directions,
    that one among them}.
    """
    depth = len(decoder_layers(model))
    for found in directions.values():
        check_fit(found, name, d_model(model), depth, weights)
    device = next(model.parameters()).device
    units, columns = {}, []
    for layer in sorted(set(layers)):
        for direction, found in directions.items():
            if layer not in found.layers:
                there = ", ".join(map(str, found.layers))
                raise UserError(f"{direction} is not known at layer {layer}; it is at layers {there}")
            columns.append(column_name(direction, layer))
        rows = [found.unit(direction, layer) for direction, found in directions.items()]
        units[layer] = torch.from_numpy(np.stack(rows)).to(device)
    return Probe(columns, units)


def common_layers(directions: Mapping[str, Directions]) -> list[int]:
    """The layers at which all directions are known, ascending; UserError where there are none."""
    common = set.intersection(*(set(found.layers) for found in directions.values()))
    if not common:
        known = "; ".join(f"{name} at {', '.join(map(str, found.layers))}" for name, found in directions.items())
        raise UserError(f"there is no layer at which all directions are known ({known}); monitor them one by one")
    return sorted(common)


class Reader:
    """The projections of the last forward pass."""

    def __init__(self, probe: Probe):
        self.probe = probe
        self._read: dict[int, Tensor] = {}
        self._dtype = torch.float32

    def note(self, point: HookPoint, activation: Tensor) -> None:
        units = self.probe.units[point.layer]
        if units.device != activation.device:  # a model that lies on several devices
            units = self.probe.units[point.layer] = units.to(activation.device)
        self._read[point.layer], self._dtype = activation[0].float() @ units.T, activation.dtype

    def take(self) -> Tensor:
        """float32 [tokens, columns], on the CPU; the columns in the order of the probe's. UserError where one is not
        finite."""
        parts = [self._read[layer].cpu() for layer in self.probe.units]
        for layer, part in zip(self.probe.units, parts, strict=True):
            require_finite(part, f"layer {layer}", self._dtype)
        return torch.cat(parts, 1) if parts else torch.zeros(0, 0)


@contextmanager
def projecting(model: Any, probe: Probe) -> Iterator[Reader]:
    """While it is open, every forward pass of one row of tokens is read.

    Entered after `intervene`, it reads what the interventions have made of the stream.
    """
    reader = Reader(probe)
    with hooks(model, {HookPoint(layer, "resid_post") for layer in probe.units}, reader.note):
        yield reader


def surprise(logits: Tensor, ids: Tensor) -> Tensor:
    """-log p, float32 [n], of token ids [n] under logits [n, vocabulary], each of the token before."""
    logits = logits.float()
    return logits.logsumexp(-1) - logits.gather(-1, ids[:, None]).squeeze(-1)


def tokens_at_once(model: Any) -> int:
    """How many tokens' logits are in memory at once."""
    return max(1, LOGIT_BYTES // (4 * model.config.get_text_config().vocab_size))


def logits_of(model: Any, hidden: Tensor) -> Tensor:
    """Logits [n, vocabulary] of the last hidden states [n, d_model], by the model's own head.

    Families differ in what they do behind the unembedding (scales, soft caps), so the model's forward is called, with
    the states that are known already in the place of its decoder's.
    """
    base = model.base_model
    own = base.__dict__.get("forward")
    base.forward = lambda *args, **kwargs: _Known(hidden[None])
    try:
        return model(input_ids=torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)).logits[0]
    finally:
        if own is None:
            del base.forward
        else:
            base.forward = own


class _Known(SimpleNamespace):
    """A decoder's output: last_hidden_state [1, n, d_model], and nothing else."""

    def __init__(self, hidden: Tensor):
        super().__init__(last_hidden_state=hidden, past_key_values=None, hidden_states=None, attentions=None)

    def __getitem__(self, index: int) -> Tensor:
        return (self.last_hidden_state,)[index]
