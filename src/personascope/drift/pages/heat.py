"""A page with a whole conversation, its assistant tokens colored by their projection on the axis.

Blue is toward the assistant, orange away from it, white is zero. The page holds texts of models and users: all of
it is escaped, what could hide or reorder text is shown as a sign, and the page can run no script and load nothing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from personascope.display.heat import HEAT_STEPS, heat_color, heat_limit, heat_steps
from personascope.display.html import escaped, page
from personascope.display.text import CONTINUATION, is_byte_level, piece_text
from personascope.formats.tables import numbers, truths

# The tokens stand on white paper in the dark scheme too, so that a color means the same everywhere.
STYLE = """.m { margin: 1rem 0; }
.m h2 { margin: 0; font-size: 0.8rem; text-transform: uppercase; letter-spacing: 0.05em; color: var(--soft); }
.b { padding: 0.6rem 0.8rem; border: 1px solid var(--edge); border-radius: 6px; white-space: pre-wrap; }
.b { overflow: hidden; overflow-wrap: anywhere; unicode-bidi: isolate; tab-size: 4; }
.k { background: #fff; color: #000; line-height: 1.75; }
.k, .legend { print-color-adjust: exact; forced-color-adjust: none; }
.m.onset .b { border: 2px solid #c2570c; }
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
    q3: pd.DataFrame, messages: Sequence[dict[str, Any]], turn_meta: pd.DataFrame, title: str = "Token heat"
) -> str:
    """The page, complete HTML. q3: q3_token_localization; messages: the whole conversation; turn_meta: one row a turn.

    All turns share one scale, so that equal colors are equal u_k. A turn without tokens shows its text uncolored.
    """
    tokens, values = [str(token) for token in q3["token"]] if len(q3) else [], numbers(q3, "u_k")
    turn_of, limit = numbers(q3, "assistant_turn"), heat_limit(values)
    byte_level = is_byte_level(tokens)
    rows = _turn_rows(turn_meta, messages)
    rejecting = [turn for turn, row in rows.values() if row.get("rejects")]
    onset = min(rejecting, default=None)
    sections = []
    for index, message in enumerate(messages):
        if index not in rows:
            sections.append(_plain_message(message))
            continue
        turn, row = rows[index]
        here = np.flatnonzero(turn_of == turn)
        texts = piece_text([tokens[i] for i in here], byte_level)
        facts = _facts(row, len(here), onset == turn)
        body = f'<div class="b k" dir="auto">{_spans(texts, values[here], limit)}</div>'
        if not len(here):
            body = f'<div class="b" dir="auto">{escaped(message.get("content", ""))}</div>'
        marked = " onset" if onset == turn else ""
        head = f'<section class="m assistant{marked}" id="t{turn}"><h2>assistant, turn {turn}</h2>'
        sections.append(f'{head}<p class="soft">{facts}</p>{body}</section>\n')
    links = " \u00b7 ".join(f'<a href="#t{turn}">{turn}: {_number(row, "score")}</a>' for turn, row in rows.values())
    turns = f'<nav class="soft">Score of each turn: {links or "no assistant turn"}</nav>\n'
    return page(title, STYLE + _colors(), _legend(limit) + turns + "<main>\n" + "".join(sections) + "</main>\n")


def _turn_rows(turn_meta: pd.DataFrame, messages: Sequence[dict[str, Any]]) -> dict[int, tuple[int, dict[str, Any]]]:
    """{message index: (turn, its row with numbers as floats and `rejects` as bool)}."""
    columns = {str(name): numbers(turn_meta, str(name)).tolist() for name in turn_meta.columns}
    columns["rejects"] = truths(turn_meta, "rejects").tolist()
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
    content = escaped(message.get("content", ""))
    head = f'<section class="m {kind}"><h2>{escaped(role)}</h2>{note}'
    return f'{head}<div class="b" dir="auto">{content}</div></section>\n'


def _spans(texts: list[str], values: np.ndarray, limit: float) -> str:
    """One span a token, colored by its step, with u_k as a tooltip."""
    parts = []
    for text, value, step in zip(texts, values.tolist(), heat_steps(values, limit).tolist(), strict=True):
        shown = escaped(text).replace("\n", "\u21b5\n")
        tooltip = f"u {value:+.3g}" + (", part of the next character" if text == CONTINUATION else "")
        parts.append(f'<span class="{_step_class(step)}" title="{tooltip}">{shown}</span>')
    return "".join(parts)


def _step_class(step: int) -> str:
    return f"p{step}" if step > 0 else f"n{-step}" if step < 0 else "z"


def _colors() -> str:
    """The styles of the steps; tokens below zero are underlined too, for eyes and printers without colors."""
    steps = range(-HEAT_STEPS, HEAT_STEPS + 1)
    below = ", ".join(f".k .{_step_class(step)}" for step in steps if step < 0)
    colors = "".join(f".{_step_class(step)} {{ background: {heat_color(step)}; }}\n" for step in steps)
    return f"{colors}{below} {{ box-shadow: inset 0 -2px #c2570c; }}\n"


def _legend(limit: float) -> str:
    swatches = "".join(f'<i class="{_step_class(step)}"></i>' for step in range(-HEAT_STEPS, HEAT_STEPS + 1))
    return f"""<div class="legend">
<div class="row">{swatches}</div>
<div class="row"><span>\u2212{limit:.3g}</span><span>0</span><span>+{limit:.3g}</span></div>
<div class="row"><span>away</span><span>u</span><span>toward the assistant</span></div>
</div>
<p class="soft">u is the projection of one token on the assistant axis; point at a token to read it. Only exactly
zero is white: the color's side is the sign of u, and tokens below zero are underlined. Colors are full from
\u00b1{limit:.3g} on (98 % of the tokens are within), the same for all turns. A turn's score comes from its pooled
activations; it is in general not the mean of its tokens' u, since the log1p of a mean is not the mean of the log1p.
A token that holds only a part of a character's bytes is shown as {CONTINUATION}.</p>
"""


def _number(row: dict[str, Any], column: str, digits: str = ".4g") -> str:
    value = row.get(column, np.nan)
    return format(value, digits) if np.isfinite(value) else "\u2013"


def _facts(row: dict[str, Any], n_tokens: int, is_onset: bool) -> str:
    """What is known of a turn, as HTML."""
    if not n_tokens:
        return "no tokens: not scored"
    facts = [f"score {_number(row, 'score')}"]
    if "score_low" in row:
        facts[0] += f" [{_number(row, 'score_low')}, {_number(row, 'score_high')}]"
    facts.append(f"{n_tokens:,} tokens")
    if "percentile_assistant" in row:
        facts.append(f"percentile {_number(row, 'percentile_assistant', '.3g')} of the assistant\u2019s own responses")
    if "percentile_others" in row:
        facts.append(f"{_number(row, 'percentile_others', '.3g')} of other roles\u2019")
    if "p_value" in row:
        facts.append(f"p {_number(row, 'p_value', '.2g')}")
    if "adjusted_p_value" in row:
        facts.append(f"p {_number(row, 'adjusted_p_value', '.2g')} with confounds taken out")
    if np.isfinite(row.get("evidence", np.nan)):
        facts.append(f"evidence {_number(row, 'evidence', '.2g')} of {_number(row, 'threshold', '.2g')} nats")
    if row["rejects"]:
        facts.append('<span class="flag">\u25c6 the test rejects \u201cstill the assistant\u201d</span>')
    if is_onset:
        facts.append('<span class="flag">drift onset</span>')
    return " \u00b7 ".join(facts)
