"""A finished sweep in memory, and intervals by question.

The unit that is exchangeable is the question: samples of one question depend on each other, so every interval is over
the questions' means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from personascope.errors import UserError
from personascope.formats.files import read_json
from personascope.formats.judgements import read_judgements, read_worth, verdict
from personascope.formats.tables import numbers

KEYS = ("question_id", "sample")
COUNTS = ("n_tokens", "ended", "repetition", "nll", "nll_steered", "kl")
JUDGED = ("trait", "coherence")
UNSTEERED = ("none", "0")

Point = tuple[str, str]  # arm and coefficient, as in the paths


@dataclass(frozen=True)
class Sweep:
    """values: {point: a row a response, the same questions and samples in the same order in all}; info: of the first
    steered point; judge: "" where nothing was judged, else what the judge is worth for each of `JUDGED`."""

    values: dict[Point, pd.DataFrame]
    info: dict[str, Any]
    judge: dict[str, str]

    @property
    def points(self) -> list[Point]:
        return list(self.values)

    @cached_property
    def measures(self) -> list[str]:
        """Every column that is measured."""
        return [name for name in self.values[UNSTEERED].columns if name not in KEYS]

    @cached_property
    def effects(self) -> list[str]:
        """What steering is meant to move: the judged trait, and the projections at the layers read."""
        judged = ["trait"] if "trait" in self.measures else []
        return judged + [f"projection_{layer}" for layer in self.info["read_layers"]]

    @property
    def primary(self) -> str:
        """The effect by which arms are compared: the projection at the first layer behind the steered ones."""
        layers = self.info["read_layers"]
        return f"projection_{layers[min(1, len(layers) - 1)]}"

    def meant(self, point: Point) -> float:
        """The sign of the change that a point is meant to make: its coefficient's; of a prompt, that of what it asks
        for (a role's instruction leads away from the assistant)."""
        arm, coefficient = point
        if arm == "prompt":
            return -1.0 if self.info["direction"] == "axis" and self.info["trait"] is None else 1.0
        return float(np.sign(float(coefficient)))

    def change(self, point: Point, measure: str) -> np.ndarray:
        """Each response's difference from the unsteered one to the same question and sample, float64 [rows]."""
        return self.column(point, measure) - self.column(UNSTEERED, measure)

    def column(self, point: Point, measure: str) -> np.ndarray:
        """A measure of each response, float64 [rows]."""
        return numbers(self.values[point], measure)

    def by_question(self, rows: np.ndarray) -> np.ndarray:
        """Means [questions] of values [responses]; NaN where a question has none."""
        ids = numbers(self.values[UNSTEERED], "question_id")
        return np.array([_mean(rows[ids == question]) for question in np.unique(ids)])


def _mean(values: np.ndarray) -> float:
    """Of those that are there; NaN where none is."""
    found = values[np.isfinite(values)]
    return float(found.mean()) if len(found) else np.nan


def read_sweep(
    points: Sequence[Sequence[str]],
    measures: Sequence[str],
    infos: Sequence[str],
    judgements: Sequence[str] = (),
    worth: str | None = None,
) -> Sweep:
    """The sweep of these files, one of each kind a point; UserError where they are not of one sweep."""
    names = [(str(arm), str(coefficient)) for arm, coefficient in points]
    values = {name: pd.read_csv(path) for name, path in zip(names, measures, strict=True)}
    first = values[UNSTEERED][list(KEYS)]
    for (arm, coefficient), table in values.items():
        if not table[list(KEYS)].equals(first):
            raise UserError(f"sweep: {arm} at {coefficient} answers other questions than the unsteered model; rerun it")
    for name, path in zip(names, judgements, strict=False):
        judged, _ = read_judgements(path)
        for metric in JUDGED:
            scores = judged[judged["metric"] == metric].set_index("row")["score"]
            values[name][metric] = scores.reindex(range(len(values[name]))).to_numpy()
    described = [read_json(path) for path in infos]
    info = next((one for one in described if one["added_norms"]), described[0])
    judge = {metric: verdict(read_worth(worth), [metric]) for metric in JUDGED} if judgements and worth else {}
    return Sweep(values, info, judge)


def interval(means: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) by Student's t over the means of questions; NaN bounds for fewer than two."""
    found = means[np.isfinite(means)]
    if not len(found):
        return np.nan, np.nan, np.nan
    mean = float(found.mean())
    if len(found) < 2:
        return mean, np.nan, np.nan
    half = float(student.ppf((1 + level) / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    return mean, mean - half, mean + half
