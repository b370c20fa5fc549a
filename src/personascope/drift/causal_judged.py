"""What a judge says of the texts of the causal test: whether setting features back makes them more like the assistant.

The judge scores each generated text for adherence to the assistant's role (0 to 3) and for coherence (0 to 100),
without knowing its arm. Effects are paired differences from the text of the same seed without a patch, as in
`personascope.drift.causal`. They stand beside the verdict and do not decide it: a judge reads words, and most judges of
short texts are coarse. One that is not fit to judge adherence is not shown in the figure.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from personascope.drift.causal import Totals
from personascope.drift.causal_arms import ARMS
from personascope.drift.causal_report import as_dicts
from personascope.errors import UserError
from personascope.formats.files import iter_jsonl, write_json
from personascope.formats.judgements import FIT, problem_counts, read_judgements, read_worth, verdict
from personascope.formats.tables import plain

METRICS = ("adherence", "coherence")


def metric_totals(samples: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> Totals | None:
    """A metric's scores, one a text, by arm and draw; None without texts. Texts without a score are NaN."""
    cells: dict[tuple[str, int], list[float]] = {}
    for text, score in zip(samples, scores, strict=True):
        cells.setdefault((text["arm"], text["draw"]), []).append(float(score))
    if ("none", 0) not in cells:
        return None
    arms = {arm: [values for (name, _), values in sorted(cells.items()) if name == arm] for arm in ARMS}
    return Totals(np.array(cells["none", 0]), {arm: np.array(rows) for arm, rows in arms.items() if rows})


def write_judged(samples: str | Path, judgements: str | Path, worth: str | Path, judged: str | Path) -> None:
    """Write the effects by metric, the judge and what it is worth. UserError where the files do not belong together."""
    texts = list(iter_jsonl(samples))
    table, described = read_judgements(judgements)
    said = verdict(read_worth(worth), ["adherence"])
    metrics = {}
    for metric in METRICS:
        rows = table.loc[table["metric"] == metric]
        if rows["row"].tolist() != list(range(len(texts))):
            raise UserError(f"{judgements}: its rows are not those of {samples}; delete it and run again")
        totals = metric_totals(texts, rows["score"].tolist())
        metrics[metric] = None if totals is None else _effects(totals) | {"counts": problem_counts(rows)}
    content = {"version": 1, "judge": described["judge"], "worth": said, "fit": said == FIT, "metrics": metrics}
    write_json(judged, plain(as_dicts(content)))


def _effects(totals: Totals) -> dict[str, Any]:
    known = totals.plain[np.isfinite(totals.plain)]
    return {
        "unpatched": float(known.mean()) if len(known) else None,
        "effect": totals.effect,
        "beyond_matched": totals.contrast,
        "arms": {arm: totals.effects(arm) for arm in totals.arms},
    }
