"""The two files that a direction's decomposition passes between the CPU stages and the SAE, readable without pickle.

targets.npz, what is to be fitted: `layer` int; `direction` float32 [d_model], unit; `random` float32 [N, d_model],
unit: isotropic; `halves` float32 [H, d_model], unit: differences between the means of two random parts of the
responses; and of SAE features, where they are known: `contrast` float32 [d_sae], the direction's own difference of
means, and `half_contrasts` float32 [H, d_sae], those of the same random parts. The last three may be empty.

fit.npz, what k = 1 to K rows of the decoder make of them: `rows` int64 [2, K]: those chosen for the direction and for
its negative, in this order, -1 where none was left; `coefficients` float64 [2, K]: of all K rows, in units of the
feature; `cosines` float64 [2, K]: of each row with its target; `shares` float64 [2, K]: share of the squared norm that
the first k rows give; `random_shares` [N, K], and `half_shares` [2, H, K] of the halves and their negatives. Of the
contrast: `contrast_rows` int64 [K], `contrast_shares` [K], `half_contrast_shares` [H, K], and `whole_contrasts`
[1 + H], the share of all features, of the direction and of the halves; empty where there is none.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personascope.formats.tables import load_npz, save_npz


@dataclass(frozen=True)
class Targets:
    """See the module."""

    layer: int
    direction: np.ndarray
    random: np.ndarray
    halves: np.ndarray
    contrast: np.ndarray
    half_contrasts: np.ndarray

    def save(self, path: str | Path) -> None:
        """Write targets.npz."""
        save_npz(path, **vars(self) | {"layer": np.array(self.layer)})

    @classmethod
    def load(cls, path: str | Path) -> "Targets":
        """Read targets.npz; UserError where it is missing or damaged."""
        layer, *arrays = load_npz(path, *cls.__dataclass_fields__)
        return cls(int(layer), *arrays)


@dataclass(frozen=True)
class Fit:
    """See the module."""

    rows: np.ndarray
    coefficients: np.ndarray
    shares: np.ndarray
    cosines: np.ndarray
    random_shares: np.ndarray
    half_shares: np.ndarray
    contrast_rows: np.ndarray
    contrast_shares: np.ndarray
    half_contrast_shares: np.ndarray
    whole_contrasts: np.ndarray

    def save(self, path: str | Path) -> None:
        """Write fit.npz."""
        save_npz(path, **vars(self))

    @classmethod
    def load(cls, path: str | Path) -> "Fit":
        """Read fit.npz; UserError where it is missing or damaged."""
        return cls(*load_npz(path, *cls.__dataclass_fields__))
