"""A sweep's tables, figure and summary."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from personascope.directions.steering.dose import dose_table, equal_kl, turning_points
from personascope.directions.steering.figure import dose_figure
from personascope.directions.steering.sweep import UNSTEERED, Sweep
from personascope.display.figure import save_figure
from personascope.display.paper import PAPER_DPI
from personascope.formats.files import write_json
from personascope.formats.tables import write_csv

FROM_INFO = ("direction", "units", "positions", "trait", "layers", "sizes", "read_layers", "model", "layer_convention")


def write_dose_response(
    sweep: Sweep, table: str, equal: str, summary: str, figures: Sequence[str], *, seed: int, subtitle: str = ""
) -> None:
    """Write the points' means (CSV), arms at equal KL (CSV), the summary (JSON) and the figure."""
    doses = dose_table(sweep)
    if sweep.judge:
        doses["judge"] = [sweep.judge.get(measure, "") for measure in doses["measure"].tolist()]
    measures = dict.fromkeys([sweep.primary, *(m for m in sweep.effects if m == "trait")])
    compared = pd.concat([equal_kl(sweep, measure, seed) for measure in measures], ignore_index=True)
    said = summarized(sweep)
    write_csv(table, doses)
    write_csv(equal, compared)
    write_json(summary, said)
    save_figure(dose_figure(doses, compared, said, subtitle=subtitle), *figures, dpi=PAPER_DPI)


def summarized(sweep: Sweep) -> dict[str, Any]:
    """What a reader of the table must know of the sweep."""
    unsteered = sweep.values[UNSTEERED]
    verdicts = dict.fromkeys(f"{metric}: {said}" for metric, said in sweep.judge.items())
    return {key: sweep.info[key] for key in FROM_INFO} | {
        "primary": sweep.primary,
        "questions": len(set(unsteered["question_id"].tolist())),
        "samples": len(unsteered),
        "prompt_sign": sweep.meant(("prompt", "0")),
        "judge": "; ".join(verdicts),
        "turning_points": turning_points(sweep),
    }
