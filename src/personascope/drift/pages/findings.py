"""What an experiment has found, first: how good the axis is, what was flagged at which measured rate of false alarms,
and what not to conclude. One page with the figures of all that is flagged, and the same sentences for the report.
"""

import base64
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.display.figure import png_bytes
from personascope.display.html import SORT, TABLE_STYLE, cell, escaped, page, table
from personascope.drift.pages.plot import context_of, figure_of_run
from personascope.drift.pages.ranking import Links, Nulls, by_analysis, figure_of, rates_html, text_of
from personascope.drift.pages.words import p_text, rate_text, share
from personascope.drift.result_file import load_run
from personascope.drift.summary import detection_table, read_summaries, summary_table
from personascope.drift.tables import tables
from personascope.formats.descriptions import Descriptions, described
from personascope.formats.files import read_json, write_text
from personascope.formats.tables import numbers, read_csv, truths

MOST_FIGURES = 20  # flagged runs whose figures are on the page; the others are linked or counted
MOST_NAMED = 8
SHOWN_FIGURES = ("trajectory", "top_features")
STYLE = f"""{TABLE_STYLE}img {{ max-width: 100%; height: auto; background: #fff; }}
.good {{ font-weight: 600; }}
.bad {{ font-weight: 700; color: #b34700; }}
@media (prefers-color-scheme: dark) {{ .bad {{ color: #ff9a4d; }} }}
summary {{ cursor: pointer; margin: 0.6rem 0; }}
h1 {{ font-size: 1.7rem; }}
h2 {{ margin-top: 2rem; font-size: 1.3rem; }}
"""
TITLES = ("Is the axis good enough?", "What was flagged?", "Do its features cause it?", "What not to conclude")
AXIS_HEADS = {
    "space": "space",
    "cos_diff_pc1": "cos(diff, pc1)",
    "agreement_null_median": "with shuffled roles: median",
    "agreement_null_high": "95 % of them below",
    "split_half": "split-half",
    "split_half_of": "halves of",
    "auc": "AUC on held-out questions",
    "pc1_variance_share": "variance on pc1",
    "reason": "why not to be interpreted",
}
AXIS_TEXTS = ("space", "split_half_of", "reason")
RST_SIGNS = re.compile(r"([\\`*_|<>])")


@dataclass(frozen=True)
class Findings:
    """What the page is made from. agreement, projections: tables of the axis; summary: of all conversations; nulls:
    {analysis: what drift_null says}; notes: what is to be known of model and SAE."""

    agreement: pd.DataFrame
    projections: pd.DataFrame
    summary: pd.DataFrame
    nulls: Nulls
    notes: Sequence[str] = ()

    @property
    def sections(self) -> list[tuple[str, list[str]]]:
        """(title, sentences) of the findings, in their order; without a causal test nothing is said of it."""
        parts = (axis_lines(self.agreement), flagged_lines(self.summary, self.nulls), causal_lines(self.summary))
        parts = (*parts, [*self.notes, *cautions(self.agreement, self.summary, self.nulls)])
        return [(title, lines) for title, lines in zip(TITLES, parts, strict=True) if lines]


def axis_lines(agreement: pd.DataFrame) -> list[str]:
    """A sentence a space."""
    lines, good = [], truths(agreement, "interpretable")
    for row, fine in zip(agreement.to_dict("records"), good, strict=True):
        verdict = "may be interpreted" if fine else f"is not to be interpreted ({text_of(row.get('reason'))})"
        null = f"{_two(row.get('agreement_null_median'))}, 95 % of them below {_two(row.get('agreement_null_high'))}"
        lines.append(
            f"{text_of(row['space'])}: the axis {verdict}. The two definitions of it agree with cosine "
            f"{_two(row.get('cos_diff_pc1'))} (with the roles' labels shuffled {null}); axes from halves of the "
            f"{text_of(row.get('split_half_of')) or 'data'} with {_two(row.get('split_half'))}; on questions that it "
            f"has not seen it ranks the anchor above other roles in {_percent(row.get('auc'))} of the pairs."
        )
    return lines or ["No axis was made."]


