"""Directions that are drawn, and a tiny model in a folder."""

from pathlib import Path
from typing import Any

import numpy as np

from personascope.formats.directions import Directions, save_directions
from personascope.formats.layers import LAYER_CONVENTION

WIDTH = 32  # of the model `tiny_llama`


def drawn(name: str, layers: list[int], seed: int = 0, model: str = "tiny", width: int = WIDTH) -> Directions:
    """One direction of a model of that width, at these layers."""
    rows = np.random.default_rng(seed).standard_normal((len(layers), width)).astype(np.float32)
    metadata = {"model": model, "kind": "drawn", "layer_convention": LAYER_CONVENTION}
    return Directions({name: rows}, layers, metadata)


def saved(path: Path, directions: Directions) -> Path:
    """The directions in a file."""
    save_directions(path, directions)
    return path


def save_tiny(folder: Path, model: Any, tokenizer: Any) -> Path:
    """Model and tokenizer as a folder that is loaded like any other."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
