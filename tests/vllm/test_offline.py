"""The backend vllm, the engine inside the process, on a real vLLM (in the environment that has it)."""

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from personascope.backends import Completion, Request
from tests.helpers.workspace import REPO
from tests.vllm.conftest import ENGINE_OPTIONS, MAX_MODEL_LEN, VLLM_PYTHON


def test_the_engine_in_the_process(
    tmp_path: Path, model: Path, loaded: Any, spec: Any, requests: list[Request], greedy: list[Completion]
) -> None:
    """Greedy as the embedded engine; the same seed twice is the same response."""
    from personascope.hosting.operations._model import tokenizer
    from personascope.models.loading import stop_ids

    engine_options = {name.replace("-", "_"): value for name, value in ENGINE_OPTIONS.items()}
    engine_options |= {"kv_cache_memory_bytes": 1 << 30}
    work = {
        "model": str(model),
        "stop_ids": stop_ids(spec, tokenizer(loaded, spec)),
        "options": {"dtype": "float32", "max_model_len": MAX_MODEL_LEN, "engine_options": engine_options},
        "requests": [asdict(request) for request in requests],
        "samplings": [{"temperature": 0}, {"temperature": 1.0}, {"temperature": 1.0}],
    }
    (tmp_path / "work.json").write_text(json.dumps(work), encoding="utf-8")
    command = [VLLM_PYTHON, "-m", "tests.vllm.offline", tmp_path / "work.json", tmp_path / "answers.json"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))
    cold, warm, again = ([Completion(**completion) for completion in run] for run in answers)
    assert cold == greedy
    assert warm == again != cold
