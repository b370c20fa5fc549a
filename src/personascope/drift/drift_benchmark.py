"""The labeled benchmark: does the test find a persona, and leave everything else alone, better than simpler signals?

A conversation of the benchmark says in its metadata of which `base` script it is a variant, by which `contrast`, and
from which assistant turn on (`onset`, from 0). In the contrasts `persona_*` the model is asked into a persona; in all
others something changes that is none (the topic, the genre, the language, the length, an angry user), or nothing
(`plain`).

Each method gives a conversation a statistic and, where it passes a level, the turn of the alarm. The test's level is
that of its alpha. The level of a baseline (`baselines`) is that at which it alarms as often as the test does on the
plain conversations and the references, at any turn. Conversations of one base resemble each other, so intervals draw
bases.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.axis import RoleSpace, load_role_space
from personascope.directions.quality import auc_of
from personascope.directions.stats import proportion_interval
from personascope.drift.baselines import BASELINES, first_above, highest, matched_level, signals
from personascope.drift.null import EVERYTHING, load_null, unfit_for_reference
from personascope.drift.options import DriftOptions
from personascope.drift.result import DriftResult
from personascope.drift.result_file import load_run
from personascope.drift.turns import turn_scores
from personascope.errors import UserError
from personascope.formats.files import read_json
from personascope.formats.tokens import read_activations, read_metadata

PLAIN, PERSONA = "plain", "persona"  # the contrast without a change; how the contrasts with a persona begin
TEST = "test"
DRAWS, TAIL = 1000, 2.5
MEASURES = ("auc", "detected", "early", "delay")


@dataclass(frozen=True)
class Talk:
    """One benchmark conversation under one method: its labels, its statistic, and the turn of the alarm, if any."""

    base: str
    contrast: str
    onset: int
    statistic: float
    alarm: int | None

    @property
    def detected(self) -> bool:
        """An alarm at the onset or later."""
        return self.alarm is not None and self.alarm >= self.onset

    @property
    def early(self) -> bool:
        """One before it."""
        return self.alarm is not None and self.alarm < self.onset


@dataclass(frozen=True)
class Judged:
    """All benchmark conversations under one method; space: the analysis's; false_alarm_rate: share of the plain
    conversations and the references with an alarm at any turn."""

    analysis: str
    space: str
    method: str
    talks: list[Talk]
    false_alarm_rate: float


@dataclass(frozen=True)
class Files:
    """Of one analysis. results {conversation: (summary.json, result.npz)}; references: tokens files; null, matrix."""

    results: Mapping[str, tuple[str, str]]
    references: Sequence[str]
    null: str
    matrix: str


Labels = tuple[str, str, int]


def labels_of(metadata: Mapping[str, Any], name: str) -> Labels | None:
    """(base, contrast, onset); None for a conversation that is not of the benchmark. UserError where one is missing."""
    if not metadata.get("contrast"):
        return None
    base, onset = metadata.get("base"), metadata.get("onset")
    if not isinstance(base, str) or not isinstance(onset, int) or isinstance(onset, bool):
        raise UserError(f"benchmark, {name}: metadata with `contrast` needs `base` (text) and `onset` (a whole number)")
    return base, str(metadata["contrast"]), onset


def judge_analysis(analysis: str, files: Files, options: DriftOptions) -> list[Judged]:
    """The test and the baselines on all benchmark conversations of an analysis; none where it has no test."""
    null, roles = load_null(files.null), load_role_space(files.matrix, options.axis)
    if not null.strata:
        return []
    test = null.strata[EVERYTHING]
    labels: dict[str, Labels] = {}
    found: dict[str, dict[str, np.ndarray]] = {}
    outcomes: dict[str, tuple[float, int | None]] = {}
    for name, (summary, path) in files.results.items():
        known = labels_of(read_json(summary)["overview"]["metadata"], name)
        result = load_run(path).result if known else None
        if known and isinstance(result, DriftResult):
            labels[name], outcomes[name] = known, _outcome(result)
            made = signals(result.tokens, result.turns, roles, options)
            found[name] = {method: values[: test.turns] for method, values in made.items()}
    quiet = {name: found[name] for name, (_, contrast, _) in labels.items() if contrast == PLAIN}
    alarms = sum(outcomes[name][1] is not None for name in quiet)
    alarms += int((test.statistics > test.level(options.test.alpha)).sum())
    rate = alarms / max(len(quiet) + len(test.statistics), 1)
    quiet |= _reference_signals(files.references, test.turns, roles, options)
    judged = [Judged(analysis, options.axis.space, TEST, _talks(labels, outcomes), rate)]
    for method in BASELINES:
        heights = {name: highest(values[method]) for name, values in quiet.items()}
        level = matched_level(heights, rate)
        reached = {name: (highest(own[method]), first_above(own[method], level)) for name, own in found.items()}
        measured = float(np.mean([height > level for height in heights.values()])) if heights else 0.0
        judged.append(Judged(analysis, options.axis.space, method, _talks(labels, reached), measured))
    return judged


def _outcome(result: DriftResult) -> tuple[float, int | None]:
    """Statistic and turn of the alarm by the test."""
    return highest(result.calibration["evidence"].to_numpy(float)), result.verdict.alarm_turn


def _reference_signals(
    paths: Iterable[str], turns: int, roles: RoleSpace, options: DriftOptions
) -> dict[str, dict[str, np.ndarray]]:
    """The same signals of the reference conversations, as far as they can be read."""
    found = {}
    for path in paths:
        if unfit_for_reference(read_metadata(path)):
            continue
        activations = read_activations(path, options.axis.space, options.axis.layer)
        made = signals(activations, turn_scores(activations, roles, options), roles, options)
        found[f"reference {Path(path).stem}"] = {method: values[:turns] for method, values in made.items()}
    return found


def _talks(labels: Mapping[str, Labels], outcomes: Mapping[str, tuple[float, int | None]]) -> list[Talk]:
    return [Talk(*labels[name], *outcomes[name]) for name in sorted(labels)]


def benchmark_table(judged: Iterable[Judged], seed: int = 0) -> pd.DataFrame:
    """One row an analysis, method and contrast: analysis, space, method, contrast, is_persona, conversations, bases,
    false_alarm_rate, and each of MEASURES with `_low` and `_high`, 95 % by draws of bases.

    auc: share of pairs (one of the contrast, one plain) in which the contrast's statistic is larger; detected: share
    with an alarm at the onset or later; early: with one before it; delay: turns from the onset to the alarm, the mean
    over those detected (NaN without any).
    """
    rows = []
    for item in judged:
        contrasts = sorted({talk.contrast for talk in item.talks}, key=lambda name: (name != PLAIN, name))
        for contrast in contrasts:
            rng = np.random.default_rng(seed)  # the same draws of bases for every method
            rows.append(_row(item, contrast, rng))
    if not rows:
        raise UserError("benchmark: no conversation has `contrast` in its metadata, or no analysis has a test")
    return pd.DataFrame(rows)


def _row(item: Judged, contrast: str, rng: np.random.Generator) -> dict[str, Any]:
    own = [talk for talk in item.talks if talk.contrast == contrast]
    bases = sorted({talk.base for talk in own})
    of_base = {base: [talk for talk in own if talk.base == base] for base in bases}
    controls = {base: [t for t in item.talks if t.contrast == PLAIN and t.base == base] for base in bases}
    value = _measures(own, [talk for talks in controls.values() for talk in talks])
    drawn = []
    for picked in rng.integers(len(bases), size=(DRAWS, len(bases))):
        chosen = [bases[i] for i in picked]
        drawn.append(_measures([t for b in chosen for t in of_base[b]], [t for b in chosen for t in controls[b]]))
    row: dict[str, Any] = {"analysis": item.analysis, "space": item.space, "method": item.method}
    row |= {"contrast": contrast, "is_persona": contrast.startswith(PERSONA), "conversations": len(own)}
    row |= {"bases": len(bases), "false_alarm_rate": item.false_alarm_rate}
    for i, name in enumerate(MEASURES):
        values = np.array([draw[i] for draw in drawn])
        low, high = np.nanpercentile(values, [TAIL, 100 - TAIL]) if np.isfinite(values).any() else (np.nan, np.nan)
        if name in ("detected", "early") and low == high:
            # Bases that are all alike say nothing of how much they vary: each counts as one trial.
            low, high = proportion_interval(value[i] * len(bases), len(bases))
        row |= {name: value[i], f"{name}_low": float(low), f"{name}_high": float(high)}
    return row


def _measures(own: Sequence[Talk], controls: Sequence[Talk]) -> tuple[float, float, float, float]:
    """MEASURES of some conversations of a contrast, beside plain ones; NaN where there are none."""
    if own and own[0].contrast == PLAIN:
        auc = np.nan
    else:
        auc = auc_of(*(np.array([talk.statistic for talk in talks]) for talks in (own, controls)))
    delays = [talk.alarm - talk.onset for talk in own if talk.alarm is not None and talk.detected]
    detected, early = (float(np.mean([getattr(talk, name) for talk in own])) for name in ("detected", "early"))
    return auc, detected, early, float(np.mean(delays)) if delays else np.nan
