"""The local judge against one pass a number: the same probabilities, in one forward pass over prompt and numbers."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from personascope.formats.roles import read_questions, select_questions
from personascope.generation.judge import LocalJudge, judge_prompt_ids, number_tree
from personascope.generation.rubrics import fill, read_rubric
from tests.benchmarks.common import ROOT, ROUNDS, Row, load_embedded, seconds

ANSWER = "It depends on whom you ask. The sea has no master, and neither have I, so I would take what the wind brings. "
OPENING = "The score is "
TOP = 100


@torch.inference_mode()
def one_pass_each(model: Any, before: Sequence[int], tokenizer: Any) -> np.ndarray:
    """The same by the formula: the log-probability of each number's tokens, teacher-forced, and of its end."""
    tree = number_tree(tokenizer, TOP, OPENING)
    result = []
    for node in tree.nodes:
        written = tree.path(node)
        keep = len(written) + 1
        logits = model(input_ids=torch.tensor([[*before, *written]]), logits_to_keep=keep).logits[0].float()
        logp = logits.log_softmax(-1)
        p = torch.stack([logp[i, token] for i, token in enumerate(written)]).sum().exp()
        result.append(float(p * (1 - logp[-1, tree.digits].exp().sum())))
    return np.array(result)


def run() -> Iterator[Row]:
    tokenizer, model = load_embedded()
    rubric = read_rubric(ROOT / "resources/judge/coherence.txt")
    questions = select_questions(read_questions(ROOT / "resources/questions.jsonl"), 12)
    prompts = [fill(rubric, question.text, ANSWER * 3) for question in questions]
    judge = LocalJudge(model, tokenizer, opening=OPENING)
    before = [judge_prompt_ids(tokenizer, prompt, OPENING) for prompt in prompts]
    found: dict[str, Any] = {}

    def at_once() -> None:
        found["scores"] = dict(judge.judge(prompts, TOP))

    def one_each() -> None:
        found["slow"] = one_pass_each(model, before[0], tokenizer)

    ratios, fast = [], []
    for _ in range(ROUNDS):
        fast.append(seconds(at_once) / len(prompts))
        ratios.append(seconds(one_each) / fast[-1])
    ratio, each = statistics.median(ratios), statistics.median(fast)
    slow = found["slow"]
    difference = float(np.abs(judge.probabilities(before[:1], TOP)[0].numpy() - slow).max())
    score = float(np.arange(TOP + 1) @ slow / slow.sum())
    off = abs(found["scores"][0].score - score)
    detail = f"{each:.2f} s a judgement of 0 to {TOP}, {len(before[0])} tokens; median of {ROUNDS} ratios"
    yield Row("local judge", f"{ratio:.1f}x", ">= 5x", ratio >= 5, f"{detail}; against {TOP + 1} passes")
    equal = f"score off by {off:.0e}; largest difference of a probability"
    yield Row("local judge, exactness", f"{difference:.0e}", "<= 1e-4", max(difference, off) <= 1e-4, equal)
