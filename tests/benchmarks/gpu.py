"""Extraction on a GPU: a model of Gemma 3 27B's shape with random weights, and an SAE of 65,536 features.

    python -m tests.benchmarks gpu            (80 GB of GPU memory, six minutes)
    python -m tests.benchmarks.gpu small      (the same on a tiny model, on a GPU or a CPU: a rehearsal)

Needs torch, transformers and NumPy, and no network. A line says what is left out because time is short.
"""

import gc
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from personascope.extraction.extract import ExtractOptions, batches_by_tokens, extract
from personascope.extraction.items import Item
from personascope.models.hookpoints import HookPoint, run_to
from personascope.models.saes import LoadedSAE, encode_blocks
from tests.benchmarks.common import Deadline, Row, print_table, seconds
from tests.benchmarks.extraction import baseline, baseline_sample, make_items, needed_flops

ACTIVE = 60
BATCH_SIZES = (4096, 16384, 65536)
LIMIT = 330.0  # seconds: half a minute of the six is for starting up, and for estimates that fall short
NO_MEMORY = "out of GPU memory"


@dataclass(frozen=True)
class Shape:
    """A Gemma 3 text model, where an SAE reads it, tokens of a batch; one in `every` conversations is taken."""

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
    every: int = 1


SMALL = Shape(64, 8, 256, 4, 2, 16, vocabulary=1000, sae_layer=6, d_sae=512, matmul=512, every=4)


class RandomSAE(torch.nn.Module):
    """A JumpReLU SAE's encoder with random weights: z = relu(x @ W_enc + b_enc), where that is above the threshold."""

    def __init__(self, d_in: int, d_sae: int, device: str):
        super().__init__()
        self.cfg, self.dtype = SimpleNamespace(d_in=d_in, d_sae=d_sae), torch.bfloat16
        options: Any = {"device": device, "dtype": self.dtype}
        self.W_enc = torch.randn(d_in, d_sae, **options).mul_(d_in**-0.5)
        self.b_enc = torch.zeros(d_sae, **options)
        self.threshold = torch.zeros(d_sae, **options)

    def encode(self, x: Tensor) -> Tensor:
        """The features of tokens [n, d_in] as [n, d_sae], in the operations of sae-lens."""
        before = x.to(self.dtype) @ self.W_enc + self.b_enc
        return torch.relu(before) * (before > self.threshold).to(self.dtype)


@dataclass(frozen=True)
class Bench:
    """What is measured, on which device and until when."""

    shape: Shape
    model: Any
    sae: LoadedSAE
    items: list[Item]
    device: str
    deadline: Deadline

    @property
    def n_tokens(self) -> int:
        return sum(len(item.ids) for item in self.items)

    def timed(self, work: Callable[[], Any]) -> float:
        """Seconds of a call, the device's queue emptied before and after."""
        wait = torch.cuda.synchronize if self.device == "cuda" else lambda: None
        wait()
        return seconds(lambda: (work(), wait()))

    def extract(self, batch_tokens: int, items: list[Item] | None = None) -> float:
        """Seconds of the extraction of these items, or of all."""
        options = ExtractOptions(batch_tokens=batch_tokens)
        return self.timed(lambda: extract(self.model, self.sae, items or self.items, options))

    def baseline(self, items: list[Item]) -> float:
        """Seconds of the original's algorithm over these items."""
        return self.timed(lambda: baseline(self.model, self.sae, items))


def random_model(shape: Shape, device: str) -> Any:
    """The model in bfloat16, made on the device, with the random weights that the library gives a new model."""
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
        initializer_range=0.02,
        dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return Gemma3ForCausalLM(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)


