"""One row a conversation and analysis: what `drift_summary` puts side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.stats import proportion_interval
from personascope.drift.attribution import FEATURE_TABLES, smallest
from personascope.drift.result import DriftResult
from personascope.formats.descriptions import Descriptions, named
from personascope.formats.files import read_json
from personascope.formats.tables import plain

NUMBERS = (
    "score_first",
    "score_last",
    "score_min",
    "largest_drop",
    "largest_drop_turn",
    "slope",
    "fall",
    "p_value",
    "q_value",
    "alarm_turn",
    "onset",
    "top_away_share_p_value",
)
DETECTION = [
    *("analysis", "condition", "conversations", "detected", "detected_low", "detected_high", "early"),
    *("median_delay", "mean_largest_drop", "mean_slope"),
]
NAMED = 3  # features that stand in a conversation's row
WORDS = ("confound_verdict", "effect_strength", "nearest_role_end", "axis_doubt")


def overview(result: DriftResult, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The conversation in a row: scores over the turns that have tokens, the largest drop, verdicts and flags.

    slope: score a turn, by least squares; fall: the lowest standardized score, in standard deviations of reference
    turns at that place and of that length; largest_drop: None where the score never drops; away_features: those that
    carry most of the selected transition away from the assistant; axis_doubt: why the axis is not to be interpreted;
    flags: what a reader must know before trusting the row.
    """
    filled = np.flatnonzero(result.turns.n_tokens)
    scores = result.score[filled]
    drop = None if result.no_drop else min(result.transitions, key=lambda t: t.delta_score, default=None)
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
        "fall": _fall(result.calibration["z"].to_numpy()),
        "p_value": result.verdict.p_value,
        "q_value": None,
        "alarm_turn": result.verdict.alarm_turn,
        "onset": result.verdict.onset,
        "confound_verdict": result.confound_verdict,
        "effect_strength": selected and selected.effect_strength,
        "top_away_share_p_value": _share_p_value(result),
        "away_features": _away_features(result),
        "nearest_role_end": nearest[-1] if nearest else None,
        "axis_doubt": result.doubt,
        "flags": flags(result, metadata),
        "metadata": metadata["conversation"]["metadata"],
    }
    return plain(row)


def _share_p_value(result: DriftResult) -> float | None:
    """Of the share of away_mass that the selected transition's top away table covers; None without a null."""
    if result.strength is None or result.selected is None:
        return None
    return float(result.strength["top_away_share_p_value"].iloc[result.selected])


def _away_features(result: DriftResult) -> list[int]:
    """Ids, the largest part first; none in a space without features."""
    if result.selected is None or result.options.axis.space != "sae":
        return []
    step = result.transitions[result.selected]
    candidates, keys = FEATURE_TABLES["q2_top_away_contrib"](step.delta_x, result.roles.axis, step.contrib)
    return smallest(keys, candidates, NAMED).tolist()


