"""How good an axis is: whether other questions and variants would give the same one, and whether it tells the anchor
from the other roles on questions that it has not seen.

cos(diff, pc1) alone says neither. Under pure noise it is about 1 / sqrt(R - 1) with R roles, so that it stands beside
what it is when the roles' labels are permuted; and a noisier anchor alone drives it toward 1.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from scipy.stats import t as student
from threadpoolctl import threadpool_limits

from personascope.directions.axis import TRANSFORMS, axis_roles
from personascope.directions.block_sums import BlockSums
from personascope.directions.bootstrap import (
    MAX_THREADS,
    agreement_of,
    cells_of,
    centered_gram,
    diff_coefficients,
    first_component,
)
from personascope.directions.halves import half_axes, split_half
from personascope.directions.options import AxisOptions
from personascope.directions.spaces import LEAST_AUC, LEAST_SPLIT_HALF, below

SHUFFLES = 100
CHUNK_BYTES = 32 << 20


@dataclass(frozen=True)
class Quality:
    """Of one axis. NaN where the data do not allow a value.

    null_agreement [SHUFFLES]: cos(diff, pc1) with permuted labels; null_shares [SHUFFLES, components]: shares of the
    variance; split_half, split_half_of: see `halves.split_half`, and what the halves do not share; auc: share of
    pairs (a response of the anchor, one of another role) that the cross-fitted axis has in order.
    """

    null_agreement: np.ndarray
    null_shares: np.ndarray
    split_half: float
    split_half_of: str
    auc: float

    @property
    def reason(self) -> str:
        """Why the axis is not to be interpreted; empty where it may be."""
        limits = (("split-half", self.split_half, LEAST_SPLIT_HALF), ("AUC", self.auc, LEAST_AUC))
        return ", ".join(doubt for limit in limits if (doubt := below(*limit)))


def axis_quality(sums: dict[str, BlockSums], scores: pd.DataFrame, options: AxisOptions, seed: int) -> Quality:
    """The quality of an axis from {role: its sums} and the table of `crossfit.response_scores`."""
    rng = np.random.default_rng(seed)
    roles, names = axis_roles(sorted(sums), options), sorted(sums)
    shared = min(len(role.variants) for role in sums.values()) > 1
    of_half = "questions and variants" if shared else "questions"
    agreement, shares = shuffled(sums, options, rng)
    anchors = scores["role"].isin([names[row] for row in roles.anchors])
    others = scores["role"].isin([names[row] for row in roles.others])
    auc = auc_of(scores.loc[anchors, "crossfit"].to_numpy(), scores.loc[others, "crossfit"].to_numpy())
    return Quality(agreement, shares, split_half(half_axes(sums, options, seed)), of_half, auc)


def auc_of(above: np.ndarray, below: np.ndarray) -> float:
    """Share of pairs (one of each sample) in which `above` is larger, ties counted as half; NaN where one is empty."""
    if not len(above) or not len(below):
        return math.nan
    ranks = rankdata(np.concatenate([above, below]))
    return float((ranks[: len(above)].sum() / len(above) - (len(above) + 1) / 2) / len(below))


def shuffled(
    sums: dict[str, BlockSums], options: AxisOptions, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(agreement [S], shares of the variance [S, components]) with the roles' labels permuted within each cell.

    A cell is a variant and a block of questions; only cells that all members have take part. NaN where there are
    fewer than two: nothing would be mixed.
    """
    names = sorted(sums)
    roles = axis_roles(names, options)
    members = [sums[names[row]] for row in roles.members]
    components = max(len(members) - 1, 1)
    cells = _common_cells(members)
    if len(cells) < 2:
        return np.full(SHUFFLES, np.nan), np.full((SHUFFLES, components), np.nan)
    places = [tuple(map(np.searchsorted, (role.variants, role.blocks), cells.T)) for role in members]
    values = [cells_of(role, options)[place] for role, place in zip(members, places, strict=True)]
    counts = np.stack([role.counts[place] for role, place in zip(members, places, strict=True)])
    orders = rng.permuted(np.tile(np.arange(len(members)), (SHUFFLES, len(cells), 1)), axis=2)
    gram = _shuffled_grams(values, counts, orders, options)
    at = {row: i for i, row in enumerate(roles.members)}
    diff = diff_coefficients(len(members), [at[row] for row in roles.anchors], [at[row] for row in roles.others])
    diffs = np.tile(diff, (SHUFFLES, 1))
    variances = np.maximum(np.linalg.eigvalsh(centered_gram(gram))[:, ::-1][:, :components], 0)
    return agreement_of(gram, diffs, first_component(gram, diffs)), variances / variances.sum(1, keepdims=True)


