"""Three readings of every layer, in one forward pass a batch: the answer's mean, the prompt's mean, the prompt's end.

The readings of persona vectors (Chen et al. 2025, arXiv 2507.21509). Each layer is reduced as it is reached: the
residual stream of only one is in memory at a time.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personascope.extraction.extract import batches_by_tokens
from personascope.extraction.items import Item
from personascope.models.hookpoints import HookPoint, Reached, hooks, mean_weights, require_finite, weighted_means


def read_layers(
    model: Any, items: Sequence[Item], layers: Sequence[int], batch_tokens: int = 2048
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, float32 [3, n_layers, d]): an item's readings at the outputs of these blocks, the longest first.

    In the order of `formats.trait_activations.READINGS`: response_avg, the mean over the item's ranges; prompt_avg and
    prompt_last, the mean over the prompt's tokens, and the last of them. A reading of no token is 0.
    """
    for batch in batches_by_tokens([len(item.ids) for item in items], batch_tokens):
        yield from zip(batch, _read_batch(model, [items[i] for i in batch], layers), strict=True)


def _prompt_length(item: Item) -> int:
    if item.prompt is not None:
        return item.prompt
    return min((start for start, _ in item.ranges), default=len(item.ids))


@torch.inference_mode()
def _read_batch(model: Any, items: list[Item], layers: Sequence[int]) -> np.ndarray:
    """float32 [n_items, 3, n_layers, d]."""
    device = model.get_input_embeddings().weight.device
    ids = torch.zeros(len(items), max(len(item.ids) for item in items), dtype=torch.long)
    for row, item in enumerate(items):
        ids[row, : len(item.ids)] = torch.tensor(item.ids)
    prompts = [_prompt_length(item) for item in items]
    selections = [
        [item.ranges for item in items],
        [[(0, end)] for end in prompts],
        [[(max(end - 1, 0), end)] for end in prompts],
    ]
    weights = mean_weights(selections, ids)
    points = {HookPoint(layer, "resid_post") for layer in layers}
    found: dict[HookPoint, Tensor] = {}

    def capture(point: HookPoint, activation: Tensor) -> None:
        found[point] = weighted_means(weights, activation).cpu()
        if len(found) == len(points):
            raise Reached

    with hooks(model, points, capture), suppress(Reached):
        model.base_model(input_ids=ids.to(device), use_cache=False)
    for point, reading in found.items():
        require_finite(reading, f"layer {point.layer}", next(model.parameters()).dtype)
    return torch.stack([found[HookPoint(layer, "resid_post")] for layer in layers], dim=2).numpy()
