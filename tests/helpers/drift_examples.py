"""Tables of drift runs as the figures and pages get them: any number of turns, with and without the test."""

import itertools
from typing import Any

import numpy as np
import pandas as pd

from personascope.drift.pages.confounds import METRICS
from personascope.drift.result import Verdict
from personascope.drift.summary import empty_overview, summary_table
from personascope.formats.tables import plain

TEXT = "Sure , here is how you can do it : first measure the dough , then let it rest . I am only a voice"
ROLES = ["assistant", "teacher", "baker", "ghost", "pirate", "hermit", "poet", "oracle", "jester", "spy"]
FEATURE_COLUMNS = (
    *("feature_idx", "direction", "delta_x", "axis_weight", "contrib", "axis_side", "effect"),
    *("share_of_change", "share_of_away", "role_profile", "description", "url"),
)


def make_turn_meta(scores: list[float], *, tested: bool = False, alarm_turn: int | None = None) -> pd.DataFrame:
    """One row a turn; a NaN score is a turn without tokens. tested: against plain conversations, whose expectation is
    15 with a standard deviation of 1, with an alarm from alarm_turn on."""
    rng = np.random.default_rng(1)
    values = np.array(scores, float)
    n = len(values)
    filled = np.isfinite(values)
    mass = {
        "turn_l2_raw": rng.uniform(300, 900, n),
        "turn_nonzero_raw": rng.integers(800, 3000, n).astype(float),
        "turn_l2_space": values * 1.5 + rng.normal(0, 1, n) + 20,
        "turn_nonzero_space": rng.integers(800, 3000, n).astype(float),
        "repetition": rng.uniform(0, 0.3, n),
    }
    table = pd.DataFrame(
        {
            "assistant_turn": np.arange(n),
            "message_index": 2 * np.arange(n) + 1,
            "n_tokens": np.where(filled, 40, 0),
            "projection": values,
            "cos_axis": values / 30,
            "cos_assistant": values / 25,
            "score": values,
            **{name: np.where(filled, column, np.nan) for name, column in mass.items()},
        }
    )
    if tested:
        table["score_low"], table["score_high"] = values - rng.uniform(0.5, 1.5, n), values + rng.uniform(0.5, 1.5, n)
        z = np.where(filled, values - 15, np.nan)
        since = np.arange(n) - (n if alarm_turn is None else alarm_turn)
        evidence = np.where(since < 0, np.minimum(np.abs(np.nan_to_num(z)) / 3, 1.3), 1.6 + 0.4 * since)
        columns = {"expected": 15.0, "expected_low": 13.36, "expected_high": 16.64, "z": z, "evidence": evidence}
        table = table.assign(**columns, level=1.4, alarm=since >= 0)
        table["percentile_assistant"], table["percentile_others"] = np.where(filled, [[12.0], [60.0]], np.nan)
        table["answer_p_value"] = np.where(filled, rng.uniform(0.05, 0.9, n), np.nan)
    return table


def make_verdict(alarm_turn: int | None = None, *, turns_max: int = 100, domain: str = "cooking") -> Verdict:
    """The verdict over 119 plain conversations of a domain."""
    found: dict[str, Any] = {"p_value": 0.41}
    if alarm_turn is not None:
        onset = max(alarm_turn - 2, 0)
        onsets = (max(onset - 1, 0), onset + 1)
        found = {"p_value": 1 / 120, "alarm_turn": alarm_turn, "onset": onset, "onset_set": onsets}
    references = {"n": 119, "domain": domain, "turns_max": turns_max}
    rate = {"rate": 0.042, "low": 0.014, "high": 0.095, "n": 119}
    return Verdict(0.05, **found, references=references, false_alarm_rate=rate)


