"""Changing a model's activations while it runs: add a direction, cap it, take it out, take out or set SAE features.

h is the activation at a hook point, for the first three the residual stream behind block `layer`
(`loading.LAYER_CONVENTION`). What each computes (methods: steering; Lu et al. 2026, arXiv 2601.10387, for capping):

    Add               h + v
    Cap               h + (clamp(p, low, high) - p) a,   p = h.a, a of norm 1
    AblateDirection   h - p a
    AblateFeatures    h - sum_i z_i W_dec[i]
    ClampFeatures     h + sum_i (v_i - z_i) W_dec[i]

The SAE's error, h minus its reconstruction, is kept by the last two. A change that is none (a vector of zeros, no
features) hooks nothing, so the logits stay the same to the bit; so do tokens that an intervention leaves alone.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from personascope.errors import UserError
from personascope.models.hookpoints import HookPoint
from personascope.models.loading import d_model
from personascope.models.saes import LoadedSAE, check_fit, encode_features
from personascope.models.steering import Change, Intervention, Positions, Steering, Tokens


@dataclass(frozen=True, eq=False)
class Add:
    """h + vector. vector: [d_model], its coefficient in it."""

    layer: int
    vector: Any
    positions: Positions = "all"

    @property
    def point(self) -> HookPoint:
        return HookPoint(self.layer, "resid_post")

    def prepare(self, model: Any) -> Change | None:
        vector = _vector(model, self.layer, self.vector)
        if not vector.any():
            return None
        at = _Copies(vector)
        return lambda h, tokens: (h + at.like(h), None)


@dataclass(frozen=True, eq=False)
class Cap:
    """Keep the projection p = h.a within [low, high]. direction: [d_model], of any norm but 0; the bounds are in
    units of its unit vector a."""

    layer: int
    direction: Any
    low: float = -math.inf
    high: float = math.inf
    positions: Positions = "all"

    @property
    def point(self) -> HookPoint:
        return HookPoint(self.layer, "resid_post")

    def prepare(self, model: Any) -> Change | None:
        if not self.low <= self.high:  # NaN is refused with it
            raise UserError(f"cap at layer {self.layer}: [{self.low}, {self.high}] is no interval")
        unit = _Copies(_unit(model, self.layer, self.direction))

        def change(h: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
            a = unit.at(h.device)
            p = h.float() @ a
            excess = p.clamp(self.low, self.high) - p
            return (h.float() + excess[..., None] * a).to(h.dtype), excess != 0

        return change


@dataclass(frozen=True, eq=False)
class AblateDirection:
    """h without its part along direction, [d_model], of any norm but 0."""

    layer: int
    direction: Any
    positions: Positions = "all"

    @property
    def point(self) -> HookPoint:
        return HookPoint(self.layer, "resid_post")

    def prepare(self, model: Any) -> Change | None:
        unit = _Copies(_unit(model, self.layer, self.direction))

        def change(h: Tensor, tokens: Tokens) -> tuple[Tensor, None]:
            a = unit.at(h.device)
            return (h.float() - (h.float() @ a)[..., None] * a).to(h.dtype), None

        return change


@dataclass(frozen=True, eq=False)
class ClampFeatures:
    """SAE features set to values, at the SAE's own hook point.

    features: [k] indices. values: [k]; or one for each token, [tokens, k] for a batch of one row, [rows, tokens, k] for
    more, by the token's position in its own sequence. A value that is NaN, or has no place there, leaves alone.
    """

    sae: LoadedSAE
    features: Sequence[int]
    values: Any
    positions: Positions = "all"

    @property
    def point(self) -> HookPoint:
        return self.sae.point

    def prepare(self, model: Any) -> Change | None:
        check_fit(self.sae, model)
        features = _features(self.sae, self.features)
        values = torch.as_tensor(self.values, dtype=torch.float32, device=self.sae.device)
        if values.shape[-1:] != features.shape or values.dim() > 3:
            raise UserError(
                f"clamp at {self.sae.hook_name}: values of shape {list(values.shape)} for {len(features)} features; "
                "give [k], [tokens, k] or [rows, tokens, k]"
            )
        if not len(features):
            return None
        by_token = values if values.dim() != 2 else values[None]

        def change(h: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
            z, scale = encode_features(self.sae, h, features)
            wanted = by_token if by_token.dim() == 1 else _at_tokens(by_token, tokens.to(z.device))
            return _moved(self.sae, h, features, torch.where(wanted.isnan(), 0, wanted - z), scale)

        return change


@dataclass(frozen=True, eq=False)
class AblateFeatures:
    """SAE features taken out, at the SAE's own hook point. features: [k] indices."""

    sae: LoadedSAE
    features: Sequence[int]
    positions: Positions = "all"

    @property
    def point(self) -> HookPoint:
        return self.sae.point

    def prepare(self, model: Any) -> Change | None:
        return ClampFeatures(self.sae, self.features, torch.zeros(len(self.features))).prepare(model)


