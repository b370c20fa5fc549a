"""Conversations and roles for drift tests: dense arrays are the truth, the sparse rows are made from them."""

from collections.abc import Sequence

import numpy as np

from personascope.directions.axis import role_space_of, unit
from personascope.drift.null import Null, References, fit_null
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference
from personascope.drift.sequential import Turns
from personascope.drift.turns import score_vectors
from personascope.formats.tokens import TokenActivations

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
    return features.astype(np.float32), [*(f"role{i}" for i in range(roles - 2)), "default", "assistant"]


def reference_of(
    matrix: np.ndarray, names: list[str], options: DriftOptions, draws: int = 20, responses: int = 200
) -> Reference:
    """A reference of noisy copies of the role vectors as responses, and noisy copies of the axis as its draws."""
    rng = np.random.default_rng(7)
    roles = role_space_of(matrix, names, options.axis)
    role = np.repeat(np.arange(len(names)), responses)
    noise = rng.gamma(4.0, 0.25, (len(role), matrix.shape[1])).astype(np.float32)
    scores, mass = score_vectors(matrix[role] * noise, roles, options)
    axes = unit(roles.axis + rng.normal(0, 0.02, (draws, len(roles.axis)))).T.astype(np.float32)
    return Reference(
        scores={name: values.astype(np.float32) for name, values in scores.items()},
        mass={name: values.astype(np.float32) for name, values in mass.items()},
        role=role.astype(np.int32),
        prompt_index=np.zeros(len(role), np.int32),
        question_id=np.tile(np.arange(responses), len(names)).astype(np.int32),
        n_tokens=rng.integers(20, 200, len(role)).astype(np.int32),
        role_names=names,
        anchors=np.array(roles.anchors, np.int32),
        others=np.array(roles.others, np.int32),
        axes=axes,
        assistants=np.repeat(unit(roles.anchor)[None], draws, axis=0).T,
        agreement=np.full(draws, 0.8),
        cos_to_axis=axes.T @ roles.axis,
        shift=np.zeros(draws),
        split_half=0.9,
    )


def null_of(options: DriftOptions, mean: float, sd: float = 1.0, *, turns: int = 4, n: int = 40) -> Null:
    """The test that n plain conversations of two domains calibrate, whose scores are normal."""
    rng = np.random.default_rng(11)
    regressors = np.log1p(rng.integers(3, 9, (n, turns, 1)))
    names = [f"plain{i}" for i in range(n)]
    scores = rng.normal(mean, sd, (n, turns))
    return fit_null(References(Turns(scores, regressors), names, names, ["advice", "poems"] * (n // 2)), options)
