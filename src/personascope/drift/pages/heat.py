"""A page with a whole conversation, its assistant tokens colored by what they add to the score on the axis.

Blue is toward the assistant, orange away from it, white is zero. The page holds texts of models and users: all of
it is escaped, what could hide or reorder text is shown as a sign, and the page can run no script and load nothing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from personascope.display.heat import HEAT_STEPS, heat_limit, heat_steps, step_class, step_styles
from personascope.display.html import escaped, page
from personascope.display.text import is_byte_level, whole_characters
from personascope.drift.pages.tokens import TokenValue, merged_values, shown_value
from personascope.drift.pages.words import doubt_line, rate_line, verdict_line
from personascope.drift.result import Verdict
from personascope.formats.conversation_layouts import shown
from personascope.formats.tables import numbers, truths

# The tokens stand on white paper in the dark scheme too, so that a color means the same everywhere.
STYLE = """.m { margin: 1rem 0; }
.m h2 { margin: 0; font-size: 0.8rem; text-transform: uppercase; letter-spacing: 0.05em; color: var(--soft); }
.b { padding: 0.6rem 0.8rem; border: 1px solid var(--edge); border-radius: 6px; white-space: pre-wrap; }
.b { overflow: hidden; overflow-wrap: anywhere; unicode-bidi: isolate; tab-size: 4; }
.k { background: #fff; color: #000; line-height: 1.75; }
.k, .legend { print-color-adjust: exact; forced-color-adjust: none; }
.m.alarmed .b { border: 2px solid #c2570c; }
.user .b, .system .b { margin-right: 15%; }
.assistant .b { margin-left: 15%; }
.assistant h2, .assistant p { margin-left: 15%; margin-top: 0; margin-bottom: 0.2rem; }
.flag { font-weight: 700; color: var(--ink); }
nav { line-height: 1.9; }
.legend { max-width: 32rem; padding: 0.5rem 0.8rem; background: #fff; color: #000; border: 1px solid var(--edge); }
.legend { font-size: 0.85rem; border-radius: 6px; margin: 0.8rem 0; }
.row { display: flex; justify-content: space-between; }
.row i { flex: 1; height: 1rem; }
.row span { flex: 1; }
.row span:nth-child(2) { text-align: center; }
.row span:nth-child(3) { text-align: right; }
.row .z { outline: 2px solid #000; }
"""


def heat_html(
    q3: pd.DataFrame,
    messages: Sequence[dict[str, Any]],
    turn_meta: pd.DataFrame,
    title: str = "Token heat",
    verdict: Verdict | None = None,
    doubt: str = "",
) -> str:
    """The page, complete HTML. q3: q3_token_localization; messages: the whole conversation; turn_meta: one row a turn;
    verdict: of the test; doubt: why the axis is not to be interpreted.

    All turns share one scale, so that equal colors are equal values. A turn without tokens shows its text uncolored.
    """
    kind = shown_value(q3)
    tokens, values = [str(token) for token in q3["token"]] if len(q3) else [], numbers(q3, kind.column)
    turn_of, limit = numbers(q3, "assistant_turn"), heat_limit(values)
    byte_level = is_byte_level(tokens)
    rows = _turn_rows(turn_meta, messages)
    alarm = min((turn for turn, row in rows.values() if row["alarm"]), default=None)
    sections = []
    for index, message in enumerate(messages):
        if index not in rows:
            sections.append(_plain_message(message))
            continue
        turn, row = rows[index]
        here = np.flatnonzero(turn_of == turn)
        runs = whole_characters([tokens[i] for i in here], byte_level)
        facts = _facts(row, len(here), alarm == turn)
        body = f'<div class="b k" dir="auto">{_spans(runs, values[here], limit, kind)}</div>'
        if not len(here):
            body = f'<div class="b" dir="auto">{escaped(shown(message))}</div>'
        marked = " alarmed" if alarm == turn else ""
        head = f'<section class="m assistant{marked}" id="t{turn}"><h2>assistant, turn {turn}</h2>'
        sections.append(f'{head}<p class="soft">{facts}</p>{body}</section>\n')
    links = " \u00b7 ".join(f'<a href="#t{turn}">{turn}: {_number(row, "score")}</a>' for turn, row in rows.values())
    turns = f'<nav class="soft">Score of each turn: {links or "no assistant turn"}</nav>\n'
    said = f'<p class="flag">{escaped(doubt_line(doubt))}</p>\n' if doubt else ""
    body = said + _verdict(verdict) + _legend(limit, kind) + turns + "<main>\n" + "".join(sections) + "</main>\n"
    return page(title, STYLE + step_styles(".k"), body)


def _verdict(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    kind = ' class="flag"' if verdict.alarm_turn is not None else ""
    said = f'<p dir="auto"{kind}>{escaped(verdict_line(verdict))}</p>\n'
    return said + (f'<p class="soft" dir="auto">{escaped(rate_line(verdict))}</p>\n' if rate_line(verdict) else "")


def _turn_rows(turn_meta: pd.DataFrame, messages: Sequence[dict[str, Any]]) -> dict[int, tuple[int, dict[str, Any]]]:
    """{message index: (turn, its row with numbers as floats and `alarm` as bool)}."""
    columns = {str(name): numbers(turn_meta, str(name)).tolist() for name in turn_meta.columns}
    columns["alarm"] = truths(turn_meta, "alarm").tolist()
    if "message_index" not in turn_meta:
        columns["message_index"] = [i for i, message in enumerate(messages) if message.get("role") == "assistant"]
    places = zip(columns["message_index"], columns.get("assistant_turn", []), strict=False)
    return {
        int(index): (int(turn), {name: column[row] for name, column in columns.items()})
        for row, (index, turn) in enumerate(places)
    }


def _plain_message(message: dict[str, Any]) -> str:
    role = str(message.get("role", ""))
    kind = role if role in ("system", "user", "assistant") else "user"
    note = '<p class="soft">not part of the analysis</p>' if role == "assistant" else ""
    content = escaped(shown(message))
    head = f'<section class="m {kind}"><h2>{escaped(role)}</h2>{note}'
    return f'{head}<div class="b" dir="auto">{content}</div></section>\n'


def _spans(runs: list[tuple[str, list[int]]], values: np.ndarray, limit: float, kind: TokenValue) -> str:
    """One span a token, or the tokens of one character, colored by its step, with its value as a tooltip."""
    parts, name = [], kind.label.split(":")[0]
    merged = merged_values(values, runs, kind)
    for (text, pieces), value, step in zip(runs, merged.tolist(), heat_steps(merged, limit).tolist(), strict=True):
        shown = escaped(text).replace("\n", "\u21b5\n")
        more = f", {kind.merged} of the {len(pieces)} tokens of the character" if len(pieces) > 1 else ""
        parts.append(f'<span class="{step_class(step)}" title="{name} {value:+.3g}{more}">{shown}</span>')
    return "".join(parts)


def _legend(limit: float, kind: TokenValue) -> str:
    swatches = "".join(f'<i class="{step_class(step)}"></i>' for step in range(-HEAT_STEPS, HEAT_STEPS + 1))
    name = kind.label.split(":")[0]
    return f"""<div class="legend">
<div class="row">{swatches}</div>
<div class="row"><span>\u2212{limit:.3g}</span><span>0</span><span>+{limit:.3g}</span></div>
<div class="row"><span>away from the assistant</span><span>{name}</span><span>toward the assistant</span></div>
</div>
<p class="soft">{escaped(kind.words)}. Point at a token to read its number. Only exactly zero is white: the color\u2019s
side is the sign of {name}, and tokens below zero are underlined. Colors are full from \u00b1{limit:.3g} on (98 % of
the tokens are within), the same for all turns. Tokens that are parts of one character are shown together.</p>
"""


def _number(row: dict[str, Any], column: str, digits: str = ".4g") -> str:
    value = row.get(column, np.nan)
    return format(value, digits) if np.isfinite(value) else "\u2013"


def _facts(row: dict[str, Any], n_tokens: int, is_alarm: bool) -> str:
    """What is known of a turn, as HTML."""
    if not n_tokens:
        return "no tokens: not scored"
    facts = [f"score {_number(row, 'score')}"]
    if np.isfinite(row.get("score_low", np.nan)):
        facts[0] += f" [{_number(row, 'score_low')}, {_number(row, 'score_high')}]"
    if np.isfinite(row.get("expected_low", np.nan)):
        band = f"{_number(row, 'expected_low')} to {_number(row, 'expected_high')}"
        facts.append(f"plain conversations here: {band} (middle 90 %), z {_number(row, 'z', '+.2f')}")
    facts.append(f"{n_tokens:,} tokens")
    if np.isfinite(row.get("percentile_assistant", np.nan)):
        share = _number(row, "percentile_assistant", ".3g")
        facts.append(f"above {share} % of the assistant\u2019s single answers")
    if np.isfinite(row.get("percentile_others", np.nan)):
        facts.append(f"above {_number(row, 'percentile_others', '.3g')} % of other roles\u2019")
    if np.isfinite(row.get("answer_p_value", np.nan)):
        facts.append(f"p as a single answer {_number(row, 'answer_p_value', '.2g')}")
    if np.isfinite(row.get("evidence", np.nan)):
        facts.append(f"evidence {_number(row, 'evidence', '.2f')}, alarm level {_number(row, 'level', '.2f')}")
    if is_alarm:
        facts.append('<span class="flag">\u25c6 alarm at this turn</span>')
    return " \u00b7 ".join(facts)
