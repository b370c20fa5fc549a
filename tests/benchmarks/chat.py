"""A chat whose tokens are monitored against plain generation of the same answers, one at a time."""

import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np

from personascope.backends import Request, Sampling
from personascope.backends.local import TransformersBackend
from personascope.formats.directions import Directions
from personascope.formats.layers import LAYER_CONVENTION
from personascope.generation.chat import Chat, ChatOptions
from personascope.generation.simulate import turn_seed
from personascope.models.loading import d_model
from personascope.models.projection import make_probe
from personascope.models.spans import prompt_ids
from tests.benchmarks.common import ROUNDS, Row, load_embedded, seconds

NEW_TOKENS, LAYERS = 96, [7, 15, 20]
QUESTION = "How do I keep a small balcony green through a dry summer?"


def run() -> Iterator[Row]:
    tokenizer, model = load_embedded()
    rows = np.random.default_rng(0).standard_normal((2, len(LAYERS), d_model(model))).astype(np.float32)
    known = {"model": "model", "kind": "random", "layer_convention": LAYER_CONVENTION}
    drawn = {f"random{i}": Directions({f"random{i}": vectors}, LAYERS, known) for i, vectors in enumerate(rows)}
    probe = make_probe(model, "model", drawn, LAYERS)
    request = Request(prompt_ids(tokenizer, [{"role": "user", "content": QUESTION}]), turn_seed(0, 0, 0), NEW_TOKENS)
    backend = TransformersBackend(model, [])

    def plain() -> None:
        list(backend.generate([request], Sampling()))

    def chat(watched: Any) -> int:
        talk = Chat(model, tokenizer, [], ChatOptions(Sampling(), max_tokens=NEW_TOKENS), watched)
        return sum(read.generated for read in talk.say(QUESTION))

    assert chat(probe) == NEW_TOKENS, "both sides generate as much"
    times = [[seconds(plain), seconds(lambda: chat(None)), seconds(lambda: chat(probe))] for _ in range(ROUNDS)]
    ratio, to_chat = (statistics.median(row[i] / row[2] for row in times) for i in (0, 1))
    rate = NEW_TOKENS / statistics.median(row[2] for row in times)
    detail = f"{rate:.1f} tokens/s with {len(probe.columns)} columns and surprise; {to_chat:.0%} of the chat unwatched"
    yield Row("chat --monitor", f"{ratio:.0%} of plain generation", ">= 80 %", ratio >= 0.8, detail)
