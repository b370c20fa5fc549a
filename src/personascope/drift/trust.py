"""How far an analysis can be trusted: what its roles score, how stable its axis is, how its test errs."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from personascope.drift.calibration import false_alarm_rate, power_by_role
from personascope.drift.reference import Reference
from personascope.drift.types import DriftOptions
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


def calibration_report(reference: Reference, options: DriftOptions, seed: int) -> dict[str, Any]:
    """The measured error rates of the sequential test, the axis's reliability, and the roles' scores, as plain JSON."""
    draws = {"agreement": reference.agreement, "cos_to_axis": reference.cos_to_axis}
    return plain(
        {
            "options": asdict(options),
            "responses": len(reference),
            "assistant_responses": int((reference.role == reference.assistant).sum()),
            "axis": {
                "split_half": reference.split_half,
                "draws": len(reference.agreement),
                **{name: _percentiles(values) for name, values in draws.items()},
            },
            "false_alarms": false_alarm_rate(reference, options, seed=seed),
            "power_by_role": power_by_role(reference, options, seed=seed).to_dict("records"),
            "role_scores": role_quartiles(reference, options.score_method).to_dict("records"),
        }
    )


def _percentiles(values: np.ndarray) -> dict[str, float | None]:
    found = np.percentile(values, [2.5, 50, 97.5]) if len(values) else [None] * 3
    return dict(zip(("low", "median", "high"), found, strict=True))
