"""What a model's class can do, tried on a few tokens: whether its stream can be read, and how it remembers.

Classes differ in what a rule over their names would miss (encoders with a language model's head, learned positions that
know nothing of padding, recurrent layers), so that the answer is taken from the model itself.
"""

import inspect
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from personascope.errors import UserError
from personascope.models.hookpoints import SUBLAYERS, HookPoint, decoder_layers, run_to
from personascope.models.loading import d_model

# Types of models whose trials the tests make, so that no run needs to (tests/models/test_architectures.py).
TRIED = ("gemma2", "gemma3", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3")
TOKENS, COMMON = 12, 8
DIFFERENT = 0.1  # of the size of what is compared: far beyond rounding, and far below what another text makes
_KNOWN: "WeakKeyDictionary[Any, dict[str, bool]]" = WeakKeyDictionary()


def trial_ids(model: Any, n: int, first: int = 7) -> list[int]:
    """n token ids, none of which is likely to be special."""
    vocabulary = model.config.get_text_config().vocab_size
    return [(first + 13 * i) % vocabulary for i in range(n)]


def distance(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|, the median over the tokens of a and b [tokens, ...]; infinite where their shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    a, b = a.flatten(1).float(), b.flatten(1).float()
    return ((a - b).norm(dim=1) / b.norm(dim=1).clamp(min=1e-12)).median().item()


@torch.inference_mode()
def require_readable(model: Any) -> None:
    """UserError names a class whose blocks do not give one vector a token, or let a token see later ones."""
    device = model.get_input_embeddings().weight.device
    head = trial_ids(model, COMMON)
    rows = [head + trial_ids(model, TOKENS - COMMON, first) for first in (11, 17)]
    name = type(model).__name__
    try:
        point = HookPoint(len(decoder_layers(model)) - 1, "resid_post")
        found = run_to(model, torch.tensor(rows, device=device), {point}, [[(0, TOKENS)]] * 2)[point]
    except UserError:
        raise
    except Exception as error:  # whatever a class that works in another way does
        raise UserError(f"{name} cannot be read here: {' '.join(str(error).split())[:200]}") from None
    if found.shape != (2 * TOKENS, d_model(model)):
        shape = tuple(found.shape[1:])
        raise UserError(f"{name} cannot be read here: its blocks give {shape} a token, not one vector of d_model")
    if distance(found[:COMMON], found[TOKENS : TOKENS + COMMON]) > DIFFERENT:
        raise UserError(f"{name} lets tokens see what comes after them: it is no causal language model, use another")


@torch.inference_mode()
def require_added(model: Any, point: HookPoint) -> None:
    """UserError where what a sublayer gives is not what is added to the stream, as a hook name of TransformerLens means
    it: Granite and others multiply it. Not tried where a block has something else in the place of the other sublayer.
    """
    if point.site not in SUBLAYERS or model.config.model_type in TRIED:
        return
    before, after, *parts = [HookPoint(point.layer, site) for site in ("resid_pre", "resid_post", *SUBLAYERS)]
    ids = torch.tensor([trial_ids(model, TOKENS)], device=model.get_input_embeddings().weight.device)
    try:
        found = run_to(model, ids, {before, after, *parts}, [[(0, TOKENS)]])
    except UserError:
        return
    given = torch.stack([found[part].flatten().float().cpu() for part in parts], 1)
    added = (found[after].cpu().float() - found[before].cpu().float()).flatten()
    size = torch.linalg.lstsq(given, added[:, None]).solution[parts.index(point), 0].item()
    if not abs(size - 1) <= 2 * DIFFERENT:
        raise UserError(
            f"SAE hook point {point.site}: {type(model).__name__} adds {size:.2f} times what this module gives to the "
            "stream, so that it is not known what the SAE was trained on; choose an SAE of the residual stream"
        )


def plain_cache(model: Any) -> bool:
    """Whether all that the model remembers of earlier tokens is keys and values."""
    if "past_key_values" not in inspect.signature(model.base_model.forward).parameters:
        return False
    try:
        layers: list[Any] = DynamicCache(config=model.config).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def require_plain_cache(model: Any, what: str, instead: str) -> None:
    """UserError where a model that remembers more than keys and values cannot do `what`."""
    if not plain_cache(model):
        name = type(model).__name__
        raise UserError(f"{what}: {name} remembers more of earlier tokens than their keys and values; {instead}")


def once(model: Any, question: str, tried: Callable[[], bool]) -> bool:
    """Whether something is true of this model: of a type in TRIED it is, of another it is tried once."""
    if model.config.model_type in TRIED:
        return True
    known = _KNOWN.setdefault(model, {})
    if question not in known:
        known[question] = tried()
    return known[question]
