"""A direction in SAE features, from two sides, each beside what random directions reach.

Decoder side: how much of the direction few decoder rows add up to (`extraction.fit_decoder`). Encoder side: which
features differ most between the responses that make the direction, and how much of it these add up to. The result is
the excess over random directions: 20 rows of many give half of any direction. There are two kinds of them: isotropic
ones, and differences between random parts of each role's responses, which lie where activations vary and are what a
direction made of nothing but noise looks like. The second is the stricter one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.axis import axis_roles, same_name, unit
from personascope.directions.block_sums import BlockSums
from personascope.directions.options import AxisOptions
from personascope.formats.decomposition import Fit, Targets
from personascope.formats.directions import check_fit, load_direction
from personascope.formats.role_matrix import load_role_matrix
from personascope.formats.tables import open_parquet

DRAWS = 100
SIDES = ("along", "against")
HALF = 0.5


@dataclass(frozen=True)
class Groups:
    """The roles whose means a direction is the difference of; without them there is no contrast of features."""

    first: list[str]
    second: list[str]

    @property
    def share(self) -> float:
        """The part of the responses in the first group."""
        return len(self.first) / (len(self.first) + len(self.second))


def groups_of(name: str, roles: Sequence[str], options: AxisOptions) -> Groups | None:
    """Of `axis` and `role:NAME`; None for traits and vectors of others, whose feature means are not kept."""
    kind, _, rest = name.partition(":")
    if name == "axis":
        parts = axis_roles(roles, options)
        return Groups([roles[i] for i in parts.anchors], [roles[i] for i in parts.others])
    if kind == "role":
        return Groups([rest], [role for role in roles if not same_name(role, rest)])
    return None


def write_targets(
    name: str,
    direction: str | Path,
    how: dict[str, Any],
    *,
    features: str | Path,
    matrix: str | Path,
    sums: dict[str, str | Path],
    options: AxisOptions,
    seed: int,
    targets: str | Path,
) -> None:
    """From a named direction's file to targets.npz, at the layer of the SAE, which a features file names.

    matrix: per_role.npz of feature means; sums: {role: block sums}; how: what config says of the direction.
    """
    described = open_parquet(features)[1]
    layer = described["sae_layer"] - described["hook_name"].endswith("hook_resid_pre")
    found = load_direction(name, direction, **how)
    check_fit(found, described["model"], found.d_model, max(found.layers) + 1, described.get("weights"))
    vector, roles = found.unit(name, layer), load_role_matrix(matrix)
    groups = groups_of(name, roles.role_names, options)
    rng = np.random.default_rng(seed)
    random = unit(rng.standard_normal((DRAWS, len(vector)))).astype(np.float32)
    halves, half_contrasts = random_parts(sums, layer, groups, rng)
    contrast = np.zeros(0, np.float32)
    if groups is not None:
        rows = dict(zip(roles.role_names, roles.features, strict=True))
        first, second = ([rows[role] for role in part] for part in (groups.first, groups.second))
        contrast = np.mean(first, axis=0) - np.mean(second, axis=0)
    Targets(layer, vector, random, halves, contrast.astype(np.float32), half_contrasts).save(targets)


def random_parts(
    sums: dict[str, str | Path], layer: int, groups: Groups | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Differences between the means of two random parts of the responses, parts as large as the groups (halves where
    there are none): unit [H, d_model] of the residual stream at a layer, and [H, d_sae] of features where there are
    groups. Cells of a variant and a block of questions stay whole, and each role is split by itself, so that nothing
    of what tells roles apart is in the differences. H is 0 where the layer was not kept.
    """
    names = sorted(sums) if groups is None else sorted(groups.first + groups.second)
    share, found = groups.share if groups else HALF, 0
    totals: list[Any] = [0.0, 0.0]
    for name in names:
        block = BlockSums.load(sums[name], ["residual_sums", *(["sums"] if groups else [])])
        filled, layers = block.counts > 0, block.layers.tolist()
        cells = int(filled.sum())
        if layer not in layers:
            return np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
        if cells < 2:
            continue
        size = int(np.clip(round(share * cells), 1, cells - 1))
        first = np.stack([rng.permutation(cells) < size for _ in range(DRAWS)])
        # Sums of cells to the mean of the first part minus that of the second.
        counts = block.counts[filled]
        weights = first / (first @ counts)[:, None] - ~first / (~first @ counts)[:, None]
        for i, part in enumerate((block.residual_sums[:, :, layers.index(layer)], block.sums)):
            totals[i] = totals[i] + weights @ part[filled].astype(np.float64)
        found += 1
    if not found:
        return np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
    return unit(totals[0]).astype(np.float32), (totals[1] / found).astype(np.float32)


