"""Embedded generation against one sequence at a time with the library's own generate."""

from collections.abc import Iterator

import torch

from personascope.backends import Sampling
from personascope.backends.local import TransformersBackend
from personascope.formats.roles import build_prompts, read_questions, read_role, select_questions
from personascope.generation.generate import build_requests
from tests.benchmarks.common import ROOT, Row, alternate, load_embedded

NEW_TOKENS = 96


def run() -> Iterator[Row]:
    tokenizer, model = load_embedded()
    questions = select_questions(read_questions(ROOT / "resources/questions.jsonl"), 24)
    prompts = build_prompts(read_role(ROOT / "resources/roles/pirate.json"), [0, 1, 2, 3, 4], questions, "")
    requests = build_requests(tokenizer, prompts, seed=0, max_tokens=NEW_TOKENS, max_model_len=2048)
    backend = TransformersBackend(model, [tokenizer.eos_token_id], batch_size=128)
    counts: dict[str, int] = {}

    def batched() -> None:
        done = backend.generate(requests, Sampling())
        counts["batched"] = sum(len(completion.token_ids) for _, completion in done)

    def single() -> None:
        counts["single"] = 0
        for request in requests[:4]:
            ids = torch.tensor([request.prompt_ids])
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=0.7,
                top_p=0.9,
                max_new_tokens=NEW_TOKENS,
                pad_token_id=tokenizer.eos_token_id,
            )
            counts["single"] += out.shape[1] - ids.shape[1]

    batched_seconds, single_seconds = alternate(batched, single)
    fast, slow = counts["batched"] / batched_seconds, counts["single"] / single_seconds
    detail = f"{fast:.0f} against {slow:.1f} tokens/s; one role, {len(requests)} responses of up to {NEW_TOKENS} tokens"
    yield Row("embedded generation", f"{fast / slow:.1f}x", ">= 12x", fast / slow >= 12, detail)
