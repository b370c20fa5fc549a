"""The axis stage: both axes in SAE space and on each layer kept, what they say of the roles, and how good they are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from personascope.directions.axis import Axis, assistant_axis, is_default, unit
from personascope.directions.block_sums import BlockSums
from personascope.directions.crossfit import response_scores
from personascope.directions.options import AxisOptions
from personascope.directions.quality import Quality, axis_quality, role_intervals
from personascope.directions.spaces import SAE, axis_spaces, slug
from personascope.formats.role_matrix import load_role_matrix
from personascope.formats.tables import json_array, load_metadata, load_npz, save_npz, write_csv


@dataclass(frozen=True)
class SpaceAxis:
    """The axes of one space; scores: the table of `crossfit.response_scores`; quality: of diff."""

    axis: Axis
    scores: pd.DataFrame
    quality: Quality


def space_axis(
    vectors: np.ndarray,
    names: Sequence[str],
    options: AxisOptions,
    files: dict[str, str | Path],
    sums: dict[str, BlockSums],
    seed: int = 0,
) -> SpaceAxis:
    """The axes from role vectors [R, d], and their quality from {role: file} and {role: block sums} of the space."""
    axis = assistant_axis(vectors, names, options)
    scores = response_scores(files, sums, options)
    return SpaceAxis(axis, scores, axis_quality(sums, scores, options, seed))


def write_assistant_axis(
    *,
    mean: str | Path,
    residual: str | Path | None,
    features: dict[str, str | Path],
    residuals: dict[str, str | Path],
    sums: dict[str, str | Path],
    options: AxisOptions,
    seed: int,
    arrays: str | Path,
    tables: Sequence[str],
) -> None:
    """From role matrices, {role: features}, {role: residuals} and {role: block sums} to the unit axes and the tables,
    each under the file of its name."""
    matrix = load_role_matrix(mean)
    loaded = {role: BlockSums.load(path, ["sums", "residual_sums"]) for role, path in sums.items()}
    axes = {SAE: space_axis(matrix.features, matrix.role_names, options, features, loaded, seed)}
    described: dict[str, np.ndarray] = {}
    if residual is not None:
        described = {"metadata": json_array(load_metadata(residual))}
        vectors = load_role_matrix(residual)
        (layers,) = load_npz(residual, "layers")
        for i, (layer, space) in enumerate(zip(layers.tolist(), axis_spaces(layers.tolist())[1:], strict=True)):
            here = replace(options, transform="raw", space="residual", layer=layer)
            axes[space] = space_axis(vectors.features[:, i], vectors.role_names, here, residuals, loaded, seed)
    for path in tables:
        write_csv(path, AXIS_TABLES[Path(path).stem](axes))
    save_npz(arrays, **axis_arrays(axes), **described)


def axis_arrays(axes: dict[str, SpaceAxis]) -> dict[str, np.ndarray]:
    """The unit axes as named arrays: diff_sae, pc1_sae, diff_residual_layer_15, ..., and role_names."""
    arrays = {"role_names": np.array(next(iter(axes.values())).axis.roles.role_names, dtype=np.str_)}
    for space, made in axes.items():
        arrays[f"diff_{slug(space)}"] = made.axis.diff
        arrays[f"pc1_{slug(space)}"] = made.axis.pc1
    return arrays


def agreement_table(axes: dict[str, SpaceAxis]) -> pd.DataFrame:
    """How good the axis of each space is, a row a space; `reason` says why one is not to be interpreted."""
    rows = []
    for space, made in axes.items():
        axis, quality = made.axis, made.quality
        null = quality.null_agreement
        rows.append(
            {
                "space": space,
                "cos_diff_pc1": axis.roles.agreement,
                "agreement_null_median": float(np.median(null)),
                "agreement_null_high": float(np.percentile(null, 95)),
                "split_half": quality.split_half,
                "split_half_of": quality.split_half_of,
                "auc": quality.auc,
                "pc1_variance_share": float(axis.variance_shares[0]),
                "n_roles": len(axis.roles.role_names),
                "n_responses": len(made.scores),
                "interpretable": not quality.reason,
                "reason": quality.reason,
            }
        )
    return pd.DataFrame(rows)


def spectrum_table(axes: dict[str, SpaceAxis]) -> pd.DataFrame:
    """Shares of the variance between roles, beside those of shuffled labels: a row a component."""
    parts = []
    for space, made in axes.items():
        shares, null = made.axis.variance_shares, made.quality.null_shares
        columns = {"space": space, "component": np.arange(1, len(shares) + 1), "variance_share": shares}
        columns |= {"cumulative": np.cumsum(shares), "shuffled_share": np.nan, "shuffled_high": np.nan}
        part = pd.DataFrame(columns)
        shuffled = min(len(shares), null.shape[1])
        part.loc[: shuffled - 1, "shuffled_share"] = null.mean(0)[:shuffled]
        part.loc[: shuffled - 1, "shuffled_high"] = np.percentile(null, 95, axis=0)[:shuffled]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def projections_table(axes: dict[str, SpaceAxis]) -> pd.DataFrame:
    """Where each role lies, a row a role and space. diff, pc1: the role vector on the axis. crossfit (with its
    interval) and in_sample: the mean of its responses on diff, minus that of the other roles."""
    parts = []
    for space, made in axes.items():
        axis, roles = made.axis, made.axis.roles
        kinds = ["default" if is_default(name) else "other" for name in roles.role_names]
        for row in roles.anchors:
            kinds[row] = "anchor"
        along = {"diff": roles.space @ axis.diff, "pc1": roles.space @ axis.pc1}
        part = pd.DataFrame({"space": space, "role": roles.role_names, "kind": kinds, **along})
        part = part.merge(role_intervals(made.scores), on="role", how="left")
        others = part["role"].isin([roles.role_names[row] for row in roles.others])
        for names in (["crossfit", "crossfit_low", "crossfit_high"], ["in_sample"]):
            part[names] -= part.loc[others, names[0]].mean()
        parts.append(part.sort_values("diff", ascending=False))
    return pd.concat(parts, ignore_index=True)


def similarity_table(axes: dict[str, SpaceAxis]) -> pd.DataFrame:
    """Cosines between role vectors minus the mean role: a row a role and space, a column a role."""
    parts = []
    for space, made in axes.items():
        roles = made.axis.roles
        centered = unit(roles.space - roles.space.mean(0))
        columns = dict(zip(roles.role_names, centered @ centered.T, strict=True))
        parts.append(pd.DataFrame({"space": space, "role": roles.role_names, **columns}))
    return pd.concat(parts, ignore_index=True)


# A table of this stage is the CSV of its name.
AXIS_TABLES = {
    "agreement": agreement_table,
    "pca_spectrum": spectrum_table,
    "role_projections": projections_table,
    "role_similarity": similarity_table,
}
