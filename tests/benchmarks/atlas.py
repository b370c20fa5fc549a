"""The atlas of 50 roles x 1,200 responses x 65,536 features: time, memory, and its speed against dense rows."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from personascope.directions.aggregate import aggregate_features
from personascope.explorer.atlas import write_atlas
from personascope.explorer.layout import write_layout
from personascope.explorer.selection import write_selection
from personascope.formats.features import FeatureRows, write_features
from tests.benchmarks.aggregation import ACTIVE, RESPONSES, WIDTH
from tests.benchmarks.common import Row, peak_memory_mib, seconds

ROLES, GROUPS, VARIANTS = 50, 40, 5
QUESTIONS = RESPONSES // VARIANTS
BASELINE_ROLES = 2  # dense files take minutes to write and 0.3 GB each in memory; the rate of these counts
DATASET = {"name": "bench", "aggregated_file": "bench", "features_dir": "bench"}


def planted_rows(role: int) -> Iterator[FeatureRows]:
    """1,200 responses of 6,000 active features. Which are active is the question's, more often those of low index; how
    strongly is the role's, which raises the features of some of 40 groups."""
    rng, shared = np.random.default_rng(1000 + role), np.random.default_rng(0)
    raised = shared.gamma(0.5, 1.0, (ROLES, GROUPS)).astype(np.float32)
    level = 0.3 + raised[role][shared.integers(0, GROUPS, WIDTH)]
    keys = rng.random((QUESTIONS, WIDTH), dtype=np.float32) * (np.arange(1, WIDTH + 1) ** 0.3).astype(np.float32)
    indices = np.sort(np.argpartition(keys, ACTIVE, axis=1)[:, :ACTIVE], axis=1).astype(np.int32)
    for variant in range(VARIANTS):
        values = (rng.gamma(1.5, 1.0, indices.shape) * level[indices]).astype(np.float32)
        yield FeatureRows(
            prompt_index=np.full(QUESTIONS, variant, np.int32),
            question_id=np.arange(QUESTIONS, dtype=np.int32),
            n_tokens=np.full(QUESTIONS, 300, np.int32),
            offsets=np.arange(QUESTIONS + 1, dtype=np.int64) * ACTIVE,
            indices=indices.ravel(),
            mean=values.ravel(),
            max=(values * 3).ravel(),
        )


def dense_baseline(folder: Path) -> None:
    """What the original does up to the layout: for each role load its dense means from a compressed .npz and take the
    means of two random halves of the rows."""
    random = np.random.RandomState(42)
    for role in range(BASELINE_ROLES):
        with np.load(folder / f"role{role:02}.npz") as data:
            rows = data["mean_features"]
        order = random.permutation(len(rows))
        for half in np.split(order, [len(rows) // 2]):
            rows[half].mean(axis=0)


def make(folder: Path) -> dict[str, str | Path]:
    """The features files of all roles, their matrix, and the dense files of some of them."""
    files: dict[str, str | Path] = {f"role{role:02}": folder / f"role{role:02}.parquet" for role in range(ROLES)}
    for role, path in enumerate(files.values()):
        blocks = list(planted_rows(role))
        write_features(path, blocks, {"d_sae": WIDTH})
        if role < BASELINE_ROLES:
            dense = np.concatenate([block.dense("mean", WIDTH) for block in blocks])
            # The maxima are in the file and not read here.
            np.savez_compressed(folder / f"role{role:02}.npz", mean_features=dense)
    aggregate_features(files)["mean"].save(folder / "per_role.npz")
    return files


def build(folder: Path, centered: bool) -> dict[str, float]:
    """Seconds of each stage, and the peak memory of this process in MiB."""
    files: dict[str, str | Path] = {path.stem: path for path in sorted(folder.glob("role*.parquet"))}
    matrix, out = folder / "per_role.npz", folder / ("centered" if centered else "uncentered")
    out.mkdir(exist_ok=True)
    stages = {
        "select": lambda: write_selection(matrix, files, out / "selection.npz", centered=centered),
        "layout": lambda: write_layout(matrix, out / "selection.npz", out / "map.npz", out / "layout.npz"),
        "bundle": lambda: write_atlas(
            matrix, *(out / name for name in ("selection.npz", "map.npz", "b.json", "f.csv")), dataset=DATASET
        ),
    }
    return {name: seconds(work) for name, work in stages.items()} | {"peak": peak_memory_mib()}


def run() -> Iterator[Row]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        for mode in ("uncentered", "centered"):
            command = [sys.executable, "-m", "tests.benchmarks.atlas", str(folder), mode]
            start = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            total, parts = time.perf_counter() - start, json.loads(done.stdout)
            what = f"atlas, {ROLES} roles x {RESPONSES:,} x {WIDTH:,}, {mode}"
            detail = ", ".join(f"{part} {parts[part]:.0f} s" for part in ("select", "layout", "bundle"))
            yield Row(what, f"{total:.0f} s", "< 180 s", total < 180, f"{detail}; all features on the map, and UMAP")
            peak = parts["peak"]
            yield Row(f"atlas, peak memory, {mode}", f"{peak:.0f} MiB", "< 2,048 MiB", peak < 2048, "a fresh process")
            if mode == "uncentered":
                slow = seconds(lambda: dense_baseline(folder)) * ROLES / BASELINE_ROLES
                ratio = slow / parts["select"]
                detail = f"{parts['select']:.1f} s against {slow:.0f} s, from {BASELINE_ROLES} roles"
                yield Row("atlas up to the layout, against dense rows", f"{ratio:.1f}x", ">= 5x", ratio >= 5, detail)


if __name__ == "__main__":
    print(json.dumps(build(Path(sys.argv[1]), sys.argv[2] == "centered")))
