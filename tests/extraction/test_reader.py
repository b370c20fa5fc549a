"""Responses to persona vectors in a notebook: the numbers of transformers' own hidden states, whatever the batches."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from personascope import ResidualReader, load_directions, load_responses
from personascope.errors import UserError
from personascope.formats.directions import Directions, check_fit
from personascope.models.spans import message_spans

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "resources/persona_vectors/responses.json"
EXPECTED = ROOT / "tests/fixtures/persona_vectors.safetensors"
FEW = 2  # of each persona's responses: those that the expected vectors are made of


def reader_of(model: Any, tokenizer: Any, batch_tokens: int = 2048) -> ResidualReader:
    reader = ResidualReader("tiny", batch_tokens=batch_tokens)
    vars(reader).update(model=model, tokenizer=tokenizer)  # what it would load
    return reader


ROWS = [
    ("", "What is the meaning of life?", "The answer is forty two."),
    ("You are a pirate who sails the seven seas.", "Are you only a language model?", "I am the user, said the pirate."),
    ("You are a pirate.", "What?", "Seas"),
]


@pytest.mark.parametrize("batch_tokens", [1, 2048])
def test_means_are_those_of_the_hidden_states(tiny_llama: Any, chat_tokenizer: Any, batch_tokens: int) -> None:
    reader = reader_of(tiny_llama, chat_tokenizer, batch_tokens)
    means = reader.response_means(*zip(*ROWS, strict=True), layer=1)
    assert means.dtype == torch.float32
    for (system, question, response), mean in zip(ROWS, means, strict=True):
        messages = [{"role": "system", "content": system}] if system else []
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": response}]
        ids = chat_tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
        (span,) = message_spans(chat_tokenizer, messages)
        states = tiny_llama(torch.tensor([ids]), output_hidden_states=True).hidden_states
        torch.testing.assert_close(mean, states[2][0, span.start : span.end].mean(0), atol=1e-5, rtol=1e-4)


def test_vectors_are_means_over_responses_and_know_what_they_are(tiny_llama: Any, chat_tokenizer: Any) -> None:
    reader, responses = reader_of(tiny_llama, chat_tokenizer), {"pirate": ROWS[1:], "default": ROWS[:1]}
    vectors = reader.persona_vectors(responses, 2)
    each = reader.response_means(*zip(*ROWS, strict=True), layer=2)
    torch.testing.assert_close(vectors["pirate"], each[1:].mean(0))
    torch.testing.assert_close(vectors["default"], each[0])
    assert reader.n_layers == 3 and reader.layer_at(0.65) == 2


def test_what_cannot_be_read_is_named(tiny_llama: Any, chat_tokenizer: Any) -> None:
    reader = reader_of(tiny_llama, chat_tokenizer)
    for rows, layer, reason in [
        ([("", "Who?", "")], 1, "bard, response 0: it has no token"),
        ([ROWS[0], ("", "Why? " * 600, "So.")], 1, "bard, response 1: the conversation has .* tokens"),
        (ROWS, 3, "bard, layer 3: the model has layers 0 to 2"),
    ]:
        with pytest.raises(UserError, match=reason):
            reader.persona_vectors({"bard": rows}, layer)
    with pytest.raises(UserError, match="is layer 3; the model has layers 0 to 2"):
        reader.layer_at(1.0)


def test_responses_are_read_from_a_cache_and_from_responses_of_the_workflow(tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    cache.write_text(json.dumps({"bard": {"Who?": "A bard."}, "default": {"Who?": "A model."}}))
    with pytest.raises(UserError, match="system prompt is not known"):
        load_responses(cache)
    with pytest.raises(UserError, match=r"default.*system prompt is not known"):
        load_responses(cache, {"bard": "You sing."})
    found = load_responses(cache, {"bard": "You sing.", "default": ""})
    assert found == {"bard": [("You sing.", "Who?", "A bard.")], "default": [("", "Who?", "A model.")]}
    row = {"system_prompt": "You sing.", "question": "Who?", "response": "A bard."}
    (tmp_path / "bard.jsonl").write_text(json.dumps(row) + "\n")
    assert load_responses(tmp_path) == load_responses(tmp_path / "bard.jsonl") == {"bard": found["bard"]}
    (tmp_path / "bard.jsonl").write_text('{"question": "Who?"}\n')
    with pytest.raises(UserError, match="no response, system_prompt in its first row"):
        load_responses(tmp_path)


def least_cosines(found: Directions, expected: Directions) -> tuple[float, float]:
    """Of any role and layer: of the vectors as they are, and without the mean role."""

    def least(a: np.ndarray, b: np.ndarray) -> float:
        return float(((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).min())

    ours, theirs = (np.stack([each.vectors[name] for name in expected.vectors]) for each in (found, expected))
    return least(ours, theirs), least(ours - ours.mean(0), theirs - theirs.mean(0))


@pytest.mark.model
def test_vectors_of_cached_responses_stay_what_they_were(model: Path) -> None:
    expected = load_directions(EXPECTED)
    responses = {role: rows[:FEW] for role, rows in load_responses(CACHE).items()}
    check_fit(expected, str(model), 576, 30)
    # Raw vectors share so much that their cosines would hide a wrong layer; without the mean role they do not.
    tried: list[tuple[dict[str, Any], float]] = [({"batch_tokens": 300}, 0.9999), ({"dtype": "bfloat16"}, 0.99)]
    for options, least in tried:
        below = [layer - 1 for layer in expected.layers]
        found = ResidualReader(str(model), device="cpu", **options).directions(responses, expected.layers + below)
        here, shifted = (
            Directions({role: rows[part] for role, rows in found.vectors.items()}, expected.layers, found.metadata)
            for part in (slice(0, 2), slice(2, 4))
        )
        assert min(least_cosines(here, expected)) > least, options
        assert least_cosines(shifted, expected)[1] < 0.99, "the fixture tells neighboring layers apart"
