"""The format of an SAE's decoder along residual axes, decoder.npz, readable without pickle.

================  ===========================================================================================
methods           unicode [M]: names of the axes (`diff`, `pc1`)
layer             int: they are axes of the residual stream at the output of this block, where the SAE is read
axes              float32 [M, d_model]: unit
weights           float32 [M, d_sae]: W_dec,f . axis, what one unit of feature f adds to the projection
bias              float64 [M]: b_dec . axis
reason            unicode: why there is none (M is 0 then), else empty
================  ===========================================================================================
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personascope.formats.tables import load_npz, save_npz


@dataclass(frozen=True)
class DecoderProjection:
    """See the module: what the decoder makes of features, along each of M axes."""

    methods: list[str]
    layer: int
    axes: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    reason: str = ""

    @classmethod
    def none(cls, reason: str) -> "DecoderProjection":
        """No projection, and why."""
        empty = np.zeros((0, 0), np.float32)
        return cls([], -1, empty, empty, np.zeros(0), reason)

    def save(self, path: str | Path) -> None:
        """Write decoder.npz."""
        texts = {"methods": np.array(self.methods, np.str_), "reason": np.array(self.reason)}
        arrays = {"axes": self.axes, "weights": self.weights, "bias": self.bias, "layer": np.array(self.layer)}
        save_npz(path, **texts, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "DecoderProjection":
        """Read decoder.npz; UserError where it is missing or damaged."""
        names = ("methods", "layer", "axes", "weights", "bias", "reason")
        methods, layer, axes, weights, bias, reason = load_npz(path, *names)
        return cls([str(name) for name in methods], int(layer), axes, weights, bias, str(reason))
