"""`make bench`: every speed and memory bar, measured against a written baseline in one run, as a table.

    python -m tests.benchmarks [NAME ...]        (PERSONASCOPE_BENCH_ROUNDS=1 for a quick look)

Machines are noisy: figures are ratios of medians, and both sides of a ratio are measured alternately.
"""

import sys
from collections.abc import Callable, Iterator

from tests.benchmarks import (
    aggregation,
    bootstrap,
    cluster,
    conversations,
    demo,
    drift,
    extraction,
    generation,
    gpu,
    memory,
    storage,
)
from tests.benchmarks.common import Row

BENCHMARKS: dict[str, Callable[[], Iterator[Row]]] = {
    "extraction": extraction.run,
    "generation": generation.run,
    "storage": storage.run,
    "aggregation": aggregation.run,
    "drift": drift.run,
    "bootstrap": bootstrap.run,
    "conversations": conversations.run,
    "memory": memory.run,
    "cluster": cluster.run,
    "gpu": gpu.run,
    "demo": demo.run,
}


def main() -> None:
    names = sys.argv[1:] or list(BENCHMARKS)
    rows = []
    for name in names:
        for row in BENCHMARKS[name]():
            print(f"{row.name}: {row.measured} (bar: {row.bar}) {row.detail}", flush=True)
            rows.append(row)
    print("\n| what | measured | bar | met | detail |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.name} | {row.measured} | {row.bar} | {'yes' if row.met else 'NO'} | {row.detail} |")


if __name__ == "__main__":
    main()
