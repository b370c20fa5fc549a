"""The evaluation of one trait's vectors, written: what it says as JSON and tables, and the numbers of its figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.traits.evaluation import Evaluation, evaluate
from personascope.directions.traits.figures import draw_evaluation, draw_screen
from personascope.directions.traits.rows import Thresholds, TraitRows, keep, read_rows
from personascope.directions.traits.vectors import METRICS, judge_verdict
from personascope.display.figure import save_figure
from personascope.display.paper import PAPER_DPI
from personascope.formats.directions import READING, Directions, load_directions
from personascope.formats.files import write_json
from personascope.formats.judgements import FIT, read_judgements, read_worth
from personascope.formats.tables import plain, write_csv
from personascope.formats.trait_activations import read_trait_activations

# A vector below these is not to be relied on: halves of its making disagree, or its instruction pairs do, or it does
# not tell the two instructions apart on other questions.
LEAST = {"split_half": 0.5, "pair_cosine": 0.3, "auc": 0.75}
SAID = {
    "split_half": "split-half reliability",
    "pair_cosine": "cosine of the pairs' own vectors",
    "auc": "AUC on held-out questions",
}


def write_evaluation(
    responses: str | Path,
    activations: str | Path,
    vectors: str | Path,
    *,
    judgements: str | Path | None,
    worth: str | Path | None,
    limits: Thresholds,
    filter: str,
    seed: int,
    subtitle: str,
    outputs: dict[str, Any],
) -> None:
    """Evaluate the vectors of one trait and write `evaluation` (JSON), `layers` and `projections` (CSV), and figures
    `png` and `svg`, each [evaluation, screen]."""
    rows, made = read_rows(responses, judgements), load_directions(vectors)
    kept, attrition = keep(rows, limits, filter, str(responses))
    array, _ = read_trait_activations(activations, READING)
    said = judge_verdict(worth)
    found = evaluate(rows, kept, array, made.vectors[READING], made.layers, judged=said == FIT, seed=seed)
    written = summary(rows, found, made, attrition)
    written |= {"judge": _judge(judgements, worth, said)}
    write_csv(outputs["layers"], found.layers)
    write_csv(outputs["projections"], found.projections)
    write_json(outputs["evaluation"], plain(written))
    for i, draw in enumerate((draw_evaluation, draw_screen)):
        figure = draw(written, found, attrition, subtitle=subtitle)
        save_figure(figure, outputs["png"][i], outputs["svg"][i], dpi=PAPER_DPI)


def summary(rows: TraitRows, found: Evaluation, made: Directions, attrition: pd.DataFrame) -> dict[str, Any]:
    """What evaluation.json says, without the judge."""
    at = next(row for row in found.layers.to_dict("records") if row["layer"] == found.selected)
    told = {name: made.metadata.get(name) for name in ("trait", "label", "polarity", "model", "filter", "pairs")}
    limits = {name: made.metadata[name] for name in ("threshold", "coherence", "layer_convention")}
    tested = rows.evaluation
    return {
        **told,
        **limits,
        "reading": READING,
        "couples": int(np.asarray(attrition["generated"]).sum()),
        "kept": int(np.asarray(attrition["kept"]).sum()),
        "evaluation_rows": int(tested.sum()),
        "evaluation_questions": len(np.unique(rows.question[tested])),
        "selected_layer": found.selected,
        "at_selected_layer": at,
        "held_out": found.held_out,
        "doubts": doubts(at, found.held_out),
        "attrition": attrition.to_dict("records"),
        "pair_cosines": found.pairs.to_dict("records"),
        "nuisances": found.nuisances.to_dict("records"),
        "split_half_of": "questions and pairs" if len(np.unique(rows.pair[~tested])) > 1 else "questions",
    }


def doubts(at: Mapping[Any, Any], held_out: dict[str, Any]) -> list[str]:
    """What speaks against relying on a vector."""
    values = {**at, "auc": held_out.get("auc", at["auc"])}
    found = []
    for name, least in LEAST.items():
        value = values.get(name, np.nan)
        if not np.isfinite(value):
            found.append(f"{SAID[name]} cannot be measured")
        elif value < least:
            found.append(f"{SAID[name]} {value:.2f} < {least:g}")
    if abs(at.get("nuisance_share", 0)) > max(0.5, at.get("nuisance_share_shuffled", 0)):
        found.append(f"nuisances are {100 * at['nuisance_share']:.0f} % of it")
    return found


def _judge(judgements: str | Path | None, worth: str | Path | None, said: str) -> dict[str, Any] | None:
    """Who judged, and what that judge is worth; None where nobody did."""
    if judgements is None or worth is None:
        return None
    _, metadata = read_judgements(judgements)
    measured = read_worth(worth)["metrics"]
    numbers = {
        metric: {name: measured[metric].get(name) for name in ("auc", "kappa", "n")}
        for metric in METRICS
        if metric in measured
    }
    return {"name": metadata.get("judge"), "model": metadata.get("model"), "verdict": said, "metrics": numbers}
