"""The crossed bootstrap of the axis at full size, in a fresh process, from sums as `block_sums` leaves them."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

from personascope.directions.block_sums import BlockSums
from personascope.directions.bootstrap import bootstrap
from personascope.directions.options import AxisOptions
from tests.benchmarks.common import Row, peak_memory_mib

ROLES, VARIANTS, QUESTIONS, BLOCKS, WIDTH, DRAWS = 50, 5, 240, 12, 65536, 1000


def synthetic_sums(seed: int) -> BlockSums:
    """One role of 1,200 responses; every feature is active somewhere in every cell, the worst case."""
    rng = np.random.default_rng(seed)
    cells = rng.standard_exponential((VARIANTS, BLOCKS, WIDTH), dtype=np.float32)
    return BlockSums(
        variants=np.arange(VARIANTS, dtype=np.int32),
        blocks=np.arange(BLOCKS, dtype=np.int32),
        question_ids=np.arange(QUESTIONS, dtype=np.int32),
        question_blocks=np.arange(QUESTIONS, dtype=np.int32) % BLOCKS,
        counts=np.full((VARIANTS, BLOCKS), QUESTIONS // BLOCKS),
        sums=cells,
        max_sums=np.empty((VARIANTS, BLOCKS, 0), np.float32),
        residual_sums=np.empty((VARIANTS, BLOCKS, 0, 0), np.float32),
        layers=np.empty(0, np.int32),
    )


def run() -> Iterator[Row]:
    for method in ("diff", "pc1"):
        command = [sys.executable, "-m", "tests.benchmarks.bootstrap", method]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        taken, peak = json.loads(done.stdout)
        name = f"bootstrap, {DRAWS:,} draws of {method}, {ROLES} roles x 1,200 x {WIDTH:,}"
        met = taken < 60 and peak < 4096
        yield Row(name, f"{taken:.0f} s, {peak:,.0f} MiB", "< 60 s, < 4,096 MiB", met, "a fresh process")


if __name__ == "__main__":
    sums = {f"role{i:02}" if i else "assistant": synthetic_sums(i) for i in range(ROLES)}
    start = time.perf_counter()
    bootstrap(sums, AxisOptions.of(anchor=["assistant"], axis_method=sys.argv[1]), DRAWS)
    print(json.dumps([time.perf_counter() - start, peak_memory_mib()]))
