"""All traits of an experiment side by side: cosines with each other, the assistant axis and role vectors, and how
reliable each vector is on each layer."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from personascope.directions.axis import unit
from personascope.directions.traits.overview import draw_overview
from personascope.display.figure import save_figure
from personascope.display.paper import PAPER_DPI
from personascope.formats.directions import READING, Directions, load_directions
from personascope.formats.files import read_json
from personascope.formats.tables import write_csv

Paths = Mapping[str, str | Path]


def write_comparison(
    vectors: Paths,
    evaluations: Paths,
    layers: Paths,
    *,
    axis: str | Path | None,
    roles: str | Path | None,
    subtitle: str,
    table: str | Path,
    reliability: str | Path,
    png: str | Path,
    svg: str | Path,
) -> None:
    """Write the cosines (`table`), quality by layer (`reliability`), and a figure of both.

    vectors, evaluations, layers: {trait: its vectors.safetensors, evaluation.json, layers.csv}; axis, roles: axis.npz
    and per_role.npz of residual means, where there are any.
    """
    found: dict[tuple[str, str], Directions] = {}
    for trait, path in vectors.items():
        made = load_directions(path)
        found["trait", trait] = Directions({trait: made.vectors[READING]}, made.layers, made.metadata)
    model = next(iter(found.values())).metadata["model"]
    if axis is not None:
        found["axis", "axis"] = load_directions(axis, model=model, vector="axis")
    if roles is not None:
        every = load_directions(roles, model=model)
        for role, rows in every.vectors.items():
            found["role", role] = Directions({role: rows}, every.layers, every.metadata)
    cosines = cosine_table(found)
    written = {trait: read_json(path) for trait, path in evaluations.items()}
    quality = pd.concat([pd.read_csv(path).assign(trait=trait) for trait, path in layers.items()], ignore_index=True)
    columns = ["trait", "layer", "split_half", "pair_cosine", "auc", "separation", "r_within", "norm_share"]
    write_csv(table, cosines)
    write_csv(reliability, quality.loc[:, columns])
    save_figure(draw_overview(cosines, quality, written, subtitle=subtitle), png, svg, dpi=PAPER_DPI)


def cosine_table(found: Mapping[tuple[str, str], Directions]) -> pd.DataFrame:
    """Cosines of each trait with everything else on each layer that both have: first, kind, second, layer, cosine."""
    rows = []
    for (kind, first), one in found.items():
        if kind != "trait":
            continue
        for (other_kind, second), other in found.items():
            if (other_kind, second) == (kind, first):
                continue
            shared = [layer for layer in one.layers if layer in other.layers]
            a = np.stack([one.at(first, layer) for layer in shared]) if shared else np.empty((0, 1))
            b = np.stack([other.at(second, layer) for layer in shared]) if shared else np.empty((0, 1))
            cosines = (unit(a.astype(np.float64)) * unit(b.astype(np.float64))).sum(1)
            rows += [(first, other_kind, second, *pair) for pair in zip(shared, cosines, strict=True)]
    return pd.DataFrame(rows, columns=["first", "kind", "second", "layer", "cosine"])
