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
SOME = range(
    0, TOP + 1, 10
)  # the numbers that are really passed one by one; their passes take the same time as the rest


@torch.inference_mode()
def one_pass_each(model: Any, before: Sequence[int], tokenizer: Any) -> np.ndarray:
    """Some of the same by the formula: the log-probability of a number's tokens, teacher-forced, and of its end."""
    tree = number_tree(tokenizer, TOP, OPENING)
    result = []
    for number in SOME:
        written = tree.path(tree.nodes[number])
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
    found: dict[str, np.ndarray] = {}

    def at_once() -> None:
        list(judge.judge(prompts, TOP))

    def one_each() -> None:
        found["slow"] = one_pass_each(model, before[0], tokenizer)

    ratios, fast = [], []
    for _ in range(ROUNDS):
        fast.append(seconds(at_once) / len(prompts))
        ratios.append(seconds(one_each) * (TOP + 1) / len(SOME) / fast[-1])
    ratio, each = statistics.median(ratios), statistics.median(fast)
    detail = f"{each:.2f} s a judgement of 0 to {TOP}, prompts of {len(before[0])} tokens; median of {ROUNDS} ratios"
    yield Row("local judge", f"{ratio:.1f}x", ">= 5x", ratio >= 5, f"{detail}; against {TOP + 1} passes")
    difference = float(np.abs(judge.probabilities(before[:1], TOP)[0].numpy()[SOME] - found["slow"]).max())
    yield Row("local judge, exactness", f"{difference:.0e}", "<= 1e-4", difference <= 1e-4, "largest of a probability")
