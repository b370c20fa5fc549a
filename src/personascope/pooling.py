"""Pooling of token activations to one value a feature."""

from dataclasses import dataclass

import numpy as np

POOLINGS = ("mean", "max")


@dataclass(frozen=True)
class Pooled:
    """Pooled features and residuals of one response.

    n_tokens: tokens pooled over; indices int32 [nnz] ascending; mean, max float32 [nnz] on the same support
    (activations are >= 0); residual_means float32 [n_layers_kept, d_model]. All zero where n_tokens is 0.
    """

    n_tokens: int
    indices: np.ndarray
    mean: np.ndarray
    max: np.ndarray
    residual_means: np.ndarray
