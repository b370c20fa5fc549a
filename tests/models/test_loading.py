"""Folders that are no models, and models on several devices."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Cache

from personascope.backends import Request, Sampling
from personascope.backends.local import PreallocatedLayer, TransformersBackend, keep_rows
from personascope.errors import UserError
from personascope.models.hookpoints import HookPoint, mean_weights, weighted_means
from personascope.models.loading import ModelSpec, load_model, load_tokenizer, model_identity
from personascope.models.projection import Probe, Reader


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_lora_adapter_is_told_what_it_is(tmp_path: Path, load: Any) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base", "r": 8}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"a LoRA adapter: merge it into its base model org/base \(merge_and_unload"):
        load(ModelSpec(str(tmp_path)))


def test_a_model_that_is_spread_over_devices_reads_and_generates_the_same(tmp_path: Path, tiny_llama: Any) -> None:
    tiny_llama.save_pretrained(tmp_path)
    spread = load_model(ModelSpec(str(tmp_path), dtype="float32", device_map="auto"))
    requests = [Request([5, 6, 7, n], 0, 6) for n in (8, 9)]
    how = Sampling(temperature=0)
    found = dict(TransformersBackend(spread, []).generate(requests, how))
    assert found == dict(TransformersBackend(tiny_llama, []).generate(requests, how))
    assert model_identity(ModelSpec(str(tmp_path))).startswith("sha256:")


def test_caches_and_activations_stay_on_their_own_device() -> None:
    """The second layer lies elsewhere: what goes with it follows it there."""
    layers: list[Any] = [PreallocatedLayer(4), PreallocatedLayer(4)]
    cache, rows = Cache(layers=layers), torch.tensor([2, 0])
    states = torch.arange(24.0).reshape(3, 1, 2, 4)
    layers[0].update(states, states)
    layers[1].update(states.to("meta"), states.to("meta"))
    keep_rows(cache, rows)
    assert torch.equal(layers[0].keys[:, :, :2], states[rows])
    assert [str(layer.keys.device) for layer in layers] == ["cpu", "meta"] and layers[1].keys.shape[0] == 2
    weights = mean_weights([[[(0, 2)]]], torch.zeros(1, 3, dtype=torch.long))
    assert weighted_means(weights, torch.zeros(1, 3, 4, device="meta")).device.type == "meta"
    reader = Reader(Probe(["a@1"], {1: torch.ones(1, 4)}))
    reader.note(HookPoint(1, "resid_post"), torch.zeros(1, 3, 4, device="meta"))
    assert reader.probe.units[1].device.type == "meta"
