"""The rows of one trait: what each response is, how it was judged, and which of them make the vector."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.traits.nuisances import nuisances
from personascope.errors import UserError
from personascope.formats.judgements import read_judgements
from personascope.formats.responses import answer_range, read_responses

SIGNS = {"pos": 1, "neg": -1, "neutral": 0}
# The filters a couple (the positive and the negative response to one question) goes through, each with what is left.
STAGES = ("generated", "answered", "scored", "positive shows it", "negative does not", "both coherent")
FILTERS = ("judge", "none")


@dataclass(frozen=True)
class TraitRows:
    """All responses of a trait, n of them. evaluation: bool, else of the extraction set; sign: 1, -1, 0 (neutral);
    n_tokens: of the response; score, coherence: the judge's, NaN where there is none; nuisances float64 [n, K]."""

    evaluation: np.ndarray
    pair: np.ndarray
    sign: np.ndarray
    question: np.ndarray
    sample: np.ndarray
    n_tokens: np.ndarray
    score: np.ndarray
    coherence: np.ndarray
    nuisances: np.ndarray

    def __len__(self) -> int:
        return len(self.sign)

    @property
    def answered(self) -> np.ndarray:
        return self.n_tokens > 0

    def take(self, chosen: np.ndarray) -> "TraitRows":
        """Some of the rows, by mask or index."""
        return TraitRows(*(array[chosen] for array in vars(self).values()))


@dataclass(frozen=True)
class Thresholds:
    """A couple is kept where positive >= trait, negative < 100 - trait, and both coherences >= coherence."""

    trait: float = 50
    coherence: float = 50


def read_rows(responses: str | Path, judgements: str | Path | None = None) -> TraitRows:
    """The rows of a file of responses, with their judgements where there are any; UserError names a row."""
    rows = list(read_responses(responses))
    try:
        keys = [
            (row["set"] == "evaluation", row["pair"], SIGNS[row["polarity"]], row["question_id"], row["sample"])
            for row in rows
        ]
    except KeyError as error:
        raise UserError(f"{responses}: no responses of a trait: {error} is missing; generate them again") from None
    if len(set(keys)) < len(keys):
        raise UserError(f"{responses}: two rows have the same set, pair, polarity, question and sample")
    if not keys:
        raise UserError(f"{responses}: holds no response")
    scores = _scores(judgements, len(rows))
    evaluation, pair, sign, question, sample = (np.array(column) for column in zip(*keys, strict=True))
    tokens = [_n_tokens(row) for row in rows]
    values = np.array([nuisances(row["response"], n) for row, n in zip(rows, tokens, strict=True)])
    return TraitRows(
        evaluation, pair, sign, question, sample, np.array(tokens), scores["trait"], scores["coherence"], values
    )


def _n_tokens(row: dict[str, Any]) -> int:
    """Tokens of the answer; of one without them (an endpoint's text) a word counts as one."""
    found = answer_range(row)
    if found is not None:
        return found[1] - found[0]
    ids = row.get("response_token_ids")
    return len(ids) if ids is not None else len(row["response"].split())


def _scores(path: str | Path | None, n: int) -> dict[str, np.ndarray]:
    found = {metric: np.full(n, np.nan) for metric in ("trait", "coherence")}
    if path is not None:
        table, _ = read_judgements(path)
        places, metrics, scores = (np.asarray(table[name]) for name in ("row", "metric", "score"))
        if len(places) and places.max() >= n:
            raise UserError(f"{path}: judgements of {places.max() + 1} rows, there are {n}; judge again")
        for metric, values in found.items():
            values[places[metrics == metric]] = scores[metrics == metric]
    return found


def couples(rows: TraitRows) -> np.ndarray:
    """Indices [m, 2] of the positive and the negative row of each key (pair, question, sample) of the extraction set;
    never by row number."""
    index: dict[tuple[int, ...], dict[int, int]] = {}
    for i in np.flatnonzero(~rows.evaluation).tolist():
        key = int(rows.pair[i]), int(rows.question[i]), int(rows.sample[i])
        index.setdefault(key, {})[int(rows.sign[i])] = i
    found = [(ends[1], ends[-1]) for ends in index.values() if {1, -1} <= ends.keys()]
    return np.array(found, dtype=int).reshape(-1, 2)


def passes(rows: TraitRows, pairs: np.ndarray, limits: Thresholds) -> np.ndarray:
    """Whether each couple is left after each of STAGES, bool [m, stages]."""
    both = np.stack([rows.score[pairs], rows.coherence[pairs]], axis=-1)  # [m, pos or neg, trait or coherence]
    with np.errstate(invalid="ignore"):
        stages = [
            np.ones(len(pairs), bool),
            rows.answered[pairs].all(1),
            np.isfinite(both).all((1, 2)),
            both[:, 0, 0] >= limits.trait,
            both[:, 1, 0] < 100 - limits.trait,
            (both[:, :, 1] >= limits.coherence).all(1),
        ]
    return np.logical_and.accumulate(np.stack(stages, axis=1), axis=1)


def attrition(rows: TraitRows, pairs: np.ndarray, limits: Thresholds) -> pd.DataFrame:
    """How many couples of each instruction pair are left after each filter, a row a pair.

    Filtering at a threshold selects on the outcome: a pair that loses most of its couples speaks through the few
    responses that suited the judge.
    """
    left, of = passes(rows, pairs, limits), rows.pair[pairs[:, 0]]
    counts = {stage: [int(left[of == pair, i].sum()) for pair in np.unique(of)] for i, stage in enumerate(STAGES)}
    return pd.DataFrame({"pair": np.unique(of), **counts})


def keep(rows: TraitRows, limits: Thresholds, kind: str, where: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Which rows make the vector, bool [n], and the table of attrition with what is kept.

    kind: one of FILTERS; with `none` every couple is kept that has answers, whatever the judge says of it. UserError
    with the counts at each filter where nothing is left; where: the file that starts it.
    """
    pairs = couples(rows)
    left, table = passes(rows, pairs, limits), attrition(rows, pairs, limits)
    chosen = left[:, -1 if kind == "judge" else STAGES.index("answered")]
    table["kept"] = [int(chosen[rows.pair[pairs[:, 0]] == pair].sum()) for pair in table["pair"]]
    if not chosen.any():
        stages = STAGES if kind == "judge" else STAGES[:2]
        counts = ", ".join(f"{stage} {np.asarray(table[stage]).sum()}" for stage in stages)
        advice = "lower traits.threshold or traits.coherence, choose another judge, or set traits.filter: none"
        raise UserError(f"{where}: no couple of responses is left after filtering ({counts}); {advice}")
    kept = np.zeros(len(rows), bool)
    kept[pairs[chosen].ravel()] = True
    return kept, table


def contrast(sign: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Weights float64 [n] that give the mean over chosen positive rows minus the mean over chosen negative ones; NaN
    where one of them is empty."""
    weights = np.zeros(len(sign))
    for end in (1, -1):
        rows = chosen & (sign == end)
        if not rows.any():
            return np.full(len(sign), np.nan)
        weights[rows] = end / rows.sum()
    return weights


def weighted(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sums of rows: float32 [n, n_layers, d_model], weights [n] or [k, n] -> float32 [(k,) n_layers, d_model];
    summed in float64, a layer at a time."""
    layers = range(activations.shape[1])
    return np.stack([weights @ activations[:, i].astype(np.float64) for i in layers], axis=-2).astype(np.float32)
