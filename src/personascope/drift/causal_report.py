"""The causal test as JSON (`formats.causal`): the verdict, and the numbers of every arm."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from personascope.drift.attribution import effect as direction_of
from personascope.drift.causal import (
    KEPT,
    READING,
    RELEVANT,
    Effect,
    Judged,
    SAEShare,
    Totals,
    judge_totals,
    paired_effect,
    token_effect,
)
from personascope.drift.causal_arms import DRAWN, PARTS, FeatureFacts, Patch, balance
from personascope.drift.causal_case import CausalCase, ReadAxes
from personascope.formats.causal import SHORT
from personascope.formats.tables import plain

VERSION = 1
ALIKE = 0.8  # of the patched features' change, that matched ones must reach to count as alike without a note
# Readings of one text or of one turn's tokens by name: those that a patch moves by construction carry this name.
BY_CONSTRUCTION = "patched_layer_by_construction"


@dataclass(frozen=True)
class Direct:
    """One patch on the turn's own tokens: moved, the root mean square of |change of h|; differences float64 [n] from
    the unpatched turn by reading, a value a token: at later layers, and at the patched one; kl and log_likelihood of
    the tokens behind."""

    patch: Patch
    moved: float
    differences: dict[str, np.ndarray]


@dataclass(frozen=True)
class Total:
    """Texts generated under one patch (None: without): readings float64 [S] by name, NaN for one without tokens."""

    patch: Patch | None
    readings: dict[str, np.ndarray]
    n_tokens: np.ndarray


@dataclass(frozen=True)
class Measured:
    """All that the model has said: totals, the one without a patch first; share: what the SAE keeps."""

    facts: FeatureFacts
    read: ReadAxes
    patches: list[Patch]
    direct: list[Direct]
    totals: list[Total]
    share: SAEShare
    notes: list[str]


def no_test(analysis: str, conversation: str, reason: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON where there is no test: no verdict, and why."""
    head = {"version": VERSION, "analysis": analysis, "conversation": conversation}
    nothing = dict.fromkeys(SHORT) | {"notes": []}
    return plain(head | nothing | {"reason": reason, "settings": dict(settings), "direct": [], "total": []})


