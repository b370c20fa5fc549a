"""Contexts collected while activations are in hand, against all of them sorted at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from personascope.extraction.contexts import SAMPLED, Active, Collector, draws
from personascope.extraction.conversation_contexts import write_conversation_contexts
from personascope.extraction.extract import ExtractOptions, extract
from personascope.formats.contexts import (
    AFTER,
    BEFORE,
    BINS,
    Contexts,
    Texts,
    bin_edges,
    load_activity,
    load_contexts,
    peak_bins,
    save_activity,
    save_contexts,
)
from personascope.formats.tokens import TokenBlock, token_writer
from personascope.models.saes import load_sae
from tests.extraction.test_extract import D_SAE, items, largest, save_sae

K = 3


def dense_texts(seed: int, n: int = 20) -> list[np.ndarray]:
    """Texts of 1 to 40 tokens, float32 [tokens, 6]; feature 5 is never active, feature 0 always."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        z = rng.exponential(2.0, (int(rng.integers(1, 41)), 6)).astype(np.float32)
        z[rng.random(z.shape) < 0.9] = 0
        z[:, 0] = rng.random(len(z)) + 0.5
        z[:, 5] = 0
        found.append(z)
    return found


def active(texts: list[np.ndarray]) -> Active:
    parts = [(np.full(np.count_nonzero(z), i), *np.nonzero(z), z[np.nonzero(z)]) for i, z in enumerate(texts)]
    return Active(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def collected(texts: list[np.ndarray], batches: list[list[int]]) -> Collector:
    collector = Collector(6, K, "pirate")
    for rows in batches:
        some = [texts[row] for row in rows]
        collector.add(rows, [len(z) for z in some], active(some))
    return collector


def window(z: np.ndarray, feature: int, at: int) -> np.ndarray:
    padded = np.concatenate([np.zeros(BEFORE), z[:, feature], np.zeros(AFTER)])
    return padded[at : at + BEFORE + 1 + AFTER]


@pytest.mark.parametrize("size", [1, 7, 20])
def test_the_best_are_those_of_all_sorted_at_once(size: int) -> None:
    texts = dense_texts(1)
    order = np.random.default_rng(2).permutation(len(texts)).tolist()
    got = collected(texts, [order[i : i + size] for i in range(0, len(order), size)]).contexts()
    for feature in range(6):
        peaks = np.array([z[:, feature].max() for z in texts])
        rows = np.flatnonzero(peaks > 0)
        drawn = draws("pirate", rows, np.full(len(rows), feature))
        expected = {
            True: rows[np.argsort(-peaks[rows])][:K],
            False: rows[np.argsort(-drawn.astype(float))][: SAMPLED * K],
        }
        for top, wanted in expected.items():
            own = got.take((got.feature == feature) & (got.top == top))
            assert own.row.tolist() == wanted.tolist()
            np.testing.assert_array_equal(own.value, peaks[wanted])
            for row, at, seen in zip(own.row, own.at, own.window, strict=True):
                assert at == texts[row][:, feature].argmax()
                np.testing.assert_array_equal(seen, window(texts[row], feature, at).astype(np.float32))


def test_activations_below_0_count_by_their_magnitude() -> None:
    """The same contexts as those of the magnitudes, with their signs."""
    texts = dense_texts(7)
    signs = np.random.default_rng(8).choice([-1, 1], 6 * 40).reshape(40, 6).astype(np.float32)
    signed = [z * signs[: len(z)] for z in texts]
    plain, own = (collected(some, [list(range(20))]) for some in (texts, signed))
    first, second = plain.contexts(), own.contexts()
    for name in ("feature", "draw", "row", "at", "top"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(np.abs(second.window), first.window)
    expected = [
        signed[row][at, feature] for row, at, feature in zip(second.row, second.at, second.feature, strict=True)
    ]
    np.testing.assert_array_equal(second.value, expected)
    assert 0.2 < (second.value < 0).mean() < 0.8
    for name in ("active", "total", "peaks", "counts"):
        np.testing.assert_array_equal(getattr(plain.activity(), name), getattr(own.activity(), name))


def test_activity_counts_tokens_and_peaks() -> None:
    texts = dense_texts(3)
    activity = collected(texts, [list(range(len(texts)))]).activity()
    every = np.concatenate(texts)
    assert activity.n_tokens == len(every)
    np.testing.assert_array_equal(activity.active, (every > 0).sum(0))
    np.testing.assert_allclose(activity.total, every.sum(0), rtol=1e-6)
    for feature in range(6):
        peaks = np.array([z[:, feature].max() for z in texts])
        wanted, _ = np.histogram(peaks[peaks > 0], bin_edges())
        own = activity.peaks // BINS == feature
        got = np.zeros(BINS, int)
        got[activity.peaks[own] % BINS] = activity.counts[own]
        np.testing.assert_array_equal(got, wanted)
    halves = [collected(texts[:9], [list(range(9))]), collected(texts[9:], [list(range(11))])]
    both = halves[0].activity().plus(halves[1].activity())
    np.testing.assert_array_equal(both.counts, activity.counts)
    np.testing.assert_array_equal(both.peaks, activity.peaks)


def test_bins_hold_what_their_edges_say() -> None:
    values = np.random.default_rng(0).lognormal(0, 3, 1000).astype(np.float32)
    edges, bins = bin_edges(), peak_bins(values)
    assert (edges[bins] <= values).all() and (values < edges[bins + 1]).all()
    assert (edges[bins + 1] <= edges[bins] * 1.126)[bins > 0].all()
    assert peak_bins(np.array([1e-30, 1e30], np.float32)).tolist() == [0, BINS - 1]


def test_draws_are_even_and_of_their_own() -> None:
    rows, features = np.divmod(np.arange(20000), 100)
    drawn = draws("ghost", rows, features) / 2**32
    assert len(np.unique(drawn)) > 19990
    counts, _ = np.histogram(drawn, 10, (0, 1))
    assert np.abs(counts - 2000).max() < 6 * np.sqrt(1800)
    assert abs(np.corrcoef(drawn, draws("pirate", rows, features))[0, 1]) < 0.05


@pytest.mark.parametrize("kind", ["jumprelu", "topk", "standard", "abstopk"])
@pytest.mark.parametrize("options", [ExtractOptions(), ExtractOptions((), 50, 3)])
def test_extraction_shows_every_activation(tmp_path: Path, tiny_llama: Any, kind: str, options: ExtractOptions) -> None:
    sae = load_sae(save_sae(tmp_path / "sae", kind))
    seen: dict[int, np.ndarray] = {}

    def watch(texts: Any, counts: Any, active: Active) -> None:
        for i, (text, count) in enumerate(zip(texts, counts, strict=True)):
            z = np.zeros((count, D_SAE), np.float32)
            own = active.text == i
            z[active.token[own], active.feature[own]] = active.value[own]
            seen[text] = z

    pooled = extract(tiny_llama, sae, items(), options, watch)
    assert sorted(seen) == list(range(len(items())))
    with torch.inference_mode():
        for i, item in enumerate(items()):
            states = tiny_llama(input_ids=torch.tensor([item.ids]), output_hidden_states=True).hidden_states[2][0]
            chosen = [token for start, end in item.ranges for token in range(start, end)]
            np.testing.assert_allclose(seen[i], sae.sae.encode(states[chosen]).numpy(), atol=1e-5)
            np.testing.assert_allclose(pooled[i].max, largest(seen[i])[pooled[i].indices], atol=1e-6)


def test_files_come_back(tmp_path: Path) -> None:
    texts = dense_texts(4, 5)
    collector = collected(texts, [[0, 1, 2, 3, 4]])
    save_contexts(tmp_path / "c.parquet", collector.contexts(), {"sae": "s"})
    back, wanted = load_contexts(tmp_path / "c.parquet"), collector.contexts()
    for name in Contexts.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back, name), getattr(wanted, name))
    said = Texts(np.arange(7, dtype=np.int32), np.array([0, 3, 7]), ["a", "a"], ["q", "p"], {3: "\u0120x", 9: "y"})
    save_activity(tmp_path / "a.npz", collector.activity(), said, {"sae": "s"})
    activity, again, metadata = load_activity(tmp_path / "a.npz")
    assert (again.names, again.questions, again.pieces) == (said.names, said.questions, said.pieces)
    assert metadata == {"sae": "s"}
    np.testing.assert_array_equal(activity.counts, collector.activity().counts)


