"""Figures of one drift run, each drawn from its tables. Blue is toward the assistant, orange away from it.

Colors are safe for color-blind readers and never the only sign. Every figure can be drawn from tables with one
turn, without a transition, or with no row at all; it then says what is missing.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from personascope.display.figure import NO_TABLE
from personascope.drift.pages.confounds import confounds
from personascope.drift.pages.features import top_features
from personascope.drift.pages.roles import nearest_roles
from personascope.drift.pages.tokens import token_heat
from personascope.drift.pages.trajectory import selected_transition, trajectory

Tables = dict[str, pd.DataFrame]
Context = dict[str, Any]


def _token_heat(tables: Tables, context: Context) -> Figure:
    selected = selected_transition(tables.get("transition_df", NO_TABLE))
    turn = context.get("selected_turn", None if selected is None else int(selected["turn"]))
    return token_heat(tables.get("q3_token_localization", NO_TABLE), turn, title=context.get("title", ""))


def _options(context: Context, *names: str) -> dict[str, Any]:
    return {name: context[name] for name in (*names, "title") if name in context}


# Figures of a drift run. tables: those of the run by name. context, all optional: title, verdict (of the test), anchors
# (names of roles), references (role, q25, median, q75), selected_turn, warn, high and min_turns (confound check).
DRIFT_FIGURES: dict[str, Callable[[Tables, Context], Figure]] = {
    "trajectory": lambda tables, context: trajectory(
        tables.get("turn_meta", NO_TABLE),
        tables.get("transition_df", NO_TABLE),
        context.get("references", NO_TABLE),
        **_options(context, "verdict", "anchors"),
    ),
    "top_features": lambda tables, context: top_features(
        tables, selected_transition(tables.get("transition_df", NO_TABLE)), **_options(context)
    ),
    "token_heat": _token_heat,
    "nearest_roles": lambda tables, context: nearest_roles(
        tables.get("role_cosines", NO_TABLE), **_options(context, "anchors")
    ),
    "confounds": lambda tables, context: confounds(
        tables.get("turn_meta", NO_TABLE),
        tables.get("score_mass_diag", NO_TABLE),
        **_options(context, "warn", "high", "min_turns"),
    ),
}
