"""The role matrix from sparse Parquet against compressed dense .npz, as the original stores its features."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from personascope.directions.aggregate import aggregate_features
from personascope.formats.features import FeatureRows, write_features
from tests.benchmarks.common import Row, alternate, peak_memory_mib

ROLES, RESPONSES, WIDTH, ACTIVE = 20, 1200, 65536, 6000
BASELINE_ROLES = 1  # dense npz files take 0.6 GB a role in memory and minutes to write; the rate of one counts


def synthetic_rows(seed: int) -> Iterator[FeatureRows]:
    """One role: 1,200 responses with 6,000 active features each, a power law over features as in real SAEs."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, WIDTH + 1) ** 0.3
    for start in range(0, RESPONSES, 240):
        n = min(240, RESPONSES - start)
        keys = rng.random((n, WIDTH), dtype=np.float32) / weights.astype(np.float32)
        indices = np.sort(np.argpartition(keys, ACTIVE, axis=1)[:, :ACTIVE], axis=1).astype(np.int32)
        values = rng.gamma(1.5, 1.0, (n, ACTIVE)).astype(np.float32)
        yield FeatureRows(
            prompt_index=np.zeros(n, np.int32),
            question_id=np.arange(start, start + n, dtype=np.int32),
            n_tokens=np.full(n, 300, np.int32),
            offsets=np.arange(n + 1, dtype=np.int64) * ACTIVE,
            indices=indices.ravel(),
            mean=values.ravel(),
            max=(values * 3).ravel(),
        )


def dense_baseline(path: Path) -> None:
    """What the original does: load the role's dense arrays from a compressed .npz, mean and max over responses."""
    with np.load(path) as data:
        data["mean_features"].mean(axis=0)
        data["max_features"].max(axis=0)


def run() -> Iterator[Row]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = {f"role{i:02}": folder / f"role{i:02}.parquet" for i in range(ROLES)}
        for i, path in enumerate(files.values()):
            write_features(path, synthetic_rows(i), {"d_sae": WIDTH})
        blocks = list(synthetic_rows(0))
        dense: dict[str, Any] = {
            f"{p}_features": np.concatenate([b.dense(p, WIDTH) for b in blocks]) for p in ("mean", "max")
        }
        np.savez_compressed(folder / "dense.npz", **dense)
        size, dense_size = files["role00"].stat().st_size, (folder / "dense.npz").stat().st_size
        raw = sum(array.nbytes for array in dense.values())
        del dense, blocks

        fast, slow = alternate(lambda: aggregate_features(dict(files)), lambda: dense_baseline(folder / "dense.npz"))
        ratio = slow * ROLES / BASELINE_ROLES / fast
        detail = f"{fast:.1f} s for {ROLES} roles against {slow:.1f} s a role; files {size / 1e6:.0f} MB against "
        detail += f"{dense_size / 1e6:.0f} MB compressed and {raw / 1e6:.0f} MB dense a role"
        yield Row("aggregation, 20 roles x 1,200 x 65,536", f"{ratio:.1f}x", ">= 10x", ratio >= 10, detail)
        command = [sys.executable, "-m", "tests.benchmarks.aggregation", *map(str, files.values())]
        peak = float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        yield Row("aggregation, peak memory", f"{peak:.0f} MiB", "< 1,024 MiB", peak < 1024, "a fresh process")


if __name__ == "__main__":
    aggregate_features({Path(path).stem: path for path in sys.argv[1:]})
    print(json.dumps(peak_memory_mib()))