def make_transitions(scores: list[float]) -> pd.DataFrame:
    """Transitions between neighbors with tokens, the largest drop selected."""
    filled = [turn for turn, score in enumerate(scores) if np.isfinite(score)]
    rows = [{"prev_turn": a, "turn": b, "delta_score": scores[b] - scores[a]} for a, b in itertools.pairwise(filled)]
    table = pd.DataFrame(rows, columns=["prev_turn", "turn", "delta_score"])
    table["delta_projection"] = table["delta_score"]
    table["away_mass"], table["toward_mass"], table["top_away_share"] = 21.2, 11.0, 0.4
    table["effect_strength"] = "MODERATE"
    table["selected"] = np.arange(len(table)) == (table["delta_score"].to_numpy(float).argmin() if len(table) else -1)
    return table


def make_features(
    description: str | None = "recipes and kitchens", *, intervals: bool = True
) -> dict[str, pd.DataFrame]:
    """The four q2 tables of 40 features whose contributions are known."""
    rng = np.random.default_rng(2)
    delta, weight = rng.normal(0, 1, 40), rng.normal(0, 0.3, 40)
    contrib = delta * weight
    table = pd.DataFrame(
        {
            "feature_idx": rng.choice(65536, 40, replace=False),
            "direction": np.where(delta > 0, "activated", "deactivated"),
            "delta_x": delta,
            "axis_weight": weight,
            "contrib": contrib,
            "axis_side": np.where(weight > 0, "assistant_like", "non_assistant_like"),
            "effect": np.where(contrib < 0, "away_from_assistant", "toward_assistant"),
            "share_of_change": 0.01,
            "share_of_away": 0.02,
            "role_profile": "poet:12% | ghost:8% | spy:5%",
            "description": description,
            "url": None,
        }
    )
    if intervals:
        table["contrib_low"], table["contrib_high"] = contrib - 0.05, contrib + 0.08
    away, toward = table["contrib"] < 0, table["contrib"] > 0
    weaker, ours = table["delta_x"] < 0, table["axis_weight"] > 0
    return {
        "q2_top_away_contrib": table.loc[away].sort_values(by="contrib").head(20),
        "q2_top_toward_contrib": table.loc[toward].sort_values(by="contrib", ascending=False).head(20),
        "q2_deactivated_assistant_features": table.loc[weaker & ours].sort_values(by="contrib").head(20),
        "q2_activated_nonassistant_features": table.loc[~weaker & ~ours].sort_values(by="contrib").head(20),
    }


def make_tokens(turns: list[list[str]], values: list[list[float]] | None = None) -> pd.DataFrame:
    """q3_token_localization of these pieces, one list a turn; values: u_k, random unless given."""
    rng = np.random.default_rng(3)
    rows, position = [], 5
    for turn, pieces in enumerate(turns):
        given = rng.normal(0.3, 0.7, len(pieces)).tolist() if values is None else values[turn]
        for token, u in zip(pieces, given, strict=True):
            rows.append((turn, position, 100 + position, token, u, min(max(0.5 + u / 4, 0.0), 1.0)))
            position += 1
        position += 10
    return pd.DataFrame(rows, columns=["assistant_turn", "position", "token_id", "token", "u_k", "u_k_norm"])


def make_pieces(n: int) -> list[str]:
    """n SentencePiece pieces of English text, with a line end now and then."""
    words = TEXT.split()
    return [
        words[i % len(words)] if i == 0 else "\n" if i % 37 == 36 else "\u2581" + words[i % len(words)]
        for i in range(n)
    ]


def make_role_cosines(n_turns: int, roles: list[str] = ROLES) -> pd.DataFrame:
    """Cosines of turns with roles, minus the mean role; the first role moves away."""
    cosines = np.random.default_rng(4).uniform(-0.3, 0.4, (n_turns, len(roles)))
    cosines[:, 0] += 0.3 - 0.6 * np.arange(n_turns) / max(n_turns, 1)
    return pd.DataFrame(cosines, columns=pd.Index(roles)).assign(assistant_turn=np.arange(n_turns))


def make_references(roles: list[str] = ROLES) -> pd.DataFrame:
    """Quartiles of the scores of each role's own responses, the assistant's the highest."""
    median = np.linspace(16, 2, len(roles))
    return pd.DataFrame({"role": roles, "q25": median - 2, "median": median, "q75": median + 1.5})


