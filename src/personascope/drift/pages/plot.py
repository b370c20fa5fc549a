"""The figures and the token heat page of one conversation under one analysis, from files to files. No torch."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from personascope.display.figure import message_figure, save_figure
from personascope.display.html import escaped, page
from personascope.drift.calibration_report import role_quartiles
from personascope.drift.conversation import analyze_files
from personascope.drift.pages.figures import DRIFT_FIGURES
from personascope.drift.pages.heat import heat_html
from personascope.drift.tables import tables
from personascope.formats.files import write_text
from personascope.hosting.operations.drift_conversation import Resources


def plot_conversation(
    inputs: Mapping[str, str], options: Mapping[str, Any], name: str, figures: Sequence[str], heat: str
) -> None:
    """Draw figures, each named as its file, and the token heat page; a failed conversation gets ones that say why.

    inputs: files `tokens`, `matrix`, and `reference` where there is one; options: the knobs of the analysis `name`.
    """
    resources = Resources()
    case = analyze_files(resources, dict(inputs), dict(options))
    result, knobs, conversation = case.result, case.analysis.options, case.metadata["conversation"]
    title = f"{conversation['name']}, {name}"
    drawn = {figure: list(paths) for figure, paths in groupby(sorted(figures, key=_stem), key=_stem)}
    if isinstance(result, str):
        for paths in drawn.values():
            save_figure(message_figure(result, title), *paths)
        write_text(heat, page(title, "", f"<p>{escaped(result)}</p>"))
        return
    made, known = tables(result), resources.reference(case.analysis)
    context = {
        "title": title,
        "assistant": knobs.axis.assistant_role,
        "references": None if known is None else role_quartiles(known, knobs.scoring.score_method),
        "selected_turn": None if result.selected is None else result.transitions[result.selected].turn,
        "warn": knobs.display.confound_warn_abs_corr,
        "high": knobs.display.confound_high_abs_corr,
    }
    for figure, paths in drawn.items():
        save_figure(DRIFT_FIGURES[figure](made, context), *paths)
    messages = conversation["messages"]
    write_text(heat, heat_html(made["q3_token_localization"], messages, made["turn_meta"], title))


def _stem(path: str) -> str:
    return Path(path).stem