@torch.no_grad()
def random_sae(shape: Shape, model: Any, sample: Item, device: str) -> LoadedSAE:
    """An SAE with random weights, and a threshold at which so many features are active as in Gemma Scope's."""
    sae, point = RandomSAE(shape.hidden, shape.d_sae, device).eval(), HookPoint(shape.sae_layer, "resid_post")
    tokens = run_to(model, torch.tensor([sample.ids], device=device), {point}, [sample.ranges])[point]
    if not tokens.isfinite().all():
        raise RuntimeError("the random model's activations are not finite: its times would say nothing")
    sae.threshold.fill_((tokens @ sae.W_enc).float().topk(ACTIVE, dim=1).values[:, -1].median().item())
    return LoadedSAE(sae, point, shape.d_sae, f"blocks.{shape.sae_layer}.hook_resid_post")


def make_bench(shape: Shape, device: str) -> Bench:
    """The model and the SAE on the device, and the conversations; prints what all this runs on."""
    import transformers

    deadline = Deadline(LIMIT)
    card = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    print(f"gpu: {card}, torch {torch.__version__}, transformers {transformers.__version__}", flush=True)
    items = make_items(shape.vocabulary)[:: shape.every]
    model = random_model(shape, device)
    sae = random_sae(shape, model, items[0], device)
    print(f"gpu: the model and the SAE were made in {deadline.passed():.0f} s{peak_memory(device)}", flush=True)
    return Bench(shape, model, sae, items, device, deadline)


def peak_memory(device: str) -> str:
    """The peak of GPU memory since this was last asked, to end a line with."""
    if device != "cuda":
        return ""
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return f"; peak GPU memory {peak:.1f} GiB"


def within_memory(work: Callable[..., Any], *arguments: Any) -> Any:
    """What the call returns, or None where the GPU's memory does not hold it."""
    with suppress(torch.OutOfMemoryError):
        return work(*arguments)
    gc.collect()
    torch.cuda.empty_cache()
    return None


def matmul_rate(bench: Bench, rounds: int = 20) -> float:
    """FLOP/s of a square bfloat16 matrix product on this device, now."""
    size = bench.shape.matmul
    a, b, out = (torch.randn(size, size, device=bench.device, dtype=torch.bfloat16) for _ in range(3))
    torch.mm(a, b, out=out)
    return 2 * size**3 * rounds / bench.timed(lambda: [torch.mm(a, b, out=out) for _ in range(rounds)])


def encode_seconds(bench: Bench, n_tokens: int) -> float:
    """Seconds of the SAE's encoding alone of so many tokens, in the chunks of extraction."""
    sae, chunk_tokens = bench.sae, ExtractOptions().chunk_tokens
    chunk = torch.randn(chunk_tokens, sae.sae.cfg.d_in, device=bench.device, dtype=torch.bfloat16)
    with torch.inference_mode():
        once = [bench.timed(lambda: [z for _, z in encode_blocks(sae, chunk)]) for _ in range(12)][2:]
    return statistics.median(once) * n_tokens / chunk_tokens


def warm_up(bench: Bench, batch_tokens: int) -> float:
    """Extract the largest batch once; the seconds to expect of the extraction of all."""
    lengths = [len(item.ids) for item in bench.items]
    batch = [bench.items[i] for i in next(batches_by_tokens(lengths, batch_tokens))]
    return bench.extract(batch_tokens, batch) * bench.n_tokens / sum(len(item.ids) for item in batch)


@dataclass(frozen=True)
class Rounds:
    """What rounds in turn measured: seconds of extraction and of the original's algorithm, and the matmul's FLOP/s."""

    batch_tokens: int
    fast: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    slow: list[float] = field(default_factory=list)

    @property
    def took(self) -> float:
        return statistics.median(self.fast)


def in_turn(bench: Bench, batch_tokens: int) -> Rounds:
    """Extraction, the matrix product and the original's algorithm, as often as time allows."""
    sample = baseline_sample(bench.items)
    bench.baseline(sample[-2:])
    original = bench.baseline(sample[-2:]) * len(sample) / 2
    once = warm_up(bench, batch_tokens)
    both = bench.deadline.rounds(once + original, share=0.5)
    done = Rounds(batch_tokens)
    for _ in range(both or bench.deadline.rounds(once, share=0.5) or 1):
        if both:
            done.slow.append(bench.baseline(sample))
        done.rates.append(matmul_rate(bench))
        done.fast.append(bench.extract(batch_tokens))
    return done


