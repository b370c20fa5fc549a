"""The tables of a drift run, by the names under which they are written as CSV."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from personascope.drift.attribution import FEATURE_TABLES, effect
from personascope.drift.options import SCORE_METHODS
from personascope.drift.result import DriftResult
from personascope.drift.strength import COLUMNS
from personascope.drift.turns import MASS_METRICS, turn_bounds
from personascope.drift.weights import LEFT_OUT
from personascope.formats.descriptions import with_descriptions

CORRELATION = "corr(score, metric)"


def tables(
    result: DriftResult, descriptions: Mapping[int, Mapping[str, str | None]] | None = None
) -> dict[str, pd.DataFrame]:
    """Every table of a run; each has its columns even where it has no row. descriptions: of features, in place of those
    that the result was made with."""
    features = result.features
    if descriptions:
        features = features | {name: with_descriptions(features[name], descriptions) for name in FEATURE_TABLES}
    diagnostics = score_mass_diag(result)
    pivot = diagnostics.pivot(index="metric", columns="score_method", values=CORRELATION)
    return {
        "turn_meta": turn_meta(result),
        "role_trace": result.nearest,
        "role_cosines": role_cosines(result),
        "score_mass_diag": diagnostics,
        "score_mass_pivot": pivot.loc[diagnostics["metric"]].reset_index().rename_axis(columns=None),
        "selected_diag": diagnostics.copy(),
        "transition_df": transition_df(result),
        **features,
        "q3_token_localization": token_localization(result),
        "attribution": attribution(result),
    }


def turn_meta(result: DriftResult) -> pd.DataFrame:
    """One row an assistant turn: where it is, scores, mass metrics, and intervals and calibration where there are any.

    start, end: half-open range of its tokens in the rendered conversation, missing for a turn without tokens.
    """
    tokens, turns = result.tokens, result.turns
    bounds = turn_bounds(tokens)
    filled = turns.n_tokens > 0
    span = pd.array([pd.NA] * tokens.n_turns, dtype="Int64")
    start, end = span.copy(), span.copy()
    start[filled] = tokens.position[bounds[:-1][filled]]
    end[filled] = tokens.position[bounds[1:][filled] - 1] + 1
    columns: dict[str, Any] = {
        "assistant_turn": np.arange(tokens.n_turns),
        "message_index": tokens.message_index,
        "start": start,
        "end": end,
        "n_tokens": turns.n_tokens,
        **{method: turns.scores[method] for method in SCORE_METHODS},
        "score": result.score,
        **{metric: turns.mass[metric] for metric in MASS_METRICS},
        "repetition": np.where(filled, result.repetition, np.nan),
    }
    table = pd.DataFrame(columns)
    for more in (result.intervals, result.calibration):
        if more is not None:
            table = table.merge(more, on="assistant_turn", how="left", validate="one_to_one")
    return table


def role_cosines(result: DriftResult) -> pd.DataFrame:
    """Cosine of each turn with every role, both minus the mean role: assistant_turn, a column a role."""
    table = pd.DataFrame(result.role_cosines, columns=pd.Index(result.roles.role_names))
    table.insert(0, "assistant_turn", np.arange(len(table)), allow_duplicates=True)
    return table


def score_mass_diag(result: DriftResult) -> pd.DataFrame:
    """Correlation of the selected score with each mass metric: metric, score_method, corr(score, metric)."""
    table = result.confounds
    columns = {name: table[name] for name in ("metric", "score_method")}
    return pd.DataFrame(columns | {CORRELATION: table["corr"], "n": table["n"]})


def transition_df(result: DriftResult) -> pd.DataFrame:
    """One row a transition; `selected` marks the one that the feature tables explain, the smallest rise where the score
    never drops (`no_drop`).

    top_away_share_null_median, _null_high, top_away_share_p_value: see `strength`; missing without a reference.
    """
    names = (
        *("prev_turn", "turn", "delta_score", "delta_projection", "away_mass", "toward_mass"),
        *("top_away_share", "effect_strength"),
    )
    table = pd.DataFrame({name: [getattr(item, name) for item in result.transitions] for name in names})
    table["selected"] = np.arange(len(table)) == (-1 if result.selected is None else result.selected)
    table["no_drop"] = result.no_drop
    for name in COLUMNS:
        table[name] = np.full(len(table), np.nan) if result.strength is None else result.strength[name].to_numpy()
    return table


def token_localization(result: DriftResult) -> pd.DataFrame:
    """u_k, its heat and w for every token of every assistant turn."""
    tokens = result.tokens
    return pd.DataFrame(
        {
            "assistant_turn": tokens.turn,
            "position": tokens.position,
            "token_id": tokens.token_ids,
            "token": tokens.tokens,
            "u_k": result.token_scores,
            "u_k_norm": result.token_heat,
            "w": result.weights.w,
        }
    )


def attribution(result: DriftResult) -> pd.DataFrame:
    """Feature by token, what adds to the change of the plain projection over the selected transition.

    turn, token_idx: the token, counted from 0 in its turn; part < 0 moves away from the assistant. The last rows,
    without feature and token, sum up what is left out: n_entries parts of that turn and effect.
    """
    table = result.attribution
    listed = (table["token_idx"] != LEFT_OUT).to_numpy()
    places = turn_bounds(result.tokens)[table["turn"].to_numpy()] + table["token_idx"].to_numpy()
    texts = np.array([*result.tokens.tokens, ""], object)  # the last one for what is left out
    return pd.DataFrame(
        {
            "feature_idx": table["feature_idx"].astype("Int64").where(listed),
            "turn": table["turn"],
            "token_idx": table["token_idx"].astype("Int64").where(listed),
            "token": texts[np.where(listed, places, -1)],
            "part": table["part"],
            "effect": np.where(table["part"].to_numpy() < 0, effect(-1.0), effect(1.0)),
            "n_entries": table["n_entries"],
        }
    )