@contextmanager
def intervene(
    model: Any,
    interventions: Sequence[Intervention],
    *,
    prompt_lengths: Sequence[int] | Tensor | None = None,
    lengths: Sequence[int] | Tensor | None = None,
) -> Iterator[Steering]:
    """Steer every forward pass of the model inside; yields what counts the tokens.

    prompt_lengths: tokens of each row's prompt, for positions other than "all"; lengths: tokens of each row, for a
    batch that is padded on the right and has no attention mask. UserError for a layer, feature or vector that does not
    fit the model.
    """
    steering = Steering(model, interventions)
    steering.place(prompt_lengths, lengths=lengths)
    with steering.on():
        yield steering


class _Copies:
    """A vector, copied once to each device and type of what it meets."""

    def __init__(self, vector: Tensor):
        self._copies: dict[Any, Tensor] = {None: vector}

    def at(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
        key = (device, dtype)
        if key not in self._copies:
            self._copies[key] = self._copies[None].to(device, dtype)
        return self._copies[key]

    def like(self, h: Tensor) -> Tensor:
        return self.at(h.device, h.dtype)


def _vector(model: Any, layer: int, values: Any) -> Tensor:
    vector = torch.as_tensor(values).detach().float()
    if vector.shape != (d_model(model),):
        raise UserError(f"vector at layer {layer}: shape {list(vector.shape)}, the model's d_model is {d_model(model)}")
    if not vector.isfinite().all():
        raise UserError(f"vector at layer {layer}: it holds values that are not finite")
    return vector


def _unit(model: Any, layer: int, direction: Any) -> Tensor:
    vector = _vector(model, layer, direction)
    if not vector.any():
        raise UserError(f"direction at layer {layer}: all of it is 0")
    return vector / vector.norm()


def _features(sae: LoadedSAE, features: Sequence[int]) -> Tensor:
    """Indices on the SAE's device; UserError where one is not in it, or twice."""
    indices = torch.as_tensor(features, dtype=torch.long, device=sae.device).flatten()
    if outside := [i for i in indices.tolist() if not 0 <= i < sae.d_sae]:
        raise UserError(f"feature {outside[0]}: the SAE at {sae.hook_name} has features 0 to {sae.d_sae - 1}")
    if len(indices.unique()) < len(indices):
        raise UserError(f"features of the SAE at {sae.hook_name}: one is named twice")
    return indices


def _at_tokens(values: Tensor, tokens: Tokens) -> Tensor:
    """values [rows, length, k] of the tokens' positions, [rows, tokens, k]; NaN behind the last."""
    row = torch.arange(len(tokens.position), device=values.device)[:, None]
    found = values[row, tokens.position.clamp(max=values.shape[1] - 1)]
    return found.masked_fill((tokens.position >= values.shape[1])[..., None], torch.nan)


def _moved(sae: LoadedSAE, h: Tensor, features: Tensor, delta: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    """h + sum_i delta_i W_dec[i], in the units of h, and the tokens whose delta is not all 0."""
    part = delta.to(sae.dtype) @ sae.directions(features)
    part = part if scale is None else part * scale
    return h + part.to(h.device, h.dtype), delta.ne(0).any(-1)