def compare(bench: Bench, done: Rounds) -> Iterator[Row]:
    """The rows of extraction against the card's own rate and against the original's algorithm."""
    shape, name = bench.shape, "extraction on a GPU"
    speed, rate = bench.n_tokens / done.took, statistics.median(done.rates)
    detail = f"{shape.matmul:,} x {shape.matmul:,}, rounds: {len(done.rates)}"
    yield Row("the card's bf16 matmul rate", f"{rate / 1e12:.3g} TFLOP/s", "-", True, detail)
    detail = f"{shape.layers} layers x {shape.hidden}, SAE {shape.d_sae:,} at {shape.sae_layer}, bf16"
    detail += f"; {bench.n_tokens:,} tokens in batches of {done.batch_tokens:,}{peak_memory(bench.device)}"
    yield Row(name, f"{speed:,.0f} tokens/s", "-", True, detail)
    share = needed_flops(bench.model, bench.sae, bench.items) / done.took / rate
    yield Row("its share of the bf16 matmul rate", f"{share:.0%}", ">= 45%", share >= 0.45)
    selected = sum(item.n_selected for item in bench.items)
    encoding = encode_seconds(bench, selected) / done.took
    yield Row("the SAE's share of its time", f"{encoding:.0%}", "<= 15%", encoding <= 0.15, f"{selected:,} tokens")
    name = f"{name} against the original's algorithm"
    if not done.slow:
        left_out(name)
        return
    sample = baseline_sample(bench.items)
    base = sum(len(item.ids) for item in sample) / statistics.median(done.slow)
    detail = f"{speed:,.0f} against {base:,.0f} tokens/s, the latter over {len(sample)} conversations"
    yield Row(name, f"{speed / base:.1f}x", ">= 8x", speed >= 8 * base, detail)


def left_out(name: str) -> None:
    """Say that there is no time for this."""
    print(f"gpu: left out, since time is short: {name}", flush=True)


def repeated(bench: Bench, batch_tokens: int, share: float) -> list[float]:
    """Seconds of the extraction of all, as often as fits into a share of the time left."""
    rounds = bench.deadline.rounds(warm_up(bench, batch_tokens), share) or 1
    return [bench.extract(batch_tokens) for _ in range(rounds)]


def batch_sizes(bench: Bench, once: float) -> Iterator[Row]:
    """The speed at each batch size; `once`: the seconds to expect of one extraction."""
    for done, size in enumerate(BATCH_SIZES):
        name = f"extraction in batches of {size:,} tokens"
        if not bench.deadline.rounds(2 * once):
            left_out(name)
            continue
        peak_memory(bench.device)
        took = within_memory(repeated, bench, size, 1 / (len(BATCH_SIZES) - done))
        measured = f"{bench.n_tokens / statistics.median(took):,.0f} tokens/s" if took else NO_MEMORY
        yield Row(name, measured, "-", bool(took), f"rounds: {len(took or [])}{peak_memory(bench.device)}")


def measure(shape: Shape, device: str) -> Iterator[Row]:
    """Every row that time and memory allow; where the shape's batches are too large, the smallest take their place."""
    bench = make_bench(shape, device)
    for batch_tokens in sorted({shape.batch_tokens, BATCH_SIZES[0]}, reverse=True):
        if done := within_memory(in_turn, bench, batch_tokens):
            yield from compare(bench, done)
            yield from batch_sizes(bench, done.took)
            break
        yield Row("extraction on a GPU", NO_MEMORY, "-", False, f"in batches of {batch_tokens:,} tokens")
    print(f"gpu: {bench.deadline.passed():.0f} s in all", flush=True)


def run() -> Iterator[Row]:
    if not torch.cuda.is_available():
        print("gpu: not measured, there is no CUDA device here")
        return
    yield from measure(Shape(), "cuda")


def main() -> None:
    small = sys.argv[1:] == ["small"]
    print_table(measure(SMALL, "cuda" if torch.cuda.is_available() else "cpu") if small else run())


if __name__ == "__main__":
    main()
