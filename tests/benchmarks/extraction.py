"""Extraction against the original's algorithm, and against the machine's own matmul rate."""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from personascope.extraction.extract import ExtractOptions, extract
from personascope.extraction.items import Item
from personascope.formats.conversations import read_conversation
from personascope.formats.roles import build_prompts, read_questions, read_role, select_questions
from personascope.models.hookpoints import hooks
from personascope.models.prefixes import Node, prefix_tree
from personascope.models.saes import LoadedSAE, SAESpec, load_sae
from personascope.models.spans import prompt_ids
from tests.benchmarks.common import ROOT, ROUNDS, SAE, Row, alternate, load_embedded, seconds

RESPONSES, PROMPT = 256, 60
BASELINE_SHARE = 8
OPTIONS = ExtractOptions()
ROLES, QUESTIONS, ANSWER = ("ghost", "pirate"), 24, 128  # of the default experiment: two roles in all five variants
PRODUCTION = 512  # tokens of an answer of Gemma 3 27B


def make_items(vocabulary: int) -> list[Item]:
    """256 conversations: a prompt of 60 tokens and responses of 50 to 500 tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(50, 500, RESPONSES).round().long()[torch.randperm(RESPONSES, generator=generator)]
    return [
        Item(
            torch.randint(10, vocabulary, (PROMPT + int(n),), generator=generator).tolist(), [(PROMPT, PROMPT + int(n))]
        )
        for n in lengths
    ]


def role_items(tokenizer: Any, answer: int = ANSWER) -> list[Item]:
    """240 role responses: prompts of shipped roles and questions, and for answers the shipped reference conversations,
    which the embedded model has written, cut to so many tokens."""
    shared = select_questions(read_questions(ROOT / "resources/questions.jsonl"), QUESTIONS)
    roles = [read_role(ROOT / f"resources/roles/{name}.json") for name in ROLES]
    prompts = [prompt for role in roles for prompt in build_prompts(role, range(5), shared, "SmolLM2")]
    talks = sorted((ROOT / "resources/reference_conversations").glob("*.json"))
    said = [m["content"] for talk in talks for m in read_conversation(talk).messages if m["role"] == "assistant"]
    text = [tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in said]
    items, start = [], 0
    for prompt in prompts:
        ids, written = prompt_ids(tokenizer, prompt.messages), []
        while len(written) < answer:
            written, start = written + text[start % len(text)], start + 1
        items.append(Item(ids + written[:answer], [(len(ids), len(ids) + answer)]))
    return items


def shared_away(items: list[Item]) -> float:
    """Share of the items' tokens that need no pass of their own, since others have the same prefix."""
    root = prefix_tree([item.ids for item in items], [item.shareable for item in items], OPTIONS.batch_tokens)

    def passed(node: Node, parent: int = 0) -> int:
        own = node.end - parent + sum(len(items[i].ids) - node.end for i in node.members)
        return own + sum(passed(child, node.end) for child in node.children)

    return 1 - passed(root) / sum(len(item.ids) for item in items)


def baseline_sample(items: list[Item]) -> list[Item]:
    """Every 8th conversation by length: the baseline's rate on these stands for all."""
    return sorted(items, key=lambda item: len(item.ids))[BASELINE_SHARE // 2 :: BASELINE_SHARE]


def wide_sae(folder: Path, d_in: int, width: int) -> LoadedSAE:
    """A JumpReLU SAE with random weights, about 60 active features a token: the work is that of a trained one."""
    from sae_lens import JumpReLUSAE, JumpReLUSAEConfig

    torch.manual_seed(0)
    sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=d_in, d_sae=width))
    torch.nn.init.normal_(sae.W_enc, std=d_in**-0.5)
    sae.threshold.data.fill_(3.1)
    sae.cfg.metadata.hook_name = "blocks.15.hook_resid_post"
    sae.save_model(folder)
    return load_sae(SAESpec(path=str(folder)))


