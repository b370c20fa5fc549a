"""The page of a trace: the conversation's text colored by a direction, and a chart above it that goes with the text.

It is one file that loads nothing. All texts of models and users are escaped; its numbers are a block of JSON, which the
page's one script reads (`script.SCRIPT`). Without scripts it shows the first column.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from personascope.directions.traces.figure import WINDOW, shown_columns
from personascope.directions.traces.scale import FULL, Scale
from personascope.directions.traces.script import SCRIPT, STYLE
from personascope.display.heat import HEAT_STEPS, heat_steps, step_class, step_styles
from personascope.display.html import escaped, page
from personascope.display.text import is_byte_level, whole_characters
from personascope.formats.traces import Trace, split_column


@dataclass(frozen=True)
class _Pieces:
    """What the page shows as one token each: tokens, or the tokens that one character is made of. All have m entries;
    tokens: the indices of each."""

    text: list[str]
    tokens: list[list[int]]
    message_index: np.ndarray
    in_content: np.ndarray

    def mean(self, values: np.ndarray) -> np.ndarray:
        return np.array([values[tokens].mean() for tokens in self.tokens])

    def sum(self, values: np.ndarray) -> np.ndarray:
        return np.array([values[tokens].sum() for tokens in self.tokens])


def trace_page(trace: Trace, scales: Mapping[str, Scale], title: str, doubts: Mapping[str, str] | None = None) -> str:
    """The page, complete HTML; scales and doubts: {column: its scale}, {column: why it is not to be interpreted}."""
    if trace.metadata.get("error") or not len(trace):
        reason = trace.metadata.get("error") or "the conversation has no token"
        return page(title, STYLE, f'<p class="flag">{escaped(reason)}</p>\n')
    pieces = _pieces(trace)
    first = shown_columns(trace.columns)[0]
    data = _data(trace, pieces, scales, doubts or {})
    body = (
        _controls(trace, first)
        + _panel(first, scales[first], (doubts or {}).get(first, ""))
        + _messages(trace, pieces, scales[first], first)
        + _numbers(data)
    )
    return page(title, STYLE + step_styles(".x"), body, script=SCRIPT)


def _pieces(trace: Trace) -> _Pieces:
    byte_level = is_byte_level(trace.tokens)
    text, tokens = [], []
    for message in np.unique(trace.message_index).tolist():
        here = np.flatnonzero(trace.message_index == message)
        for shown, parts in whole_characters([trace.tokens[i] for i in here], byte_level):
            text.append(shown)
            tokens.append(here[parts].tolist())
    begin = [group[0] for group in tokens]
    return _Pieces(text, tokens, trace.message_index[begin], trace.in_content[begin])


def _data(trace: Trace, pieces: _Pieces, scales: Mapping[str, Scale], doubts: Mapping[str, str]) -> dict[str, object]:
    """What the script reads; numbers have 5 digits."""
    columns = []
    for i, column in enumerate(trace.columns):
        direction, layer = split_column(column)
        scale, doubt = scales[column], doubts.get(column, "")
        values = _rounded(pieces.mean(trace.projections[:, i].astype(np.float64)))
        shown = {"direction": direction, "layer": layer, "zero": scale.zero, "sd": scale.sd, "words": scale.words}
        columns.append(shown | {"doubt": doubt, "values": values})
    return {
        "columns": columns,
        "first": trace.columns.index(shown_columns(trace.columns)[0]),
        "surprise": _rounded(pieces.sum(trace.surprise.astype(np.float64))),
        "position": [group[0] for group in pieces.tokens],
        "message": pieces.message_index.tolist(),
        "content": pieces.in_content.astype(int).tolist(),
        "roles": {int(m): role for m, role in zip(trace.message_index, trace.roles, strict=True)},
        "full": FULL,
        "steps": HEAT_STEPS,
        "window": WINDOW,
    }


def _rounded(values: np.ndarray) -> list[float | None]:
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values.tolist()]


def _numbers(data: dict[str, object]) -> str:
    """The data block: no text of it can end the block."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="trace">{text}</script>\n'


