"""Judges that are asked over HTTP: vLLM's server, which gives the probability of any token, and chat endpoints, which
give those of the likeliest 20 first tokens, or none."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from personascope.backends import Request, Sampling
from personascope.errors import UserError
from personascope.formats.responses import answer_of
from personascope.generation.judge import (
    LEAST_MASS,
    Judgement,
    NumberTree,
    expected,
    judge_prompt_ids,
    number_probabilities,
    number_tree,
)

MOST_TOKENS = 128  # that vLLM's server (0.32) gives the probabilities of in one reply
PORTION = 64  # prompts at a time, so that their keys and values stay in the server's cache until all is asked
FIRST_WORDS, SAMPLE_WORDS = 4, 16  # output tokens that a chat endpoint is asked for
NUMBER = re.compile(r"(?<![-\d.])\d+(?:\.\d+)?")
REFUSAL = re.compile(r"\b(can(no|['\u2019])t|cannot|won['\u2019]t|unable|sorry|declin\w*|refus\w*)\b", re.IGNORECASE)


class ServerJudge:
    """A model behind vLLM's server as the judge, by the same tree of tokens; see `judge.Judge`.

    backend: has `next_logprobs`. Each node of the tree is one request for one output token; the server has the prompt
    cached from the first of them. Where more than 128 tokens begin with a digit (Llama 3: 1,110), the ends of numbers
    count the 128 shortest, and numbers of four digits or more as their first three.
    """

    def __init__(self, backend: Any, tokenizer: Any, *, opening: str = ""):
        self.backend, self.tokenizer, self.opening = backend, tokenizer, opening

    def judge(self, prompts: Sequence[str], top: int) -> Iterator[tuple[int, Judgement]]:
        tree = number_tree(self.tokenizer, top, self.opening)
        known = list(dict.fromkeys([*tree.tokens, *tree.digits]))[:MOST_TOKENS]
        for start in range(0, len(prompts), PORTION):
            asked = [judge_prompt_ids(self.tokenizer, p, self.opening) for p in prompts[start : start + PORTION]]
            after = [dict[int, dict[int, float]]() for _ in asked]
            for nodes in ([-1], range(len(tree.tokens))):  # the prompts themselves come first, into the cache
                work = [(i, node) for i in range(len(asked)) for node in nodes]
                bodies = [asked[i] + tree.path(node) for i, node in work]
                for index, found in self.backend.next_logprobs(bodies, known):
                    prompt, node = work[index]
                    after[prompt][node] = found
            for i, found in enumerate(after):
                yield start + i, expected(_probabilities(tree, found).numpy())


def _probabilities(tree: NumberTree, after: dict[int, dict[int, float]]) -> torch.Tensor:
    """Probabilities of the numbers, float64 [top + 1], from {node: {token: log-probability that it follows}}."""
    chosen = [after[parent][token] for token, parent in zip(tree.tokens, tree.parents, strict=True)]
    digits = [sum(math.exp(after[node].get(d, -math.inf)) for d in tree.digits) for node in range(len(tree.tokens))]
    rows = torch.tensor([chosen], dtype=torch.float64), torch.tensor([digits], dtype=torch.float64)
    return number_probabilities(tree, *rows)[0]


class ChatJudge:
    """A chat endpoint as the judge; see `judge.Judge`.

    client: a `backends.chat.ChatClient`; name: the judge's, for messages; samples: 0 takes the probabilities of the
    first token, more asks so many times and takes the mean of the numbers that it says.
    Raises UserError where the endpoint gives no probabilities, or ones that say nothing of whole numbers.
    """

    def __init__(self, client: Any, *, name: str, samples: int = 0, seed: int = 0):
        self.client, self.name, self.samples, self.seed = client, name, samples, seed

    def judge(self, prompts: Sequence[str], top: int) -> Iterator[tuple[int, Judgement]]:
        asked = [[{"role": "user", "content": prompt}] for prompt in prompts]
        if self.samples:
            yield from self._sampled(asked, top)
            return
        replies = self.client.first_token(asked, max_tokens=FIRST_WORDS, seed=self.seed)
        for index, alternatives, text in replies:
            if alternatives is None:
                raise self._useless(f"{self.client.model!r} gives no logprobs")
            yield index, self._expected(alternatives, text, top)

    def _expected(self, alternatives: list[tuple[str, float]], text: str, top: int) -> Judgement:
        probabilities = torch.zeros(top + 1, dtype=torch.float64)
        for token, logprob in alternatives:
            word = token.strip()
            if word.isascii() and word.isdigit() and str(int(word)) == word and int(word) <= top:
                probabilities[int(word)] += math.exp(logprob)
        first = max(alternatives, key=lambda pair: pair[1], default=("", 0.0))[0].strip()
        said = re.match(r"\s*(\d+)", text)
        if first.isdigit() and said and len(said[1]) > len(first):
            raise self._useless(
                f"{self.client.model!r} writes {said[1]} digit by digit, so its first token is no number"
            )
        found = expected(probabilities.numpy())
        declines = found.score is None and (not text.strip() or REFUSAL.search(text))
        return Judgement(None, found.mass, "refusal") if declines else found

    def _useless(self, reason: str) -> UserError:
        return UserError(
            f"judges.{self.name}: {reason}; set judges.{self.name}.samples to ask it several times, or choose another"
        )

    def _sampled(self, asked: list[list[dict[str, str]]], top: int) -> Iterator[tuple[int, Judgement]]:
        n = self.samples
        requests = [Request([], self.seed + i, SAMPLE_WORDS, messages) for messages in asked for i in range(n)]
        answers: list[list[str]] = [[] for _ in asked]
        for index, completion in self.client.generate(requests, Sampling(temperature=1.0, top_p=1.0)):
            said = answers[index // n]
            said.append(answer_of(completion.text or ""))
            if len(said) == n:
                yield index // n, mean_of(said, top)


def mean_of(answers: Sequence[str], top: int) -> Judgement:
    """The mean of the numbers from 0 to top in these answers; the mass is the share of answers that have one."""
    read = [read_answer(answer, top) for answer in answers]
    numbers = [one for one in read if isinstance(one, float)]
    mass = len(numbers) / len(read)
    if mass < LEAST_MASS:
        return Judgement(None, mass, Counter(one for one in read if isinstance(one, str)).most_common(1)[0][0])
    return Judgement(sum(numbers) / len(numbers), mass)


def read_answer(answer: str, top: int) -> float | str:
    """The first number of an answer; else the problem: "refusal", or "parse" (no number, or none of the scale)."""
    found = NUMBER.search(answer)
    if found and float(found[0]) <= top:
        return float(found[0])
    return "refusal" if not found and (not answer.strip() or REFUSAL.search(answer)) else "parse"
