"""A chat: its trace is the saved conversation's, its answers are the engine's, and what an interruption leaves."""

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from personascope.backends import Request, Sampling
from personascope.backends.local import TransformersBackend
from personascope.errors import UserError
from personascope.extraction.monitor import monitor
from personascope.generation.chat import Chat, ChatOptions, Read, TextStream
from personascope.generation.plain import PLAIN, plain_scale
from personascope.generation.simulate import turn_seed
from personascope.generation.steering_words import steering_word
from personascope.models.interventions import Add, Cap
from personascope.models.projection import Probe, make_probe
from personascope.models.spans import encode_conversation, locate_spans, prompt_ids
from tests.helpers.directions import drawn

SAID = ["What is the meaning of life?", "You are a pirate who sails the seven seas.", "Who said so?"]


def probe_of(model: Any, layers: Sequence[int] = (0, 1)) -> Probe:
    return make_probe(model, "tiny", {name: drawn(name, [0, 1, 2], i) for i, name in enumerate("ab")}, layers)


def chat(model: Any, tokenizer: Any, probe: Probe | None = None, n: int = 20, **options: Any) -> Chat:
    stop = [tokenizer.eos_token_id]
    return Chat(model, tokenizer, stop, ChatOptions(Sampling(), max_tokens=n, **options), probe, system="Be brief.")


def last_reads(talk: Chat, said: Sequence[str] = SAID) -> dict[int, Read]:
    """What was said last of each position."""
    return {read.position: read for text in said for read in talk.say(text)}


def test_the_trace_is_that_of_the_conversation_read_as_a_whole(tiny_llama: Any, chat_tokenizer: Any) -> None:
    """The answers are random bytes, so that their text has another tokenization than was sampled."""
    probe = probe_of(tiny_llama)
    talk = chat(tiny_llama, chat_tokenizer, probe)
    reads = last_reads(talk)
    whole = monitor(
        tiny_llama, chat_tokenizer, talk.messages, encode_conversation(chat_tokenizer, talk.messages), probe
    )
    assert any("\ufffd" in message["content"] for message in talk.messages), "the case that is meant"
    kept = [reads[i] for i in range(len(whole))]
    assert [read.token_id for read in kept] == whole.token_ids.tolist()
    assert [read.message_index for read in kept] == whole.message_index.tolist()
    assert [read.in_content for read in kept] == whole.in_content.tolist()
    np.testing.assert_allclose([read.projections for read in kept], whole.projections, atol=1e-4)
    assert kept[0].surprise is None
    np.testing.assert_allclose(np.array([read.surprise for read in kept[1:]], float), whole.surprise[1:], atol=1e-4)


@pytest.mark.parametrize("watched", [False, True])
def test_answers_are_those_of_the_engine(tiny_llama: Any, chat_tokenizer: Any, watched: bool) -> None:
    talk = chat(tiny_llama, chat_tokenizer, probe_of(tiny_llama) if watched else None, seed=3)
    backend = TransformersBackend(tiny_llama, [chat_tokenizer.eos_token_id])
    for turn, text in enumerate(SAID):
        before = [*talk.messages, {"role": "user", "content": text}]
        asked = Request(prompt_ids(chat_tokenizer, before), turn_seed(3, 0, turn), 20)
        got = [read.token_id for read in talk.say(text) if read.generated]
        [(_, completion)] = backend.generate([asked], Sampling())
        assert got == completion.token_ids


def test_the_cache_is_kept_over_the_turns(tiny_llama: Any, chat_tokenizer: Any) -> None:
    talk, lengths = chat(tiny_llama, chat_tokenizer, n=1), []
    last_reads(talk, SAID[:1])
    watch = tiny_llama.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        last_reads(talk, SAID[1:2])
    finally:
        watch.remove()
    everything = len(prompt_ids(chat_tokenizer, talk.messages[:-1]))
    assert lengths[0] < everything / 2


def hooked(model: Any) -> int:
    modules = list(model.modules())
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


@pytest.mark.parametrize("after", [0, 3, 60])
def test_an_interruption_keeps_what_was_said_and_takes_the_hooks_off(
    tiny_llama: Any, chat_tokenizer: Any, after: int
) -> None:
    before, probe = hooked(tiny_llama), probe_of(tiny_llama)  # transformers has hooks of its own
    talk = chat(tiny_llama, chat_tokenizer, probe, n=200)
    talk.steer([Add(1, np.ones(32, np.float32))])
    reads = talk.say(SAID[0])
    seen = list(islice(reads, after))
    reads.close()
    assert hooked(tiny_llama) == before
    generated = [read.token_id for read in seen if read.generated]
    assert len(talk.messages) == (3 if generated else 1)
    talk.steer([])
    again = chat(tiny_llama, chat_tokenizer, probe, n=200)
    again.messages = list(talk.messages)
    one, other = (list(islice(t.say(SAID[1]), 400)) for t in (talk, again))
    assert [read.token_id for read in one if read.generated] == [read.token_id for read in other if read.generated]


