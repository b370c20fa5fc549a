"""What a trait vector is worth, on each layer: on questions that it was not made from, and within its own making.

All that concerns the vector's own rows is a weighted sum of them, so that cosines and norms come from the dot products
of the rows, [n, n] a layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.halves import SPLITS, random_halves
from personascope.directions.quality import auc_of
from personascope.directions.traits.nuisances import NUISANCES, screen_weights, within
from personascope.directions.traits.rows import TraitRows, contrast
from personascope.directions.traits.statistics import (
    QuestionSums,
    auc_interval,
    cell_of,
    correlation_interval,
    pearson,
    question_sums,
)

SHUFFLES = 100
# What the layer is chosen by, and what else is reported of it on the other half.
CRITERIA = ("r_within", "separation")


@dataclass(frozen=True)
class Evaluation:
    """layers: a row a layer; held_out: the layer chosen on one half of the evaluation questions and its values on the
    other; pairs: cosines of the instruction pairs' own vectors at the selected layer; nuisances: a row a nuisance at
    that layer; projections: a row an evaluation response at that layer; selected: the layer chosen on all questions."""

    layers: pd.DataFrame
    held_out: dict[str, Any]
    pairs: pd.DataFrame
    nuisances: pd.DataFrame
    projections: pd.DataFrame
    selected: int


def evaluate(
    rows: TraitRows,
    kept: np.ndarray,
    activations: np.ndarray,
    vectors: np.ndarray,
    layers: Sequence[int],
    *,
    judged: bool,
    seed: int = 0,
) -> Evaluation:
    """Evaluate the vectors float32 [n_layers, d_model] of one reading on activations float32 [n, n_layers, d_model].

    kept: the rows that made the vectors; judged: whether a judge that is fit chooses the layer (else how far apart the
    conditions are).
    """
    rng = np.random.default_rng(seed)
    tested = rows.evaluation & rows.answered
    some, chosen = rows.take(tested), rows.take(kept)
    screen = screen_weights(chosen.sign, chosen.question, chosen.nuisances)
    within_vector = _Within(chosen, screen, rng)
    found, sums = [], []
    projected = np.empty((len(layers), len(some)))
    for i, layer in enumerate(layers):
        vector = vectors[i].astype(np.float64)
        norm = float(np.linalg.norm(vector))
        here = activations[tested, i].astype(np.float64)
        projected[i] = here @ vector / max(norm, 1e-12)
        sums.append(question_sums(projected[i], some.sign, some.question, some.score))
        own = activations[kept, i].astype(np.float64)
        row = {"layer": layer, "norm": norm, "norm_share": norm / float(np.linalg.norm(own, axis=1).mean())}
        row |= _on_questions(projected[i], some, sums[-1]) | within_vector.measures(own @ own.T)
        if screen is not None:
            adjusted = screen[0] @ own
            row |= _adjusted(here @ adjusted / max(float(np.linalg.norm(adjusted)), 1e-12), some)
        found.append(row)
    table = pd.DataFrame(found)
    criterion = CRITERIA[0] if judged and np.isfinite(table["r_within"]).any() else CRITERIA[1]
    held_out = _held_out(sums, layers, criterion, rng)
    best = int(np.nanargmax(table[criterion])) if np.isfinite(table[criterion]).any() else len(layers) - 1
    own = activations[kept, best].astype(np.float64)
    gram = own @ own.T
    return Evaluation(
        layers=table,
        held_out=held_out,
        pairs=within_vector.pair_table(gram),
        nuisances=within_vector.nuisance_table(gram),
        projections=_projections(projected[best], some),
        selected=int(layers[best]),
    )


def _on_questions(projection: np.ndarray, rows: TraitRows, sums: QuestionSums) -> dict[str, float]:
    """What the evaluation questions say of one layer."""
    whole, judged = np.ones((1, len(sums.auc))), np.isfinite(rows.score)
    x, y, sign = projection[judged], rows.score[judged], rows.sign[judged]
    cells = cell_of(rows.question, rows.sign)[judged]
    between = dict(zip(("auc_low", "auc_high"), auc_interval(sums), strict=True))
    interval = dict(zip(("r_low", "r_high"), correlation_interval(sums), strict=True))
    ends = rows.sign != 0
    return {
        "separation": float(sums.separation(whole)[0]),
        "auc": float(sums.mean_auc(whole)[0]),
        **between,
        "auc_pooled": _pooled_auc(projection[ends], rows.sign[ends]),
        "r_pooled": pearson(x, y),
        "r_condition": pearson(x, y, sign),
        "r_within": float(sums.correlation(whole)[0]),
        **interval,
        "r_within_adjusted": _partial(x, y, rows.nuisances[judged], cells),
        "n_judged": int(judged.sum()),
    }


def _pooled_auc(projection: np.ndarray, sign: np.ndarray) -> float:
    return auc_of(projection[sign == 1], projection[sign == -1])


def _partial(x: np.ndarray, y: np.ndarray, nuisances: np.ndarray, cells: np.ndarray) -> float:
    """The correlation within cells of what the nuisances leave of both; NaN where they leave too few rows."""
    if len(x) - len(np.unique(cells)) <= 2 * nuisances.shape[1]:
        return math.nan
    z = within(cells, nuisances)
    inside = within(cells, np.stack([x, y], axis=1))
    left = inside - z @ np.linalg.lstsq(z, inside, rcond=None)[0]
    return pearson(left[:, 0], left[:, 1])


def _adjusted(projection: np.ndarray, rows: TraitRows) -> dict[str, float]:
    """The same for the direction with the nuisances held equal."""
    sums = question_sums(projection, rows.sign, rows.question, rows.score)
    whole = np.ones((1, len(sums.auc)))
    return {"auc_adjusted": float(sums.mean_auc(whole)[0]), "separation_adjusted": float(sums.separation(whole)[0])}


def _projections(projection: np.ndarray, rows: TraitRows) -> pd.DataFrame:
    columns = {name: getattr(rows, name) for name in ("pair", "sign", "question", "sample", "n_tokens")}
    return pd.DataFrame({**columns, "projection": projection, "score": rows.score, "coherence": rows.coherence})


def _held_out(
    sums: Sequence[QuestionSums], layers: Sequence[int], criterion: str, rng: np.random.Generator
) -> dict[str, Any]:
    """The layer chosen on one half of the questions, its values on the other: both ways of SPLITS splits, averaged."""
    count = len(sums[0].auc)
    if count < 4:
        return {"criterion": criterion, "splits": 0, "reason": f"{count} evaluation questions, 4 are needed"}
    halves = random_halves(count, SPLITS, rng).astype(float)
    other = halves.reshape(-1, 2, count)[:, ::-1].reshape(-1, count)
    measures = {
        "r_within": QuestionSums.correlation,
        "separation": QuestionSums.separation,
        "auc": QuestionSums.mean_auc,
    }
    here = np.stack([measures[criterion](one, halves) for one in sums])  # [layers, 2 * SPLITS]
    usable = np.isfinite(here).any(0)
    if not usable.any():
        return {"criterion": criterion, "splits": 0, "reason": f"{criterion} has no value on halves of the questions"}
    best = np.nanargmax(np.where(np.isfinite(here), here, -np.inf), axis=0)[usable]
    rows = np.flatnonzero(usable)
    found: dict[str, Any] = {"criterion": criterion, "splits": len(rows) // 2}
    for name, measure in measures.items():
        there = np.stack([measure(one, other) for one in sums])[best, rows]
        found[name] = float(np.nanmean(there)) if np.isfinite(there).any() else math.nan
    found["in_sample"] = float(np.nanmean(here[best, rows]))
    chosen, times = np.unique([layers[i] for i in best], return_counts=True)
    order = np.argsort(-times, kind="stable")
    found["layers_chosen"] = {str(chosen[i]): float(times[i] / times.sum()) for i in order}
    return found


class _Within:
    """Measures of a vector from the dot products of its own rows: reliability, its pairs' agreement, nuisances."""

    def __init__(
        self,
        rows: TraitRows,
        screen: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
        rng: np.random.Generator,
    ):
        self.rows, self.screen = rows, screen
        everything = np.ones(len(rows), bool)
        self.whole = contrast(rows.sign, everything)
        self.pairs = np.unique(rows.pair)
        self.of_pairs = np.stack([contrast(rows.sign, rows.pair == pair) for pair in self.pairs])
        self.halves = half_weights(rows, rng)
        self.shuffled = _shuffled_parts(rows, rng) if screen is not None else np.empty((0, 0, len(rows)))

    def measures(self, gram: np.ndarray) -> dict[str, float]:
        """gram [n, n]: dot products of the kept rows at one layer."""
        own = _cosines(self.of_pairs, gram)
        above = own[np.triu_indices(len(own), 1)]
        halves = [_cosines(couple, gram)[0, 1] for couple in self.halves]
        found = {
            "pair_cosine": float(above.mean()) if len(above) else math.nan,
            "pair_cosine_low": float(above.min()) if len(above) else math.nan,
            "split_half": float(np.mean(halves)) if len(halves) else math.nan,
        }
        if self.screen is not None:
            adjusted, parts, _ = self.screen
            found["nuisance_share"] = float(self._shares(parts, gram).sum())
            found["nuisance_share_shuffled"] = self._shuffled(gram)[0]
            found["cosine_adjusted"] = float(_cosines(np.stack([self.whole, adjusted]), gram)[0, 1])
        return found

    def _shares(self, parts: np.ndarray, gram: np.ndarray) -> np.ndarray:
        """What share of the vector, along itself, each part is; parts [..., n]."""
        along = gram @ self.whole
        return parts @ along / max(float(self.whole @ along), 1e-12)

    def _shuffled(self, gram: np.ndarray) -> tuple[float, np.ndarray]:
        """95th percentile of |share| where nuisances are shuffled within each sign: of the sum, and of each [K]."""
        shares = self._shares(self.shuffled, gram)
        return float(np.quantile(np.abs(shares.sum(1)), 0.95)), np.quantile(np.abs(shares), 0.95, axis=0)

    def pair_table(self, gram: np.ndarray) -> pd.DataFrame:
        """Cosines of the pairs' own vectors, long."""
        cosines = _cosines(self.of_pairs, gram)
        cells = [(a, b, cosines[i, j]) for i, a in enumerate(self.pairs) for j, b in enumerate(self.pairs)]
        return pd.DataFrame(cells, columns=["first", "second", "cosine"])

    def nuisance_table(self, gram: np.ndarray) -> pd.DataFrame:
        """A row a nuisance: its means under both signs, its share of the vector, and what shuffling gives."""
        sign, values = self.rows.sign, self.rows.nuisances
        table = pd.DataFrame({"nuisance": NUISANCES})
        table["mean_pos"], table["mean_neg"] = values[sign == 1].mean(0), values[sign == -1].mean(0)
        if self.screen is None:
            return table.assign(share=math.nan, shuffled=math.nan, varies=False)
        _, parts, usable = self.screen
        return table.assign(share=self._shares(parts, gram), shuffled=self._shuffled(gram)[1], varies=usable)


