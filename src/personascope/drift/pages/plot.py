"""The figures and the token heat page of one run, drawn from its result file."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from personascope.display.figure import message_figure, save_figure, warn
from personascope.display.html import escaped, page
from personascope.drift.pages.figures import DRIFT_FIGURES
from personascope.drift.pages.heat import heat_html
from personascope.drift.pages.words import doubt_line
from personascope.drift.result import DriftResult
from personascope.drift.result_file import RunFile, load_run
from personascope.drift.tables import tables
from personascope.formats.descriptions import described
from personascope.formats.files import write_text


def plot_run(result_file: str | Path, figures: Sequence[str], heat: str, descriptions: Sequence[str] = ()) -> None:
    """Draw figures, each named as its file, and the token heat page; without a result they say why. descriptions: the
    file of what features are called, where there is one."""
    run = load_run(result_file)
    drawn = {figure: list(paths) for figure, paths in groupby(sorted(figures, key=_stem), key=_stem)}
    if isinstance(run.result, str):
        for paths in drawn.values():
            save_figure(message_figure(run.result, run.title), *paths)
        write_text(heat, page(run.title, "", f"<p>{escaped(run.result)}</p>"))
        return
    result, made = run.result, tables(run.result, described(descriptions))
    context = context_of(run, result)
    for figure, paths in drawn.items():
        save_figure(figure_of_run(figure, made, context), *paths)
    tokens, meta = made["q3_token_localization"], made["turn_meta"]
    write_text(heat, heat_html(tokens, run.messages, meta, run.title, result.verdict, result.doubt))


def figure_of_run(name: str, made: dict[str, pd.DataFrame], context: dict[str, Any]) -> Figure:
    """A figure from a run's tables, with what speaks against the analysis's axis under its title."""
    figure = DRIFT_FIGURES[name](made, context)
    warn(figure, doubt_line(context["doubt"]))
    return figure


def context_of(run: RunFile, result: DriftResult) -> dict[str, Any]:
    """What the figures need to know of a run besides its tables."""
    return {
        "title": run.title,
        "doubt": result.doubt,
        "verdict": result.verdict,
        "anchors": result.options.axis.anchor,
        "references": run.references,
        "selected_turn": None if result.selected is None else result.transitions[result.selected].turn,
        "warn": result.options.display.confound_warn_abs_corr,
        "high": result.options.display.confound_high_abs_corr,
        "min_turns": result.options.display.confound_min_turns,
    }


def _stem(path: str) -> str:
    return Path(path).stem
