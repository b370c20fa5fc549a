"""The null of the drift test: what reference conversations, in which nothing drifts, score under an analysis.

Fitted once an analysis by the stage `drift_null`; `sequential` is the test. Its strata are all references together, and
those of each domain with enough of them: a conversation whose metadata name such a domain is held against it alone,
since poems and tales lie lower than advice without any persona.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from personascope.directions.axis import RoleSpace, load_role_space
from personascope.directions.stats import proportion_interval
from personascope.drift.options import DriftOptions
from personascope.drift.result import TurnScores
from personascope.drift.sequential import Calibrated, Standard, Turns, calibrate, fit, least_references
from personascope.drift.turns import MASS_METRICS, turn_scores
from personascope.errors import UserError
from personascope.formats.files import write_json
from personascope.formats.tables import load_all_npz, plain, save_npz
from personascope.formats.tokens import read_activations, read_metadata

VERSION = 2
EVERYTHING = ""  # the stratum of all references
BOOTSTRAPS = 200
HELD_OUT_SPLITS = 20


@dataclass(frozen=True)
class References:
    """Scores of the reference conversations under one analysis.

    turns: [M, T]; names, scripts, domains [M]: of each conversation; conversations of one script, answered several
    times, are held out together.
    """

    turns: Turns
    names: list[str]
    scripts: list[str]
    domains: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: np.ndarray) -> "References":
        picked = np.arange(len(self))[rows]
        lists = ([values[i] for i in picked] for values in (self.names, self.scripts, self.domains))
        return References(self.turns[rows], *lists)


@dataclass(frozen=True)
class Null:
    """The calibrated test of one analysis.

    strata: {"" or domain: test}; bootstraps: {the same: standards of resampled references}, for the set of onsets;
    false_alarms: rate, low, high, n of the test over all domains on held-out references, "" for all and by domain;
    false_alarms_within: {domain: the same of its own stratum's test}, without a rate where half of the stratum is too
    few to calibrate it; reason: why there is no test (strata is empty then).
    """

    strata: dict[str, Calibrated] = field(default_factory=dict)
    bootstraps: dict[str, list[Standard]] = field(default_factory=dict)
    false_alarms: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    reason: str = ""
    false_alarms_within: dict[str, dict[str, Any]] = field(default_factory=dict)

    def stratum(self, domain: Any) -> str:
        """The stratum that a conversation of this domain belongs to."""
        return domain if isinstance(domain, str) and domain in self.strata else EVERYTHING


def turns_of(scores: Sequence[TurnScores], options: DriftOptions, length: int) -> Turns:
    """Scores and regressors of conversations, the first `length` turns of each; NaN where there is none.

    The regressors are the log of the turn's tokens and, with `confound_adjust`, of its activation mass.
    """
    metrics = MASS_METRICS if options.test.confound_adjust else ()
    values = np.full((len(scores), length), np.nan)
    regressors = np.zeros((len(scores), length, 1 + len(metrics)))
    for i, turns in enumerate(scores):
        n = min(length, len(turns.n_tokens))
        values[i, :n] = turns.scores[options.scoring.score_method][:n]
        columns = [turns.n_tokens, *(np.nan_to_num(turns.mass[metric]) for metric in metrics)]
        regressors[i, :n] = np.log1p(np.stack(columns, axis=1)[:n])
    return Turns(values, regressors).minus_baseline(options.test.baseline_turns)


def read_references(
    files: Sequence[str | Path], roles: RoleSpace, options: DriftOptions
) -> tuple[References, list[str]]:
    """The reference conversations of these tokens files, and a line for each that cannot be used."""
    found: list[tuple[TurnScores, dict[str, Any]]] = []
    left_out = []
    for path in files:
        metadata = read_metadata(path)
        if unfit := unfit_for_reference(metadata):
            left_out.append(f"{metadata['conversation']['name']}: {unfit}")
            continue
        activations = read_activations(path, options.axis.space, options.axis.layer)
        scores = turn_scores(activations, roles, options)
        # The vectors are of no use here, and those of all references together take hundreds of megabytes.
        light = replace(scores, raw=scores.raw[:, :0].copy(), space=scores.space[:, :0].copy())
        found.append((light, metadata["conversation"]))
    length = min((len(scores.n_tokens) for scores, _ in found), default=0)
    turns = turns_of([scores for scores, _ in found], options, length)
    said = [conversation["metadata"] for _, conversation in found]
    names = [conversation["name"] for _, conversation in found]
    scripts = [str(each.get("script") or name) for each, name in zip(said, names, strict=True)]
    return References(turns, names, scripts, [str(each.get("domain") or "") for each in said]), left_out


def unfit_for_reference(metadata: dict[str, Any]) -> str:
    """Why the conversation of a tokens file with this metadata cannot be a reference; empty where it can.

    It could not be read, was truncated (its turns are not where they seem), or says that another model has answered;
    models are compared without the folder or organization before their names.
    """
    if metadata.get("error"):
        return metadata["error"]
    if dropped := metadata.get("dropped_messages"):
        return f"its first {dropped} messages are cut off, so that its turns are not where they seem"
    said = metadata["conversation"]["metadata"].get("model")
    if isinstance(said, str) and _short(said) != _short(metadata["model"]):
        return f"the answers are of {said}, not of {metadata['model']}"
    return ""


def _short(model: str) -> str:
    return model.rstrip("/").rpartition("/")[2].lower()


def fit_null(references: References, options: DriftOptions, seed: int = 0) -> Null:
    """The test that the references calibrate; one without strata where they are too few for alpha."""
    alpha, rng = options.test.alpha, np.random.default_rng(seed)
    least = least_references(alpha)
    if not len(references):
        return Null(reason="no reference conversations: drift.references is empty")
    if len(references) < least:
        return Null(reason=f"{len(references)} reference conversations, alpha {alpha:g} needs at least {least}")
    if len(set(references.scripts)) < least:
        scripts = len(set(references.scripts))
        return Null(
            reason=f"the reference conversations are of {scripts} scripts, alpha {alpha:g} needs at least {least}"
        )
    if references.turns.scores.shape[1] <= options.test.baseline_turns:
        return Null(
            reason=f"the reference conversations have no turn behind baseline_turns {options.test.baseline_turns}"
        )
    strata = {EVERYTHING: np.ones(len(references), bool)}
    for domain in sorted(set(references.domains) - {""}):
        rows = np.array([each == domain for each in references.domains])
        if rows.sum() >= least:
            strata[domain] = rows
    parts = {name: references[rows] for name, rows in strata.items()}
    return Null(
        strata={name: calibrate(part.turns) for name, part in parts.items()},
        bootstraps={name: _bootstraps(part, rng) for name, part in parts.items()},
        false_alarms=held_out_rates(references, alpha, rng),
        counts={name: len(part) for name, part in parts.items()},
        false_alarms_within={
            name: held_out_rates(part, alpha, rng)[EVERYTHING] for name, part in parts.items() if name != EVERYTHING
        },
    )


def _bootstraps(references: References, rng: np.random.Generator) -> list[Standard]:
    """Standards of references drawn with replacement, all of a script at once."""
    scripts = sorted(set(references.scripts))
    of_script = [np.flatnonzero([each == script for each in references.scripts]) for script in scripts]
    drawn = rng.integers(len(scripts), size=(BOOTSTRAPS, len(scripts)))
    return [fit(references.turns[np.concatenate([of_script[i] for i in row])]) for row in drawn]


def held_out_rates(references: References, alpha: float, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """False alarms of the test over all on references that did not calibrate it: {"" or domain: rate, low, high, n}.

    Half of the scripts calibrate, the conversations of the others are tested, HELD_OUT_SPLITS times. The intervals
    (Clopper-Pearson, 95 %) count each conversation once: the splits share them.
    """
    scripts = np.array(references.scripts)
    names = np.unique(scripts)
    alarms, tested = np.zeros(len(references)), np.zeros(len(references))
    for _ in range(HELD_OUT_SPLITS):
        calibrating = np.isin(scripts, rng.permutation(names)[: len(names) // 2])
        if min(calibrating.sum(), (~calibrating).sum()) < least_references(alpha):
            continue
        test = calibrate(references.turns[calibrating])
        reached = test.standard.evidence(references.turns[~calibrating]).max(1, initial=0)
        alarms[~calibrating] += reached > test.level(alpha)
        tested[~calibrating] += 1
    rates = {}
    for name in [EVERYTHING, *sorted(set(references.domains) - {""})]:
        rows = (tested > 0) & np.array([name in (EVERYTHING, each) for each in references.domains])
        n = int(rows.sum())
        rate = float(np.mean(alarms[rows] / tested[rows])) if n else None
        low, high = (None, None) if rate is None else proportion_interval(rate * n, n)
        rates[name] = {"rate": rate, "low": low, "high": high, "n": n}
    return rates


def save_null(null: Null, path: str | Path) -> None:
    """Write an .npz, readable without pickle."""
    arrays: dict[str, np.ndarray] = {}
    for i, (name, test) in enumerate(null.strata.items()):
        standards = [test.standard, *null.bootstraps[name]]
        arrays[f"{i}/statistics"] = test.statistics
        for part in ("location", "spread", "center", "height"):
            arrays[f"{i}/{part}"] = np.stack([getattr(standard, part) for standard in standards])
    header = {"version": VERSION, "strata": list(null.strata), "counts": null.counts}
    header |= {name: getattr(null, name) for name in ("false_alarms", "reason", "false_alarms_within")}
    save_npz(path, json=np.frombuffer(json.dumps(plain(header), ensure_ascii=False).encode(), np.uint8), **arrays)


def load_null(path: str | Path) -> Null:
    """Read an .npz of `save_null`; UserError where it is missing, damaged or of another version."""
    arrays = load_all_npz(path)
    header = json.loads(arrays.pop("json", np.zeros(0, np.uint8)).tobytes() or b"{}")
    if header.get("version") != VERSION:
        raise UserError(f"{path}: not a null of this version; delete it and run again")
    strata, bootstraps = {}, {}
    for i, name in enumerate(header["strata"]):
        parts = (arrays[f"{i}/{part}"] for part in ("location", "spread", "center", "height"))
        first, *others = (Standard(*rows) for rows in zip(*parts, strict=True))
        strata[name], bootstraps[name] = Calibrated(first, arrays[f"{i}/statistics"]), others
    said = {name: header[name] for name in ("false_alarms", "counts", "reason", "false_alarms_within")}
    return Null(strata, bootstraps, **said)


def write_null(tokens: Sequence[str], matrix: str, options: DriftOptions, *, seed: int, null: str, report: str) -> None:
    """From the tokens of the reference conversations and the role matrix to the null, and what it says as JSON."""
    roles = load_role_space(matrix, options.axis)
    references, left_out = read_references(tokens, roles, options)
    fitted = fit_null(references, options, seed)
    if left_out and not len(references):
        fitted = replace(fitted, reason=f"none of {len(left_out)} reference conversations can be used ({left_out[0]})")
    save_null(fitted, null)
    lengths = {"turns_max": references.turns.scores.shape[1], "left_out": left_out}
    said = {"alpha": options.test.alpha, "references": fitted.counts, "false_alarms": fitted.false_alarms}
    said["false_alarms_within"] = fitted.false_alarms_within
    write_json(report, plain(said | lengths | {"reason": fitted.reason or None, "conversations": references.names}))
