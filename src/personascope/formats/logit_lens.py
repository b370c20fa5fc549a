"""The format of a logit lens: which tokens each feature's decoder row makes likelier and less likely.

An .npz file: promoted, suppressed int32 [d_sae, n], token ids, the strongest first (-1 where there are fewer);
promoted_scores, suppressed_scores float32 [d_sae, n]; piece_ids int32; metadata: model, SAE, and the tokenizer's own
`pieces` of piece_ids.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personascope.errors import UserError
from personascope.formats.tables import json_array, load_all_npz, load_metadata, save_npz

ARRAYS = ("promoted", "suppressed", "promoted_scores", "suppressed_scores")


@dataclass(frozen=True)
class LogitLens:
    """promoted, suppressed int32 [d_sae, n]; their scores float32 [d_sae, n]; pieces {token id: piece}."""

    promoted: np.ndarray
    suppressed: np.ndarray
    promoted_scores: np.ndarray
    suppressed_scores: np.ndarray
    pieces: dict[int, str]

    def save(self, path: str | Path, metadata: dict[str, Any]) -> None:
        """Write atomically."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        ids = np.array(list(self.pieces), np.int32)
        described = json_array(metadata | {"pieces": list(self.pieces.values())})
        save_npz(path, **arrays, piece_ids=ids, metadata=described)

    @classmethod
    def load(cls, path: str | Path) -> "LogitLens":
        """UserError where the file is missing, damaged or of another kind."""
        arrays, pieces = load_all_npz(path), load_metadata(path).get("pieces", [])
        if missing := [name for name in (*ARRAYS, "piece_ids") if name not in arrays]:
            raise UserError(f"{path}: has no {missing[0]}; is it the right kind of file?")
        known = dict(zip(arrays["piece_ids"].tolist(), pieces, strict=True))
        return cls(**{name: arrays[name] for name in ARRAYS}, pieces=known)