def flagged_lines(summary: pd.DataFrame, nulls: Nulls) -> list[str]:
    """A sentence an analysis: alarms among tested conversations, beside what chance gives at the measured rate."""
    parts, failed = by_analysis(summary)
    lines = []
    for name, part in parts:
        tested, alarms = np.isfinite(numbers(part, "p_value")), np.isfinite(numbers(part, "alarm_turn"))
        if not tested.any():
            lines.append(f"{name}: nothing was tested ({_reason(nulls.get(name, {}))}).")
            continue
        raised = [str(value) for value in part.loc[alarms, "conversation"]]
        said = f"{name}: {len(raised)} of {int(tested.sum())} tested conversations raised an alarm"
        said += f" ({_named(raised)})" if raised else ""
        null = nulls.get(name, {})
        lines.append(f"{said}{_chance(null, int(tested.sum()))}{_discoveries(part, null)}.")
        lines += _feature_lines(part.loc[alarms])
    if len(failed):
        lines.append(f"{_counted(len(set(failed['conversation'])), 'conversation')} could not be analyzed.")
    return lines or ["No conversations were given."]


def _feature_lines(flagged: pd.DataFrame) -> list[str]:
    """A sentence a flagged conversation: which features carry most of its selected transition."""
    rows = [row for row in _records(flagged) if text_of(row.get("away_features"))][:MOST_NAMED]
    return [
        f"{row['analysis']}: {row['conversation']}: the features that carry most of its selected transition away from "
        f"the assistant are {text_of(row['away_features'])}."
        for row in rows
    ]


def _reason(null: Mapping[str, Any]) -> str:
    return str(null.get("reason") or "the reason is in its summary.json")


def _chance(null: Mapping[str, Any], tested: int) -> str:
    rate = null.get("false_alarms", {}).get("", {})
    if rate.get("rate") is None:
        return "; the rate of false alarms was not measured"
    by_chance = f"about {tested * rate['rate']:.1f} of {tested} by chance"
    return f"; on plain conversations the measured rate is {rate_text(rate)}, {by_chance}"


def _discoveries(part: pd.DataFrame, null: Mapping[str, Any]) -> str:
    if null.get("alpha") is None:
        return ""
    found = int((numbers(part, "q_value") <= null["alpha"]).sum())
    return f"; with the share of false ones among them held at {share(null['alpha'])} (q): {found}"


def causal_lines(summary: pd.DataFrame) -> list[str]:
    """A sentence a causal test; none where there was none."""
    if not len(summary) or "causal_reason" not in summary:
        return []
    tested = summary.loc[summary["causal_reason"].notna()].to_dict("records")
    return [
        f"{row['analysis']}: {row['conversation']}: {text_of(row['causal']) or 'not tested'}: {row['causal_reason']}."
        for row in tested
    ]


def cautions(agreement: pd.DataFrame, summary: pd.DataFrame, nulls: Nulls) -> list[str]:
    """What a reader might conclude and should not: always, and by what was found."""
    lines = []
    bad = [text_of(space) for space in agreement.loc[~truths(agreement, "interpretable"), "space"]]
    if bad:
        lines.append(f"Nothing about personas from scores in the space {', '.join(bad)}: its axis is not good enough.")
    lines.append(
        "An alarm says that a conversation scores lower than plain ones do at those turns and lengths. Another genre, "
        "language or topic, or repetition, can do that without any change of persona: read the text and the confounds."
    )
    lines.append("No alarm is no proof of no drift: short or slow drift may be missed.")
    parts, _ = by_analysis(summary)
    flagged = [part.loc[np.isfinite(numbers(part, "alarm_turn"))] for _, part in parts]
    confounded = sorted({name for part in flagged for name in _where(part, "confound_verdict", "HIGH")})
    if confounded:
        lines.append(f"In {_named(confounded)} the score goes with activation mass, length or repetition (HIGH).")
    flags = pd.concat([part for _, part in parts]) if parts else pd.DataFrame({"flags": [], "conversation": []})
    longer = flags.loc[["longer_than_references" in text_of(value) for value in flags["flags"]], "conversation"]
    if longer.nunique():
        lines.append(f"The last turns of {_named(sorted(set(longer)))} are not tested: no reference is as long.")
    if [name for name, null in nulls.items() if null.get("reason")]:
        lines.append("Scores and percentiles of an analysis without a test say nothing of when drift began.")
    if parts:
        lines.append("The features of a transition say what the score is made of, not what caused the text.")
    if causal_lines(summary):
        lines.append("A verdict of the causal test holds for that transition, model and SAE, and for its layers alone.")
    return lines