def _cosines(weights: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Cosines [k, k] of the weighted sums of rows whose dot products are `gram`; weights [k, n]."""
    dots = weights @ gram @ weights.T
    norms = np.sqrt(np.maximum(np.diag(dots), 1e-24))
    return dots / np.outer(norms, norms)


def half_weights(rows: TraitRows, rng: np.random.Generator) -> np.ndarray:
    """Weights [S, 2, n] of the contrasts of two halves that share neither a question nor, where there are two or more,
    an instruction pair; S <= SPLITS: splits that leave a half without rows are left out."""
    questions, pairs = np.unique(rows.question), np.unique(rows.pair)
    if len(questions) < 2:
        return np.empty((0, 2, len(rows)))
    of_questions = random_halves(len(questions), SPLITS, rng).astype(bool)
    of_pairs = np.ones((2 * SPLITS, 1), bool)
    if len(pairs) > 1:
        of_pairs = random_halves(len(pairs), SPLITS, rng).astype(bool)
    question, pair = np.searchsorted(questions, rows.question), np.searchsorted(pairs, rows.pair)
    chosen = of_questions[:, question] & of_pairs[:, pair if len(pairs) > 1 else np.zeros(len(rows), int)]
    weights = np.stack([contrast(rows.sign, half) for half in chosen]).reshape(SPLITS, 2, -1)
    return weights[np.isfinite(weights).all((1, 2))]


def _shuffled_parts(rows: TraitRows, rng: np.random.Generator) -> np.ndarray:
    """The parts [SHUFFLES, K, n] of nuisances that are shuffled among the rows of the same sign: they differ between
    the signs as much as the real ones, but say nothing of a response."""
    found = []
    for _ in range(SHUFFLES):
        order = np.arange(len(rows))
        for end in (1, -1):
            members = np.flatnonzero(rows.sign == end)
            order[members] = rng.permutation(members)
        screen = screen_weights(rows.sign, rows.question, rows.nuisances[order])
        if screen is not None:
            found.append(screen[1])
    return np.stack(found)
