"""Run by the environment that has vLLM: answer requests with the offline engine.

python -m tests.vllm.offline WORK.json ANSWERS.json
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from personascope.backends import Request, Sampling, make_backend


def main() -> None:
    work, answers = map(Path, sys.argv[1:])
    given = json.loads(work.read_text(encoding="utf-8"))
    backend = make_backend("vllm", given["model"], given["stop_ids"], **given["options"])
    requests = [Request(**request) for request in given["requests"]]
    runs = [dict(backend.generate(requests, Sampling(**sampling))) for sampling in given["samplings"]]
    ordered = [[asdict(run[i]) for i in range(len(requests))] for run in runs]
    answers.write_text(json.dumps(ordered), encoding="utf-8")


if __name__ == "__main__":  # vLLM starts its engine in a fresh process, which imports this file again
    main()