def _controls(trace: Trace, first: str) -> str:
    direction, layer = split_column(first)
    columns = [split_column(column) for column in trace.columns]
    options = _options([name for name, _ in columns], direction)
    layers = _options([str(k) for _, k in columns], str(layer))
    dropped = trace.metadata.get("dropped_messages", 0)
    note = f" The first {dropped} messages did not fit into the model\u2019s context." if dropped else ""
    return f"""<p class="soft">What each token projects on a direction in the residual stream, at the output of a layer
(layers are counted from 0). Blue is above zero, orange below it and underlined; colors are full at \u00b1{FULL:g}
standard deviations, on one scale for the whole conversation. Words of the chat template are small and grey.{note}</p>
<form class="controls">
<label>Direction <select id="direction" autocomplete="off">{options}</select></label>
<label>Layer <select id="layer" autocomplete="off">{layers}</select></label>
<label><input type="checkbox" id="surprise" autocomplete="off"> surprise of tokens</label>
</form>
"""


def _options(values: list[str], chosen: str) -> str:
    parts = [
        f'<option value="{escaped(value)}"{" selected" if value == chosen else ""}>{escaped(value)}</option>'
        for value in dict.fromkeys(values)
    ]
    return "".join(parts)


def _panel(column: str, scale: Scale, doubt: str) -> str:
    """What stays in view above the text; the script writes it anew for the column that is chosen."""
    name, layer = split_column(column)
    low, high = scale.zero - FULL * scale.sd, scale.zero + FULL * scale.sd
    swatches = "".join(f'<i class="{step_class(step)}"></i>' for step in range(-HEAT_STEPS, HEAT_STEPS + 1))
    return f"""<div class="panel">
<div class="legend"><div class="row">{swatches}</div>
<div class="row"><span id="low">{low:.3g}</span><span id="zero">{scale.zero:.3g} (zero)</span>
<span id="high">{high:.3g}</span></div></div>
<p class="soft" id="words">{escaped(name)}, layer {layer}: {escaped(scale.words)}; 1 sd is {scale.sd:.3g}.</p>
<p class="flag" id="doubt"{"" if doubt else " hidden"}>{escaped(doubt)}</p>
<canvas id="chart" height="150" role="img"></canvas>
<canvas id="whole" height="26" role="img" aria-label="the whole conversation; click to go there"></canvas>
<p class="soft" id="said" aria-live="polite">Point at a token, or use the arrow keys in the text.</p>
</div>
"""


def _messages(trace: Trace, pieces: _Pieces, scale: Scale, column: str) -> str:
    """The conversation, one span a piece, with the colors of the column."""
    values = scale.units(pieces.mean(trace.projections[:, trace.columns.index(column)].astype(np.float64)))
    steps = heat_steps(values, FULL).tolist()
    keys = "left and right: token; up and down: message; home and end"
    parts = [f'<main id="text" class="x" tabindex="0" role="group" aria-label="the conversation ({keys})">\n']
    for message in np.unique(pieces.message_index).tolist():
        here = np.flatnonzero(pieces.message_index == message).tolist()
        role = trace.roles[pieces.tokens[here[0]][0]]
        kind = role if role in ("system", "user", "assistant") else "user"
        spans = "".join(_span(pieces.text[i], step_class(steps[i]), bool(pieces.in_content[i])) for i in here)
        head = f'<section class="m {kind}"><h2>{escaped(role)}, message {message}</h2>'
        parts.append(f'{head}<div class="b" dir="auto">{spans}</div></section>\n')
    return "".join([*parts, "</main>\n"])


def _span(text: str, kind: str, in_content: bool) -> str:
    shown = escaped(text).replace("\n", "\u21b5\n")
    return f'<b class="{kind}">{shown}</b>' if in_content else f"<b>{shown}</b>"
