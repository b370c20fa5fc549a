"""Prefixes that several sequences share: found among token ids, and their keys and values computed once.

The responses of a role's variant all start with the same system turn, those of several samples with the same question
too. Where only later tokens are pooled, the shared ones need to run through the model once. Sequences are arranged in a
trie over token ids, in which a node is worth having only where what is left of its sequences still fills batches.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from transformers import DynamicCache

from personascope.models.hookpoints import HookPoint, decoder_layers, run_to
from personascope.models.trial import COMMON, DIFFERENT, TOKENS, distance, once, plain_cache, trial_ids

MIN_SHARED = 8  # tokens a node must add: fewer are not worth a pass of their own
FILLED = 4  # a node must leave a quarter of a batch


@dataclass
class Node:
    """A prefix of `end` tokens: the sequences that continue it by themselves, and the longer prefixes it begins."""

    end: int = 0
    members: list[int] = field(default_factory=list)
    children: list["Node"] = field(default_factory=list)


def prefix_tree(sequences: Sequence[Sequence[int]], limits: Sequence[int], budget: int) -> Node:
    """The root (the empty prefix) of the trie; each sequence is a member of exactly one node.

    limits: how much of each sequence may be shared, at most its length - 1; budget: tokens of a batch.
    """
    root = Node()
    _fill(
        root,
        sorted(range(len(sequences)), key=lambda i: tuple(sequences[i])),
        len(sequences),
        sequences,
        limits,
        budget,
    )
    return root


def _fill(
    node: Node,
    rows: list[int],
    siblings: int,
    sequences: Sequence[Sequence[int]],
    limits: Sequence[int],
    budget: int,
) -> None:
    """Put sequences, sorted and all starting with the node's prefix, into the node or into children of it.

    siblings: how many sequences start with that prefix.
    """
    if not rows:
        return
    most = min(limits[i] for i in rows)
    common = node.end + _shared(sequences[rows[0]][node.end : most], sequences[rows[-1]][node.end : most])
    left = sum(len(sequences[i]) - common for i in rows)
    if len(rows) > 1 and common - node.end >= MIN_SHARED and (len(rows) == siblings or left * FILLED >= budget):
        child = Node(common)
        node.children.append(child)
        node, siblings = child, len(rows)
    going_on = [i for i in rows if limits[i] > common and len(rows) > 1]
    node.members += sorted(set(rows) - set(going_on))
    for _, group in groupby(going_on, key=lambda i: sequences[i][common]):
        _fill(node, list(group), siblings, sequences, limits, budget)


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences share at their start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def can_share(model: Any) -> bool:
    """Whether all that a token takes from earlier ones is keys and values, which a cache of plain layers holds."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or []
    if not plain_cache(model) or not set(kinds) <= {"full_attention", "sliding_attention"}:
        return False
    return once(model, "prefixes", lambda: _true_behind_prefixes(model))


@torch.inference_mode()
def _true_behind_prefixes(model: Any) -> bool:
    """Whether activations behind a cached prefix are those of the whole sequence."""
    ids, points = trial_ids(model, TOKENS), {HookPoint(len(decoder_layers(model)) - 1, "resid_post")}
    device = model.get_input_embeddings().weight.device
    try:
        cache = extended(model, None, ids[:COMMON], points)
        rest = torch.tensor([ids[COMMON:]], device=device)
        (behind,) = run_to(model, rest, points, [[(0, TOKENS - COMMON)]], cache=cache).values()
        (whole,) = run_to(model, torch.tensor([ids], device=device), points, [[(COMMON, TOKENS)]]).values()
    except Exception:  # whatever a class that remembers in another way does: nothing is shared then
        return False
    return distance(behind, whole) <= DIFFERENT


def _empty(model: Any) -> Any:
    return DynamicCache(config=model.config)


def extended(model: Any, cache: Any, ids: Sequence[int], points: set[HookPoint]) -> Any:
    """Keys and values of a longer prefix: those of a shorter one (None: of none) and of `ids` behind it, in the blocks
    up to the last point."""
    longer = _empty(model) if cache is None else repeated(cache, 1)
    device = model.get_input_embeddings().weight.device
    run_to(model, torch.tensor([list(ids)], device=device), set(), [[]], means=points, cache=longer)
    return longer


def repeated(cache: Any, rows: int) -> Any:
    """A cache of one sequence for so many rows; what is added to it leaves the original as it is."""
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in copied.layers:
        if layer.is_initialized:
            layer.keys = layer.keys.expand(rows, -1, -1, -1)
            layer.values = layer.values.expand(rows, -1, -1, -1)
    return copied