def test_steering_is_read_where_it_works_and_the_rest_is_read_anew(tiny_llama: Any, chat_tokenizer: Any) -> None:
    probe = probe_of(tiny_llama)
    talk = chat(tiny_llama, chat_tokenizer, probe, n=5)
    plain = last_reads(talk, SAID[:1])
    unit = probe.units[1][0]
    talk.steer([Cap(1, unit, -0.25, 0.25)])
    column = probe.columns.index("a@1")
    capped = [read.projections[column] for read in last_reads(talk, SAID[1:2]).values()]
    assert min(capped) >= -0.25 - 1e-4 and max(capped) <= 0.25 + 1e-4 and len(capped) > len(plain)
    assert talk.steering.counts[0].changed > 0
    assert max(abs(read.projections[column]) for read in plain.values()) > 0.25


def test_a_conversation_longer_than_the_context_is_refused_and_not_said(tiny_llama: Any, chat_tokenizer: Any) -> None:
    talk = chat(tiny_llama, chat_tokenizer, context=60)
    with pytest.raises(UserError, match=r"has \d+ tokens, the model's context is 60; start a new one"):
        last_reads(talk, ["The answer is forty two. " * 20])
    assert [message["role"] for message in talk.messages] == ["system"]
    answered = last_reads(talk, ["Who?"])
    assert (len(talk.messages) == 3 and len(answered) == 0) or max(answered) < 60


def test_text_comes_in_whole_characters(chat_tokenizer: Any) -> None:
    text = "The answer 🙂 is, said the user, é."
    stream = TextStream(chat_tokenizer)
    parts = [stream.add(token) for token in chat_tokenizer(text, add_special_tokens=False).input_ids]
    assert "".join(parts) == text and not any("\ufffd" in part for part in parts)


@torch.inference_mode()
def test_the_plain_scale_is_of_the_answers_tokens(tiny_llama: Any, chat_tokenizer: Any) -> None:
    probe = probe_of(tiny_llama)
    got = plain_scale(tiny_llama, chat_tokenizer, probe)
    rows = []
    for question, answer in PLAIN:
        talk = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        encoded = encode_conversation(chat_tokenizer, talk)
        [span] = locate_spans(chat_tokenizer, talk, encoded)
        states = tiny_llama(input_ids=torch.tensor([encoded.ids]), output_hidden_states=True).hidden_states
        rows.append(states[2][0, span.start : span.end])
    h = torch.cat(rows).double()
    values = (h @ probe.units[1][1].double()).numpy()
    assert got["tokens"] == len(h) and math.isclose(got["norms"]["1"], h.norm(dim=1).mean(), rel_tol=1e-5)
    expected = {"mean": values.mean(), "sd": values.std()}
    assert got["columns"]["b@1"] == pytest.approx(expected, rel=1e-4)


def test_words_of_steering() -> None:
    word = steering_word("steer", "trait:calm:-0.5@1")
    assert (word.direction, word.numbers, word.layers) == ("trait:calm", (-0.5,), (1,))
    band = steering_word("cap", "role:pirate:-2:@0-2")
    assert (band.direction, band.numbers, band.layers) == ("role:pirate", (-2.0, math.inf), (0, 1, 2))
    unit = torch.eye(32)[0]
    [added] = word.interventions(lambda name, layer: unit, lambda layer: 10.0)
    assert isinstance(added, Add) and added.vector.tolist() == (unit * -5).tolist()
    caps = band.interventions(lambda name, layer: unit, lambda layer: 10.0)
    assert [(one.layer, one.low, one.high) for one in caps if isinstance(one, Cap)] == [
        (layer, -2.0, math.inf) for layer in range(3)
    ]


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("steer", "axis", "expected NAME:COEFFICIENT@LAYER"),
        ("steer", "axis:1", "expected NAME"),
        ("steer", "axis:x@1", "expected NAME"),
        ("steer", "axis:nan@1", "is no coefficient"),
        ("steer", "axis:inf@1", "is no coefficient"),
        ("steer", ":1@1", "expected NAME"),
        ("cap", "axis:1@1", "expected NAME:LOW:HIGH@LAYER"),
        ("cap", "axis:2:1@1", "2.0 is above 1.0"),
        ("cap", "axis:1:2@3-2", "layers 3-2 are none"),
        ("cap", "axis:nan:2@3", "is no coefficient"),
    ],
)
def test_words_that_mean_nothing_are_refused(kind: str, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        steering_word(kind, text)
