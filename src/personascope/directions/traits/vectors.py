"""The vectors of one trait: mean over the positive responses minus mean over the negative ones, per layer and reading.

Method: Chen et al. 2025 (arXiv 2507.21509), with responses paired by key.
"""

from pathlib import Path
from typing import Any

from personascope.directions.traits.rows import FILTERS, Thresholds, TraitRows, contrast, keep, read_rows, weighted
from personascope.errors import UserError
from personascope.formats.directions import Directions, save_directions
from personascope.formats.judgements import read_worth, verdict
from personascope.formats.tables import write_csv
from personascope.formats.trait_activations import READINGS, read_trait_activations
from personascope.formats.traits import Trait, read_trait

METRICS = ("trait", "coherence")


def write_trait_vectors(
    trait_file: str | Path,
    responses: str | Path,
    activations: str | Path,
    *,
    judgements: str | Path | None,
    worth: str | Path | None,
    filter: str,
    limits: Thresholds,
    vectors: str | Path,
    attrition: str | Path,
) -> None:
    """Write the vectors and the table of attrition. filter: one of rows.FILTERS; UserError where nothing is left."""
    assert filter in FILTERS
    trait, rows = read_trait(trait_file), read_rows(responses, judgements)
    kept, table = keep(rows, limits, filter, str(responses))
    weights, found, described = contrast(rows.sign, kept), {}, {}
    for reading in READINGS:
        array, described = read_trait_activations(activations, reading)
        if len(array) != len(rows):
            raise UserError(f"{activations}: {len(array)} rows, but {responses} has {len(rows)}; extract it again")
        found[reading] = weighted(array, weights)
    metadata = {key: described[key] for key in ("model", "weights", "dtype", "responses", "template")}
    metadata |= describe(trait, rows, filter, limits) | {"kind": "trait", "kept": int(kept.sum()) // 2}
    metadata["judge"] = judge_verdict(worth)
    write_csv(attrition, table)
    save_directions(vectors, Directions(found, described["layers"], metadata))


def describe(trait: Trait, rows: TraitRows, filter: str, limits: Thresholds) -> dict[str, Any]:
    """What a trait's vectors are made from, as JSON."""
    return {
        "trait": trait.name,
        "label": trait.label,
        "polarity": trait.polarity,
        "filter": filter,
        "threshold": limits.trait,
        "coherence": limits.coherence,
        "pairs": sorted({int(pair) for pair in rows.pair[~rows.evaluation]}),
        "couples": int((~rows.evaluation).sum()) // 2,
    }


def judge_verdict(worth: str | Path | None) -> str:
    """What tables and figures say of the judge; "" where there is none."""
    return "" if worth is None else verdict(read_worth(worth), METRICS)
