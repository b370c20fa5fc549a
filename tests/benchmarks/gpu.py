"""Extraction on a GPU: a model of Gemma 3 27B's shape with random weights, and an SAE of 65,536 features.

python -m tests.benchmarks gpu        (80 GB of GPU memory)
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from personascope.extraction.extract import ExtractOptions, Item, extract
from personascope.models.hookpoints import HookPoint, run_to
from personascope.models.saes import LoadedSAE, encode_blocks
from tests.benchmarks.common import ROUNDS, Row, seconds
from tests.benchmarks.extraction import baseline, baseline_sample, make_items, needed_flops

ACTIVE = 60


@dataclass(frozen=True)
class Shape:
    """A Gemma 3 text model, where an SAE reads it, and how many tokens a batch has."""

    hidden: int = 5376
    layers: int = 62
    mlp: int = 21504
    heads: int = 32
    kv_heads: int = 16
    head_dim: int = 128
    vocabulary: int = 262208
    sae_layer: int = 40
    d_sae: int = 65536
    batch_tokens: int = 16384
    matmul: int = 8192


def random_model(shape: Shape, device: str) -> Any:
    """The model in bfloat16; rotary embeddings and norms as the library makes them."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        intermediate_size=shape.mlp,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        vocab_size=shape.vocabulary,
        query_pre_attn_scalar=shape.hidden // shape.heads,
        sliding_window=1024,
        dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return Gemma3ForCausalLM(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)


@torch.inference_mode()
def random_sae(shape: Shape, model: Any, sample: Item, device: str) -> LoadedSAE:
    """A JumpReLU SAE with random weights, and thresholds at which so many features are active as in Gemma Scope's."""
    from sae_lens import JumpReLUSAE, JumpReLUSAEConfig

    sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=shape.hidden, d_sae=shape.d_sae, dtype="bfloat16", device=device))
    sae.requires_grad_(False)
    torch.nn.init.normal_(sae.W_enc, std=shape.hidden**-0.5)
    point = HookPoint(shape.sae_layer, "resid_post")
    tokens = run_to(model, torch.tensor([sample.ids], device=device), {point}, [sample.ranges])[point]
    before = (tokens @ sae.W_enc).float()
    sae.threshold.fill_(before.topk(ACTIVE, dim=1).values[:, -1].median().item())
    return LoadedSAE(sae.eval(), point, shape.d_sae, f"blocks.{shape.sae_layer}.hook_resid_post")


def timed(work: Callable[[], Any], device: str) -> float:
    """Seconds of a call, the device's queue emptied before and after."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    return seconds(lambda: (work(), wait()))


def matmul_rate(size: int, device: str, rounds: int = 20) -> float:
    """FLOP/s of a square bfloat16 matrix product on this device, now."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    _ = a @ b
    return 2 * size**3 * rounds / timed(lambda: [a @ b for _ in range(rounds)], device)


def encode_seconds(sae: LoadedSAE, n_tokens: int, options: ExtractOptions, device: str) -> float:
    """Seconds of the SAE's encoding alone of so many tokens, in the chunks of extraction."""
    chunk = torch.randn(options.chunk_tokens, sae.sae.cfg.d_in, device=device, dtype=torch.bfloat16)
    with torch.inference_mode():
        once = [timed(lambda: [z for _, z in encode_blocks(sae, chunk)], device) for _ in range(12)][2:]
    return statistics.median(once) * n_tokens / options.chunk_tokens


def measure(shape: Shape, device: str) -> Iterator[Row]:
    model = random_model(shape, device)
    items = make_items(shape.vocabulary)
    sae = random_sae(shape, model, items[0], device)
    options = ExtractOptions(batch_tokens=shape.batch_tokens)
    sample = baseline_sample(items)
    tokens, sample_tokens = (sum(len(item.ids) for item in part) for part in (items, sample))
    extract(model, sae, items, options)  # both sides warm
    baseline(model, sae, sample[:2])
    slow, fast, rates = [], [], []
    for _ in range(ROUNDS):
        slow.append(timed(lambda: baseline(model, sae, sample), device))
        rates.append(matmul_rate(shape.matmul, device))
        fast.append(timed(lambda: extract(model, sae, items, options), device))
    took, rate = statistics.median(fast), statistics.median(rates)
    speed, base = tokens / took, sample_tokens / statistics.median(slow)
    what = f"{shape.layers} layers x {shape.hidden}, SAE {shape.d_sae:,} at {shape.sae_layer}, bf16"
    detail = f"{speed:,.0f} against {base:,.0f} tokens/s; {what}"
    yield Row("extraction on a GPU", f"{speed / base:.1f}x", ">= 8x", speed >= 8 * base, detail)
    share = needed_flops(model, sae, items) / took / rate
    yield Row(
        "its share of the bf16 matmul rate", f"{share:.0%}", ">= 45%", share >= 0.45, f"of {rate / 1e12:.0f} TFLOP/s"
    )
    selected = sum(item.n_selected for item in items)
    encoding = encode_seconds(sae, selected, options, device) / took
    yield Row("the SAE's share of its time", f"{encoding:.0%}", "<= 15%", encoding <= 0.15, f"{selected:,} tokens")


def run() -> Iterator[Row]:
    if not torch.cuda.is_available():
        print("gpu: not measured, there is no CUDA device here")
        return
    yield from measure(Shape(), "cuda")
