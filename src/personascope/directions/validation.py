"""What the measures of an axis's quality say, beside the truth, on simulated responses whose axis is known."""

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from personascope.directions.axis import role_space_of
from personascope.directions.block_sums import BlockSums
from personascope.directions.bootstrap import Draws, axes_of, role_features
from personascope.directions.crossfit import spaces_without
from personascope.directions.halves import SPLITS, half_axes, random_halves, split_half
from personascope.directions.options import AxisOptions
from personascope.directions.quality import auc_of, half_width, shuffled
from personascope.directions.simulated import Noise, Population, population, simulated_sums

RAW = AxisOptions(transform="raw")
ROLES, WIDTH, QUESTIONS = 8, 400, 24
# (variants, signal): from an axis that is mostly noise to one that is nearly the population's.
STRENGTHS = ((2, 1.5), (4, 1.5), (4, 3.0), (10, 3.0), (10, 6.0))
AGREEMENT_ROLES = (7, 12, 51)
AGREEMENT_NOISE = {"responses": Noise(0, 0.5, 0, 0.5), "variants and questions of each role, too": Noise()}
AGREEMENT_WIDTH, AGREEMENT_VARIANTS, AGREEMENT_QUESTIONS = 200, 4, 6
VARIANTS, ROLE_QUESTIONS = (2, 3, 5, 10), (6, 12, 24, 240)
# Standard deviations of a role's score: of its variants, its questions, single responses.
PARTS = {
    "all alike": (1.0, 1.0, 1.0),
    "mostly variants": (1.0, 0.3, 1.0),
    "mostly questions": (0.3, 1.0, 1.0),
    "responses alone": (0.0, 0.0, 1.0),
}
REPLICATIONS = {"axis_quality": 60, "agreement": 200, "role_coverage": 2000}
LEVEL = 0.95


def axis_quality(seed: int, effort: float) -> pd.DataFrame:
    """A row a strength: variants, signal; cosine (to the population's axis) and auc_true (of fresh responses to fresh
    questions under fresh variants), the truth; split_half, split_half_shared (halves that share the variants), auc
    (cross-fitted: the axis has seen neither the question nor the variant) and auc_shared (it has not seen the
    question), what is measured; each a mean, with `_error`, its Monte-Carlo standard error."""
    rows = []
    with threadpool_limits(1):
        for cell, (variants, signal) in enumerate(STRENGTHS):
            found = []
            for i in range(_replications("axis_quality", effort)):
                rng = np.random.default_rng([seed, cell, i])
                people = population(rng, ROLES, WIDTH, signal)
                sums, fresh = (simulated_sums(rng, people, variants, QUESTIONS, blocks=QUESTIONS) for _ in range(2))
                found.append(_measured(people, sums, fresh, int(rng.integers(2**31))))
            table = pd.DataFrame(found)
            errors = (table.std() / math.sqrt(len(table))).add_suffix("_error")
            rows.append({"variants": variants, "signal": signal} | table.mean().to_dict() | errors.to_dict())
    return pd.DataFrame(rows)


def _measured(
    people: Population, sums: dict[str, BlockSums], fresh: dict[str, BlockSums], seed: int
) -> dict[str, float]:
    """Truth and measures of one sample in which every cell is one response."""
    axis = role_space_of(role_features(sums, RAW), people.names, RAW).axis
    without_question = {g: space.axis for (_, g), space in spaces_without(sums, RAW, variants=False).items()}
    without_both = {fold: space.axis for fold, space in spaces_without(sums, RAW).items()}
    by_question = {
        name: [part.sums[:, g] @ axis for g, axis in without_question.items()] for name, part in sums.items()
    }
    by_both = {name: [part.sums[fold] @ axis for fold, axis in without_both.items()] for name, part in sums.items()}
    return {
        "cosine": float(people.axis(RAW) @ axis),
        "split_half": split_half(half_axes(sums, RAW, seed)),
        "split_half_shared": split_half(_sharing_variants(sums, seed)),
        "auc_shared": _auc(people, by_question),
        "auc": _auc(people, by_both),
        "auc_true": _auc(people, {name: part.sums @ axis for name, part in fresh.items()}),
    }


def _auc(people: Population, scores: Mapping[str, object]) -> float:
    roles = people.roles(RAW)
    above, below = (
        np.concatenate([np.ravel(np.asarray(scores[people.names[row]])) for row in rows])
        for rows in (roles.anchors, roles.others)
    )
    return auc_of(above, below)


def _sharing_variants(sums: dict[str, BlockSums], seed: int) -> np.ndarray:
    """Axes of halves of the questions alone, as `half_axes` has them: what not to do with several variants."""
    some = next(iter(sums.values()))
    of_blocks = random_halves(len(some.blocks), SPLITS, np.random.default_rng(seed))
    of_variants = np.ones((len(of_blocks), len(some.variants)), int)
    return axes_of(sums, RAW, Draws(some.variants, some.blocks, of_variants, of_blocks))["axes"]


def agreement(seed: int, effort: float) -> pd.DataFrame:
    """cos(diff, pc1) where there is nothing but noise, a row a kind of noise and number of roles: noise, roles,
    expected (1 / sqrt(R - 1)), median, high (95th percentile), null_high (that of permuted labels, the median over data
    sets), above (share of data sets above their own null_high: 5 % where the null is right) and its Monte-Carlo
    standard error."""
    rows = []
    with threadpool_limits(1):
        for cell, (noise, n_roles) in enumerate(itertools.product(AGREEMENT_NOISE, AGREEMENT_ROLES)):
            values, limits = [], []
            for i in range(_replications("agreement", effort)):
                rng = np.random.default_rng([seed, cell, i])
                people = population(rng, n_roles, AGREEMENT_WIDTH, 0.0)
                people = Population(people.names, np.zeros_like(people.means))
                sizes = (AGREEMENT_VARIANTS, AGREEMENT_QUESTIONS)
                sums = simulated_sums(rng, people, *sizes, AGREEMENT_NOISE[noise])
                values.append(role_space_of(role_features(sums, RAW), people.names, RAW).agreement)
                limits.append(np.percentile(shuffled(sums, RAW, rng)[0], 95))
            above = np.array(values) > limits
            row = {"noise": noise, "roles": n_roles, "expected": 1 / math.sqrt(n_roles - 1)}
            row |= {"median": np.median(values), "high": np.percentile(values, 95), "null_high": np.median(limits)}
            rows.append(row | {"above": above.mean(), "above_error": above.std() / math.sqrt(len(above))})
    return pd.DataFrame(rows)


def role_coverage(seed: int, effort: float) -> pd.DataFrame:
    """Coverage of `quality.role_intervals`: noise (which part is large), variants, questions, coverage, error."""
    rows, n = [], _replications("role_coverage", effort)
    for cell, (noise, variants, questions) in enumerate(itertools.product(PARTS, VARIANTS, ROLE_QUESTIONS)):
        rng = np.random.default_rng([seed, cell])
        of_variant, of_question, rest = PARTS[noise]
        hits = 0
        for _ in range(n):
            table = of_variant * rng.normal(size=(variants, 1)) + of_question * rng.normal(size=(1, questions))
            table = table + rest * rng.normal(size=(variants, questions))
            hits += bool(abs(table.mean()) <= half_width(table, LEVEL))
        share = hits / n
        place = {"noise": noise, "variants": variants, "questions": questions}
        rows.append(place | {"coverage": share, "error": math.sqrt(share * (1 - share) / n)})
    return pd.DataFrame(rows)


def _replications(table: str, effort: float) -> int:
    return max(round(REPLICATIONS[table] * effort), 2)
