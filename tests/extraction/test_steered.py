"""What steered text is, on a tiny model, against one conversation at a time with the model's own logits."""

from typing import Any

import numpy as np
import pytest
import torch

from personascope.extraction.capped import read_turns
from personascope.extraction.steered import Text, read_steered, repetition
from personascope.models.interventions import Add, Cap, intervene
from personascope.models.spans import encode_conversation, message_spans
from personascope.models.steering import Steering

RNG = np.random.default_rng(1)
UNITS = {layer: (v / np.linalg.norm(v)).astype(np.float32) for layer, v in enumerate(RNG.normal(size=(3, 32)))}
V = RNG.normal(size=32).astype(np.float32)


def ids(n: int) -> list[int]:
    return RNG.integers(0, 320, n).tolist()


def logits_and_states(model: Any, tokens: list[int]) -> tuple[torch.Tensor, Any]:
    out = model(input_ids=torch.tensor([tokens]), output_hidden_states=True)
    return out.logits[0].double(), out.hidden_states


@pytest.mark.parametrize("positions", ["all", "response"])
def test_against_one_text_at_a_time(tiny_llama: Any, positions: Any) -> None:
    plain = [ids(n) for n in (4, 9, 6)]
    texts = [Text(p, p, ids(n)) for p, n in zip(plain, (7, 3, 5), strict=True)]
    texts += [Text(plain[0], ids(12), ids(6)), Text(plain[0], plain[0], [])]
    steer = [Add(0, V, positions)]
    steering = Steering(tiny_llama, steer)
    read = read_steered(tiny_llama, texts, steering, {k: UNITS[k] for k in (0, 1)}, batch_tokens=60)
    for text, got in zip(texts[:-1], read, strict=False):
        n = len(text.response)
        before, states = logits_and_states(tiny_llama, text.plain + text.response)
        with intervene(tiny_llama, steer, prompt_lengths=[len(text.prompt)]):
            after, _ = logits_and_states(tiny_llama, text.prompt + text.response)
        p, q = (x[-n - 1 : -1].log_softmax(-1) for x in (before, after))
        picked = torch.arange(n), torch.tensor(text.response)
        assert got.n_tokens == n
        assert got.nll == pytest.approx(-float(p[picked].mean()), abs=1e-4)
        assert got.nll_steered == pytest.approx(-float(q[picked].mean()), abs=1e-4)
        assert got.kl == pytest.approx(float((q.exp() * (q - p)).sum(-1).mean()), abs=1e-4) and got.kl > 0.01
        for layer, unit in ((0, UNITS[0]), (1, UNITS[1])):
            assert got.projections[layer] == pytest.approx(
                float((states[layer + 1][0, -n:] @ torch.tensor(unit)).mean()), abs=1e-4
            )
    empty = read[-1]
    assert empty.n_tokens == 0 and np.isnan([empty.nll, empty.kl, empty.projections[0]]).all()
    tokens = sum(len(t.response) if positions == "response" else len(t.prompt + t.response) for t in texts[:-1])
    assert steering.changed == tokens + (len(texts) - 1 if positions == "response" else 0)


def test_unsteered_text_is_no_distance_away(tiny_llama: Any) -> None:
    (read,) = read_steered(tiny_llama, [Text([1, 2], [1, 2], ids(5))], Steering(tiny_llama, []), UNITS, 100)
    assert read.kl == 0.0 and read.nll == read.nll_steered


def test_repetition() -> None:
    assert repetition([1, 2, 3]) == 0.0
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5)
    assert repetition([7] * 10) == pytest.approx(6 / 7)


def test_turns_of_a_capped_conversation(tiny_llama: Any, chat_tokenizer: Any) -> None:
    messages = [
        {"role": "user", "content": "What is the meaning of life?"},
        {"role": "assistant", "content": "I am only a language model."},
        {"role": "user", "content": "Say more."},
        {"role": "assistant", "content": "The answer is forty two."},
    ]
    tokens = encode_conversation(chat_tokenizer, messages).ids
    spans = message_spans(chat_tokenizer, messages)
    caps = [Cap(0, UNITS[0], low=0.1), Cap(1, UNITS[1], low=0.2)]
    before, states = logits_and_states(tiny_llama, tokens)
    with intervene(tiny_llama, caps[:1]):
        _, first = logits_and_states(tiny_llama, tokens)
    with intervene(tiny_llama, caps):
        after, _ = logits_and_states(tiny_llama, tokens)
    turns = read_turns(tiny_llama, chat_tokenizer, messages, caps, UNITS)
    p, q = before.log_softmax(-1), after.log_softmax(-1)
    assert [turn.turn for turn in turns] == [0, 1]
    for turn, span in zip(turns, spans, strict=True):
        inside, predicting = slice(span.start, span.end), slice(span.start - 1, span.end - 1)
        kl = (q.exp() * (q - p)).sum(-1)[predicting].mean()
        assert turn.kl == pytest.approx(float(kl), abs=1e-4) and turn.kl > 0
        assert turn.n_tokens == span.end - span.start
        for layer in UNITS:
            expected = (states[layer + 1][0, inside] @ torch.tensor(UNITS[layer])).mean()
            if layer < 2:  # the library's last hidden state is behind the final norm
                assert turn.projections[layer] == pytest.approx(float(expected), abs=1e-4)
        shares = [
            (states[1][0, inside] @ torch.tensor(UNITS[0]) < 0.1).float().mean(),
            (first[2][0, inside] @ torch.tensor(UNITS[1]) < 0.2).float().mean(),
        ]
        assert [turn.capped[0], turn.capped[1]] == pytest.approx([float(share) for share in shares])
    uncapped = read_turns(tiny_llama, chat_tokenizer, messages, [], UNITS)
    assert [turn.kl for turn in uncapped] == [0.0, 0.0] and uncapped[0].capped == {}
    assert [turn.nll for turn in uncapped] == pytest.approx([turn.nll for turn in turns])
