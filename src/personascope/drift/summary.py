"""One row a conversation and analysis: what `drift_summary` puts side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.stats import proportion_interval
from personascope.drift.result import DriftResult
from personascope.formats.files import read_json
from personascope.formats.tables import plain

NUMBERS = (
    "score_first",
    "score_last",
    "score_min",
    "largest_drop",
    "largest_drop_turn",
    "slope",
    "onset",
    "onset_since",
    "min_p_value",
    "top_away_share_p_value",
)
DETECTION = [
    *("analysis", "condition", "conversations", "detected", "detected_low", "detected_high", "early"),
    *("median_delay", "mean_largest_drop", "mean_slope"),
]
WORDS = ("confound_verdict", "effect_strength", "nearest_role_end")


def overview(result: DriftResult, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The conversation in a row: scores over the turns that have tokens, the largest drop, verdicts and flags.

    slope: score a turn, by least squares; flags: what a reader must know before trusting the row.
    """
    filled = np.flatnonzero(result.turns.n_tokens)
    scores = result.score[filled]
    drop = min(result.transitions, key=lambda t: t.delta_score, default=None)
    nearest = result.nearest[result.nearest["rank"] == 1]["role"].tolist()
    selected = None if result.selected is None else result.transitions[result.selected]
    row = {
        "n_turns": result.tokens.n_turns,
        "n_tokens": len(result.tokens),
        "score_first": scores[0] if len(scores) else None,
        "score_last": scores[-1] if len(scores) else None,
        "score_min": scores.min() if len(scores) else None,
        "largest_drop": drop and drop.delta_score,
        "largest_drop_turn": drop and drop.turn,
        "slope": np.polyfit(filled, scores, 1)[0] if len(scores) > 1 else None,
        "onset": result.onset,
        "onset_since": result.onset_since,
        "min_p_value": None if result.calibration is None else result.calibration["p_value"].min(),
        "confound_verdict": result.confound_verdict,
        "effect_strength": selected and selected.effect_strength,
        "top_away_share_p_value": _share_p_value(result),
        "nearest_role_end": nearest[-1] if nearest else None,
        "flags": flags(result, metadata),
        "metadata": metadata["conversation"]["metadata"],
    }
    return plain(row)


def _share_p_value(result: DriftResult) -> float | None:
    """Of the share of away_mass that the selected transition's top away table covers; None without a null."""
    if result.strength is None or result.selected is None:
        return None
    return float(result.strength["top_away_share_p_value"].iloc[result.selected])


def empty_overview(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a conversation that failed."""
    return {"n_turns": 0, "n_tokens": 0, **dict.fromkeys((*NUMBERS, *WORDS)), "flags": [], "metadata": dict(metadata)}


def flags(result: DriftResult, metadata: Mapping[str, Any]) -> list[str]:
    """empty_turns, special_tokens (content that imitates the template), truncated, not_testable, confounded."""
    conditions = {
        "empty_turns": bool((result.turns.n_tokens == 0).any()),
        "special_tokens": any(turn["special_tokens"] for turn in metadata["turns"]),
        "truncated": metadata["dropped_messages"] > 0,
        "not_testable": not _testable(result),
        "confounded": result.confound_verdict == "HIGH",
    }
    return [flag for flag, holds in conditions.items() if holds]


def _testable(result: DriftResult) -> bool:
    """Whether the reference is large enough to reject at any turn, were its score low enough; true without one."""
    return result.calibration is None or bool(result.calibration["testable"].any())


def summary_table(summaries: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a summary.json ({"conversation", "analysis", "content"}): failed ones last, the largest drops first."""
    rows = []
    for item in summaries:
        content = item["content"]
        row = dict(content["overview"])
        row["flags"] = ", ".join(row["flags"])
        place = {"conversation": item["conversation"], "analysis": item["analysis"]}
        rows.append(place | {"status": content["status"], "reason": content["error"] or ""} | row)
    table = pd.DataFrame(rows)
    for name in NUMBERS:
        table[name] = pd.to_numeric(table[name])
    keys = ["status", "analysis", "largest_drop", "conversation"]
    return table.sort_values(keys, ascending=[False, True, True, True], ignore_index=True)


def read_summaries(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """What `summary_table` takes, from .../{analysis}/{conversation}/summary.json."""
    return [
        {"conversation": path.parent.name, "analysis": path.parent.parent.name, "content": read_json(path)}
        for path in map(Path, paths)
    ]


def detection_table(table: pd.DataFrame) -> pd.DataFrame:
    """How often simulated conversations are flagged: one row an analysis and condition (with persona pressure, plain).

    detected: share with an onset, and its 95 % Clopper-Pearson interval; with pressure only an onset at or behind the
    first pressed turn counts, one before it is `early`; median_delay: turns from the pressure to the onset.
    """
    done = [row for row in table.to_dict("records") if row["status"] == "ok" and row["metadata"].get("condition")]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in done:
        groups.setdefault((row["analysis"], row["metadata"]["condition"]), []).append(row)
    rows = [_detection(*key, group) for key, group in sorted(groups.items())]
    return pd.DataFrame(rows, columns=DETECTION)


def _detection(analysis: str, condition: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    onset = np.array([row["onset"] for row in rows], float)
    start = np.array([row["metadata"].get("pressure_from") for row in rows], float)
    early = onset < start
    hit = ~np.isnan(onset) & ~early
    delays = (onset - start)[hit & ~np.isnan(start)]
    low, high = proportion_interval(int(hit.sum()), len(rows))
    return {
        "analysis": analysis,
        "condition": condition,
        "conversations": len(rows),
        "detected": float(hit.mean()),
        "detected_low": low,
        "detected_high": high,
        "early": float(early.mean()),
        "median_delay": float(np.median(delays)) if len(delays) else None,
        "mean_largest_drop": float(np.mean([row["largest_drop"] for row in rows])),
        "mean_slope": float(np.mean([row["slope"] for row in rows])),
    }
