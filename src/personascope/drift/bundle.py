"""A drift run as the JSON and the arrays that others read: `ui_bundle.json`, `summary.json`, `arrays.npz`."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from personascope.directions.axis import RoleSpace, unit
from personascope.drift.attribution import NO_STRENGTH, changed_features
from personascope.drift.notebook import shown_tokens
from personascope.drift.options import SCORE_METHODS, DriftOptions
from personascope.drift.result import DriftResult, Transition
from personascope.drift.strength import COLUMNS
from personascope.drift.tables import score_mass_diag
from personascope.drift.turns import turn_bounds
from personascope.formats.tables import plain

FILES = {name: f"{name}.json" for name in ("conversation", "summary", "ui_bundle")} | {"result": "result.npz"}


@dataclass(frozen=True)
class Run:
    """What a run is about, beyond its numbers. metadata: what the conversation's file says besides its messages."""

    run_name: str
    conversation_name: str
    model_name: str
    sae_release: str | None
    sae_id: str | None
    target_layer: int | None
    conversation: Sequence[Mapping[str, Any]]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def conversation_hash(messages: Sequence[Mapping[str, Any]]) -> str:
    """First 10 hex digits of the SHA-1 over the messages as JSON with sorted keys; a name, no protection."""
    text = json.dumps([dict(message) for message in messages], sort_keys=True)
    return hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest()[:10]


def run_meta(run: Run, options: DriftOptions) -> dict[str, Any]:
    """The head of the UI bundle."""
    return {
        "model_name": run.model_name,
        "sae_id": run.sae_id,
        "assistant_role": options.axis.anchor[0],
        "score_method": options.scoring.score_method,
        "conversation_hash": conversation_hash(run.conversation),
    }


def ui_bundle(result: DriftResult, roles: RoleSpace, run_meta: Mapping[str, Any]) -> dict[str, Any]:
    """`ui_bundle.json`: scores and transitions (q1), features of all transitions (q2), tokens of all turns (q3)."""
    steps = [_step(transition) for transition in result.transitions]
    features = [
        {
            **step,
            "away_mass": transition.away_mass,
            "toward_mass": transition.toward_mass,
            "token_parts": _token_parts(result, transition),
            **changed_features(transition, roles, result.options),
        }
        for step, transition in zip(steps, result.transitions, strict=True)
    ]
    scores = [{"assistant_turn": turn, "score": score} for turn, score in enumerate(result.score.tolist())]
    bundle = {
        "version": 1,
        "run_meta": dict(run_meta),
        "q1": {"turn_scores": scores, "transitions": steps},
        "q2": {"top_features_per_direction": result.options.display.top_features, "transitions": features},
        "q3": {"token_localization": _token_localization(result)},
    }
    return plain(bundle)


def _step(transition: Transition) -> dict[str, Any]:
    return {"prev_turn": transition.prev_turn, "turn": transition.turn, "delta_score": transition.delta_score}


def _token_parts(result: DriftResult, transition: Transition) -> dict[str, list[float]]:
    """What the tokens of both turns add to the change of the plain projection."""
    bounds, weights = turn_bounds(result.tokens).tolist(), result.weights
    before, now = (slice(bounds[turn], bounds[turn + 1]) for turn in (transition.prev_turn, transition.turn))
    return {"prev": weights.as_prev[before].tolist(), "turn": weights.as_turn[now].tolist()}


def _token_localization(result: DriftResult) -> list[dict[str, Any]]:
    bounds, weights = turn_bounds(result.tokens).tolist(), result.weights
    turns = []
    for turn, (lo, hi) in enumerate(itertools.pairwise(bounds)):
        turns.append(
            {
                "assistant_turn": turn,
                "tokens": result.tokens.tokens[lo:hi],
                "u_k": result.token_scores[lo:hi].tolist(),
                "u_k_norm": result.token_heat[lo:hi].tolist(),
                "w": weights.w[lo:hi].tolist(),
                "w_constant": float(weights.constant[turn]),
                "w_scale": float(weights.scale[turn]),
            }
        )
        if len(weights.assistant_constant):
            constant = float(weights.assistant_constant[turn])
            turns[-1] |= {"w_assistant": weights.w_assistant[lo:hi].tolist(), "w_assistant_constant": constant}
    return turns


