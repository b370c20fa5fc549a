"""Readings of all layers against the hidden states that the library returns."""

from typing import Any

import numpy as np
import pytest
import torch

from personascope.extraction.items import Item
from personascope.extraction.readings import read_layers


@pytest.mark.parametrize("batch_tokens", [1, 40, 2048])
@torch.inference_mode()
def test_readings_are_means_of_the_hidden_states(tiny_llama: Any, batch_tokens: int) -> None:
    rng = np.random.default_rng(0)
    starts = [3, 9, 1, 12, 5]
    items = [
        Item(rng.integers(0, 320, start + 2 + i).tolist(), [(start, start + 2 + i)]) for i, start in enumerate(starts)
    ]
    items.append(Item([5, 6, 7], []))  # an answer without a token
    layers = [2, 0]
    read = dict(read_layers(tiny_llama, items, layers, batch_tokens))
    assert read.keys() == set(range(len(items)))
    for i, item in enumerate(items):
        states = tiny_llama(input_ids=torch.tensor([item.ids]), output_hidden_states=True).hidden_states
        start = item.ranges[0][0] if item.ranges else len(item.ids)
        for column, layer in enumerate(layers):
            h = states[layer + 1][0]
            if layer == 2:  # the library normalizes its last hidden state
                h = _before_norm(tiny_llama, item.ids)
            answer = h[start:].mean(0) if start < len(item.ids) else torch.zeros(32)
            for got, expected in zip(read[i][:, column], (answer, h[:start].mean(0), h[start - 1]), strict=True):
                np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5, atol=1e-5)


def _before_norm(model: Any, ids: list[int]) -> torch.Tensor:
    kept = []
    handle = model.model.norm.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    model(input_ids=torch.tensor([ids]))
    handle.remove()
    return kept[0][0]
