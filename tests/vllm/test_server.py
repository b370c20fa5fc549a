"""The backend vllm_server on a real vLLM: ids in and out, stops, seeds, and how it fails."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from personascope.backends import Completion, Request, Sampling
from personascope.backends.openai import OpenAIBackend
from personascope.backends.vllm_server import BASE_URL, VLLMServerBackend
from personascope.errors import UserError
from tests.vllm.conftest import VLLM_PYTHON

GREEDY, WARM = Sampling(temperature=0), Sampling(1.0, 0.95)


def run(backend: Any, requests: list[Request], sampling: Sampling) -> list[Completion]:
    done = dict(backend.generate(requests, sampling))
    assert sorted(done) == list(range(len(requests)))
    return [done[i] for i in range(len(requests))]


def test_greedy_is_the_embedded_engine_s(
    server: VLLMServerBackend, requests: list[Request], greedy: list[Completion]
) -> None:
    assert len(requests) == 16
    assert sum(len(completion.token_ids) for completion in greedy) > 16 * 24
    assert run(server, requests, GREEDY) == greedy


def test_the_server_sees_the_ids_that_were_sent(server: VLLMServerBackend, requests: list[Request]) -> None:
    run(server, requests[:1], GREEDY)
    client = OpenAIBackend(server.model, server.stop_ids, base_url=f"{BASE_URL}/v1", api_key_env=None)
    with httpx.Client(transport=httpx.HTTPTransport(uds=server.socket), timeout=120) as http:
        for request in requests[::5]:
            reply = http.post(client.endpoint.url, json=client._body(replace(request, max_tokens=4), GREEDY))
            (choice,) = reply.raise_for_status().json()["choices"]
            assert choice["prompt_token_ids"] == request.prompt_ids
            assert len(choice["token_ids"]) == 4


def test_an_answer_goes_on_from_its_own_ids(
    server: VLLMServerBackend, requests: list[Request], greedy: list[Completion]
) -> None:
    half = [Request([*r.prompt_ids, *c.token_ids[:20]], r.seed, 28) for r, c in zip(requests, greedy, strict=True)]
    for completion, rest in zip(greedy, run(server, half, GREEDY), strict=True):
        if len(completion.token_ids) >= 20:
            assert rest == Completion(completion.token_ids[20:], completion.finish_reason)


def test_stop_tokens_and_limits(server: VLLMServerBackend, requests: list[Request], greedy: list[Completion]) -> None:
    """A response ends at the first stop token, which is left out, or at its limit."""
    run(server, requests[:1], GREEDY)
    stop = greedy[3].token_ids[10]
    client = OpenAIBackend(server.model, [stop], base_url=f"{BASE_URL}/v1", uds=server.socket, api_key_env=None)
    full = [c.finish_reason == "length" for c in greedy]
    chosen = [i for i in range(len(greedy)) if full[i]]
    ended = run(client, [requests[i] for i in chosen], GREEDY)
    for i, cut in zip(chosen, ended, strict=True):
        whole = greedy[i].token_ids
        at = whole.index(stop) if stop in whole else None
        assert cut == Completion(whole[:at], "length" if at is None else "stop")
    assert "stop" in {cut.finish_reason for cut in ended}
    short = run(server, [replace(request, max_tokens=5) for request in requests], GREEDY)
    assert [c.token_ids for c in short] == [c.token_ids[:5] for c in greedy]


def test_seeds(server: VLLMServerBackend, requests: list[Request]) -> None:
    alike = [replace(requests[0], seed=seed) for seed in (1, 2, 3, 1)]
    first, second, third, again = run(server, alike, WARM)
    assert first == again
    assert len({tuple(c.token_ids) for c in (first, second, third)}) == 3
    assert run(server, alike[:1], WARM) == [first]


def test_a_refused_request_is_told_and_the_server_lives(server: VLLMServerBackend, requests: list[Request]) -> None:
    run(server, requests[:1], GREEDY)
    with pytest.raises(UserError, match=r"refuses the request \(400\)"):
        run(server, [Request(requests[0].prompt_ids * 40, 0, 4)], GREEDY)
    assert len(run(server, requests[:1], GREEDY)) == 1


def test_a_server_that_died_is_told_and_the_next_request_starts_another(
    server: VLLMServerBackend, requests: list[Request], greedy: list[Completion]
) -> None:
    run(server, requests[:1], GREEDY)
    below = psutil.Process().children(recursive=True)
    answers = server.generate([replace(r, max_tokens=400) for r in requests * 4], WARM)
    engine = next(p for p in below if "EngineCore" in " ".join(p.cmdline()))
    with pytest.raises(UserError, match="the vLLM server ended while it worked; finished work is kept") as caught:
        for count, _ in enumerate(answers):
            if count == 0:
                engine.kill()
    assert "\n" not in str(caught.value)
    assert [p for p in below if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    assert not Path(server.socket).exists()
    assert run(server, requests[:2], GREEDY) == greedy[:2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"no-such-flag": 1}, "unrecognized arguments: --no-such-flag=1", id="flag"),
        pytest.param({"max-num-seqs": "many"}, "max-num-seqs", id="value"),
    ],
)
def test_wrong_options_are_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    backend = VLLMServerBackend(str(model), [2], python=str(VLLM_PYTHON), engine_options=options)
    with pytest.raises(UserError, match="the vLLM server could not start") as caught:
        run(backend, [Request([1, 2], 0, 1)], GREEDY)
    assert said in str(caught.value) and "\n" not in str(caught.value)