def _common_cells(members: Sequence[BlockSums]) -> np.ndarray:
    """int [C, 2]: variant and block of the cells in which every role has a response."""
    common: set[tuple[int, int]] | None = None
    for role in members:
        v, g = np.nonzero(role.counts)
        cells = set(zip(role.variants[v].tolist(), role.blocks[g].tolist(), strict=True))
        common = cells if common is None else common & cells
    return np.array(sorted(common or set()), int).reshape(-1, 2)


def _shuffled_grams(
    values: list[np.ndarray], counts: np.ndarray, orders: np.ndarray, options: AxisOptions
) -> np.ndarray:
    """Dot products [S, R, R] of the role vectors that permuted cells give; values: [C, D] of each role."""
    n_cells, width = values[0].shape
    totals = np.stack([np.take_along_axis(counts.T, order, 1).sum(0) for order in orders])
    step = max(CHUNK_BYTES // (4 * n_cells * len(values)), 16)

    def part(start: int) -> np.ndarray:
        # Cells first and contiguous: a permuted role is then a sum of whole rows.
        block = np.stack([role[:, start : start + step] for role in values], axis=1)
        grams = np.empty((len(orders), len(values), len(values)))
        mean = TRANSFORMS[options.transform](block.sum(0) / counts.sum(1)[:, None]).mean(0)
        for i, order in enumerate(orders):
            vectors = block[np.arange(n_cells)[:, None], order].sum(0) / totals[i][:, None]
            space = TRANSFORMS[options.transform](vectors) - mean
            grams[i] = space @ space.T
        return grams

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(min(cpu_count() or 1, MAX_THREADS)) as pool:
        total = np.zeros((len(orders), len(values), len(values)))
        for grams in pool.map(part, range(0, width, step)):
            total += grams
    return total


def role_intervals(scores: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Mean cross-fitted projection of each role with an interval: role, crossfit, crossfit_low, crossfit_high,
    in_sample, n_responses.

    Target: the role's mean over the questions and variants it might have been asked. Both are sampled and crossed, so
    that the variance of the mean is s2_variants / V + s2_questions / Q - s2_rest / (V Q), from the two-way table of
    cell means (Owen, "The pigeonhole bootstrap", 2007, in closed form); Student's t with the degrees of freedom of
    Satterthwaite. NaN with one variant or one question, whose share in the variance cannot be seen. With two variants,
    whose one difference may be small by chance, 85 to 93 % of stated 95 % intervals hold it where variants matter; with
    three and more 92 to 98 % (docs/validation.md).
    """
    rows = []
    for role, part in scores.groupby("role", sort=True):
        table = part.pivot_table(index="prompt_index", columns="question_id", values="crossfit", aggfunc="mean")
        half = half_width(table.to_numpy(), level)
        mean = part["crossfit"].to_numpy().mean()
        low, high = mean - half, mean + half
        row = {"role": role, "crossfit": mean, "crossfit_low": low, "crossfit_high": high}
        rows.append(row | {"in_sample": part["in_sample"].to_numpy().mean(), "n_responses": len(part)})
    return pd.DataFrame(rows)


def half_width(table: np.ndarray, level: float) -> float:
    """Half the interval of the mean of cell means [V, Q]; empty cells take their row's and column's effects."""
    n_variants, n_questions = table.shape
    if n_variants < 2 or n_questions < 2:
        return math.nan
    mean = np.nanmean(table)
    by_variant, by_question = np.nanmean(table, 1, keepdims=True), np.nanmean(table, 0, keepdims=True)
    rest = np.nan_to_num(table - by_variant - by_question + mean)
    parts = np.array([by_variant.var(ddof=1) / n_variants, by_question.var(ddof=1) / n_questions])
    freedom = np.array([n_variants - 1, n_questions - 1])
    together = rest.var() * rest.size / (freedom.prod() * rest.size)
    variance = max(parts.sum() - together, parts.max())
    if variance <= 0:
        return 0.0
    quantile = student.ppf((1 + level) / 2, parts.sum() ** 2 / (np.square(parts) / freedom).sum())
    return float(quantile * math.sqrt(variance))