def empty_overview(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a conversation that failed."""
    return {
        "n_turns": 0,
        "n_tokens": 0,
        **dict.fromkeys((*NUMBERS, *WORDS)),
        "away_features": [],
        "flags": [],
        "metadata": dict(metadata),
    }


def flags(result: DriftResult, metadata: Mapping[str, Any]) -> list[str]:
    """empty_turns, special_tokens (content that imitates the template), truncated, not_testable, confounded, no_drop
    (the score never drops), and longer_than_references: its last turns are not tested."""
    conditions = {
        "empty_turns": bool((result.turns.n_tokens == 0).any()),
        "special_tokens": any(turn["special_tokens"] for turn in metadata["turns"]),
        "truncated": metadata["dropped_messages"] > 0,
        "not_testable": bool(result.verdict.reason),
        "longer_than_references": result.tokens.n_turns > result.verdict.references["turns_max"] > 0,
        "confounded": result.confound_verdict == "HIGH",
        "no_drop": result.no_drop,
    }
    return [flag for flag, holds in conditions.items() if holds]


def _fall(z: np.ndarray) -> float | None:
    return float(np.nanmin(z)) if np.isfinite(z).any() else None


def summary_table(summaries: Sequence[Mapping[str, Any]], known: Descriptions | None = None) -> pd.DataFrame:
    """One row a summary.json ({"conversation", "analysis", "content"}), ranked within each analysis: alarms first, then
    the smaller p_value, then the deeper fall; failed ones last and without a rank.

    away_features: as text, each with what it is called where `known` says it; causal, causal_reason: verdict of the
    causal test and why, where there was one; a reason without a verdict: it could not be made. q_value: Benjamini and
    Hochberg ("Controlling the false discovery rate", 1995) over an analysis's conversations.
    """
    rows = []
    for item in summaries:
        content = item["content"]
        row = dict(content["overview"])
        row["flags"] = ", ".join(row["flags"])
        row["away_features"] = named(row.get("away_features") or [], known)
        place = {"conversation": item["conversation"], "analysis": item["analysis"]}
        tested = content.get("causal") or {}
        row |= {"causal": tested.get("verdict"), "causal_reason": tested.get("reason")}
        rows.append(place | {"status": content["status"], "reason": content["error"] or ""} | row)
    table = pd.DataFrame(rows)
    for name in NUMBERS:
        table[name] = pd.to_numeric(table[name])
    table["q_value"] = table.groupby("analysis")["p_value"].transform(lambda p: q_values(p.to_numpy()))
    table["quiet"] = table["alarm_turn"].isna()
    keys = ["status", "analysis", "quiet", "p_value", "fall", "conversation"]
    table = table.sort_values(keys, ascending=[False, *[True] * 5], ignore_index=True).drop(columns="quiet")
    ranks = (table.groupby("analysis").cumcount() + 1).astype("Int64")
    table.insert(0, "rank", ranks.where(table["status"] == "ok"))
    return table.astype(dict.fromkeys(("n_turns", "n_tokens", "largest_drop_turn", "alarm_turn", "onset"), "Int64"))


def q_values(p_values: np.ndarray) -> np.ndarray:
    """The false discovery rate at which each p-value is still rejected, [n]; NaN where p is."""
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known])[::-1]]
    q = np.full(len(p_values), np.nan)
    ranks = np.arange(len(known), 0, -1)
    q[order] = np.minimum.accumulate(p_values[order] * len(known) / ranks)
    return q


def read_summaries(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """What `summary_table` takes, from .../{analysis}/{conversation}/summary.json."""
    return [
        {"conversation": path.parent.name, "analysis": path.parent.parent.name, "content": read_json(path)}
        for path in map(Path, paths)
    ]


def detection_table(table: pd.DataFrame) -> pd.DataFrame:
    """How often simulated conversations are flagged: one row an analysis and condition (with persona pressure, plain).

    detected: share with an alarm, and its 95 % Clopper-Pearson interval; with pressure only an alarm at or behind the
    first pressed turn counts, one before it is `early`; median_delay: turns from the pressure to the alarm.
    """
    done = [row for row in table.to_dict("records") if row["status"] == "ok" and row["metadata"].get("condition")]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in done:
        groups.setdefault((row["analysis"], row["metadata"]["condition"]), []).append(row)
    rows = [_detection(*key, group) for key, group in sorted(groups.items())]
    return pd.DataFrame(rows, columns=DETECTION)


def _detection(analysis: str, condition: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    alarm = pd.array([row["alarm_turn"] for row in rows], "Float64").to_numpy(float, na_value=np.nan)
    start = np.array([row["metadata"].get("pressure_from") for row in rows], float)
    early = alarm < start
    hit = ~np.isnan(alarm) & ~early
    delays = (alarm - start)[hit & ~np.isnan(start)]
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
        "mean_largest_drop": float(np.nan_to_num(np.array([row["largest_drop"] for row in rows], float)).mean()),
        "mean_slope": float(np.mean([row["slope"] for row in rows])),
    }
