"""A reply as it arrives: text colored by one direction, and a line under it for each direction that is watched.

Values are in standard deviations from zero. Texts come from models: what a terminal would obey is shown as a sign.
"""

import math
import os
import shutil
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import TextIO

from personascope.display.text import visible

BARS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
FULL = 3.0  # standard deviations at which a color is full and a bar ends
LABEL = 24
STEPS = 10


def color_depth(out: TextIO) -> int:
    """Colors of the terminal: 0 for none (no terminal, NO_COLOR, TERM=dumb), 256, or 1 << 24."""
    if not out.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return 0
    return 1 << 24 if os.environ.get("COLORTERM", "") in ("truecolor", "24bit") else 256


def painted(text: str, value: float | None, depth: int) -> str:
    """The text on the color of a value: orange below zero, blue above."""
    if not depth or value is None or math.isnan(value) or not text:
        return text
    scaled = max(-1.0, min(1.0, value / FULL))
    return f"{_paint(int(math.copysign(math.ceil(abs(scaled) * STEPS), scaled)), depth)}{text}\x1b[0m"


@cache
def _paint(step: int, depth: int) -> str:
    """The code that switches a step's color on."""
    from personascope.display.heat import heat_color

    hexed = heat_color(step)
    red, green, blue = (int(hexed[i : i + 2], 16) for i in (1, 3, 5))
    if depth == 256:
        return f"\x1b[48;5;{16 + 36 * round(red / 51) + 6 * round(green / 51) + round(blue / 51)}m\x1b[38;5;16m"
    return f"\x1b[48;2;{red};{green};{blue}m\x1b[38;2;0;0;0m"


def bar(value: float) -> str:
    """One character between -FULL and FULL."""
    share = (max(-FULL, min(FULL, value)) + FULL) / (2 * FULL)
    return BARS[min(len(BARS) - 1, int(share * len(BARS)))]


def signed(value: float) -> str:
    """The value with two digits and its sign."""
    return f"{value:+.2f}".replace("-", "\u2212")


def cells(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def trace_line(label: str, values: Sequence[float], width: int, depth: int = 0, last: bool = True) -> str:
    """A line of at most `width` columns: the label, the last value (or the mean), and the bars of the last tokens."""
    name = label if len(label) <= LABEL else label[: LABEL - 1] + "\u2026"
    number = (values[-1] if last else sum(values) / len(values)) if values else 0.0
    head = f"{name:<{LABEL}} {'' if last else 'mean '}{signed(number)} sd "
    shown = list(values)[-max(0, width - len(head)) :] if width > len(head) else []
    return head[:width] + "".join(painted(bar(value), value, depth) for value in shown)


class PlainReply:
    """For pipes and files: the text as it comes, and at the end a line for each direction."""

    def __init__(self, out: TextIO, labels: Sequence[str]):
        self.out, self.labels = out, labels
        self.values: list[list[float]] = [[] for _ in labels]

    def token(self, text: str, values: Sequence[float]) -> None:
        """One more token of the reply."""
        for kept, value in zip(self.values, values, strict=True):
            kept.append(value)
        self._show(visible(text))

    def _show(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()

    def end(self) -> None:
        """The reply is over, or was interrupted."""
        lines = [trace_line(label, kept, 80, last=False) for label, kept in zip(self.labels, self.values, strict=True)]
        self.out.write("\n" + "".join(f"{line}\n" for line in lines if self.values[0]))
        self.out.flush()


class LiveReply(PlainReply):
    """For terminals: each token on the color of the first direction, and under the text a line for each of them.

    The cursor rests at the start of the line that is being written; lines that are full are never touched again, so
    that scrolling and copying work as ever.
    """

    def __init__(self, out: TextIO, labels: Sequence[str], depth: int):
        super().__init__(out, labels)
        self.depth = depth
        self.line: list[tuple[str, float | None]] = []  # what it is made of, and the values
        self.out.write("\x1b[?25l")

    @property
    def width(self) -> int:
        return max(20, shutil.get_terminal_size().columns - 1)

    def _show(self, text: str) -> None:
        value = self.values[0][-1] if self.values else None
        for i, part in enumerate(text.replace("\t", "    ").split("\n")):
            if i:
                self._break()
            while self._used() + cells(part) > self.width:
                if not self.line:  # a token longer than a line
                    self.line.append((part[: self.width // 2], value))
                    part = part[self.width // 2 :]
                self._break(whole_words=not part.startswith(" "))
                part = part if self.line else part.lstrip(" ")
            self.line.append((part, value))
        self._draw()

    def _used(self) -> int:
        return sum(cells(text) for text, _ in self.line)

    def _painted(self, line: list[tuple[str, float | None]]) -> str:
        return "".join(painted(text, value, self.depth) for text, value in line)

    def _break(self, whole_words: bool = False) -> None:
        """End the line; with whole_words, the word that it ends with goes to the next one, if it isn't all of it."""
        spaces = [i for i, (text, _) in enumerate(self.line) if i and text.startswith(" ")]
        cut = spaces[-1] if whole_words and spaces else len(self.line)
        written, self.line = self.line[:cut], self.line[cut:]
        if self.line:
            self.line[0] = (self.line[0][0].lstrip(" "), self.line[0][1])
        self.out.write(f"\r{self._painted(written)}\x1b[K\n")

    def _draw(self, back: bool = True) -> None:
        lines = [
            trace_line(label, kept, self.width, self.depth)
            for label, kept in zip(self.labels, self.values, strict=True)
            if kept
        ]
        below = "".join(f"\n{line}\x1b[K" for line in lines)
        up = f"\x1b[{len(lines)}A" if lines and back else ""
        self.out.write(f"\r{self._painted(self.line)}\x1b[K{below}{up}" + ("\r" if back else "\n"))
        self.out.flush()

    def end(self) -> None:
        self._draw(back=False)
        self.out.write("\x1b[0m\x1b[?25h\n")
        self.out.flush()
