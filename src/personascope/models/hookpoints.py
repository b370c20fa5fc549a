"""The places in a model where an SAE can be read, and running a model just as far as they need.

Layer convention: layer k is the OUTPUT of decoder block k, counted from 0 (SAELens
``blocks.k.hook_resid_post``, Hugging Face ``hidden_states[k + 1]``).
"""

import re
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, cat, nn

from personascope.errors import UserError


@dataclass(frozen=True)
class HookPoint:
    """A place in the model: the block `layer` and where in it.

    site: "resid_post", "resid_pre", "attn_out", "mlp_out" (what a sublayer adds to the stream), or the name of a module
    of the block, whose own output is meant.
    """

    layer: int
    site: str


SITES = {
    "hook_resid_post": "resid_post",
    "hook_resid_pre": "resid_pre",
    "hook_mlp_out": "mlp_out",
    "hook_attn_out": "attn_out",
}
_TRANSFORMER_LENS = re.compile(r"blocks\.(\d+)\.(.+)")
SUBLAYERS = {"mlp_out": ("mlp", "feed_forward"), "attn_out": ("self_attn", "attn", "attention")}
_MODULES = "|".join(name for names in SUBLAYERS.values() for name in names)
_MODULE_PATH = re.compile(rf"(?:.*\.)?(?:layers|h|blocks)\.(\d+)(?:\.(output|{_MODULES}))?")
_OTHER_TOWERS = re.compile(r"vision|visual|audio|encoder")


def parse_hook_name(name: str) -> HookPoint:
    """Read an SAE's hook name; UserError names a hook point that is not served.

    The names are TransformerLens's, of which hook_mlp_out and hook_attn_out are what is added to the stream, or paths
    of modules (SAELens's HookedProxyLM), which are the module's own output: not the same where a norm stands between.
    """
    if match := _TRANSFORMER_LENS.fullmatch(name):
        if match[2] in SITES:
            return HookPoint(int(match[1]), SITES[match[2]])
    elif (match := _MODULE_PATH.fullmatch(name)) and not _OTHER_TOWERS.search(name):
        return HookPoint(int(match[1]), "resid_post" if match[2] in (None, "output") else match[2])
    served = f"{', '.join(SITES)}, and paths such as model.layers.1 and model.layers.1.mlp"
    raise UserError(f"SAE hook point {name!r} is not one this pipeline reads; it reads {served}")


# Some families normalize a sublayer's output before they add it to the stream; SAEs read the added value.
SANDWICH_NORMS = (
    {"mlp_out": "post_feedforward_layernorm", "attn_out": "post_attention_layernorm"},  # Gemma 2 and 3
    {"mlp_out": "post_mlp_layernorm", "attn_out": "post_self_attn_layernorm"},  # GLM-4
)


def hook_module(model: Any, point: HookPoint) -> tuple[nn.Module, bool]:
    """The module to hook and whether its INPUT (else its output) is the activation; UserError outside the model."""
    layers = decoder_layers(model)
    if not 0 <= point.layer < len(layers):
        raise UserError(f"SAE layer {point.layer}: the model has layers 0 to {len(layers) - 1}")
    block = layers[point.layer]
    if point.site in ("resid_post", "resid_pre"):
        return block, point.site == "resid_pre"
    norms = next((norms for norms in SANDWICH_NORMS if hasattr(block, norms["mlp_out"])), {})
    names = SUBLAYERS.get(point.site, (point.site,))
    for name in (norms[point.site],) if point.site in norms else names:
        if isinstance(module := getattr(block, name, None), nn.Module):
            return module, False
    raise UserError(f"SAE hook point {point.site}: {type(block).__name__} has no module for it")


def decoder_layers(model: Any) -> nn.ModuleList:
    """The decoder blocks: the longest ModuleList of the text model whose length is the configured layer count."""
    config = model.config.get_text_config()
    count = getattr(config, "num_hidden_layers", None)
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count and "vision" not in name
    ]
    if not lists:
        raise UserError(f"{type(model).__name__}: no list of {count or 'its'} decoder layers found in it")
    preferred = [entry for entry in lists if entry[0].endswith(("layers", "h", "blocks"))]
    return (preferred or lists)[0][1]


CHECK_WEIGHTS = "are the weights damaged? compare them with a fresh download"


class Reached(Exception):
    """Ends a forward pass: nothing behind the last hooked layer is needed."""


