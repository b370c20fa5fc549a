"""Peak memory of a job against the number of its responses: extraction in a fresh process, and the thin client."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from personascope.formats.files import content_key, write_jsonl
from personascope.hosting.store import RecordLog
from tests.benchmarks.common import MODEL, SAE, Row, peak_memory_mib

ANSWER = "The sea was calm, and the captain counted the casks again while the crew slept below the deck. "


def response(index: int) -> dict[str, object]:
    """A row as `generate` writes it, of about 40 tokens."""
    messages = [{"role": "user", "content": f"Question {index}?"}, {"role": "assistant", "content": ANSWER * 2}]
    keys = {"prompt_index": 0, "question_id": index}
    return {**keys, "response": ANSWER * 2, "response_token_ids": list(range(44)), "conversation": messages}


def extraction_peak(responses: int, folder: Path) -> float:
    """Peak MiB of a process that extracts so many responses."""
    from personascope.hosting.loaded import Loaded
    from personascope.hosting.operations import extract
    from personascope.models.loading import ModelSpec
    from personascope.models.saes import SAESpec

    write_jsonl(folder / "role.jsonl", (response(i) for i in range(responses)))
    request = extract.Request(
        responses=str(folder / "role.jsonl"),
        features=str(folder / "role.parquet"),
        residuals=str(folder / "role.residuals.parquet"),
        model=ModelSpec(str(MODEL), dtype="float32"),
        sae=SAESpec(path=str(SAE)),
        token_selection="response_only",
        residual_layers=[15],
        batch_tokens=2048,
        chunk_tokens=512,
        store=str(folder / "store"),
        code="",
    )
    extract.run(Loaded(), lambda text: None, request)
    return peak_memory_mib()


def store_peak(responses: int, folder: Path) -> float:
    """Peak MiB of a process that writes a role's file from the store."""
    records = RecordLog(folder / "role.log")
    keys = [content_key(i) for i in range(responses)]
    with records.writer() as append:
        for i, key in enumerate(keys):
            append(key, response(i))
    reader = RecordLog(folder / "role.log")
    reader.keys()
    write_jsonl(folder / "out.jsonl", (reader.read(key) for key in keys))
    return peak_memory_mib()


def references_peak(n_files: int, folder: Path) -> float:
    """Peak MiB of an analysis host that so many analyses ask for their references in turn, with the memory for one.

    References of 65,536 features and 1,000 draws, made by `make_reference` in a process before.
    """
    from personascope.hosting.loaded import Loaded
    from personascope.hosting.operations.drift_conversation import WORKING_MB, Kept

    subprocess.run([sys.executable, "-m", "tests.benchmarks.memory", "make_reference", str(folder)], check=True)
    paths = [folder / f"{i}.npz" for i in range(n_files)]
    for path in paths:
        path.hardlink_to(folder / "reference.npz")
    kept = Kept(Loaded(), WORKING_MB + REFERENCE_MB)
    for path in paths * 2:
        kept.reference(str(path))
    return peak_memory_mib()


def make_reference(folder: Path) -> None:
    """Write reference.npz: what the host reads is its size, not its numbers."""
    import numpy as np

    from personascope.directions.bootstrap import AxisBootstrap
    from personascope.drift.options import SCORE_METHODS
    from personascope.drift.reference import KEYS, Reference
    from personascope.drift.turns import MASS_METRICS

    responses, draws = np.zeros(6000, np.float32), np.zeros(1000)
    axes, none = np.zeros((65536, 1000), np.float32), np.empty((65536, 0), np.float32)
    drawn = AxisBootstrap(axes, none, draws, draws, draws)
    scores, mass = (dict.fromkeys(names, responses) for names in (SCORE_METHODS, MASS_METRICS))
    about: dict[str, Any] = dict.fromkeys(KEYS, responses.astype(np.int32))
    about |= {"role_names": ["assistant"], "anchors": np.zeros(1, np.int32), "others": np.zeros(0, np.int32)}
    about["split_half"] = 0.9
    Reference(scores, mass, **about, **vars(drawn)).save(folder / "reference.npz")


REFERENCE_MB = 270  # 65,536 x 1,000 floats, and the scores
PEAKS = {"extraction": extraction_peak, "store": store_peak, "references": references_peak}


def measure(kind: str, responses: int) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.memory", kind, str(responses)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def run() -> Iterator[Row]:
    for kind, few, many in (("extraction", 256, 1024), ("store", 1200, 12000)):
        small, large = measure(kind, few), measure(kind, many)
        detail = f"{large:.0f} MiB for {many:,} responses against {small:.0f} MiB for {few:,}"
        ratio = large / small
        yield Row(f"peak memory of a job, {kind}", f"{ratio:.2f}x", "<= 1.15x", ratio <= 1.15, detail)
    one, four = measure("references", 1), measure("references", 4)
    detail = f"{four:.0f} MiB against {one:.0f} MiB for one; 65,536 features x 1,000 draws, with the memory for one"
    yield Row("peak memory of 4 references", f"{four / one:.2f}x", "<= 1.15x", four <= 1.15 * one, detail)


if __name__ == "__main__":
    if sys.argv[1] == "make_reference":
        make_reference(Path(sys.argv[2]))
        sys.exit()
    with TemporaryDirectory() as name:
        print(json.dumps(PEAKS[sys.argv[1]](int(sys.argv[2]), Path(name))))
