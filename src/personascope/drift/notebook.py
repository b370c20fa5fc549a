"""The tables of a run as they are written: the drift notebook's columns first, ours beside them.

The notebook has no row for a turn without a token, one row a turn in `role_trace`, and in `q3_token_localization` the
tokens of the selected turn alone. What is shown of all turns is in `drift.tables`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from personascope.drift.options import SCORE_METHODS
from personascope.drift.result import DriftResult
from personascope.drift.tables import tables
from personascope.drift.turns import MASS_METRICS, turn_bounds
from personascope.formats.responses import answer_of

RAW, SPACE = MASS_METRICS[:2], MASS_METRICS[2:]


def notebook_tables(
    result: DriftResult,
    messages: Sequence[Mapping[str, Any]],
    descriptions: Mapping[int, Mapping[str, str | None]] | None = None,
) -> dict[str, pd.DataFrame]:
    """Every table of a run; each has its columns even where it has no row. messages: of the conversation."""
    made = tables(result, descriptions)
    return made | {
        "turn_meta": turn_meta(result, made["turn_meta"], messages),
        "role_trace": role_trace(result),
        "transition_df": transition_df(result, made["transition_df"]),
        "q3_token_localization": selected_tokens(result, made["q3_token_localization"]),
        "token_scores": made["q3_token_localization"],
    }


def turn_meta(result: DriftResult, whole: pd.DataFrame, messages: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The turns that have tokens. span_*: the answer's tokens in the rendered conversation; pool_*: those that are
    pooled over, which are the same; assistant_text: the answer."""
    filled = np.flatnonzero(result.turns.n_tokens)
    mine = whole.iloc[filled].reset_index(drop=True)
    places = {f"{kind}_{end}": mine[end].astype("int64") for kind in ("span", "pool") for end in ("start", "end")}
    texts = [answer_of(str(messages[i]["content"] or "")) for i in mine["message_index"].tolist()]
    columns = {
        **{name: mine[name] for name in ("assistant_turn", "message_index")},
        **places,
        "n_tokens_pooled": mine["n_tokens"],
        RAW[0]: mine[RAW[0]],
        "turn_l1_raw": np.abs(result.turns.raw[filled]).sum(1, dtype=np.float64),
        RAW[1]: mine[RAW[1]],
        "assistant_text": pd.Series(texts, dtype=object),
        "score": mine["score"],
        **{name: mine[name] for name in (*SCORE_METHODS, *SPACE)},
    }
    ours = mine.drop(columns=[*(name for name in columns if name in mine), "start", "end", "n_tokens"])
    return pd.concat([pd.DataFrame(columns), ours], axis=1)


def role_trace(result: DriftResult) -> pd.DataFrame:
    """The nearest roles of each turn that has tokens, a row a turn: assistant_turn, top1_role, top1_sim, ..."""
    k = min(result.options.display.top_k_roles, len(result.roles.role_names))
    names = [f"top{rank}_{what}" for rank in range(1, k + 1) for what in ("role", "sim")]
    rows = [
        [turn, *(cell for pair in zip(part["role"], part["cosine"], strict=True) for cell in pair)]
        for turn, part in result.nearest.groupby("assistant_turn", sort=True)
    ]
    return pd.DataFrame(rows, columns=["assistant_turn", *names])


def transition_df(result: DriftResult, whole: pd.DataFrame) -> pd.DataFrame:
    """Every change of the score between neighbors that have tokens."""
    before, now = (result.score[whole[name].to_numpy(int)] for name in ("prev_turn", "turn"))
    first = {"turn": whole["turn"], "prev_turn": whole["prev_turn"], "delta": whole["delta_score"]}
    table = pd.DataFrame(first | {"score_prev": before, "score_now": now})
    ours = whole.drop(columns=["turn", "prev_turn"])
    return pd.concat([table, ours], axis=1)


def shown_turn(result: DriftResult) -> int | None:
    """The turn whose tokens the notebook shows: the selected one, else the last that has tokens; None without any."""
    if result.selected is not None:
        return result.transitions[result.selected].turn
    filled = np.flatnonzero(result.turns.n_tokens)
    return int(filled[-1]) if len(filled) else None


def shown_tokens(result: DriftResult) -> slice:
    """The tokens of `shown_turn`, among all of the conversation."""
    turn = shown_turn(result)
    return slice(0, 0) if turn is None else slice(*turn_bounds(result.tokens)[turn : turn + 2].tolist())


def selected_tokens(result: DriftResult, whole: pd.DataFrame) -> pd.DataFrame:
    """The tokens of `shown_turn`, counted from 0 at its first."""
    mine = whole.iloc[shown_tokens(result)].reset_index(drop=True)
    first = {"token_idx": np.arange(len(mine)), **{name: mine[name] for name in ("token", "u_k", "u_k_norm")}}
    return pd.concat([pd.DataFrame(first), mine.drop(columns=["token", "u_k", "u_k_norm"])], axis=1)
