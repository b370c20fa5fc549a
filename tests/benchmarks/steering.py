"""Steered against plain generation in the embedded engine: tokens a second, measured in turn."""

import statistics
from collections.abc import Iterator

import torch

from personascope.backends import Sampling
from personascope.backends.local import TransformersBackend
from personascope.formats.roles import build_prompts, read_questions, read_role, select_questions
from personascope.generation.generate import build_requests
from personascope.models.interventions import Add, Cap
from personascope.models.loading import d_model
from tests.benchmarks.common import ROOT, ROUNDS, Row, load_embedded, seconds

NEW_TOKENS = 48
LAYERS = (7, 11, 15)
BAR = 0.85


def run() -> Iterator[Row]:
    tokenizer, model = load_embedded()
    questions = select_questions(read_questions(ROOT / "resources/questions.jsonl"), 16)
    prompts = build_prompts(read_role(ROOT / "resources/roles/default.json"), [0, 1], questions, "SmolLM2")
    requests = build_requests(tokenizer, prompts, seed=0, max_tokens=NEW_TOKENS, max_model_len=2048)
    plain = TransformersBackend(model, [], batch_size=128)  # no stop: every response has all of its tokens
    vector = torch.randn(d_model(model), generator=torch.Generator().manual_seed(0))
    steered = {
        "added at one layer, all tokens": plain.steered([Add(15, vector)]),
        "added at one layer, response tokens": plain.steered([Add(15, vector, "response")]),
        f"capped at {len(LAYERS)} layers": plain.steered([Cap(layer, vector, low=0.0) for layer in LAYERS]),
    }
    tokens = NEW_TOKENS * len(requests)

    def speed(engine: TransformersBackend) -> float:
        return tokens / seconds(lambda: list(engine.generate(requests, Sampling())))

    speed(plain)
    speeds = {name: [(speed(plain), speed(engine)) for _ in range(ROUNDS)] for name, engine in steered.items()}
    for name, pairs in speeds.items():
        ratio = statistics.median(with_it / without for without, with_it in pairs)
        without, with_it = (statistics.median(values) for values in zip(*pairs, strict=True))
        detail = f"{with_it:.0f} against {without:.0f} tokens/s; {len(requests)} responses of {NEW_TOKENS} tokens"
        yield Row(f"steered generation, {name}", f"{ratio:.2f}x", f">= {BAR}x", ratio >= BAR, detail)
