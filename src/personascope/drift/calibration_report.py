"""How far an analysis can be trusted: what its roles score, and how stable its axis is."""

import itertools
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.block_sums import BlockSums
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference, build
from personascope.drift.strength import HIGH
from personascope.formats.files import write_json
from personascope.formats.tables import plain


def role_quartiles(reference: Reference, score_method: str) -> pd.DataFrame:
    """role, q25, median, q75 of the scores of each role's responses."""
    scores = reference.scores[score_method]
    rows = []
    for index, name in enumerate(reference.role_names):
        of_role = scores[reference.role == index]
        quartiles = np.percentile(of_role, [25, 50, 75]) if len(of_role) else np.full(3, np.nan)
        rows.append({"role": name, **dict(zip(("q25", "median", "q75"), quartiles, strict=True))})
    return pd.DataFrame(rows)


def calibration_report(reference: Reference, options: DriftOptions) -> dict[str, Any]:
    """The axis's reliability and the roles' scores, as plain JSON."""
    draws = {"agreement": reference.agreement, "cos_to_axis": reference.cos_to_axis}
    return plain(
        {
            "options": asdict(options.axis) | asdict(options.scoring),
            "responses": len(reference),
            "anchor_responses": int(np.isin(reference.role, reference.anchors).sum()),
            "axis": {
                "split_half": reference.split_half,
                "draws": len(reference.agreement),
                **{name: _percentiles(values) for name, values in draws.items()},
            },
            "top_away_share_null": _share_nulls(reference),
            "role_scores": role_quartiles(reference, options.scoring.score_method).to_dict("records"),
        }
    )


def _percentiles(values: np.ndarray) -> dict[str, float | None]:
    found = np.percentile(values, [2.5, 50, 97.5]) if len(values) else [None] * 3
    return dict(zip(("low", "median", "high"), found, strict=True))


def _share_nulls(reference: Reference) -> list[dict[str, Any]]:
    """Median and 95th percentile of the share of away_mass that few features cover between two answers to one question:
    a row a length of the table and direction; none without pairs."""
    rows = []
    for top_features, rises in itertools.product((10, 20, 50), (False, True)):
        if (null := reference.pairs.null(top_features, rises)) is not None:
            shares = {"median": null.quantile(0.5), "high": null.quantile(HIGH), "pairs": len(null.shares)}
            shares["median_tokens"] = float(np.median(reference.pairs.n_tokens))
            rows.append({"top_features": top_features, "direction": "rise" if rises else "fall"} | shares)
    return rows


def write_reference(
    responses: dict[str, str],
    sums: dict[str, str],
    options: DriftOptions,
    *,
    draws: int,
    seed: int,
    reference: str,
    calibration: str,
) -> None:
    """From {role: file} of features (or residual means) and block sums to the reference and what it is worth."""
    loaded = {role: BlockSums.load(path) for role, path in sums.items()}
    built = build(dict(responses), loaded, options, draws, seed)
    built.save(reference)
    write_json(calibration, calibration_report(built, options))
