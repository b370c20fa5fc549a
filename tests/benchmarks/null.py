"""The test fitted on 120 reference conversations of 12 turns, from their token files."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from personascope.drift.null import load_null, write_null
from personascope.drift.options import DriftOptions
from personascope.formats.tokens import TokenBlock, token_writer
from tests.benchmarks.common import Row, peak_memory_mib, seconds
from tests.benchmarks.drift import ACTIVE, WIDTH, synthetic_roles

CONVERSATIONS, TURNS, TURN_TOKENS, DOMAINS = 120, 12, 400, 6


def write_tokens(path: Path, number: int, weights: np.ndarray) -> None:
    """A conversation's activations as extraction writes them: 60 active features a token, a power law over them."""
    rng = np.random.default_rng(number)
    n = TURNS * TURN_TOKENS
    draws = np.searchsorted(weights, rng.random((n, 2 * ACTIVE)) * weights[-1])
    indices = [np.unique(draw)[:ACTIVE].astype(np.int32) for draw in draws]
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in indices])])
    said = {
        "name": path.stem,
        "messages": [],
        "metadata": {"script": f"{number // 2}", "domain": f"{number % DOMAINS}"},
    }
    turns = [{"message_index": 2 * turn + 1, "start": 0, "end": 0, "special_tokens": False} for turn in range(TURNS)]
    metadata = {"d_sae": WIDTH, "residual_layers": [], "error": None, "conversation": said, "turns": turns}
    place = np.arange(n, dtype=np.int32)
    with token_writer(path, metadata, 1) as write:
        write(
            TokenBlock(
                position=place,
                turn=place // TURN_TOKENS,
                token_id=place,
                tokens=["x"] * n,
                offsets=offsets,
                indices=np.concatenate(indices),
                values=rng.gamma(1.5, 100.0, offsets[-1]).astype(np.float32),
                residuals=np.empty((n, 0, 1), np.float32),
            )
        )


def run() -> Iterator[Row]:
    weights = np.cumsum(np.random.default_rng(0).permutation(np.arange(1, WIDTH + 1) ** -0.8))
    with TemporaryDirectory() as name:
        folder = Path(name)
        synthetic_roles().save(folder / "per_role.npz")
        for number in range(CONVERSATIONS):
            write_tokens(folder / f"talk{number:03}.parquet", number, weights)
        command = [sys.executable, "-m", "tests.benchmarks.null", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        taken, peak = json.loads(done.stdout.splitlines()[-1])
        strata = len(load_null(folder / "null.npz").strata)
    tokens = TURNS * TURN_TOKENS
    title = f"drift test, fitted on {CONVERSATIONS} references x {tokens:,} tokens x {WIDTH:,}"
    detail = f"a fresh process; {strata} strata with 200 bootstraps each, and 20 splits for the false alarms"
    yield Row(title, f"{taken:.1f} s, {peak:,.0f} MiB", "< 60 s, < 1,024 MiB", taken < 60 and peak < 1024, detail)


if __name__ == "__main__":
    here = Path(sys.argv[1])
    files = sorted(map(str, here.glob("talk*.parquet")))
    options = DriftOptions.of(anchor=["assistant"])
    outputs = {"null": str(here / "null.npz"), "report": str(here / "null.json")}
    spent = seconds(lambda: write_null(files, str(here / "per_role.npz"), options, seed=0, **outputs))
    print(json.dumps([spent, peak_memory_mib()]))
