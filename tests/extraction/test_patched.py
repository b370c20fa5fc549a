"""Patched reads behind a shared prompt: against plain transformers over the whole text, with a hook written out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from personascope.extraction.patched import Prompt, decoder_facts, read_answers, read_turn, reconstruction_change
from personascope.models.interventions import Add, ClampFeatures
from personascope.models.saes import LoadedSAE, load_sae
from tests.extraction.test_extract import D_SAE, save_sae

IDS, START = [5, 9, 17, 33, 2, 80, 41, 7, 250, 11, 60, 3], 7
FEATURES, VALUES = [3, 11, 30], [0.0, 1.5, 4.0]


def axes() -> dict[int, np.ndarray]:
    rng = np.random.default_rng(0)
    vectors = {layer: rng.normal(size=32) for layer in (1, 2)}
    return {layer: (v / np.linalg.norm(v)).astype(np.float32) for layer, v in vectors.items()}


@pytest.fixture
def sae(tmp_path: Path) -> LoadedSAE:
    return load_sae(save_sae(tmp_path / "sae", "standard"))


def by_hand(model: Any, change: Any) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Residuals behind each block and log p of the whole text at once, block 1's output changed from START on."""

    def hook(module: Any, args: Any, output: Any) -> Any:
        h = (output[0] if isinstance(output, tuple) else output).clone()
        h[0, START:] = change(h[0, START:])
        return (h, *output[1:]) if isinstance(output, tuple) else h

    handle = model.model.layers[1].register_forward_hook(hook)
    kept: list[torch.Tensor] = []
    watched = [
        block.register_forward_hook(lambda m, a, out: kept.append((out[0] if isinstance(out, tuple) else out)[0]))
        for block in model.model.layers
    ]
    try:
        logits = model(torch.tensor([IDS]), use_cache=False).logits[0]
    finally:
        for one in (handle, *watched):
            one.remove()
    return kept, logits.log_softmax(-1)


def clamped(sae: LoadedSAE) -> Any:
    """h + sum_f (v_f - z_f) W_dec,f, written out feature by feature."""

    def change(h: torch.Tensor) -> torch.Tensor:
        z, out = sae.sae.encode(h), h.clone()
        for feature, value in zip(FEATURES, VALUES, strict=True):
            out += (value - z[:, feature])[:, None] * sae.sae.W_dec[feature]
        return out

    return change


@pytest.mark.parametrize("kind", ["clamp", "add"])
def test_direct_effects_are_those_of_a_hook_written_out(tiny_llama: Any, sae: LoadedSAE, kind: str) -> None:
    vector = torch.linspace(-1, 1, 32)
    patch: Any = {"clamp": ClampFeatures(sae, FEATURES, VALUES), "add": Add(1, vector.numpy())}[kind]
    change = {"clamp": clamped(sae), "add": lambda h: h + vector}[kind]
    known, turn = axes(), IDS[START:]
    prompt = Prompt(tiny_llama, IDS[:START])
    plain = read_turn(prompt, turn, sae.point, known)
    patched = read_turn(prompt, turn, sae.point, known, [patch])
    before, log_p = by_hand(tiny_llama, lambda h: h)
    after, log_q = by_hand(tiny_llama, change)
    for layer, axis in known.items():
        expected = (after[layer] - before[layer])[START:] @ torch.from_numpy(axis)
        found = patched.projections[layer] - plain.projections[layer]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
        assert np.abs(found).max() > 1e-2
    moved = (after[1] - before[1])[START:].square().sum(-1).mean().sqrt()
    assert patched.moved(plain) == pytest.approx(float(moved), rel=1e-4)
    p, q = log_p[START:], log_q[START:]
    np.testing.assert_allclose(patched.divergence(plain), (p.exp() * (p - q)).sum(-1).numpy(), atol=1e-5)
    following = torch.tensor(turn[1:])[:, None]
    gained = (q - p)[:-1].gather(-1, following)[:, 0]
    mine = patched.log_likelihood(turn) - plain.log_likelihood(turn)
    np.testing.assert_allclose(mine, gained.numpy(), atol=1e-5)


def test_a_clamp_to_the_present_values_changes_nothing(tiny_llama: Any, sae: LoadedSAE) -> None:
    prompt, turn = Prompt(tiny_llama, IDS[:START]), IDS[START:]
    plain = read_turn(prompt, turn, sae.point, axes())
    same = [ClampFeatures(sae, [3], np.concatenate([np.full(START, np.nan), sae.sae.encode(plain.h)[:, 3]])[:, None])]
    assert np.abs(read_turn(prompt, turn, sae.point, axes(), same).divergence(plain)).max() < 1e-6


def test_answers_are_read_as_one_by_one_and_without_hooks(tiny_llama: Any, sae: LoadedSAE) -> None:
    answers = [[9, 8, 7, 6], [], [44], list(range(100, 130))]
    prompt = Prompt(tiny_llama, IDS[:START])
    ranges = [(0, 4), (0, 0), (0, 1), (5, 30)]  # the last one has reasoned before its answer
    known = axes()
    for batch_tokens in (20, 2000):
        found = read_answers(prompt, answers, ranges, known, sae, batch_tokens=batch_tokens)
        assert found.activations.n_turns == 4 and len(found.activations) == 30
        rows = np.repeat(np.arange(4), [4, 0, 1, 25])
        assert np.array_equal(found.activations.turn, rows)
        for i, answer in enumerate(answers):
            if not answer:
                assert np.isnan([found.projections[layer][i] for layer in known]).all()
                continue
            states = tiny_llama(torch.tensor([IDS[:START] + answer]), output_hidden_states=True).hidden_states
            start = START + ranges[i][0]
            expected = states[2][0, start:].mean(0) @ torch.from_numpy(known[1])
            assert found.projections[1][i] == pytest.approx(float(expected), abs=1e-5)
            z = sae.sae.encode(states[2][0, start:])
            dense = np.zeros((len(z), D_SAE))
            for token, place in enumerate(np.flatnonzero(rows == i)):
                owned = slice(found.activations.offsets[place], found.activations.offsets[place + 1])
                dense[token, found.activations.indices[owned]] = found.activations.values[owned]
            np.testing.assert_allclose(dense, z.numpy(), atol=1e-4)


def test_the_change_that_the_sae_keeps(tiny_llama: Any, sae: LoadedSAE) -> None:
    axis, turns = axes()[1], ((1, 4), (7, 12))
    h = tiny_llama(torch.tensor([IDS]), output_hidden_states=True).hidden_states[2][0]
    rebuilt = sae.sae.decode(sae.sae.encode(h))
    expected = [float((x[7:12].mean(0) - x[1:4].mean(0)) @ torch.from_numpy(axis)) for x in (h, rebuilt)]
    assert reconstruction_change(tiny_llama, sae, IDS, turns, axis) == pytest.approx(expected, abs=1e-4)


def test_decoder_rows_by_norm_and_along_the_axis(sae: LoadedSAE) -> None:
    norm, along = decoder_facts(sae, axes()[1])
    rows = sae.sae.W_dec.double().numpy()
    np.testing.assert_allclose(norm, np.linalg.norm(rows, axis=1), rtol=1e-5)
    np.testing.assert_allclose(along, rows @ axes()[1], atol=1e-6)
    assert not decoder_facts(sae, None)[1].any()