def content(
    case: CausalCase, analysis: str, conversation: str, measured: Measured, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The whole JSON. effects: those of the features on the reading; the others stand in `direct` and `total`."""
    read, transition = measured.read, case.transition
    falls = read.falls(case.pair)
    totals = _totals(measured.totals)
    judged = judge_totals(totals, falls[READING], measured.share)
    direct = {(item.patch.arm, item.patch.draw): token_effect_of(item, READING) for item in measured.direct}
    before = float(read.reading(read.means, read.of_totals)[transition.prev_turn])
    own = totals.plain[np.isfinite(totals.plain)]
    regenerated = before - float(own.mean()) if len(own) else None
    sizes = balance(measured.facts, measured.patches)
    made = {
        "version": VERSION,
        "analysis": analysis,
        "conversation": conversation,
        "verdict": judged.verdict,
        "reason": judged.reason,
        "transition": {
            "prev_turn": transition.prev_turn,
            "turn": transition.turn,
            "delta_score": transition.delta_score,
        },
        "effects": {
            "total": totals.effect,
            "total_beyond_matched": totals.contrast,
            "direct": direct.get(("features", 0)),
            "unit": "standard deviations of the conversation's assistant tokens, mean over the layers read",
        },
        "controls": _controls(totals, direct),
        "seeds_needed": judged.seeds,
        "sae_share": asdict(measured.share) | {"threshold": KEPT},
        "fall": falls | {"relevant": judged.relevant, "relevant_share": RELEVANT, "regenerated": regenerated},
        "notes": [*measured.notes, *_notes(totals, judged, regenerated, sizes)],
        "settings": dict(settings),
        "layers": {"patched": read.patched, "direct": read.later, "total": read.of_totals, "units": read.units},
        "features": _features(measured.facts, measured.patches[0]),
        "balance": sizes,
        "direct": [_direct_row(item) for item in measured.direct],
        "total": [_total_row(item, measured.totals[0]) for item in measured.totals],
    }
    return plain(as_dicts(made))


def token_effect_of(item: Direct, name: str) -> Effect | None:
    """A direct effect with the interval over the turn's tokens; None where it was not read."""
    return token_effect(item.differences[name]) if name in item.differences else None


def _totals(items: Sequence[Total]) -> Totals:
    arms: dict[str, list[np.ndarray]] = {}
    for item in items[1:]:
        if item.patch is not None:
            arms.setdefault(item.patch.arm, []).append(item.readings[READING])
    return Totals(items[0].readings[READING], {arm: np.stack(rows) for arm, rows in arms.items()})


def _controls(totals: Totals, direct: Mapping[tuple[str, int], Effect | None]) -> dict[str, Any]:
    """Mean effects of each control's draws on the reading, and how many of them reach that of the features."""
    own = totals.effect
    made = {}
    for arm in (*DRAWN, "largest_change"):
        means = [effect.mean for effect in totals.effects(arm) if effect]
        reached = None if own is None else sum(mean >= own.mean for mean in means)
        known = [effect.mean for (name, _), effect in sorted(direct.items()) if name == arm and effect]
        made[arm] = {"total": means, "direct": known, "as_large": reached}
    return made


def _notes(
    totals: Totals, judged: Judged, regenerated: float | None, sizes: Sequence[Mapping[str, float | int | str]]
) -> list[str]:
    notes = []
    own = next(float(row["change"]) for row in sizes if row["arm"] == "features")
    matched = [float(row["change"]) for row in sizes if row["arm"] == "matched"]
    if judged.relevant > 0 and regenerated is not None and regenerated <= judged.relevant:
        notes.append(
            "Generated anew without a patch, the turn hardly falls below the one before: this model does not write "
            "what the conversation has there, so a patch has little to restore in new text."
        )
    largest = next(iter(totals.effects("largest_change")), None)
    if judged.verdict == "supported" and totals.effect and largest and largest.mean >= totals.effect.mean:
        notes.append("Features chosen by the size of their change alone, without the axis, do as much.")
    if matched and np.mean(matched) < ALIKE * own:
        notes.append(
            f"The matched features change h less than the patched ones (mean {np.mean(matched):.2g} against "
            f"{own:.2g}): few others changed as much."
        )
    if lost := int(np.isnan([totals.plain, *(row for rows in totals.arms.values() for row in rows)]).sum()):
        notes.append(f"{lost} generated texts have no token and are left out, with their pairs.")
    return notes


def _features(facts: FeatureFacts, patch: Patch) -> list[dict[str, Any]]:
    return [
        {
            "feature_idx": feature,
            "direction": "rose" if facts.now[feature] > facts.before[feature] else "fell",
            "effect": direction_of(float(facts.contrib[feature])),
            "contrib": facts.contrib[feature],
            "before": facts.before[feature],
            "now": facts.now[feature],
            "change": facts.change[feature],
            "along": facts.along[feature],
        }
        for feature in patch.features.tolist()
    ]


def _direct_row(item: Direct) -> dict[str, Any]:
    effects = {name: token_effect(values) for name, values in item.differences.items()}
    return _place(item.patch) | {"moved": item.moved, "effects": effects}


def _total_row(item: Total, own: Total) -> dict[str, Any]:
    """A patch's effects on every reading; without a patch, the means of the readings."""
    if item.patch is None:
        means = {name: _mean(values) for name, values in item.readings.items()}
        return {"arm": "none", "draw": 0, "means": means, "n_tokens": float(item.n_tokens.mean())}
    effects = {name: paired_effect(values - own.readings[name]) for name, values in item.readings.items()}
    return _place(item.patch) | {"effects": effects, "n_tokens": float(item.n_tokens.mean())}


def _place(patch: Patch) -> dict[str, Any]:
    return {"arm": patch.arm, "draw": patch.draw, "n_features": len(patch.features), "part": patch.arm in PARTS}


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def as_dicts(value: Any) -> Any:
    """Effects, wherever they stand, as plain dicts."""
    if isinstance(value, Effect):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(key): as_dicts(item) for key, item in value.items()}
    return [as_dicts(item) for item in value] if isinstance(value, list | tuple) else value