def summary(result: DriftResult, run: Run, timestamp: str) -> dict[str, Any]:
    """`summary.json`; timestamp: UTC, ISO 8601. Without a transition its values are null."""
    options = result.options
    diagnostics = score_mass_diag(result).to_dict("records")
    selected = None if result.selected is None else result.transitions[result.selected]
    content = {
        "run_name": run.run_name,
        "conversation_name": run.conversation_name,
        "timestamp_utc": timestamp,
        "config": {
            "model_name": run.model_name,
            "sae_release": run.sae_release,
            "sae_id": run.sae_id,
            "target_layer": run.target_layer,
            "assistant_role": options.axis.anchor[0],
            **options.flat(),
        },
        "selection": {
            "transition": _pick(result),
            "selected_turn": selected and selected.turn,
            "selected_prev_turn": selected and selected.prev_turn,
            "selected_delta_score": selected and selected.delta_score,
            "selected_delta_projection": selected and selected.delta_projection,
        },
        "diagnostics": {
            "max_abs_corr_selected_score": result.max_abs_corr,
            "confound_verdict": result.confound_verdict,
            "selected_score_diag": diagnostics,
            "score_mass_diag": diagnostics,
            "feature_event_summary": _event(selected) | _strength(result),
            "axis_agreement": result.roles.agreement,
            "axis_doubt": result.doubt,
        },
        "calibration": _calibration(result),
        "metadata": run.metadata,
        "files": FILES,
    }
    return plain(content)


def _pick(result: DriftResult) -> str:
    """How the transition was selected."""
    if result.selected is None:
        return "none"
    pick = result.options.display.transition_pick
    return "no drop" if pick == "largest_drop" and result.no_drop else pick


def _event(selected: Transition | None) -> dict[str, Any]:
    names = ("prev_turn", "delta_score", "away_mass", "toward_mass", "top_away_share", "effect_strength")
    if selected is None:
        return {"selected_turn": None, **dict.fromkeys(names), "effect_strength": NO_STRENGTH}
    return {"selected_turn": selected.turn, **{name: getattr(selected, name) for name in names}}


def _strength(result: DriftResult) -> dict[str, Any]:
    """How unusual the selected transition's top_away_share is; null without a reference or a transition."""
    table, selected = result.strength, result.selected
    row = dict.fromkeys(COLUMNS) if table is None or selected is None else table.iloc[selected].to_dict()
    median, high, p_value = (row[name] for name in COLUMNS)
    return {"top_away_share_null": {"median": median, "high": high}, "top_away_share_p_value": p_value}


def _calibration(result: DriftResult) -> dict[str, Any]:
    """The verdict of the test, and what it is made from turn by turn. q_value: only many conversations have one."""
    turns = result.calibration
    if result.intervals is not None:
        turns = result.intervals.merge(turns, on="assistant_turn")
    options = result.options.test
    content = asdict(result.verdict) | {"q_value": None, "baseline_turns": options.baseline_turns}
    return content | {"confound_adjust": options.confound_adjust, "turns": turns.to_dict("records")}


def arrays(result: DriftResult) -> dict[str, np.ndarray]:
    """`arrays.npz`: turn arrays [T] and [T, D], those of the selected transition [D] (or [0]), of tokens [n].

    token_proj and token_norm are those of the selected turn (no transition: of the last turn with tokens), all_* those
    of all turns, in order; all_token_turn says which one each belongs to. score_delta is NaN beside a turn without
    tokens.
    """
    shown = shown_tokens(result)
    selected = None if result.selected is None else result.transitions[result.selected]
    nothing = np.zeros(0, np.float32)
    return {
        "score": result.score,
        **{method: result.turns.scores[method] for method in SCORE_METHODS},
        "score_delta": np.diff(result.score),
        "axis_unit": result.roles.axis,
        "turn_vectors_raw": result.turns.raw,
        "turn_vectors_space": result.turns.space,
        "turn_vectors_unit": unit(result.turns.space),
        "delta_x": nothing if selected is None else selected.delta_x,
        "contrib": nothing if selected is None else selected.contrib,
        "token_proj": result.token_scores[shown],
        "token_norm": result.token_heat[shown],
        "all_token_proj": result.token_scores,
        "all_token_norm": result.token_heat,
        "all_token_turn": result.tokens.turn,
        "role_names": np.array(result.roles.role_names, dtype=np.str_),
    }
