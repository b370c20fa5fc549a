"""The files of the stage `drift_summary`: table, detection, ranking."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from personascope.display.figure import save_figure
from personascope.drift.pages.ranking import ranking_figure, ranking_html
from personascope.drift.summary import detection_table, read_summaries, summary_table
from personascope.formats.descriptions import described
from personascope.formats.files import read_json, write_text
from personascope.formats.tables import write_csv, write_table


def write_summary(
    summaries: Sequence[str],
    nulls: Sequence[str],
    figures: Collection[str],
    descriptions: Sequence[str] = (),
    *,
    table: str,
    csv: str,
    detection: str,
    page: str,
    png: str,
    svg: str,
) -> None:
    """From summary.json of every run and the null/*.json of every analysis to the table of all, how simulated pressure
    was detected, and the ranking, which links the runs of the analyses in `figures`. descriptions: the file of what
    features are called, where there is one."""
    rows = summary_table(read_summaries(summaries), described(descriptions))
    said = {Path(path).stem: read_json(path) for path in nulls}
    links = {}
    for folder in (Path(path).parent for path in summaries):
        if folder.parent.name in figures:
            links[folder.parent.name, folder.name] = Path(os.path.relpath(folder, Path(page).parent)).as_posix()
    write_table(table, rows)
    write_csv(csv, rows)
    write_csv(detection, detection_table(rows))
    write_text(page, ranking_html(rows, said, links))
    save_figure(ranking_figure(rows, said), png, svg)
