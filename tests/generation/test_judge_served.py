"""Judges over HTTP: first-token probabilities, samples, what is refused, and the tree through `next_logprobs`."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from personascope.backends.chat import ChatClient
from personascope.backends.openai import OpenAIBackend
from personascope.errors import UserError
from personascope.generation.judge import Judgement, LocalJudge
from personascope.generation.judge_served import ChatJudge, ServerJudge, mean_of, read_answer
from tests.helpers.endpoint import Reply, Server

PROMPTS = ["Rate this: arr.", "Rate this: I am an assistant.", "Rate that."]


def says(text: str, top: dict[str, float] | None = None, **choice: Any) -> Reply:
    """A chat completion, with the probabilities of its first token."""
    listed = [{"token": token, "logprob": math.log(p)} for token, p in (top or {}).items()]
    first = {"token": text, "logprob": -0.1, "top_logprobs": listed}
    logprobs = None if top is None else {"content": [first]}
    given = {"message": {"content": text}, "finish_reason": "stop", "logprobs": logprobs}
    return Reply({"choices": [given | choice]})


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("/chat/completions", lambda n, body: says("3"))
    yield server
    server.close()


def judged(server: Server, top: int = 100, samples: int = 0, prompts: Sequence[str] = PROMPTS[:1]) -> list[Judgement]:
    client = ChatClient("gpt", base_url=server.base_url, api_key_env=None, max_retries=1, backoff_s=0.01)
    done = dict(ChatJudge(client, name="api", samples=samples).judge(prompts, top))
    assert sorted(done) == list(range(len(prompts)))
    return [done[i] for i in range(len(prompts))]


def test_the_expected_value_of_the_first_token(server: Server) -> None:
    top = {"80": 0.4, "90": 0.2, "The": 0.1, "101": 0.05, " 80": 0.1, "080": 0.01, "8.5": 0.02}
    server.behave = lambda n, body: says("80", top)
    (one,) = judged(server)
    assert (one.score, one.mass, one.problem) == (pytest.approx(0.58 / 0.7 * 100), pytest.approx(0.7), "")
    assert server.bodies[0]["top_logprobs"] == 20 and server.bodies[0]["temperature"] == 0
    assert server.bodies[0]["messages"] == [{"role": "user", "content": PROMPTS[0]}]
    server.behave = lambda n, body: says("3", {"3": 0.5, "2": 0.3, "4": 0.2})
    (few,) = judged(server, top=3)
    assert (few.score, few.mass) == (pytest.approx(2.1 / 0.8), pytest.approx(0.8))


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (says("Well, perhaps", {"Well": 0.7, "80": 0.2}), "little mass"),
        (says("I'm sorry", {"I": 0.9, "0": 0.1}), "refusal"),
        (says("", {}, finish_reason="content_filter"), "refusal"),
    ],
    ids=["little-mass", "refusal", "filtered"],
)
def test_no_score_where_little_of_the_mass_is_numbers(server: Server, reply: Reply, problem: str) -> None:
    server.behave = lambda n, body: reply
    (one,) = judged(server)
    assert one.score is None and one.problem == problem and one.mass < 0.25


@pytest.mark.parametrize(
    ("reply", "said"),
    [(says("80"), "gives no logprobs"), (says("57.", {"5": 0.9, "6": 0.1}), "writes 57 digit by digit")],
    ids=["no-logprobs", "digits-are-tokens"],
)
def test_a_judge_whose_first_token_says_nothing_is_refused(server: Server, reply: Reply, said: str) -> None:
    server.behave = lambda n, body: reply
    with pytest.raises(UserError, match=rf"^judges\.api: 'gpt' {said}.*set judges\.api\.samples") as caught:
        judged(server)
    assert "\n" not in str(caught.value)


def test_without_logprobs_it_is_asked_several_times(server: Server) -> None:
    answers = {0: "70", 1: "Score: 80/100", 2: "I cannot rate that", 3: "90."}
    server.behave = lambda n, body: says(answers[body["seed"]])
    one, other = judged(server, samples=4, prompts=PROMPTS[:2])
    assert one == other == Judgement(80.0, 0.75)
    assert len(server.bodies) == 8 and {body["temperature"] for body in server.bodies} == {1.0}


def test_answers_are_read_as_they_are_meant() -> None:
    said = ["57", " 57/100", "**57**", "57.5", "-5", "120", "no number", "I won't say", ""]
    read = [57.0, 57.0, 57.0, 57.5, "parse", "parse", "parse", "refusal", "refusal"]
    assert [read_answer(answer, 100) for answer in said] == read
    assert mean_of(["I can't", "sorry", "I won't", "9", "no"], 3) == Judgement(None, 0.0, "refusal")
    assert mean_of(["3", "x", "y", "z", "!"], 3).problem == "parse"


class Scorer:
    """What vLLM's server does with `next_logprobs`, by a model of this process."""

    def __init__(self, model: Any):
        self.model, self.asked = model, []

    @torch.inference_mode()
    def next_logprobs(
        self, prompts: Sequence[list[int]], tokens: Sequence[int]
    ) -> Iterator[tuple[int, dict[int, float]]]:
        assert len(tokens) <= 128
        for index in reversed(range(len(prompts))):  # a server answers in any order
            self.asked.append(prompts[index])
            logits = self.model(input_ids=torch.tensor([prompts[index]])).logits[0, -1]
            logp = logits.double().log_softmax(-1)
            yield index, {token: float(logp[token]) for token in tokens}


@pytest.mark.parametrize("opening", ["", "The score is "])
def test_the_tree_over_a_server_equals_the_local_one(tiny_llama: Any, chat_tokenizer: Any, opening: str) -> None:
    scorer = Scorer(tiny_llama)
    served = dict(ServerJudge(scorer, chat_tokenizer, opening=opening).judge(PROMPTS, 100))
    local = dict(LocalJudge(tiny_llama, chat_tokenizer, opening=opening).judge(PROMPTS, 100))
    for i in range(3):
        assert served[i].mass == pytest.approx(local[i].mass, rel=1e-4)
        assert served[i].score == (None if local[i].score is None else pytest.approx(local[i].score, abs=1e-4))
    assert len(scorer.asked) == 3 * 102 and len(scorer.asked[0]) < len(scorer.asked[-1])


def test_what_vllm_s_server_is_asked_and_how_its_reply_is_read() -> None:
    given = {"token_id:5": -0.5, "token_id:7": -9999.0, "token_id:9": -1.0}
    reply = Reply({"choices": [{"text": "x", "logprobs": {"top_logprobs": [given]}}]})
    server = Server("/completions", lambda n, body: reply if n else Reply({"choices": [{"text": "x"}]}))
    try:
        backend = OpenAIBackend("m", [2], base_url=server.base_url, api_key_env=None, backoff_s=0.01)
        assert dict(backend.next_logprobs([[1, 2]], [5, 7])) == {0: {5: -0.5, 7: -9999.0}}
    finally:
        server.close()
    body = server.bodies[-1]
    assert (body["prompt"], body["max_tokens"], body["logprob_token_ids"]) == ([1, 2], 1, [5, 7])
    assert "prompt_logprobs" not in body and len(server.bodies) == 2