def decomposition_table(targets: Targets, fit: Fit) -> pd.DataFrame:
    """A row a method, side and number of rows k: the k-th feature, and the share of the direction that the first k
    give, beside that of random directions (median and 95 %) and the excess over their median.

    method `decoder`, sides `along` and `against`: weight is that of the feature in the fit with all rows, per unit of
    the direction. method `encoder`, side `both`: features by the size of what their difference adds; a last row,
    without a feature, is that of all of them. difference: of the feature's means; z: in sd of random parts.
    """
    tables = []
    for i, side in enumerate(SIDES):
        columns = {"method": "decoder", "side": side, "k": np.arange(1, fit.rows.shape[1] + 1), "feature": fit.rows[i]}
        columns |= {"weight": fit.coefficients[i], "cosine": fit.cosines[i], "share": fit.shares[i]}
        tables.append(pd.DataFrame(columns | _beside(fit.shares[i], fit.random_shares, fit.half_shares[i])))
    if len(fit.contrast_rows):
        k = np.arange(1, len(fit.contrast_rows) + 1)
        columns = {"method": "encoder", "side": "both", "k": k, "feature": fit.contrast_rows}
        columns |= {"share": fit.contrast_shares}
        beside = _beside(fit.contrast_shares, np.zeros((0, len(k))), fit.half_contrast_shares)
        tables.append(pd.DataFrame(columns | beside))
        columns = {"method": "encoder", "side": "both", "k": len(targets.contrast), "feature": -1}
        whole, halves = fit.whole_contrasts[:1], fit.whole_contrasts[1:, None]
        tables.append(pd.DataFrame(columns | {"share": whole} | _beside(whole, np.zeros((0, 1)), halves)))
    table = pd.concat(tables, ignore_index=True)
    features = table["feature"].to_numpy()
    known = (features >= 0) & bool(len(targets.contrast))
    table["difference"], table["z"] = np.nan, np.nan
    if known.any():
        spread = targets.half_contrasts.std(0) if len(targets.half_contrasts) else np.zeros(len(targets.contrast))
        table.loc[known, "difference"] = targets.contrast[features[known]]
        scale = np.where(spread > 0, spread, np.nan)[features[known]]
        table.loc[known, "z"] = targets.contrast[features[known]] / scale
    table["feature"] = table["feature"].astype("Int64").mask(table["feature"] < 0)
    return table.assign(description=None)


def _beside(shares: np.ndarray, random: np.ndarray, halves: np.ndarray) -> dict[str, np.ndarray]:
    """Shares [K] beside those of isotropic directions [N, K] and of random parts of the responses [H, K]."""
    columns = {}
    for name, others in (("random", random), ("halves", halves)):
        if len(others):
            low, median, high = np.percentile(others, [2.5, 50, 97.5], axis=0)
        else:
            low, median, high = (np.full(len(shares), np.nan) for _ in range(3))
        columns |= {f"{name}_median": median, f"{name}_low": low, f"{name}_high": high}
        columns |= {f"excess_{name}": shares - median, f"excess_{name}_low": shares - high}
        columns |= {f"excess_{name}_high": shares - low}
    return columns
