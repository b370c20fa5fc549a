"""`make bench`: every speed and memory bar, measured against a written baseline in one run, as a table.

    python -m tests.benchmarks [NAME ...]        (PERSONASCOPE_BENCH_ROUNDS=1 for a quick look)

Machines are noisy: figures are ratios of medians, and both sides of a ratio are measured alternately.
"""

import sys
from collections.abc import Iterator
from importlib import import_module

from tests.benchmarks.common import Row, print_table

# Each is a module beside this one, imported when its turn comes: a machine need have only what its benchmarks use.
BENCHMARKS = (
    "extraction",
    "contexts",
    "generation",
    "judge",
    "chat",
    "steering",
    "storage",
    "aggregation",
    "atlas",
    "explorer",
    "drift",
    "null",
    "bootstrap",
    "conversations",
    "memory",
    "cluster",
    "gpu",
    "demo",
)


def measure(names: list[str]) -> Iterator[Row]:
    """The rows of these benchmarks, one benchmark after the other."""
    for name in names:
        yield from import_module(f"tests.benchmarks.{name}").run()


def main() -> None:
    names = sys.argv[1:] or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise SystemExit(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    print_table(measure(names))


if __name__ == "__main__":
    main()
