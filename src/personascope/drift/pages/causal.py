"""The causal test as a figure: what each arm does to the turn's own tokens, and to new text, with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from personascope.display.figure import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PALE_GREY,
    finish,
    font_text,
    message_figure,
    save_figure,
)
from personascope.display.paper import PAGE, PAPER_DPI, paper_axes, paper_figure, paper_style
from personascope.formats.causal import read_causal
from personascope.formats.descriptions import described
from personascope.formats.files import read_json

ROW, HEAD = 0.22, 0.9  # inches: an arm, and what else the panels need
ARMS = {
    "features": "top features, set back",
    "fell": "  of them: those that fell",
    "rose": "  of them: those that rose",
    "matched": "matched features",
    "random_direction": "random direction",
    "largest_change": "largest changes",
}
NAMED = 5  # features that are set back, by name
SPREAD = 0.5  # of a row, over which the draws of a control are spread
TITLES = ["Direct: the same tokens,\nlater layers", "Total: written anew,\nread without hooks", "Next token,\ndirect"]
JUDGED = "Total: the judge,\n0 to 3"
UNIT = "toward the assistant (sd of tokens)"


@paper_style
def causal_figure(content: Mapping[str, Any], judged: Mapping[str, Any] | None = None) -> Figure:
    """Direct effect at later layers, total effect on new text, and the divergence of the next token, an arm a row.

    judged: what a judge says of the new text (`causal_judged`), a panel more where that judge is fit to.
    """
    name = f"{font_text(content['conversation'], 44)}, {font_text(content['analysis'], 20)}"
    title = f"Causal test of {name}: {content['verdict'] or 'none'}"
    if content["verdict"] is None:
        return message_figure(f"No causal test: {content['reason']}.", title)
    rows = {arm: [row for row in content["direct"] if row["arm"] == arm] for arm in ARMS}
    places = {arm: float(i) for i, arm in enumerate(arm for arm, found in rows.items() if found)}
    step, seeds = content["transition"], content["seeds_needed"]
    place = f"turn {step['prev_turn']} to {step['turn']}, {seeds['used']} seeds"
    subtitle = f"{place[0].upper()}{place[1:]}: {content['reason']}."
    notes = [
        "Bars: 95 % intervals, of direct effects over the turn's tokens, of total effects over paired seeds. A dot a "
        f"draw. Dashed: {content['fall']['relevant_share']:.0%} of the transition's fall; dotted: all of it.",
        *content["notes"],
    ]
    if judged and not judged["fit"]:
        notes.append(f"The judge {judged['judge']} is {judged['worth']}: what it says of the new text is not shown.")
    scored = judged["metrics"]["adherence"] if judged and judged["fit"] else None
    figure = paper_figure(PAGE, HEAD + ROW * len(places), title, subtitle, notes)
    titles = [*TITLES, JUDGED] if scored else TITLES
    grid = figure.add_gridspec(1, len(titles), width_ratios=(1, 1, 0.7, 0.7)[: len(titles)])
    panels = [paper_axes(figure, grid[0, i]) for i in range(len(titles))]
    _draw(panels[0], content["direct"], "reading", places)
    _draw(panels[1], content["total"], "reading", places)
    _draw(panels[2], content["direct"], "kl", places)
    for ax, title in zip(panels, titles, strict=True):
        ax.set_title(title, fontsize=7.5, loc="left")
    for ax in panels[:2]:
        ax.axvline(content["fall"]["relevant"], color=GREY, linewidth=0.8, linestyle=(0, (3, 2)), zorder=0)
        ax.axvline(max(content["fall"]["reading"], 0), color=GREY, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
        ax.set_xlabel(UNIT)
    panels[2].set_xlabel("KL (nats)")
    if scored:
        _draw(panels[3], _rows_of(scored), "adherence", places)
        panels[3].set_xlabel("adherence to the assistant")
    _name_rows(panels, places)
    if not content["layers"]["direct"]:
        panels[0].text(0.5, 0.5, "no later layer is kept", ha="center", transform=panels[0].transAxes, color=GREY)
    return finish(figure)


def _rows_of(scored: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A judge's effects as rows of an arm and a draw, like those of the readings."""
    return [{"arm": arm, "effects": {"adherence": one}} for arm, draws in scored["arms"].items() for one in draws]


def _draw(ax: Axes, rows: list[dict[str, Any]], name: str, places: Mapping[str, float]) -> None:
    """The effects of one reading, each draw in the row of its arm."""
    ax.axvline(0, color=BLACK, linewidth=0.6, zorder=0)
    for arm, place in places.items():
        found = [row["effects"].get(name) for row in rows if row["arm"] == arm]
        color = ORANGE if arm in ("features", "fell", "rose") else BLUE
        for i, effect in enumerate(found):
            if effect is None:
                continue
            y = place + (SPREAD * (i / (len(found) - 1) - 0.5) if len(found) > 1 else 0)
            if effect["low"] is not None:
                ax.hlines(y, effect["low"], effect["high"], color=color, linewidth=1.4 if arm == "features" else 0.8)
            ax.plot(
                effect["mean"],
                y,
                "D" if arm == "features" else "o",
                color=color,
                markersize=4 if color == ORANGE else 2.5,
            )


def _name_rows(panels: list[Axes], places: Mapping[str, float]) -> None:
    for i, ax in enumerate(panels):
        ax.set_ylim(max(places.values()) + 0.6, -0.6)
        ax.set_yticks(list(places.values()), [ARMS[arm] for arm in places] if i == 0 else [])
        ax.tick_params(axis="y", length=0, labelcolor=BLACK)
        ax.spines["left"].set_visible(False)
        ax.grid(axis="x", color=PALE_GREY, linewidth=0.4, zorder=0)
        ax.set_axisbelow(True)


def feature_note(content: Mapping[str, Any], known: Mapping[int, Mapping[str, str | None]]) -> str:
    """The features that are set back, those that add most to the fall first, by what they are called; "" where none of
    them is called anything."""
    listed = sorted(content.get("features") or [], key=lambda row: row["contrib"])[:NAMED]
    names = [(row["feature_idx"], known.get(row["feature_idx"], {}).get("description")) for row in listed]
    if not any(name for _, name in names):
        return ""
    said = [f"#{feature} {font_text(name or '', 36)}".rstrip() for feature, name in names]
    return f"Features set back, the largest parts of the fall first: {'; '.join(said)}."


def plot_causal(causal: str, png: str, svg: str, judged: str | None = None, descriptions: Sequence[str] = ()) -> None:
    """From the test's JSON to its figure; judged: the file of `causal_judged`; descriptions: that of what features are
    called, where there is one."""
    content = read_causal(causal)
    note = feature_note(content, described(descriptions))
    content |= {"notes": [*content["notes"], note]} if note else {}
    figure = causal_figure(content, read_json(judged) if judged else None)
    save_figure(figure, png, svg, dpi=PAPER_DPI)
