"""Tables of drift runs as the figures and pages get them: any number of turns, with and without calibration."""

import itertools

import numpy as np
import pandas as pd

TEXT = "Sure , here is how you can do it : first measure the dough , then let it rest . I am only a voice"
ROLES = ["assistant", "teacher", "baker", "ghost", "pirate", "hermit", "poet", "oracle", "jester", "spy"]
FEATURE_COLUMNS = (
    *("feature_idx", "direction", "delta_x", "axis_weight", "contrib", "axis_side", "effect"),
    *("share_of_change", "share_of_away", "role_profile", "description", "neuronpedia_url"),
)


def make_turn_meta(scores: list[float], *, calibrated: bool = False, rejects: tuple[int, ...] = ()) -> pd.DataFrame:
    """One row a turn; a NaN score is a turn without tokens."""
    rng = np.random.default_rng(1)
    values = np.array(scores, float)
    n = len(values)
    filled = np.isfinite(values)
    mass = {
        "turn_l2_raw": rng.uniform(300, 900, n),
        "turn_nonzero_raw": rng.integers(800, 3000, n).astype(float),
        "turn_l2_space": values * 1.5 + rng.normal(0, 1, n) + 20,
        "turn_nonzero_space": rng.integers(800, 3000, n).astype(float),
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
    if calibrated:
        table["score_low"], table["score_high"] = values - rng.uniform(0.5, 1.5, n), values + rng.uniform(0.5, 1.5, n)
        fallen = np.isin(np.arange(n), rejects)
        p = np.where(fallen, 0.001, rng.uniform(0.05, 0.9, n))
        table["percentile_assistant"] = np.where(filled, 100 * p, np.nan)
        table["percentile_others"] = np.where(filled, 60.0, np.nan)
        table["p_value"] = np.where(filled, p, np.nan)
        table["adjusted_score"] = values * 0.9
        table["adjusted_p_value"] = np.where(filled, np.minimum(p * 1.3, 1), np.nan)
        table["evidence"] = np.where(filled, np.where(fallen, 4.0, rng.uniform(0, 2, n)), np.nan)
        table["evidence_since"] = np.where(filled, np.arange(n), np.nan)
        table["threshold"] = np.where(filled, 3.0, np.nan)
        table["rejects"] = fallen & filled
        table["testable"] = True
    return table


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
            "neuronpedia_url": None,
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


def make_role_trace(n_turns: int, roles: list[str] = ROLES, k: int = 5) -> pd.DataFrame:
    """The k nearest roles of each turn."""
    rng = np.random.default_rng(4)
    rows = []
    for turn in range(n_turns):
        cosines = rng.uniform(0.2, 0.7, len(roles))
        cosines[0] += 0.3 - 0.6 * turn / max(n_turns, 1)
        for rank, role in enumerate(np.argsort(-cosines)[:k].tolist(), start=1):
            rows.append((turn, rank, roles[role], cosines[role]))
    return pd.DataFrame(rows, columns=["assistant_turn", "rank", "role", "cosine"])


def make_references(roles: list[str] = ROLES) -> pd.DataFrame:
    """Quartiles of the scores of each role's own responses, the assistant's the highest."""
    median = np.linspace(16, 2, len(roles))
    return pd.DataFrame({"role": roles, "q25": median - 2, "median": median, "q75": median + 1.5})


def make_diagnostics(turn_meta: pd.DataFrame) -> pd.DataFrame:
    """Correlations of the score with the mass metrics, as the run has them."""
    names = ["turn_l2_raw", "turn_nonzero_raw", "turn_l2_space", "turn_nonzero_space"]
    filled = turn_meta.loc[np.isfinite(turn_meta["score"].to_numpy(float))]
    scores = filled["score"].to_numpy(float)
    masses = [filled[name].to_numpy(float) for name in names]
    values = [np.corrcoef(scores, mass)[0, 1] if len(filled) > 1 else np.nan for mass in masses]
    return pd.DataFrame({"metric": names, "score_method": "projection", "corr(score, metric)": values})


def make_run(
    scores: list[float], *, calibrated: bool = False, rejects: tuple[int, ...] = ()
) -> dict[str, pd.DataFrame]:
    """All tables of a run over these turn scores."""
    meta = make_turn_meta(scores, calibrated=calibrated, rejects=rejects)
    transitions = make_transitions(scores)
    empty = {name: pd.DataFrame(columns=list(FEATURE_COLUMNS)) for name in make_features()}
    trace = make_role_trace(len(scores))
    return {
        "turn_meta": meta,
        "transition_df": transitions,
        "role_trace": trace.loc[np.isfinite(np.array(scores, float))[trace["assistant_turn"]]]
        if len(scores)
        else trace,
        "score_mass_diag": make_diagnostics(meta),
        "q3_token_localization": make_tokens([make_pieces(n) for n in meta["n_tokens"]]),
        **(make_features(intervals=calibrated) if len(transitions) else empty),
    }


def make_summary(n: int = 8, analyses: tuple[str, ...] = ("default", "cosine")) -> pd.DataFrame:
    """n conversations under each analysis, and one that failed."""
    rng = np.random.default_rng(5)
    rows = []
    for scale, analysis in zip((1.0, 0.05, 0.2), analyses, strict=False):
        for i in range(n):
            scores = 16 - np.cumsum(rng.normal(0.3 * i / max(n - 1, 1), 0.5, 10))
            rows.append(
                {
                    "conversation": f"conversation_{i}",
                    "analysis": analysis,
                    "status": "ok",
                    "reason": None,
                    "n_turns": 10,
                    "n_tokens": 4000 + i,
                    "score_first": scale * scores[0],
                    "score_last": scale * scores[-1],
                    "score_min": scale * scores.min(),
                    "largest_drop": scale * np.diff(scores).min(),
                    "largest_drop_turn": int(np.diff(scores).argmin()) + 1,
                    "slope": scale * -0.2,
                    "onset": 7 if i in (2, 6) else None,
                    "min_p_value": 0.001 if i in (2, 6) else 0.2,
                    "confound_verdict": "LOW",
                    "effect_strength": "WEAK",
                    "nearest_role_end": "pirate",
                    "flags": "",
                    "metadata": {"domain": "cooking"},
                }
            )
    failed = {
        "conversation": "broken",
        "analysis": None,
        "status": "failed",
        "reason": "broken.json: no messages",
    }
    return pd.DataFrame([failed, *rows])
