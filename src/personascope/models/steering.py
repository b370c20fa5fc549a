"""Hooks that change activations, and which token of which row each of them meets.

Positions: "prompt" are the tokens of the prompt. "response" are the generated tokens and the last token of the prompt,
from which the first of them is drawn (as Chen et al. 2025, arXiv 2507.21509, steer): every new token, the first
included, is drawn from a steered distribution. Which is which follows from each token's position in its own sequence,
so padding on either side and a cache make no difference.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from personascope.errors import UserError
from personascope.models.hookpoints import HookPoint, decoder_layers, hook_module

Positions = Literal["all", "prompt", "response"]
POSITIONS: tuple[Positions, ...] = ("all", "prompt", "response")


class Tokens(NamedTuple):
    """The tokens of one forward pass, [rows, tokens] each."""

    position: Tensor  # in the token's own sequence, from 0; padding not counted
    real: Tensor  # no padding, and its row is wanted
    ends: Tensor | None  # [rows, 1] tokens of each row's prompt

    def chosen(self, positions: Positions) -> Tensor:
        """Whether a token is one of these positions, bool [rows, tokens]."""
        if positions == "all" or self.ends is None:
            return self.real
        inside = self.position < self.ends if positions == "prompt" else self.position >= self.ends - 1
        return self.real & inside

    def to(self, device: torch.device) -> "Tokens":
        return Tokens(*(None if part is None else part.to(device) for part in self))  # type: ignore[arg-type]


# h [rows, tokens, d] -> the changed h, and which tokens that changes, bool [rows, tokens] (None: all).
Change = Callable[[Tensor, Tokens], tuple[Tensor, Tensor | None]]


class Intervention(Protocol):
    """A change of the activations at one hook point."""

    @property
    def point(self) -> HookPoint: ...

    @property
    def positions(self) -> Positions: ...

    def prepare(self, model: Any) -> Change | None:
        """The change, ready for this model; None where it changes nothing; UserError where it does not fit."""
        ...


@dataclass
class Count:
    """Tokens that an intervention was asked for, and those that it changed; on the device, so that nothing waits."""

    _seen: list[Tensor] = field(default_factory=list)
    _changed: list[Tensor] = field(default_factory=list)

    def add(self, chosen: Tensor, touched: Tensor) -> None:
        for total, mask in ((self._seen, chosen), (self._changed, touched)):
            total[:] = [mask.sum() + sum(total)]

    @property
    def seen(self) -> int:
        return int(sum(self._seen))

    @property
    def changed(self) -> int:
        return int(sum(self._changed))


class Steering:
    """Interventions made ready for a model. They work inside `on()` alone, one forward pass or many at a time.

    counts: one an intervention, in order, over all that ran inside `on()`. A prefix that several rows share, computed
    once, counts once.
    """

    def __init__(self, model: Any, interventions: Sequence[Intervention]):
        self.model = model
        self.counts = [Count() for _ in interventions]
        self._ends: Tensor | None = None
        self._lengths: Tensor | None = None
        self._alive: Tensor | None = None
        self._tokens: Tokens | None = None
        self._hooks = []
        for one, count in zip(interventions, self.counts, strict=True):
            if one.positions not in POSITIONS:
                raise UserError(f"positions: {one.positions!r} is none of {', '.join(POSITIONS)}")
            _check_layer(model, one.point.layer)
            if (change := one.prepare(model)) is not None:
                hook = _Hook(self, change, one.positions, count)
                self._hooks.append((*hook_module(model, one.point), hook))
        self.needs_prompt = any(one.positions != "all" for one in interventions)

    def __bool__(self) -> bool:
        """Whether anything can change."""
        return bool(self._hooks)

    @property
    def seen(self) -> int:
        """Tokens that interventions were asked for; one counts for each that names it."""
        return sum(count.seen for count in self.counts)

    @property
    def changed(self) -> int:
        """Tokens that interventions changed."""
        return sum(count.changed for count in self.counts)

    def place(
        self,
        prompt_lengths: Sequence[int] | Tensor | None,
        *,
        lengths: Sequence[int] | Tensor | None = None,
        alive: Tensor | None = None,
    ) -> None:
        """Say what the rows of the next passes are, until this is called again.

        prompt_lengths: tokens of each row's prompt; lengths: tokens of each row, where rows are padded on the right and
        no attention mask says so; alive: bool, rows that are still wanted.
        """
        if prompt_lengths is None and self.needs_prompt:
            raise ValueError("positions other than all need the prompts' lengths")
        device = self.model.get_input_embeddings().weight.device
        self._ends = None if prompt_lengths is None else torch.as_tensor(prompt_lengths, device=device)[:, None]
        self._lengths = None if lengths is None else torch.as_tensor(lengths, device=device)[:, None]
        self._alive = None if alive is None else alive[:, None]

    @contextmanager
    def on(self) -> Iterator[None]:
        """Steer every forward pass inside; whatever happens there, no hook is left behind."""
        with ExitStack() as stack:
            if self._hooks:
                watch = self.model.base_model.register_forward_pre_hook(self._read_pass, with_kwargs=True)
                stack.callback(watch.remove)
            for module, is_input, hook in self._hooks:
                if is_input:
                    handle = module.register_forward_pre_hook(hook.on_input, with_kwargs=True)
                else:
                    handle = module.register_forward_hook(hook.on_output)
                stack.callback(handle.remove)
            yield

    def _read_pass(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Where the tokens of this pass are in their sequences."""
        ids = args[0] if args else kwargs.get("input_ids")
        ids = kwargs["inputs_embeds"] if ids is None else ids
        rows, n = ids.shape[:2]
        mask, position = kwargs.get("attention_mask"), kwargs.get("position_ids")
        if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
            raise ValueError("interventions need an attention mask [rows, tokens], or none")
        if position is None or position.dim() != 2:
            if mask is not None:
                position = (mask.cumsum(-1) - 1).clamp(min=0)[:, -n:]
            else:
                cache = kwargs.get("past_key_values")
                before = 0 if cache is None else cache.get_seq_length()
                position = torch.arange(before, before + n, device=ids.device)[None]
        position = position.to(ids.device).expand(rows, n)
        real = torch.ones_like(position, dtype=torch.bool) if mask is None else mask[:, -n:].to(ids.device).bool()
        if self._lengths is not None:
            real = real & (position < self._lengths)
        if self._alive is not None:
            real = real & self._alive
        if self._ends is not None and len(self._ends) != rows:
            raise ValueError(f"{len(self._ends)} prompt lengths for {rows} rows")
        self._tokens = Tokens(position, real, self._ends)

    def tokens(self, h: Tensor) -> Tokens:
        """The tokens of the pass that is running, on h's device."""
        if h.dim() != 3:
            raise UserError(f"interventions: this model's blocks carry several streams, {list(h.shape)}; steer another")
        if self._tokens is None or self._tokens.real.shape != h.shape[:2]:
            raise RuntimeError("an intervention ran outside a forward pass of the whole model")
        return self._tokens.to(h.device)


@dataclass(frozen=True)
class _Hook:
    steering: Steering
    change: Change
    positions: Positions
    count: Count

    def apply(self, h: Tensor) -> Tensor:
        tokens = self.steering.tokens(h)
        chosen = tokens.chosen(self.positions)
        changed, touched = self.change(h, tokens)
        touched = chosen if touched is None else chosen & touched.to(h.device)
        self.count.add(chosen, touched)
        return torch.where(touched[..., None], changed, h)

    def on_input(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if args:
            return (self.apply(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": self.apply(kwargs["hidden_states"])}

    def on_output(self, module: Any, args: Any, output: Any) -> Any:
        return (self.apply(output[0]), *output[1:]) if isinstance(output, tuple) else self.apply(output)


def _check_layer(model: Any, layer: int) -> None:
    count = len(decoder_layers(model))
    if not 0 <= layer < count:
        raise UserError(f"layer {layer}: the model has layers 0 to {count - 1}")
