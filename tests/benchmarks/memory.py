"""Peak memory of a job against the number of its responses: extraction in a fresh process, and the thin client."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

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


PEAKS = {"extraction": extraction_peak, "store": store_peak}


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


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        print(json.dumps(PEAKS[sys.argv[1]](int(sys.argv[2]), Path(name))))
