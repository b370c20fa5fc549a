"""The figures and the token heat page of one run, drawn from its result file."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from personascope.display.figure import message_figure, save_figure
from personascope.display.html import escaped, page
from personascope.drift.pages.figures import DRIFT_FIGURES
from personascope.drift.pages.heat import heat_html
from personascope.drift.result_file import load_run
from personascope.drift.tables import tables
from personascope.formats.files import write_text


def plot_run(result_file: str | Path, figures: Sequence[str], heat: str) -> None:
    """Draw figures, each named as its file, and the token heat page; without a result they say why."""
    run = load_run(result_file)
    drawn = {figure: list(paths) for figure, paths in groupby(sorted(figures, key=_stem), key=_stem)}
    if isinstance(run.result, str):
        for paths in drawn.values():
            save_figure(message_figure(run.result, run.title), *paths)
        write_text(heat, page(run.title, "", f"<p>{escaped(run.result)}</p>"))
        return
    result, made = run.result, tables(run.result)
    context = {
        "title": run.title,
        "assistant": result.options.axis.anchor[0],
        "references": run.references,
        "selected_turn": None if result.selected is None else result.transitions[result.selected].turn,
        "warn": result.options.display.confound_warn_abs_corr,
        "high": result.options.display.confound_high_abs_corr,
    }
    for figure, paths in drawn.items():
        save_figure(DRIFT_FIGURES[figure](made, context), *paths)
    write_text(heat, heat_html(made["q3_token_localization"], run.messages, made["turn_meta"], run.title))


def _stem(path: str) -> str:
    return Path(path).stem