def _where(part: pd.DataFrame, column: str, value: str) -> list[str]:
    return [str(row["conversation"]) for row in part.to_dict("records") if row.get(column) == value]


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _two(value: Any) -> str:
    number = _float(value)
    return "not known" if math.isnan(number) else f"{number:.2f}".replace("-", "\u2212")


def _percent(value: Any) -> str:
    number = _float(value)
    return "an unknown share" if math.isnan(number) else f"{100 * number:.0f} %"


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def findings_html(findings: Findings, pictures: str = "", links: Links | None = None) -> str:
    """The page. pictures: HTML of the flagged runs' figures; links: folders of runs that have some, from the page."""
    axis, flagged, *others = (_section(title, lines) for title, lines in findings.sections)
    body = [axis, _axis_table(findings.agreement), _projections(findings.projections), flagged]
    body.append(_flagged_table(findings.summary, links or {}))
    body += [_rates(findings.nulls), _detection(findings.summary), *others]
    body.append(f"<h2>Figures of what was flagged</h2>\n{pictures}" if pictures else "")
    return page("Findings", STYLE, "".join(body), script=SORT, pictures=True)


def _section(title: str, lines: Sequence[str]) -> str:
    shown = "".join(f'<li dir="auto">{_marked(line)}</li>\n' for line in lines)
    return f"<h2>{escaped(title)}</h2>\n<ul>\n{shown}</ul>\n"


def _marked(line: str) -> str:
    """A sentence as HTML, its verdict on an axis in bold."""
    marks = {"is not to be interpreted": "bad", "may be interpreted": "good"}
    said = escaped(line)
    for words, name in marks.items():
        said = said.replace(f"the axis {words}", f'the axis <span class="{name}">{words}</span>', 1)
    return said


def _axis_table(agreement: pd.DataFrame) -> str:
    if not len(agreement):
        return ""
    rows = [("", [_value(row.get(name), name in AXIS_TEXTS) for name in AXIS_HEADS]) for row in _records(agreement)]
    return table([(label, name in AXIS_TEXTS) for name, label in AXIS_HEADS.items()], rows)


def _value(value: Any, text: bool) -> str:
    if text:
        return cell(text_of(value), text=True)
    number = _float(value)
    return cell("") if math.isnan(number) else cell(figure_of(number), value=number)


def _records(part: pd.DataFrame) -> list[dict[Any, Any]]:
    return part.to_dict("records")


def _projections(projections: pd.DataFrame) -> str:
    """Where each role lies, folded; a table a space."""
    shown = []
    columns = [name for name in projections if name != "space"]
    for space, part in projections.groupby("space", sort=False) if len(projections) else []:
        rows = [("", [_value(row[name], name in ("role", "kind")) for name in columns]) for row in _records(part)]
        made = table([(str(name), name in ("role", "kind")) for name in columns], rows, sortable=True)
        count = _counted(len(part), "role")
        head = f"Where each role lies, {escaped(space)} ({count})"
        shown.append(f"<details><summary>{head}</summary>\n{made}</details>\n")
    return "".join(shown)


