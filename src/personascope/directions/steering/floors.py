"""Floors for capping: percentiles of what the assistant's tokens project on the residual axis in plain conversations.

Of single tokens, since single tokens are capped: the means of turns spread far less. (Capping: Lu et al. 2026, arXiv
2601.10387. A published file may cap from above on negated vectors; here the axis points to the assistant, and what
falls below the floor is raised to it.)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from personascope.errors import UserError
from personascope.formats.directions import load_direction
from personascope.formats.files import write_json
from personascope.formats.layers import LAYER_CONVENTION
from personascope.formats.tokens import read_activations, read_metadata


def write_floors(
    tokens: Sequence[str], axis: str, output: str, *, layers: Sequence[int], percentiles: Sequence[float]
) -> None:
    """Write {"floors": {layer: {percentile: projection}}} and of how many tokens; UserError where there is none.

    tokens: token files of plain conversations; those that could not be read are left out.
    """
    direction = load_direction("axis", axis)
    readable = [path for path in tokens if not read_metadata(path).get("error")]
    floors: dict[str, dict[str, float]] = {}
    n = 0
    for layer in layers:
        unit = direction.unit("axis", layer)
        parts = [_projections(path, layer, unit) for path in readable]
        projections = np.concatenate(parts) if parts else np.zeros(0)
        if not (n := len(projections)):
            raise UserError("config, steering.capping: the reference conversations have no assistant token")
        floors[str(layer)] = {f"{p:g}": float(np.percentile(projections, p)) for p in percentiles}
    counts: dict[str, Any] = {"tokens": n, "conversations": len(readable)}
    write_json(output, {"floors": floors, "layer_convention": LAYER_CONVENTION} | counts)


def _projections(path: str, layer: int, unit: np.ndarray) -> np.ndarray:
    found = read_activations(path, "residual", layer)
    return found.values.reshape(len(found), found.width) @ unit
