"""Bytes of real features (those of `make demo`) against dense float32."""

from collections.abc import Iterator
from pathlib import Path

from personascope.formats.tables import open_parquet
from tests.benchmarks.common import ROOT, Row


def run() -> Iterator[Row]:
    files = [f for f in Path(ROOT / "results/demo/features").rglob("*.parquet") if ".residuals" not in f.name]
    if not files:
        raise SystemExit("no features yet: run `make demo` first")
    stored = dense = 0
    for path in files:
        file, metadata = open_parquet(path)
        stored += path.stat().st_size
        dense += 2 * 4 * metadata["d_sae"] * file.metadata.num_rows
    detail = f"{len(files)} roles of the demo, {stored / 1e3:.0f} kB against {dense / 1e3:.0f} kB"
    yield Row(
        "features, stored bytes of dense float32", f"1/{dense / stored:.1f}", "<= 1/10", dense >= 10 * stored, detail
    )
