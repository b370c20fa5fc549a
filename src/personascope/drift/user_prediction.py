"""How far the user's message alone predicts the next turn, for one's own conversations.

For each assistant turn, a ridge regression from the residual mean over the user's message before it, at one layer, to
the turn's score, and to the change of the score since the turn before: R² on conversations that the regression has not
seen. Lu et al. 2026 (arXiv 2601.10387) found 0.53 to 0.77 for the next projection and 0.10 for its change: where a
conversation is follows from what the user has just asked, and hardly from where it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.axis import RoleSpace, load_role_space
from personascope.drift.options import DriftOptions
from personascope.drift.ridge import FOLDS, held_out, r_squared
from personascope.drift.turns import turn_scores
from personascope.formats.tables import write_csv
from personascope.formats.tokens import read_activations, read_metadata, read_user_means

LEAST_CONVERSATIONS = 10
TARGETS = ("next score", "change")
COLUMNS = ("layer", "target", "r2", "r2_low", "r2_high", "n_conversations", "n_turns", "alpha", "reason")


@dataclass(frozen=True)
class Scored:
    """The turns of one conversation: scores float64 [T], NaN for a turn without tokens; user_means, the file of what
    the user said before each; script: conversations of one script are never parted."""

    name: str
    script: str
    scores: np.ndarray
    user_means: Path


def write_user_prediction(
    tokens: Sequence[str],
    user_means: Sequence[str],
    matrix: str,
    options: DriftOptions,
    *,
    layers: Sequence[int],
    seed: int,
    table: str,
) -> None:
    """From the tokens and user means of conversations, in the same order, and the role matrix to the table as CSV."""
    roles = load_role_space(matrix, options.axis)
    read = (read_scores(*files, roles, options) for files in zip(tokens, user_means, strict=True))
    write_csv(table, user_prediction([scored for scored in read if scored is not None], layers, seed))


def read_scores(tokens: str | Path, user_means: str | Path, roles: RoleSpace, options: DriftOptions) -> Scored | None:
    """The scores of a conversation's turns under an analysis; None where it could not be read."""
    metadata = read_metadata(tokens)
    if metadata.get("error"):
        return None
    name = metadata["conversation"]["name"]
    script = str(metadata["conversation"]["metadata"].get("script") or name)
    turns = turn_scores(read_activations(tokens, options.axis.space, options.axis.layer), roles, options)
    return Scored(name, script, turns.scores[options.scoring.score_method], Path(user_means))


def user_prediction(conversations: Sequence[Scored], layers: Sequence[int], seed: int = 0) -> pd.DataFrame:
    """COLUMNS, a row a layer and target; without layers a row a target, which says so.

    r2: of predictions for conversations that were not seen, against the mean of the others; r2_low, r2_high: 95 %
    bootstrap interval over conversations, all of a script at once; n_turns: those with a user's message before them, a
    score and, for the change, a turn with a score before; alpha: the median of the folds' penalties, each chosen
    within its training folds; reason: why there is no r2, else empty.
    """
    if not layers or not conversations:
        reason = "there are no conversations" if layers else "no layer is kept: extraction.residual_layers is empty"
        rows = [
            {"layer": layer, "target": target, "reason": reason} for layer in layers or [None] for target in TARGETS
        ]
        return _table([row | {"n_conversations": len(conversations), "n_turns": 0} for row in rows])
    lengths, rows = [len(each.scores) for each in conversations], []
    names = np.repeat([each.name for each in conversations], lengths)
    scripts = np.repeat([each.script for each in conversations], lengths)
    found = [targets(each.scores) for each in conversations]
    y = {target: np.concatenate([each[target] for each in found]) for target in TARGETS}
    for layer in layers:
        x = np.concatenate([read_user_means(each.user_means, layer) for each in conversations])
        there = np.isfinite(x).all(1)
        for target in TARGETS:
            kept = there & np.isfinite(y[target])
            columns = prediction(x[kept], y[target][kept], names[kept], scripts[kept], seed)
            rows.append({"layer": layer, "target": target} | columns)
    return _table(rows)


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"layer": "Int64"})


def targets(scores: np.ndarray) -> dict[str, np.ndarray]:
    """{target: float64 [T]} of one conversation's scores [T]; the change is that since the turn with tokens before."""
    change = np.full(len(scores), np.nan)
    filled = np.flatnonzero(np.isfinite(scores))
    change[filled[1:]] = np.diff(scores[filled])
    return dict(zip(TARGETS, (scores, change), strict=True))


def prediction(x: np.ndarray, y: np.ndarray, names: np.ndarray, scripts: np.ndarray, seed: int) -> dict[str, Any]:
    """How well the rows x [n, d] predict y [n] in other scripts [n]: the columns from r2 on."""
    n = len(np.unique(names))
    counts = {"n_conversations": n, "n_turns": len(y)}
    if n < LEAST_CONVERSATIONS:
        return counts | {"reason": f"{n} conversations with such turns, {LEAST_CONVERSATIONS} are needed"}
    if (different := len(np.unique(scripts))) < FOLDS:
        return counts | {"reason": f"{different} different scripts, {FOLDS} are needed"}
    if not np.ptp(y):
        return counts | {"reason": "all turns have the same value"}
    held = held_out(x, y, scripts)
    r2, low, high = r_squared(held, y, scripts, seed)
    return {"r2": r2, "r2_low": low, "r2_high": high, **counts, "alpha": float(np.median(held.penalties)), "reason": ""}
