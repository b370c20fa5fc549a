"""The judge behind a real vLLM server: the scores of the local one, from prompts that the server has cached."""

import re
from typing import Any

import httpx
import pytest

from personascope.backends.vllm_server import BASE_URL, VLLMServerBackend
from personascope.generation.judge import LocalJudge
from personascope.generation.judge_served import ServerJudge
from personascope.generation.rubrics import fill, read_rubric
from tests.helpers.workspace import REPO

ANSWERS = ["The moon pulls the water of the sea, and the turning earth does the rest.", "Sea sea the the. Who?"]
OPENING = "The score is "


def cached(server: VLLMServerBackend) -> tuple[float, float]:
    """(tokens of prompts that were found in the cache, all of them) since the server started."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=server.socket), timeout=60) as http:
        text = http.get(f"{BASE_URL}/metrics").raise_for_status().text
    counts = [re.search(rf"^vllm:prefix_cache_{name}_total\S* (\S+)$", text, re.M) for name in ("hits", "queries")]
    hits, queries = (float(count[1]) if count else 0.0 for count in counts)
    return hits, queries


@pytest.mark.parametrize("top", [3, 100])
def test_scores_are_those_of_the_local_judge(server: VLLMServerBackend, loaded: Any, spec: Any, top: int) -> None:
    from personascope.hosting.operations._model import model, tokenizer

    known = tokenizer(loaded, spec)
    rubric = read_rubric(REPO / "resources/judge/coherence.txt")
    prompts = [fill(rubric, "How do tides work?", answer) for answer in ANSWERS]
    local = dict(LocalJudge(model(loaded, spec), known, opening=OPENING).judge(prompts, top))
    served = dict(ServerJudge(server, known, opening=OPENING).judge(prompts, top))
    for i in range(len(prompts)):
        assert served[i].mass == pytest.approx(local[i].mass, abs=1e-4) and served[i].problem == local[i].problem
        if local[i].score is not None:  # the rubric asks for more than 3
            assert served[i].score == pytest.approx(local[i].score, abs=1e-3 * top)
    assert top == 3 or all(one.score is not None for one in local.values())
    hits, queries = cached(server)
    # Whole blocks alone are cached, of 128 tokens on a CPU: 256 of some 330.
    assert queries > len(prompts) * 200 and hits / queries > (0.5 if top == 3 else 0.7)
