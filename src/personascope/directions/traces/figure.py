"""The figure of a trace: what each token projects on the directions, message by message, and how surprising it is."""

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from personascope.directions.traces.scale import FULL, Scale
from personascope.display.figure import BLACK, BLUE, GREY, ORANGE, PALE_GREY, clean, finish, font_text, message_figure
from personascope.formats.traces import Trace, split_column

WINDOW = 21  # tokens that the line is a mean over, fewer at the ends of a message
MOST_PANELS = 6
LABEL_SHARE = 0.035  # of the width, which a message needs for its label


def shown_columns(columns: list[str]) -> list[str]:
    """One column a direction, that of its last layer; at most MOST_PANELS of them."""
    last = {split_column(column)[0]: column for column in columns}  # columns come layer by layer
    return list(last.values())[:MOST_PANELS]


def smoothed(values: np.ndarray, message_index: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """The mean over `window` neighbors of the same message, float64 [n]; fewer at a message's ends."""
    out, half = np.empty(len(values)), window // 2
    edges = [0, *(np.flatnonzero(np.diff(message_index)) + 1), len(values)]
    for start, end in pairwise(edges):
        sums = np.concatenate([[0.0], np.cumsum(values[start:end], dtype=np.float64)])
        low = (np.arange(end - start) - half).clip(min=0)
        high = (np.arange(end - start) + half + 1).clip(max=end - start)
        out[start:end] = (sums[high] - sums[low]) / (high - low)
    return out


def trace_figure(trace: Trace, scales: dict[str, Scale], title: str, doubts: dict[str, str] | None = None) -> Figure:
    """The figure; scales: {column: scale}; doubts: {column: why its direction is not to be interpreted}."""
    if trace.metadata.get("error"):
        return message_figure(str(trace.metadata["error"]), title)
    if not trace.in_content.any():
        return message_figure("no message of this conversation has a token", title)
    columns = shown_columns(trace.columns)
    heights = [*[2.0] * len(columns), 0.8]
    figure = Figure(figsize=(10, sum(heights) + 0.9), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for ax, column in zip(axes, columns, strict=False):
        _panel(ax, trace, column, scales[column], (doubts or {}).get(column, ""))
    _surprise(axes[-1], trace)
    for ax in axes:
        _messages(ax, trace, labels=ax is axes[0])
        clean(ax)
    axes[-1].set_xlim(-0.5, len(trace) - 0.5)
    axes[-1].set_xlabel("token of the conversation")
    hidden = len({split_column(column)[0] for column in trace.columns}) - len(columns)
    more = f", {hidden} more directions in the page" if hidden else ""
    return finish(figure, f"{title}{more}")


def _panel(ax: Axes, trace: Trace, column: str, scale: Scale, doubt: str) -> None:
    place = np.flatnonzero(trace.in_content)
    values = scale.units(trace.projections[place, trace.columns.index(column)].astype(np.float64))
    answered = trace.answered[place]
    low, high = _limits(values)
    kept = values.clip(low, high)
    inside = kept == values
    for chosen, color, label in ((answered, BLUE, "assistant"), (~answered, GREY, "others")):
        style = {"s": 5, "alpha": 0.45, "color": color, "linewidths": 0, "label": label}
        ax.scatter(place[chosen & inside], values[chosen & inside], **style)
        ax.scatter(place[chosen & ~inside], kept[chosen & ~inside], marker="d", **(style | {"s": 16, "label": None}))
    line = smoothed(values, trace.message_index[place])
    breaks = np.flatnonzero(np.diff(trace.message_index[place])) + 1
    for part in np.split(np.arange(len(place)), breaks):
        ax.plot(place[part], line[part].clip(low, high), color=BLACK if answered[part[0]] else GREY, linewidth=1.4)
    ax.axhline(0, color=ORANGE, linewidth=0.8)
    ax.set_ylim(low, high)
    ax.set_ylabel("sd from zero")
    name, layer = split_column(column)
    beyond = f"; {int((~inside).sum())} tokens beyond the edge" if not inside.all() else ""
    text = f"{name}, layer {layer}: {scale.words} ({scale.zero:.3g}; 1 sd is {scale.sd:.3g}){beyond}"
    ax.set_title(font_text(text, 165), fontsize=7.5, loc="left", pad=16 if ax.get_subplotspec().is_first_row() else 4)  # type: ignore[union-attr]
    if doubt:
        ax.text(0.01, 0.04, font_text(doubt, 150), transform=ax.transAxes, fontsize=8, color=ORANGE, fontweight="bold")
    if ax.get_subplotspec().is_first_row():  # type: ignore[union-attr]
        ax.legend(fontsize=7, loc="upper right", markerscale=2, framealpha=0.8)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """The range that is drawn: FULL standard deviations each way, and what 99 % of the tokens need beyond."""
    low, high = np.percentile(values, [0.5, 99.5])
    return min(-FULL, 1.05 * float(low)), max(FULL, 1.05 * float(high))


def _surprise(ax: Axes, trace: Trace) -> None:
    place = np.flatnonzero(trace.in_content & np.isfinite(trace.surprise))
    values = trace.surprise[place].astype(np.float64)
    ax.vlines(place, 0, values, color=PALE_GREY if len(place) > 800 else GREY, linewidth=0.6)
    line = smoothed(values, trace.message_index[place])
    for part in np.split(np.arange(len(place)), np.flatnonzero(np.diff(trace.message_index[place])) + 1):
        ax.plot(place[part], line[part], color=BLACK, linewidth=1)
    ax.set_ylim(0, max(1.0, float(np.percentile(values, 99))) if len(values) else 1)
    ax.set_ylabel("surprise\n(nats)")


def _messages(ax: Axes, trace: Trace, *, labels: bool) -> None:
    """Grey behind all that is not the assistant's; who speaks above the first panel, where there is room."""
    edges = [0, *(np.flatnonzero(np.diff(trace.message_index)) + 1).tolist(), len(trace)]
    for start, end in pairwise(edges):
        role = trace.roles[start]
        if role != "assistant":
            ax.axvspan(start - 0.5, end - 0.5, color=PALE_GREY, alpha=0.6, linewidth=0, zorder=0)
        if labels and (end - start) >= LABEL_SHARE * len(trace):
            middle = (start + end - 1) / 2
            words = (
                f"{role} {trace.message_index[start]}" if (end - start) >= 2.2 * LABEL_SHARE * len(trace) else role[0]
            )
            ax.text(middle, 1.02, words, transform=ax.get_xaxis_transform(), ha="center", fontsize=7, color=GREY)