Ranges = list[list[tuple[int, int]]]  # of each row of a batch, the half-open token ranges that are selected


def run_to(
    model: Any,
    ids: Tensor,
    points: set[HookPoint],
    ranges: Ranges,
    means: Set[HookPoint] = frozenset(),
    cache: Any = None,
) -> dict[HookPoint, Tensor]:
    """Run the model up to the last point; the selected tokens' activations [n_selected, d] at each of `points`.

    At a point that is only among `means` it is their mean, float32 [rows, d] (0 where a row selects none), so that no
    layer's tokens outlive it. cache: keys and values of a prefix that all rows share, which `ids` and `ranges` leave
    out; the tokens of `ids` are added to it. UserError where an activation is not finite.
    """
    captured: dict[HookPoint, Tensor] = {}
    wanted, weights = points | means, mean_weights([ranges], ids)

    def capture(point: HookPoint, activation: Tensor) -> None:
        if activation.dim() == 2:  # [rows * tokens, d]: experts (Llama 4)
            activation = activation.reshape(*ids.shape, -1)
        if point in points:
            rows = [activation[row, start:end] for row, spans in enumerate(ranges) for start, end in spans]
            captured[point] = cat(rows) if rows else activation[0, :0]
        else:
            captured[point] = weighted_means(weights, activation)[:, 0]
        if len(captured) == len(wanted):
            raise Reached

    with hooks(model, wanted, capture):
        try:
            model.base_model(input_ids=ids, past_key_values=cache, use_cache=cache is not None)
        except Reached:
            for point, activation in captured.items():
                require_finite(activation, f"layer {point.layer} ({point.site})", next(model.parameters()).dtype)
            return captured
    missed = ", ".join(str(point.layer) for point in sorted(wanted - captured.keys(), key=lambda p: p.layer))
    raise UserError(f"{type(model).__name__} does not run layer {missed} on text alone; read another layer")


def require_finite(values: Tensor, where: str, dtype: torch.dtype, remedy: str = "set model.dtype: bfloat16") -> None:
    """UserError where one of the values [n, ...], computed in `dtype`, is infinite or no number; remedy: of float16."""
    if not bool(values.isfinite().all()):
        bad = int((~values.flatten(1).isfinite().all(1)).sum())
        what_to_do = f"they overflow in float16: {remedy}" if dtype == torch.float16 else CHECK_WEIGHTS
        raise UserError(f"{where}: {bad} of {len(values)} rows of activations are not finite; {what_to_do}")


def mean_weights(selections: Sequence[Ranges], ids: Tensor) -> Tensor:
    """float32 [rows, selections, tokens] that makes a selection's mean of a row's tokens; 0 where it selects none."""
    weights = torch.zeros(len(ids), len(selections), ids.shape[1])
    for i, ranges in enumerate(selections):
        for row, spans in enumerate(ranges):
            count = sum(end - start for start, end in spans)
            for start, end in spans:
                weights[row, i, start:end] = 1 / count if count else 0
    return weights.to(ids.device)


def weighted_means(weights: Tensor, activation: Tensor) -> Tensor:
    """float32 [rows, selections, d] of an activation [rows, tokens, d]."""
    return torch.bmm(weights.to(activation.device), activation.float())


def _stream(module: nn.Module, output: Any) -> Tensor:
    """The residual stream [rows, tokens, d] in what a module takes or gives."""
    h = output[0] if isinstance(output, tuple | list) else output
    # Gemma 3n carries 4 streams, [4, rows, tokens, d], and computes on the first.
    return h[module.config.altup_active_idx] if h.dim() == 4 and hasattr(module, "altup") else h  # type: ignore[union-attr]


@contextmanager
def hooks(model: Any, points: set[HookPoint], capture: Any) -> Iterator[None]:
    """Call capture(point, activation) for each point, whether it is its module's input or output."""
    handles = []

    def on_input(point: HookPoint) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            capture(point, _stream(module, args[0] if args else kwargs["hidden_states"]))

        return hook

    def on_output(point: HookPoint) -> Any:
        return lambda module, args, output: capture(point, _stream(module, output))

    try:
        for point in points:
            module, is_input = hook_module(model, point)
            if is_input:
                handles.append(module.register_forward_pre_hook(on_input(point), with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(on_output(point)))
        yield
    finally:
        for handle in handles:
            handle.remove()
