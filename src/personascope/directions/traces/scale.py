"""What plain assistant tokens project on directions: the zero and the unit on which traces are shown.

The tokens are those of the assistant in reference conversations, in which nothing drifts; their residuals are in the
tokens files of layers that extraction has kept. What is not known of them is taken from the trace's own conversation,
and the figure says so: then it shows how its tokens differ from each other, not from plain ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personascope.formats.directions import Directions, load_direction
from personascope.formats.files import read_json, write_json
from personascope.formats.tokens import read_activations, read_metadata
from personascope.formats.traces import Trace, column_name

FULL = 3.0  # standard deviations from zero at which a color is full
FEWEST = 20  # tokens that a mean and a standard deviation are made of


@dataclass(frozen=True)
class Scale:
    """zero: the mean over `tokens` tokens, sd: their standard deviation, in units of the projection; of: which tokens
    they are."""

    zero: float
    sd: float
    tokens: int
    of: str

    @property
    def words(self) -> str:
        """What zero is, in one sentence."""
        return f"zero is the mean over {self.tokens:,} {self.of}"

    def units(self, values: np.ndarray) -> np.ndarray:
        """Values in standard deviations from zero."""
        return (values - self.zero) / self.sd


def write_scale(
    path: str | Path,
    token_files: Sequence[str | Path],
    files: Mapping[str, str],
    how: Mapping[str, Mapping[str, Any]],
    layers: Sequence[int],
) -> None:
    """Write the scale of directions, {name: file}, at those of the layers (none: all) that the tokens files have."""
    directions = {name: load_direction(name, file, **how.get(name, {})) for name, file in files.items()}
    write_json(path, reference_scale(token_files, directions, layers))


def reference_scale(
    token_files: Sequence[str | Path], directions: Mapping[str, Directions], layers: Sequence[int]
) -> dict[str, Any]:
    """{"conversations": n, "tokens": n, "columns": {NAME@LAYER: {"mean", "sd"}}, "norms": {layer: mean norm of h}}."""
    used = [path for path in token_files if not read_metadata(path).get("error")]
    kept = set.intersection(*(set(read_metadata(path)["residual_layers"]) for path in used)) if used else set()
    known = {layer for found in directions.values() for layer in found.layers}
    columns, norms, tokens = {}, {}, 0
    for layer in sorted(kept & known & (set(layers) or known)):
        names = [name for name, found in directions.items() if layer in found.layers]
        units = np.stack([directions[name].unit(name, layer) for name in names], 1)
        parts, lengths = [], []
        for path in used:
            h = read_activations(path, "residual", layer).values.reshape(-1, len(units))
            parts.append(h @ units)
            lengths.append(np.linalg.norm(h, axis=1))
        projected = np.concatenate(parts).astype(np.float64)
        tokens = len(projected)
        if tokens < FEWEST:
            continue
        norms[str(layer)] = float(np.concatenate(lengths).mean())
        for name, values in zip(names, projected.T, strict=True):
            columns[column_name(name, layer)] = {"mean": float(values.mean()), "sd": float(values.std())}
    return {"conversations": len(used), "tokens": tokens, "columns": columns, "norms": norms}


def scales_of(trace: Trace, scale_file: str | Path) -> dict[str, Scale]:
    """{column: its scale}: of the reference conversations where the file has it, else of the trace's own tokens."""
    known = read_json(scale_file)
    of = f"assistant tokens of {known['conversations']} reference conversations"
    return {
        column: Scale(known["columns"][column]["mean"], known["columns"][column]["sd"], known["tokens"], of)
        if column in known["columns"] and known["columns"][column]["sd"] > 0
        else own_scale(trace, column)
        for column in trace.columns
    }


def own_scale(trace: Trace, column: str) -> Scale:
    """The scale of a conversation's own assistant tokens; of all its content where they are too few."""
    values = trace.projections[:, trace.columns.index(column)].astype(np.float64)
    for chosen, of in ((trace.answered, "assistant tokens of this conversation"), (trace.in_content, "tokens of it")):
        if chosen.sum() >= FEWEST and values[chosen].std() > 0:
            return Scale(float(values[chosen].mean()), float(values[chosen].std()), int(chosen.sum()), of)
    return Scale(
        float(values.mean()) if len(values) else 0.0,
        float(values.std() or 1.0) if len(values) else 1.0,
        len(values),
        "tokens of this conversation, its template's too",
    )
