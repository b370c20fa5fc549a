"""Conversations ranked by how far they drift from the assistant, as a figure and as a page.

Within each analysis: conversations with a drift onset come first, then the larger `fall` comes first, where
fall = score_min - score_first (0 or negative): how far below its first turn a conversation gets. Scores of different
analyses have different scales, so each analysis is ranked by itself. What could not be analyzed stands at the end.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from personascope.display.figure import BLACK, BLUE, GREY, ORANGE, clean, finish, font_text, message_figure, save_figure
from personascope.display.html import escaped, page
from personascope.drift.summary import detection_table, read_summaries, summary_table
from personascope.formats.files import write_text
from personascope.formats.tables import numbers, write_csv, write_table

MOST_ROWS = 25  # of one analysis in the figure; the page has all
MOST_FAILED = 12
COLUMNS = {
    "conversation": "conversation",
    "fall": "fall",
    "onset": "onset",
    "onset_since": "since",
    "min_p_value": "smallest p",
    "score_first": "first",
    "score_last": "last",
    "score_min": "lowest",
    "largest_drop": "largest drop",
    "largest_drop_turn": "at turn",
    "slope": "slope",
    "n_turns": "turns",
    "n_tokens": "tokens",
    "confound_verdict": "confounds",
    "effect_strength": "effect",
    "nearest_role_end": "nearest role at the end",
    "flags": "flags",
}
WHOLE = ("onset", "onset_since", "largest_drop_turn", "n_turns", "n_tokens")
TEXTS = ("conversation", "confound_verdict", "effect_strength", "nearest_role_end", "flags")
FAILED = ("conversation", "analysis", "status", "reason")
STYLE = """body { max-width: none; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; }
th, td { padding: 0.2rem 0.6rem; border-bottom: 1px solid var(--edge); text-align: right; vertical-align: top; }
th { position: sticky; top: 0; background: var(--ground); }
.t { text-align: left; overflow-wrap: anywhere; min-width: 5rem; max-width: 24rem; unicode-bidi: isolate; }
td.t:last-child { min-width: 22rem; }
td.t:nth-child(2) { min-width: 14rem; }
.onset { font-weight: 700; }
.bar { display: inline-block; height: 0.7rem; background: #d9760f; margin-left: 0.4rem; }
"""


def ranked(summary: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(conversations with status "ok", in order, with the column `fall`; all others)."""
    table = summary.assign(
        fall=numbers(summary, "score_min") - numbers(summary, "score_first"),
        without_onset=~np.isfinite(numbers(summary, "onset")),
    )
    analyzed = table["status"].astype(str) == "ok"
    order = ["without_onset", "fall", "conversation"]
    kept = table.loc[analyzed].sort_values(by=order, kind="stable", na_position="last")
    return kept.drop(columns="without_onset"), table.loc[~analyzed]


def _by_analysis(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each analysis and its rows, in the order of their names."""
    return [(str(name), part) for name, part in table.groupby(table["analysis"].astype(str), sort=True)]


def ranking_figure(summary: pd.DataFrame, *, title: str = "Conversations ranked by drift") -> Figure:
    """One panel an analysis, the conversation that drifts most on top: from the first turn's score to the lowest."""
    if not len(summary):
        return message_figure("No conversation was analyzed.", title)
    kept, failed = ranked(summary)
    parts = _by_analysis(kept)
    lost = _failures(failed)
    heights = [0.9 + 0.24 * min(len(part), MOST_ROWS) for _, part in parts] + ([0.3 + 0.16 * len(lost)] if lost else [])
    figure = Figure(figsize=(9, 0.5 + sum(heights)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(heights), 1, height_ratios=heights))
    for ax, (name, part) in zip(panels, parts, strict=False):
        left_out = f" (the first {MOST_ROWS} of {len(part)})" if len(part) > MOST_ROWS else ""
        ax.set_title(f"analysis {font_text(name, 60)}{left_out}", loc="left", fontsize=10)
        _draw_ranking(ax, part.head(MOST_ROWS))
    if parts:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=4, frameon=False, fontsize=8)
    if lost:
        panels[-1].set_axis_off()
        style = {"fontsize": 8, "va": "top", "color": BLACK, "transform": panels[-1].transAxes}
        panels[-1].text(0, 1, "\n".join(["Not analyzed:", *lost]), **style)
    return finish(figure, title)


def _failures(failed: pd.DataFrame) -> list[str]:
    """One line a conversation that could not be analyzed."""
    lines = []
    for _, row in failed.drop_duplicates(["conversation", "reason"]).iterrows():
        lines.append(f"{font_text(row['conversation'], 40)}: {font_text(row.get('reason'), 90) or 'no reason given'}")
    more = len(lines) - MOST_FAILED
    return lines if more <= 0 else [*lines[:MOST_FAILED], f"and {more} more"]


def _draw_ranking(ax: Axes, part: pd.DataFrame) -> None:
    places = np.arange(len(part))
    first, lowest, last = (numbers(part, name) for name in ("score_first", "score_min", "score_last"))
    onset = np.isfinite(numbers(part, "onset"))
    ax.hlines(places, lowest, first, color=ORANGE, linewidth=3, alpha=0.55)
    ax.plot(first, places, "o", color=BLUE, markersize=5.5, label="first turn")
    ax.plot(lowest, places, "<", color=ORANGE, markersize=6, label="lowest turn")
    ax.plot(last, places, "|", color=BLACK, markersize=9, markeredgewidth=1.6, label="last turn")
    names = [font_text(name, 44) for name in part["conversation"]]
    labels = [f"{name}  \u25c6" if drifts else name for name, drifts in zip(names, onset, strict=True)]
    ax.set_yticks(places, labels, fontsize=8)
    for label, drifts in zip(ax.get_yticklabels(), onset, strict=True):
        label.set_fontweight("bold" if drifts else "normal")
    ax.plot([], [], "D", color=BLACK, markersize=4, label="drift onset by the test (name in bold)")
    ax.set_ylim(len(part) - 0.4, -0.6)
    left, right = ax.get_xlim()
    if left < 0 < right:
        ax.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    ax.set_xlabel("score (right: toward the assistant)", fontsize=9)
    ax.grid(axis="y", color="#eeeeee", zorder=0)
    ax.set_axisbelow(True)
    clean(ax)


def ranking_html(summary: pd.DataFrame, *, title: str = "Conversations ranked by drift") -> str:
    """The same ranking as a page with every column; complete HTML, all texts escaped."""
    kept, failed = ranked(summary) if len(summary) else (summary, summary)
    parts = [_ranking_table(name, part) for name, part in (_by_analysis(kept) if len(kept) else [])]
    note = """<p class="soft">Fall: the lowest turn's score minus the first turn's; negative is away from the assistant.
Conversations with a drift onset (the first turn at which the sequential test rejects \u201cstill the assistant\u201d)
come first, then the larger fall. Scores of different analyses have different scales.</p>
"""
    body = note + ("".join(parts) or "<p>No conversation was analyzed.</p>\n") + _failed_table(failed)
    return page(title, STYLE, body)


def _ranking_table(name: str, part: pd.DataFrame) -> str:
    deepest = float(np.nanmin(numbers(part, "fall"), initial=0.0)) or -1.0
    heads = "".join(f"<th {_kind(column)}>{label}</th>" for column, label in COLUMNS.items())
    head = f'<thead><tr><th>rank</th>{heads}<th class="t">metadata</th></tr></thead>'
    rows = "".join(_row(rank, row, deepest) for rank, row in enumerate(part.to_dict("records"), start=1))
    table = f"<table>{head}<tbody>\n{rows}</tbody></table>"
    return f'<h2>Analysis {escaped(name)}</h2>\n<div class="wide">{table}</div>\n'


def _kind(column: str) -> str:
    """The attributes of a column's cells."""
    return 'class="t" dir="auto"' if column in TEXTS else 'class="n"'


def _row(rank: int, row: dict[Any, Any], deepest: float) -> str:
    """One conversation; the bar behind its fall is as long as the fall's share of the deepest one."""
    cells = []
    for column in COLUMNS:
        shown = _text(row.get(column)) if column in TEXTS else _figure(row.get(column), column in WHOLE)
        bar = ""
        if column == "fall" and shown and float(row["fall"]) < 0:
            bar = f'<span class="bar" style="width: {5 * float(row["fall"]) / deepest:.2f}rem"></span>'
        cells.append(f"<td {_kind(column)}>{escaped(shown)}{bar}</td>")
    strong = ' class="onset"' if _figure(row.get("onset"), True) else ""
    metadata = escaped(_text(row.get("metadata")))
    return f'<tr{strong}><td>{rank}</td>{"".join(cells)}<td class="t" dir="auto">{metadata}</td></tr>\n'


def _figure(value: Any, whole: bool) -> str:
    """A number for a cell; nothing where there is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return ""
    if not np.isfinite(number):
        return ""
    return (f"{number:,.0f}" if whole else f"{number:.4g}").replace("-", "\u2212")


def _text(value: Any) -> str:
    """Text for a cell from text, a list, a mapping or nothing."""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, default=str) if value else ""
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(str(item) for item in value)
    return "" if value is None or pd.isna(value) else str(value)


def _failed_table(failed: pd.DataFrame) -> str:
    if not len(failed):
        return ""
    rows = "".join(
        "".join(
            ["<tr>", *(f'<td class="t" dir="auto">{escaped(_text(row.get(name)))}</td>' for name in FAILED), "</tr>\n"]
        )
        for row in failed.to_dict("records")
    )
    heads = "".join(f'<th class="t">{name}</th>' for name in FAILED)
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>\n{rows}</tbody></table>"
    return f'<h2>Not analyzed</h2>\n<div class="wide">{table}</div>\n'


def write_summary(
    summaries: Sequence[str], *, table: str, csv: str, detection: str, page: str, png: str, svg: str
) -> None:
    """From summary.json of every run to the table of all, how simulated pressure was detected, and the ranking."""
    rows = summary_table(read_summaries(summaries))
    write_table(table, rows)
    write_csv(csv, rows)
    write_csv(detection, detection_table(rows))
    write_text(page, ranking_html(rows))
    save_figure(ranking_figure(rows), png, svg)
