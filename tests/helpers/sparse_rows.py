"""Rows of features for tests: dense arrays are the truth, the rows are made from them."""

import numpy as np

from personascope.formats.features import FeatureRows


def random_dense(n: int, d_sae: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dense means and maxima [n, d_sae] on one sparse support, and token counts [n]; every fifth row is empty."""
    rng = np.random.default_rng(seed)
    n_tokens = rng.integers(1, 9, n).astype(np.int32)
    n_tokens[4::5] = 0
    support = (rng.random((n, d_sae)) < 0.2) & (n_tokens > 0)[:, None]
    maximum = np.where(support, rng.random((n, d_sae)) + 0.1, 0).astype(np.float32)
    return (maximum * np.float32(0.5)).astype(np.float32), maximum, n_tokens


def to_rows(mean: np.ndarray, maximum: np.ndarray, n_tokens: np.ndarray, first_question: int = 0) -> FeatureRows:
    """The sparse form of dense rows; question ids count up from `first_question`."""
    rows, indices = np.nonzero(maximum)
    counts = np.bincount(rows, minlength=len(maximum))
    return FeatureRows(
        prompt_index=np.zeros(len(maximum), np.int32),
        question_id=np.arange(first_question, first_question + len(maximum), dtype=np.int32),
        n_tokens=n_tokens,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        indices=indices.astype(np.int32),
        mean=mean[rows, indices],
        max=maximum[rows, indices],
    )
