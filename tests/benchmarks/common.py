"""What the benchmarks share: rows of the table, medians of alternating runs, memory of a fresh process."""

import os
import re
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MODEL = Path(os.environ.get("PERSONASCOPE_MODEL", ROOT / "results/models/SmolLM2-135M-Instruct"))
ROUNDS = int(os.environ.get("PERSONASCOPE_BENCH_ROUNDS", "3"))
SAE = ROOT / "resources/saes/SmolLM2-135M-Instruct_layer_15_width_4096"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    measured: str
    bar: str
    met: bool
    detail: str = ""


def print_table(rows: Iterable[Row]) -> None:
    """Print each row as it is measured, and all of them as a table at the end."""
    measured = []
    for row in rows:
        print(f"{row.name}: {row.measured} (bar: {row.bar}) {row.detail}", flush=True)
        measured.append(row)
    print("\n| what | measured | bar | met | detail |\n|---|---|---|---|---|")
    for row in measured:
        print(f"| {row.name} | {row.measured} | {row.bar} | {'yes' if row.met else 'NO'} | {row.detail} |")


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(*works: Callable[[], Any]) -> list[float]:
    """Median seconds of each work over ROUNDS rounds, run in turn so that a noisy minute hits all of them."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for mine, work in zip(times, works, strict=True):
            mine.append(seconds(work))
    return [statistics.median(mine) for mine in times]


class Deadline:
    """The end of a time that several measurements share: it begins when this is made."""

    def __init__(self, limit: float):
        self.start = time.monotonic()
        self.end = self.start + limit

    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def rounds(self, once: float, share: float = 1.0) -> int:
        """How many rounds of `once` seconds fit into a share of the time left: at most ROUNDS, and one at least
        where the time left has room for one at all (else 0)."""
        left = self.end - time.monotonic()
        return min(max(int(share * left / once), int(once <= left)), ROUNDS)


def peak_memory_mib() -> float:
    """Peak resident memory of this process so far (ru_maxrss would count what its parent had when it forked)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def load_embedded(tuned: bool = True) -> tuple[Any, Any]:
    """(tokenizer, model) in float32, the model that `make demo` has fetched; `tuned` as the model host does."""
    import torch
    from transformers import AutoModelForCausalLM

    from personascope.hosting.host import keep_freed_memory
    from personascope.models.loading import ModelSpec, load_model, load_tokenizer

    if not (MODEL / "model.safetensors").exists():
        raise SystemExit("the embedded model is not there yet: run `make demo` first")
    spec = ModelSpec(str(MODEL), dtype="float32")
    if not tuned:
        return load_tokenizer(spec), AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    keep_freed_memory()
    return load_tokenizer(spec), load_model(spec)
