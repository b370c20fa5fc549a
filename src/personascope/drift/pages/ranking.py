"""Conversations ranked by what speaks for drift, as a figure and as a page.

Within each analysis: conversations with an alarm come first, then the smaller p, then the lower `fall`, the lowest
standardized score. Scores of different analyses have different scales, so each analysis is ranked by itself. What
could not be analyzed stands at the end.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from personascope.display.figure import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PALE_BLUE,
    clean,
    finish,
    font_text,
    message_figure,
)
from personascope.display.html import SORT, TABLE_STYLE, cell, escaped, page, table
from personascope.drift.calibration import BAND
from personascope.drift.pages.words import doubt_line, rate_text, share
from personascope.formats.conversation_files import display_name, not_analyzed
from personascope.formats.tables import numbers

MOST_ROWS = 25  # of one analysis in the figure; the page has all
MOST_FAILED = 12
UNTESTED = 0.7  # inches of an analysis without a test
COLUMNS = {
    "conversation": "conversation",
    "p_value": "p",
    "q_value": "q",
    "alarm_turn": "alarm at turn",
    "onset": "evidence since",
    "fall": "fall (lowest z)",
    "score_first": "first score",
    "score_last": "last",
    "score_min": "lowest",
    "largest_drop": "largest drop",
    "largest_drop_turn": "at turn",
    "slope": "slope",
    "n_turns": "turns",
    "n_tokens": "tokens",
    "confound_verdict": "confounds",
    "effect_strength": "effect",
    "away_features": "features that carry most of the selected drop",
    "causal": "causal test",
    "nearest_role_end": "nearest role at the end",
    "flags": "flags",
}
WHOLE = ("alarm_turn", "onset", "largest_drop_turn", "n_turns", "n_tokens")
TEXTS = ("conversation", "confound_verdict", "effect_strength", "away_features", "causal", "nearest_role_end", "flags")
SOME = ("causal", "away_features")  # columns that are left out where no conversation has any
FAILED = ("conversation", "analysis", "status", "reason")
LINKS = {
    "token_heat.html": "tokens",
    "trajectory.png": "scores",
    "top_features.png": "features",
    "nearest_roles.png": "roles",
    "confounds.png": "confounds",
}
STYLE = f"""body {{ max-width: none; }}
p {{ max-width: 60rem; }}
{TABLE_STYLE}td.t:nth-child(2) {{ min-width: 14rem; }}
td.look, td.named {{ min-width: 20rem; }}
h1 {{ font-size: 1.7rem; }}
h2 {{ margin-top: 2rem; font-size: 1.3rem; }}
td.t:last-child {{ min-width: 22rem; }}
"""
NOTE = """<p class="soft">Conversations with an alarm come first, then the smaller p, then the lower z; click a
column\u2019s head to sort by it. p is the rank of a conversation\u2019s evidence among those of the plain
reference conversations; q is the share of false ones among all conversations of the analysis that have at
most this p (Benjamini and Hochberg). The lowest z is that of the lowest turn, in standard deviations of
what plain conversations score at that turn and length, so that no turn lies low because it is late or long;
among more turns the lowest lies lower by chance, which p accounts for, since the references have as many
turns as are tested. Rows without an alarm are grey. Links work where this page lies in the results folder.
Scores of different analyses have different scales.</p>
"""
Nulls = Mapping[str, Mapping[str, Any]]
Links = Mapping[tuple[str, str], str]


def by_analysis(summary: pd.DataFrame) -> tuple[list[tuple[str, pd.DataFrame]], pd.DataFrame]:
    """([(analysis, its conversations with status "ok", in the summary's order)], all others)."""
    if not len(summary):
        return [], summary
    analyzed = summary["status"].astype(str) == "ok"
    kept = summary.loc[analyzed]
    groups = kept.groupby(kept["analysis"].astype(str), sort=True) if len(kept) else []
    return [(str(name), part) for name, part in groups], summary.loc[~analyzed]


def ranking_figure(
    summary: pd.DataFrame, nulls: Nulls | None = None, *, title: str = "Conversations ranked by evidence of drift"
) -> Figure:
    """One row of panels an analysis, what speaks most for drift on top: p, and the lowest standardized score."""
    if not len(summary):
        return message_figure("No conversation was analyzed.", title)
    parts, failed = by_analysis(summary)
    lost = _failures(failed)
    heights = [1.2 + 0.23 * min(len(part), MOST_ROWS) if _tested(part) else UNTESTED for _, part in parts]
    heights += [0.3 + 0.16 * len(lost)] if lost else []
    figure = Figure(figsize=(10, 0.9 + sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights, width_ratios=(1, 1))
    for row, (name, part) in enumerate(parts):
        null = (nulls or {}).get(name, {})
        if not _tested(part):
            _draw_untested(figure.add_subplot(grid[row, :]), name, len(part), null)
            continue
        left = figure.add_subplot(grid[row, 0])
        right = figure.add_subplot(grid[row, 1], sharey=left)
        left_out = f" (the first {MOST_ROWS} of {len(part)})" if len(part) > MOST_ROWS else ""
        left.set_title(f"analysis {font_text(name, 40)}{left_out}", loc="left", fontsize=10)
        right.set_title(
            "\n".join(filter(None, (doubt_line(doubt_of(part)), _rate(null)))), loc="left", fontsize=7.5, color=BLACK
        )
        _draw_p(left, part.head(MOST_ROWS), null.get("alpha"))
        _draw_fall(right, part.head(MOST_ROWS))
        right.tick_params(labelleft=False)
    handles = {text: handle for ax in figure.axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    if handles:
        style = {"loc": "outside lower left", "ncols": 4, "frameon": False, "fontsize": 8}
        figure.legend(list(handles.values()), list(handles), **style)
    if lost:
        _write(figure.add_subplot(grid[len(heights) - 1, :]), "\n".join(["Not analyzed:", *lost]))
    return finish(figure, title)


def doubt_of(part: pd.DataFrame) -> str:
    """Why the axis of an analysis is not to be interpreted, by its conversations; else empty."""
    said = [text_of(value) for value in part["axis_doubt"]] if "axis_doubt" in part else []
    return next(filter(None, said), "")


def _tested(part: pd.DataFrame) -> bool:
    return bool(np.isfinite(numbers(part, "p_value")).any())


def _write(ax: Axes, text: str) -> None:
    ax.set_axis_off()
    ax.text(0, 1, text, fontsize=8, va="top", color=BLACK, transform=ax.transAxes)


def _draw_untested(ax: Axes, name: str, count: int, null: Mapping[str, Any]) -> None:
    """A line in place of panels that would be empty."""
    ax.set_title(f"analysis {font_text(name, 40)}", loc="left", fontsize=10)
    reason = font_text(null.get("reason"), 90) or "no conversation has a p"
    _write(ax, f"{count} conversations, not tested: {reason}. The page drift_ranking.html has their scores.")


def _rate(null: Mapping[str, Any]) -> str:
    """The false alarms of an analysis, over all references."""
    rate = null.get("false_alarms", {}).get("")
    return f"false alarms on held-out references: {rate_text(rate)}" if rate else ""


def _failures(failed: pd.DataFrame) -> list[str]:
    """One line a conversation that could not be analyzed."""
    lines = []
    for row in failed.drop_duplicates(["conversation", "reason"]).to_dict("records"):
        lines.append(f"{font_text(_called(row), 40)}: {font_text(row.get('reason'), 90) or 'no reason given'}")
    more = len(lines) - MOST_FAILED
    return lines if more <= 0 else [*lines[:MOST_FAILED], f"and {more} more"]


def _draw_marks(ax: Axes, values: np.ndarray, alarm: np.ndarray) -> None:
    places = np.arange(len(values))
    for rows, marker, color, size, label in (
        (alarm, "D", ORANGE, 6, "alarm (name in bold)"),
        (~alarm, "o", "#9a9a9a", 5, "no alarm"),
    ):
        if (rows & np.isfinite(values)).any():
            ax.plot(values[rows], places[rows], marker, color=color, markersize=size, label=label, zorder=3)
    ax.set_ylim(len(values) - 0.4, -0.6)
    ax.grid(axis="y", color="#eeeeee", zorder=0)
    ax.set_axisbelow(True)
    clean(ax)


def _no_drop(row: Mapping[Any, Any]) -> str:
    return " (no drop)" if "no_drop" in text_of(row.get("flags")) else ""


def _draw_p(ax: Axes, part: pd.DataFrame, alpha: float | None) -> None:
    p, alarm = numbers(part, "p_value"), np.isfinite(numbers(part, "alarm_turn"))
    _draw_marks(ax, p, alarm)
    names = [font_text(_called(row), 36) + _no_drop(row) for row in part.to_dict("records")]
    ax.set_yticks(range(len(part)), names, fontsize=8)
    for label, raised in zip(ax.get_yticklabels(), alarm, strict=True):
        label.set(fontweight="bold" if raised else "normal", color=BLACK if raised else GREY)
    ax.set_xscale("log")
    lowest = min(float(np.nanmin(p)), alpha or 1.0) / 1.6
    ax.set_xlim(lowest, 1.3)
    if alpha is not None:
        label = f"stated share of false alarms ({share(alpha)})"
        ax.axvline(alpha, color=BLUE, linewidth=1, linestyle=(0, (4, 2)), label=label, zorder=1)
    ticks = [tick for tick in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1) if tick > lowest]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlabel("p among plain conversations", fontsize=9)


def _draw_fall(ax: Axes, part: pd.DataFrame) -> None:
    fall, alarm = numbers(part, "fall"), np.isfinite(numbers(part, "alarm_turn"))
    _draw_marks(ax, fall, alarm)
    label = "middle 90 % of the turns of plain conversations"
    ax.axvspan(-BAND, BAND, color=PALE_BLUE, alpha=0.45, linewidth=0, label=label, zorder=0)
    ax.axvline(0, color="#5b9bc4", linewidth=0.9, zorder=1)
    ax.set_xlabel("lowest z of a turn (standard deviations; left: away)", fontsize=9)


def ranking_html(
    summary: pd.DataFrame,
    nulls: Nulls | None = None,
    links: Links | None = None,
    *,
    title: str = "Conversations ranked by evidence of drift",
) -> str:
    """The same ranking as a page with every column; complete HTML, all texts escaped.

    nulls: what `drift_null` says of each analysis; links: {(analysis, conversation): folder of its figures, from the
    page}, of those that have some.
    """
    parts, failed = by_analysis(summary)
    nulls, body = nulls or {}, [_failed_line(summary, failed), NOTE]
    for name, part in parts:
        body.append(f'<h2 dir="auto">Analysis {escaped(name)}</h2>\n')
        if doubt := doubt_line(doubt_of(part)):
            body.append(f'<p class="alarm">{escaped(doubt)}</p>\n')
        body.append(rates_html(nulls.get(name, {})))
        body.append(_ranking_table(name, part, links or {}))
    body.append("" if parts else "<p>No conversation was analyzed.</p>\n")
    return page(title, STYLE, "".join(body) + _failed_table(failed), script=SORT)


def rates_html(null: Mapping[str, Any]) -> str:
    """The false alarms that were measured, a row a domain; or why there is no test."""
    if not null:
        return ""
    if null.get("reason"):
        return f'<p dir="auto">No test: {escaped(null["reason"])}</p>\n'
    heads = [("domain", True), ("calibrating", False), ("stated", False)]
    within = null.get("false_alarms_within", {})
    heads.append(("false alarms on held-out ones, by the test over all", True))
    heads += [("by the test within the domain", True)] if within else []
    rows = []
    for domain, rate in null["false_alarms"].items():
        count = null["references"].get(domain)
        cells = [cell(domain or "all", text=True), cell("with all" if count is None else str(count))]
        cells += [cell(share(null["alpha"])), cell(rate_text(rate), text=True)]
        cells += [cell(rate_text(within[domain]) if domain in within else "", text=True)] if within else []
        rows.append(("", cells))
    lost = null.get("left_out") or []
    more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    missing = f'<p dir="auto">References that could not be used: {escaped(lost[0])}{more}.</p>\n' if lost else ""
    turns = f'<p class="soft">Tested up to turn {null["turns_max"] - 1}.</p>\n' if null.get("turns_max") else ""
    return f"<p>False alarms, by domain of plain reference conversations:</p>\n{table(heads, rows)}{missing}{turns}"


def _ranking_table(analysis: str, part: pd.DataFrame, links: Links) -> str:
    linked = any(name == analysis for name, _ in links)
    columns = [name for name in COLUMNS if name not in SOME or _has_any(part, name)]
    heads = [("rank", False), ("conversation", True), *([("look at", True)] if linked else [])]
    heads += [(COLUMNS[name], name in TEXTS) for name in columns if name != "conversation"]
    rows = []
    for row in part.to_dict("records"):
        look = [_links(links.get((analysis, str(row["conversation"]))))] if linked else []
        rows.append(_row(row, look, columns))
    return table([*heads, ("metadata", True)], rows, sortable=True)


def _has_any(part: pd.DataFrame, column: str) -> bool:
    """Whether one of the conversations has something there."""
    return column in part and any(text_of(value) for value in part[column])


def _row(row: dict[Any, Any], look: list[str], columns: Sequence[str]) -> tuple[str, list[str]]:
    """The class of a row, and its cells."""
    rank = figure_of(_number(row.get("rank")), whole=True)
    cells = [cell(rank), cell(_called(row), text=True), *look]
    for column in columns:
        value = row.get(column)
        if column in TEXTS:
            made = cell(text_of(value), text=True)
            made = made.replace('class="t"', 'class="t named"', 1) if column == "away_features" else made
            cells += [] if column == "conversation" else [made]
        else:
            number = _number(value)
            shown = figure_of(number, column in WHOLE)
            if column == "largest_drop" and number is None and _no_drop(row):
                shown = "no drop"
            cells.append(cell(shown, value=number))
    cells.append(cell(text_of(row.get("metadata")), text=True))
    return ("quiet" if _number(row.get("alarm_turn")) is None else "alarm"), cells


def _links(folder: str | None) -> str:
    """A cell with links to the figures of a conversation, where it has some."""
    if folder is None:
        return cell("", text=True)
    links = (f'<a href="{escaped(folder)}/{file}">{word}</a>' for file, word in LINKS.items())
    return cell("", text=True, markup=" \u00b7 ".join(links)).replace('class="t"', 'class="t look"', 1)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def figure_of(number: float | None, whole: bool = False) -> str:
    """A number for a cell; nothing where there is none."""
    if number is None:
        return ""
    return f"{number:,.0f}" if whole else f"{number:.3g}".replace("-", "\u2212")


def text_of(value: Any) -> str:
    """Text for a cell from text, a list, a mapping or nothing."""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, default=str) if value else ""
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(str(item) for item in value)
    return "" if value is None or pd.isna(value) else str(value)


def _called(row: Mapping[Any, Any]) -> str:
    """What a conversation is called."""
    return display_name(text_of(row["conversation"]), row.get("metadata"))


def _failed_line(summary: pd.DataFrame, failed: pd.DataFrame) -> str:
    """How many of the conversations are not on the page, and why."""
    reasons = {_called(row): text_of(row.get("reason")) for row in failed.to_dict("records")}
    said = not_analyzed(reasons, len(set(summary["conversation"])) if len(summary) else 0)
    return f'<p class="alarm" dir="auto">{escaped(said)}</p>\n' if said else ""


def _failed_table(failed: pd.DataFrame) -> str:
    if not len(failed):
        return ""
    rows: Sequence[tuple[str, list[str]]] = [
        ("", [cell(text_of(row.get(name)), text=True) for name in FAILED])
        for row in (row | {"conversation": _called(row)} for row in failed.to_dict("records"))
    ]
    return f"<h2>Not analyzed</h2>\n{table([(name, True) for name in FAILED], rows)}"
