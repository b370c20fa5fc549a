"""Conversations and roles for drift tests: dense arrays are the truth, the sparse rows are made from them."""

from collections.abc import Sequence

import numpy as np

from personascope.drift.types import TokenActivations

# Pieces that a tokenizer may well give: markup, a byte-level piece, right-to-left, a control character, a template's.
PIECES = ["Hello", "▁world", "Ġ<b>", "א", "\x07", "<|im_end|>", "é", "{{", '"', "\n"]


def to_activations(dense: np.ndarray, turn: Sequence[int] | np.ndarray, n_turns: int) -> TokenActivations:
    """The sparse form of dense token activations [n, D]; turn t is message 2 t + 1 of its conversation."""
    rows, indices = np.nonzero(dense)
    counts = np.bincount(rows, minlength=len(dense))
    position = np.arange(len(dense)) + 5 * (np.asarray(turn, np.int64) + 1)
    return TokenActivations(
        turn=np.asarray(turn, np.int32),
        n_turns=n_turns,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        indices=indices.astype(np.int32),
        values=dense[rows, indices].astype(np.float32),
        width=dense.shape[1],
        tokens=[PIECES[i % len(PIECES)] for i in range(len(dense))],
        token_ids=np.arange(100, 100 + len(dense), dtype=np.int32),
        position=position.astype(np.int32),
        message_index=(2 * np.arange(n_turns) + 1).astype(np.int32),
    )


def random_tokens(lengths: Sequence[int], width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Dense activations float32 [sum(lengths), width], a tenth of them active, and the turn of each token."""
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    active = rng.random((n, width)) < 0.1
    dense = np.where(active, rng.gamma(1.5, 4.0, (n, width)), 0).astype(np.float32)
    return dense, np.repeat(np.arange(len(lengths)), lengths)


def random_roles(roles: int, width: int, seed: int = 1) -> tuple[np.ndarray, list[str]]:
    """A role matrix float32 [roles, width] with features that few or no roles have, and the names."""
    rng = np.random.default_rng(seed)
    features = rng.gamma(1.0, 1.0, (roles, width)) * (rng.random((roles, width)) < 0.4)
    features[:, :3] = 0
    return features.astype(np.float32), [*(f"role{i}" for i in range(roles - 1)), "assistant"]