def make_diagnostics(turn_meta: pd.DataFrame) -> pd.DataFrame:
    """Correlations of the score with the metrics, as the run has them."""
    filled = turn_meta.loc[np.isfinite(turn_meta["score"].to_numpy(float))]
    scores = filled["score"].to_numpy(float)
    masses = [filled[name].to_numpy(float) for name in METRICS]
    vary = [len(filled) > 1 and bool(np.std(mass) > 0) for mass in masses]
    values = [np.corrcoef(scores, mass)[0, 1] if varies else np.nan for mass, varies in zip(masses, vary, strict=True)]
    columns = {"metric": list(METRICS), "score_method": "projection", "corr(score, metric)": values}
    return pd.DataFrame(columns | {"n": len(filled)})


def make_run(scores: list[float], *, tested: bool = False, alarm_turn: int | None = None) -> dict[str, pd.DataFrame]:
    """All tables of a run over these turn scores."""
    meta = make_turn_meta(scores, tested=tested, alarm_turn=alarm_turn)
    transitions = make_transitions(scores)
    empty = {name: pd.DataFrame(columns=list(FEATURE_COLUMNS)) for name in make_features()}
    cosines = make_role_cosines(len(scores))
    cosines.loc[~np.isfinite(np.array(scores, float)), ROLES] = np.nan
    return {
        "turn_meta": meta,
        "transition_df": transitions,
        "role_cosines": cosines,
        "score_mass_diag": make_diagnostics(meta),
        "q3_token_localization": make_tokens([make_pieces(n) for n in meta["n_tokens"]]),
        **(make_features(intervals=tested) if len(transitions) else empty),
    }


def make_summary(n: int = 8, analyses: tuple[str, ...] = ("default", "cosine")) -> pd.DataFrame:
    """The summary of n conversations under each analysis, the last two with an alarm, and of one that failed."""
    rng = np.random.default_rng(5)
    items = [("broken", "default", content("failed", "broken.json: no messages"))]
    for scale, analysis in zip((1.0, 0.05, 0.2), analyses, strict=False):
        for i in range(n):
            alarm = i >= n - 2
            scores = scale * (16 - np.cumsum(rng.normal(0.5 if alarm else 0.0, 0.5, 10)))
            row = {"score_first": scores[0], "score_last": scores[-1], "score_min": scores.min()}
            row |= {"largest_drop": np.diff(scores).min(), "largest_drop_turn": 4, "slope": scale * -0.2}
            row |= {"fall": -3.0 - i / n if alarm else -0.5 - i / n, "p_value": 0.01 if alarm else 0.2 + 0.5 * i / n}
            row |= {"alarm_turn": 7 if alarm else None, "onset": 5 if alarm else None, "confound_verdict": "LOW"}
            row |= {"effect_strength": "WEAK", "nearest_role_end": "pirate", "n_turns": 10, "n_tokens": 4000 + i}
            items.append((f"conversation_{i}", analysis, content(**plain(row), metadata={"domain": "cooking"})))
    return summary_table([{"conversation": name, "analysis": of, "content": said} for name, of, said in items])


def content(status: str = "ok", error: str | None = None, **row: Any) -> dict[str, Any]:
    """What a summary.json has that the summary of all reads."""
    return {"status": status, "error": error, "overview": empty_overview({}) | row}


def make_nulls(analyses: tuple[str, ...] = ("default", "cosine")) -> dict[str, dict[str, Any]]:
    """What the stage drift_null says of each analysis; the second has too few references."""
    rates = {"": {"rate": 0.05, "low": 0.02, "high": 0.11, "n": 120}}
    rates |= {"cooking": {"rate": 0.033, "low": 0.004, "high": 0.115, "n": 60}, "poems": {**rates[""], "rate": 0.067}}
    said = {"alpha": 0.05, "references": {"": 120, "cooking": 60}, "false_alarms": rates, "turns_max": 12}
    said |= {"left_out": [], "conversations": [], "reason": None}
    none = {"references": {}, "false_alarms": {}, "turns_max": 0}
    none |= {"reason": "no reference conversations: drift.references is empty"}
    return {name: said | (none if i else {}) for i, name in enumerate(analyses)}
