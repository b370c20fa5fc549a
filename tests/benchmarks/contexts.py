"""What collecting contexts of every feature costs on top of extraction, and the memory that they take."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from personascope.extraction.contexts import Collector
from personascope.extraction.extract import extract
from personascope.extraction.items import Item
from personascope.models.hookpoints import run_to
from personascope.models.saes import LoadedSAE, SAESpec, load_sae
from tests.benchmarks.common import ROUNDS, SAE, Row, load_embedded
from tests.benchmarks.extraction import OPTIONS, role_items, wide_sae

K, BAR = 8, 0.10
ACTIVE = 100  # features of a token, as in a trained SAE of that width
MOST_ITEMS, WIDE_ITEMS = 96, 32  # responses a round


def run() -> Iterator[Row]:
    tokenizer, model = load_embedded()
    items = role_items(tokenizer)[:MOST_ITEMS]
    with TemporaryDirectory() as folder:
        wide_sae(Path(folder), 576, 65536)
        yield on_top(model, load_sae(SAESpec(path=str(SAE))), items)
        wide = load_sae(SAESpec(path=folder))
        make_sparse(model, wide, items[0])
        yield on_top(model, wide, items[:WIDE_ITEMS])


@torch.inference_mode()
def make_sparse(model: Any, sae: LoadedSAE, item: Item) -> None:
    """Set an SAE's threshold to what `ACTIVE` features of a token exceed, over one response."""
    ids = torch.tensor([item.ids])
    h = run_to(model, ids, {sae.point}, [item.ranges])[sae.point]
    before = sae.sae.process_sae_in(h) @ sae.sae.W_enc + sae.sae.b_enc
    sae.sae.threshold.fill_(before.topk(ACTIVE, dim=1).values[:, -1].median())


def on_top(model: Any, sae: LoadedSAE, items: list[Any]) -> Row:
    """Processor time of extraction with contexts over that without, round by round: other programs do not count."""
    over, kept = [], 0
    for _ in range(ROUNDS):
        plain = processor_seconds(lambda: extract(model, sae, items, OPTIONS))
        collector = Collector(sae.d_sae, K, "role")
        watched = processor_seconds(lambda c=collector: extract(model, sae, items, OPTIONS, c.add))
        over.append(watched / plain - 1)
        kept = len(collector.contexts())
    parts = (collector.top, collector.sample)
    size = sum(array.nbytes for part in parts for array in vars(part).values()) + collector.histogram.nbytes
    detail = f"{kept:,} contexts of {sum(item.n_selected for item in items):,} tokens; {size / 2**20:.0f} MiB at most"
    name = f"contexts of {sae.d_sae:,} features ({K} of each) on top of extraction"
    return Row(name, f"{median(over):+.1%}", f"<= +{BAR:.0%}", median(over) <= BAR, detail)


def processor_seconds(work: Callable[[], Any]) -> float:
    """Seconds of processor time, over all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start