@torch.no_grad()
def baseline(model: Any, sae: LoadedSAE, items: list[Item]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The original's algorithm: one conversation at a time through the whole model with its LM head, a hook on the
    layer, every token encoded, dense features to the host, and mean and max over the response there."""
    results = []
    for item in items:
        cache: dict[str, torch.Tensor] = {}
        with hooks(model, {sae.point}, lambda point, h, cache=cache: cache.update(h=h.detach())):
            model(torch.tensor([item.ids], device=model.device))
        features = sae.sae.encode(cache["h"].to(sae.dtype)).squeeze(0).float().cpu().numpy()
        (start, end), *_ = item.ranges
        results.append((features[start:end].mean(0), features[start:end].max(0)))
    return results


def largest_difference(model: Any, sae: LoadedSAE, items: list[Item]) -> float:
    """Largest relative difference of pooled features between both algorithms (float tolerance is expected)."""
    worst = 0.0
    for (mean, peak), pooled in zip(baseline(model, sae, items), extract(model, sae, items, OPTIONS), strict=True):
        for reference, values in ((mean, pooled.mean), (peak, pooled.max)):
            dense = np.zeros_like(reference)
            dense[pooled.indices] = values
            worst = max(worst, float(np.abs(dense - reference).max() / np.abs(reference).max()))
    return worst


def needed_flops(model: Any, sae: LoadedSAE, items: list[Item], saved: float = 0.0) -> float:
    """Multiply-adds x 2 of the blocks up to the layer on all tokens but the share that is saved, attention, and the SAE
    on the selected ones."""
    blocks = model.model.layers[: sae.point.layer + 1]
    weights = sum(p.numel() for block in blocks for p in block.parameters() if p.ndim == 2)
    heads = model.config.num_attention_heads * model.config.head_dim
    linear = 2 * weights * (1 - saved) * sum(len(item.ids) for item in items)
    attention = 2 * heads * len(blocks) * sum(len(item.ids) ** 2 for item in items)  # QK and PV, causal half
    encode = 2 * sae.sae.cfg.d_in * sae.d_sae * sum(item.n_selected for item in items)
    return linear + attention + encode


def matmul_rate(size: int = 2048, rounds: int = 5) -> float:
    """FLOP/s of a square fp32 matrix product on this machine, now."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    _ = a @ b
    return 2 * size**3 * rounds / seconds(lambda: [a @ b for _ in range(rounds)])


def baseline_seconds(sae_folder: Path) -> float:
    """Seconds of the baseline over its sample in a process of its own, with the allocator as it comes."""
    command = [sys.executable, "-m", "tests.benchmarks.extraction", str(sae_folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def run() -> Iterator[Row]:
    tokenizer, model = load_embedded()
    items = role_items(tokenizer)
    saved = {length: shared_away(role_items(tokenizer, length)) for length in (ANSWER, PRODUCTION)}
    print(f"tokens that shared prefixes save: {', '.join(f'{s:.0%} at answers of {n}' for n, s in saved.items())}")
    tokens, sample_tokens = (sum(len(item.ids) for item in part) for part in (items, baseline_sample(items)))
    with TemporaryDirectory() as folder:
        wide_sae(Path(folder), 576, 65536)
        for width, path, bar in ((4096, SAE, 3), (65536, Path(folder), 3)):
            sae = load_sae(SAESpec(path=str(path)))
            difference = largest_difference(model, sae, items[:4])
            slow, fast, rates = [], [], []
            for _ in range(ROUNDS):
                slow.append(baseline_seconds(path))
                rates.append(matmul_rate())
                fast.append(seconds(lambda sae=sae: extract(model, sae, items, OPTIONS)))
            speed, base = tokens / statistics.median(fast), sample_tokens / statistics.median(slow)
            detail = f"{speed:.0f} against {base:.0f} tokens/s, {saved[ANSWER]:.0%} of them in shared prefixes "
            detail += f"({saved[PRODUCTION]:.0%} at answers of {PRODUCTION}); largest difference {difference:.1e}"
            yield Row(
                f"extraction of role responses, width {width:,}",
                f"{speed / base:.1f}x",
                f">= {bar}x",
                speed >= bar * base,
                detail,
            )
            rate = statistics.median(rates)
            share = needed_flops(model, sae, items, saved[ANSWER]) / statistics.median(fast) / rate
            name = f"extraction, width {width:,}: share of the fp32 matmul rate"
            yield Row(name, f"{share:.0%}", ">= 60%", share >= 0.6, f"of {rate / 1e9:.0f} GFLOP/s")
        yield all_layers(model, load_sae(SAESpec(path=str(SAE))), items)


def all_layers(model: Any, sae: LoadedSAE, items: list[Item]) -> Row:
    """What the residual means of every layer cost over those of the SAE's layer alone, in a pass of the same depth."""
    one, every = (ExtractOptions(tuple(layers)) for layers in ([sae.point.layer], range(sae.point.layer + 1)))
    times = alternate(lambda: extract(model, sae, items, one), lambda: extract(model, sae, items, every))
    over = times[1] / times[0] - 1
    return Row(f"residual means of {sae.point.layer + 1} layers over one", f"{over:+.0%}", "<= +15%", over <= 0.15)


if __name__ == "__main__":
    plain_tokenizer, plain_model = load_embedded(tuned=False)
    plain_sae, sample = load_sae(SAESpec(path=sys.argv[1])), baseline_sample(role_items(plain_tokenizer))
    baseline(plain_model, plain_sae, sample[:2])
    print(json.dumps(seconds(lambda: baseline(plain_model, plain_sae, sample))))
