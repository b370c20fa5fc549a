"""Shared prefixes: the trie over token ids, and activations behind a cached prefix against whole sequences."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from personascope.models.hookpoints import HookPoint, run_to
from personascope.models.prefixes import MIN_SHARED, Node, can_share, extended, prefix_tree, repeated
from tests.models.test_hookpoints import FAMILIES, make


def nodes(node: Node, shortest: int = 0) -> Iterator[tuple[Node, list[int], int]]:
    """(node, all sequences that start with its prefix, where its parent ends)."""
    below = list(node.members)
    for child in node.children:
        for inner, members, parent in nodes(child, node.end):
            yield inner, members, parent
            if inner is child:
                below += members
    yield node, below, shortest


@pytest.mark.parametrize("seed", range(20))
def test_every_sequence_is_in_one_node_whose_prefix_it_has(seed: int) -> None:
    rng = np.random.default_rng(seed)
    heads = [rng.integers(0, 3, int(rng.integers(0, 30))).tolist() for _ in range(3)]
    middles = [rng.integers(0, 3, int(rng.integers(0, 30))).tolist() for _ in range(4)]
    sequences = [
        heads[rng.integers(3)] + middles[rng.integers(4)] + rng.integers(0, 3, int(rng.integers(1, 9))).tolist()
        for _ in range(int(rng.integers(1, 40)))
    ]
    limits = [int(rng.integers(0, len(sequence))) for sequence in sequences]
    root = prefix_tree(sequences, limits, budget=int(rng.integers(1, 400)))
    found = list(nodes(root))
    assert sorted(i for node, _, _ in found for i in node.members) == list(range(len(sequences)))
    for node, members, parent in found:
        assert len({tuple(sequences[i][: node.end]) for i in members}) <= 1
        assert all(limits[i] >= node.end for i in members)
        assert node is root or (len(members) > 1 and node.end - parent >= MIN_SHARED)


def test_variants_and_repeated_questions_share_what_they_have_in_common() -> None:
    """Two instructions of 20 tokens x 3 questions of 10 tokens x 4 samples."""
    instruction, question = [[i] * 20 for i in (1, 2)], [[i] * 10 for i in (3, 4, 5)]
    sequences = [[*a, *b, 6 + s, 7] for a in instruction for b in question for s in range(4)]
    root = prefix_tree(sequences, [30] * 24, budget=20)
    assert not root.members and [child.end for child in root.children] == [20, 20]
    for child in root.children:
        assert not child.members and [inner.end for inner in child.children] == [30] * 3
    # With larger batches a question's four samples alone would leave them nearly empty.
    root = prefix_tree(sequences, [30] * 24, budget=400)
    assert [(child.end, len(child.members)) for child in root.children] == [(20, 12), (20, 12)]


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_behind_a_cached_prefix_activations_are_those_of_whole_sequences(family: str) -> None:
    """The prefix is longer than the sliding window of 8, is cached in two steps, and serves two batches."""
    model = make(family)
    assert can_share(model)
    points = {HookPoint(1, "resid_post"), HookPoint(2, "resid_post")}
    ids = torch.randint(2, 39, (3, 22), generator=torch.Generator().manual_seed(0))
    ids[:, :11] = ids[0, :11]
    whole = run_to(model, ids, points, [[(0, 22)]] * 3)
    prefix = extended(model, extended(model, None, ids[0, :5].tolist(), points), ids[0, 5:11].tolist(), points)
    for rows in ([0, 1, 2], [2]):
        found = run_to(model, ids[rows, 11:], points, [[(0, 11)]] * len(rows), cache=repeated(prefix, len(rows)))
        for point in points:
            expected = whole[point].reshape(3, 22, -1)[rows, 11:]
            assert torch.allclose(found[point].reshape(len(rows), 11, -1), expected, atol=1e-5)
            assert not torch.allclose(
                expected[:, :1],
                run_to(model, ids[rows, 11:], points, [[(0, 11)]] * len(rows))[point].reshape(len(rows), 11, -1)[:, :1],
                atol=1e-2,
            )  # it does depend on the prefix


def test_a_recurrent_model_shares_nothing() -> None:
    import transformers as tf

    config = tf.MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, state_size=4)
    assert not can_share(tf.MambaForCausalLM(config))


@torch.inference_mode()
def test_means_are_those_of_the_selected_tokens(tiny_llama: Any) -> None:
    ids = torch.randint(0, 320, (3, 9), generator=torch.Generator().manual_seed(1))
    ranges = [[(1, 3), (5, 9)], [], [(8, 9)]]
    first, last = HookPoint(0, "resid_post"), HookPoint(2, "resid_post")
    found = run_to(tiny_llama, ids, {last}, ranges, means={first, last})
    rows = run_to(tiny_llama, ids, {first, last}, ranges)
    assert torch.equal(found[last], rows[last])  # where all tokens are asked for too, it is they that come
    by_row = rows[first].split([6, 0, 1])
    expected = torch.stack([part.mean(0) if len(part) else torch.zeros(32) for part in by_row])
    assert torch.allclose(found[first], expected, atol=1e-6)