def test_conversations_have_a_text_a_turn(tmp_path: Path) -> None:
    z = np.zeros((5, 6), np.float32)
    z[1, 2], z[3, 2], z[4, 4] = 2.0, 5.0, 1.0
    counts = np.count_nonzero(z, axis=1)
    block = TokenBlock(
        position=np.arange(5, dtype=np.int32),
        turn=np.array([0, 0, 2, 2, 2], np.int32),
        token_id=np.array([5, 6, 7, 8, 9], np.int32),
        tokens=["a", "\u0120b", "c", "d", "e"],
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        indices=np.nonzero(z)[1].astype(np.int32),
        values=z[np.nonzero(z)],
        residuals=np.zeros((5, 0, 1), np.float32),
    )
    messages = [
        {"role": "user", "content": "first?"},
        {"role": "assistant", "content": "a b"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "then?"},
        {"role": "assistant", "content": "cde"},
    ]
    metadata = {
        "conversation": {"name": "talk", "messages": messages, "metadata": {}},
        "turns": [{"message_index": 1}, {"message_index": 2}, {"message_index": 4}],
        "d_sae": 6,
        "residual_layers": [],
        "error": None,
    }
    with token_writer(tmp_path / "talk.parquet", metadata, 1) as write:
        write(block)
    files = {"contexts": str(tmp_path / "c.parquet"), "activity": str(tmp_path / "a.npz")}
    write_conversation_contexts([str(tmp_path / "talk.parquet")], K, **files)
    found = load_contexts(files["contexts"])
    top = found.take(found.top)
    assert top.feature.tolist() == [2, 2, 4]
    assert top.row.tolist() == [2, 0, 2]
    assert top.at.tolist() == [1, 1, 2]
    _, texts, _ = load_activity(files["activity"])
    assert texts.questions == ["first?", "first?", "then?"]
    assert texts.token_ids[texts.offsets[2] : texts.offsets[3]].tolist() == [7, 8, 9]