def flagged_runs(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of all analyses with an alarm, the smallest p first."""
    if not len(summary):
        return summary
    alarms = summary.loc[np.isfinite(numbers(summary, "alarm_turn"))]
    return alarms.sort_values(["p_value", "fall", "conversation", "analysis"], kind="stable")


def _flagged_table(summary: pd.DataFrame, links: Links) -> str:
    rows = []
    for row in _records(flagged_runs(summary)):
        folder = links.get((str(row["analysis"]), str(row["conversation"])))
        markup = "" if folder is None else f' <a href="{escaped(folder)}/token_heat.html">tokens</a>'
        cells = [cell(text_of(row["conversation"]), text=True, markup=markup)]
        cells.append(cell(text_of(row["analysis"]), text=True))
        for name in ("alarm_turn", "onset", "p_value", "q_value", "fall"):
            number = _float(row.get(name))
            cells.append(cell("") if math.isnan(number) else cell(figure_of(number), value=number))
        cells += [cell(text_of(row.get(name)), text=True) for name in ("confound_verdict", "flags")]
        rows.append(("", cells))
    heads = [("conversation", True), ("analysis", True), ("alarm at turn", False), ("evidence since", False)]
    heads += [("p", False), ("q", False), ("lowest z", False), ("confounds", True), ("flags", True)]
    return table(heads, rows, sortable=True) if rows else ""


def _rates(nulls: Nulls) -> str:
    parts = [
        f'<h3 dir="auto">Analysis {escaped(name)}</h3>\n{rates_html(null)}' for name, null in nulls.items() if null
    ]
    return f"<details><summary>False alarms, by domain</summary>\n{''.join(parts)}</details>\n" if parts else ""


def _detection(summary: pd.DataFrame) -> str:
    """How often simulated pressure is flagged; nothing without simulations."""
    found = detection_table(summary) if len(summary) else summary
    if not len(found):
        return ""
    words = {"analysis", "condition"}
    rows = [("", [_value(value, name in words) for name, value in row.items()]) for row in _records(found)]
    heads = [(str(name).replace("_", " "), name in words) for name in found]
    return f"<h3>Simulated conversations, with persona pressure and without</h3>\n{table(heads, rows)}"


def findings_rst(findings: Findings) -> str:
    """The same sentences as reStructuredText, for the report's first page."""
    parts = []
    for title, lines in findings.sections:
        parts.append(f"**{title}**\n")
        parts += ["- " + RST_SIGNS.sub(r"\\\1", " ".join(line.split())) for line in lines]
        parts.append("")
    return "\n".join(parts)


def run_pictures(
    results: Mapping[tuple[str, str], str], flagged: pd.DataFrame, known: Descriptions | None = None
) -> str:
    """Figures of the flagged runs, {(analysis, conversation): result.npz}, as HTML with the pictures inside it; known:
    what features are called."""
    shown = []
    for row in _records(flagged.head(MOST_FIGURES)):
        run = load_run(results[str(row["analysis"]), str(row["conversation"])])
        if isinstance(run.result, str):
            continue
        made, context = tables(run.result, known), context_of(run, run.result)
        pictures = []
        for name in SHOWN_FIGURES:
            data = base64.b64encode(png_bytes(figure_of_run(name, made, context))).decode()
            words = escaped(f"{name.replace('_', ' ')} of {run.title}")
            pictures.append(f'<p><img alt="{words}" src="data:image/png;base64,{data}"></p>\n')
        head = f"{run.title}: p = {p_text(_float(row['p_value']))}"
        opened = " open" if len(shown) < 3 else ""
        shown.append(f'<details{opened}><summary dir="auto">{escaped(head)}</summary>\n{"".join(pictures)}</details>\n')
    more = len(flagged) - MOST_FIGURES
    if more > 0:
        shown.append(f"<p>{_counted(more, 'further run')} with an alarm: see the ranking.</p>\n")
    return "".join(shown)


def write_findings(
    agreement: str,
    projections: str,
    nulls: Sequence[str],
    summaries: Sequence[str],
    results: Sequence[str],
    figures: Collection[str],
    descriptions: Sequence[str] = (),
    *,
    notes: Sequence[str] = (),
    page: str,
    text: str,
) -> None:
    """From tables of the axis, null/*.json of every analysis, and summary.json and result.npz of every run to the page
    and its sentences. descriptions: the file of what features are called, where there is one; figures:
    analyses whose runs have figures of their own; notes: warnings that are repeated."""
    known = described(descriptions)
    summary = summary_table(read_summaries(summaries), known) if summaries else pd.DataFrame()
    said = {Path(path).stem: read_json(path) for path in nulls}
    findings = Findings(read_csv(agreement), read_csv(projections), summary, said, notes)
    places = {(path.parent.parent.name, path.parent.name): str(path) for path in map(Path, results)}
    links = {
        run: Path(os.path.relpath(Path(path).parent, Path(page).parent)).as_posix()
        for run, path in places.items()
        if run[0] in figures
    }
    pictures = run_pictures(places, flagged_runs(summary), known)
    write_text(page, findings_html(findings, pictures, links))
    write_text(text, findings_rst(findings))
