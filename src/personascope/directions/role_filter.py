"""Role vectors of the responses that a judge finds fully in the role, beside those of all responses.

Lu et al. 2026 (arXiv 2601.10387) score adherence 0 (declines), 1 (answers as itself), 2 (some attributes), 3 (fully in
role), keep the responses with 3, and leave out roles with too few of them. The judge's score here is an expected value,
so it counts as the nearest whole number, halves up: adherence 3 keeps scores from 2.5. Responses without a score are
not kept. The role `default`, which has no persona to keep to, is never filtered.

An axis of fewer responses differs from that of all of them whichever are lost, so the cosine between the two stands
beside the cosine with the axis of as many responses of each role, drawn at random.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from personascope.directions.aggregate import aggregate_features, aggregate_residuals, residual_description
from personascope.directions.axis import is_default, role_space_of
from personascope.directions.judges import whole
from personascope.directions.options import AxisOptions
from personascope.directions.spaces import SAE, axis_spaces, layer_of
from personascope.errors import UserError
from personascope.formats.files import iter_jsonl
from personascope.formats.judgements import read_judgements, read_worth, verdict
from personascope.formats.role_matrix import RoleMatrix, load_role_matrix
from personascope.formats.tables import json_array, load_npz, write_csv

Files = Mapping[str, str | Path]


@dataclass(frozen=True)
class FilterOptions:
    """adherence: the least, 0 to 3, in whole numbers; min_count: responses of a role that must be left."""

    adherence: float = 3
    min_count: int = 10


@dataclass(frozen=True)
class Filtered:
    """kept: the responses that are left of the roles that are left; drawn: as many of each, at random; counts: a row a
    role."""

    kept: dict[str, set[tuple[int, int]]]
    drawn: dict[str, set[tuple[int, int]]]
    counts: pd.DataFrame


def keep(roles: list[str], responses: Files, judgements: Files, options: FilterOptions) -> Filtered:
    """Which responses are kept, from {role: responses} and {role: judgements} (none of `default`).

    UserError, with the counts at each filter, where no role but `default` is left.
    """
    kept: dict[str, set[tuple[int, int]]] = {}
    drawn: dict[str, set[tuple[int, int]]] = {}
    rng, rows = np.random.default_rng(0), []
    for role in roles:
        keys = [(int(row["prompt_index"]), int(row["question_id"])) for row in iter_jsonl(responses[role])]
        scores = (
            np.full(len(keys), np.nan) if is_default(role) else _scores(judgements[role], responses[role], len(keys))
        )
        passed = np.ones(len(keys), bool) if is_default(role) else whole(scores) >= options.adherence
        left = is_default(role) or int(passed.sum()) >= options.min_count
        if left:
            kept[role] = {key for key, passes in zip(keys, passed, strict=True) if passes}
            drawn[role] = {keys[i] for i in rng.choice(len(keys), len(kept[role]), replace=False)}
        row = {
            "role": role,
            "responses": len(keys),
            "scored": int(np.isfinite(scores).sum()),
            "kept": int(passed.sum()),
        }
        mean = float(np.nanmean(scores)) if row["scored"] else float("nan")
        rows.append(row | {"mean_adherence": mean, "filtered": not is_default(role), "in_matrix": left})
    counts = pd.DataFrame(rows)
    if not any(not is_default(role) for role in kept):
        raise UserError(_nothing_left(counts.loc[counts["filtered"]], options))
    return Filtered(kept, drawn, counts)


def _scores(judgements: str | Path, responses: str | Path, n: int) -> np.ndarray:
    table, _ = read_judgements(judgements)
    table = table.loc[table["metric"] == "adherence"]
    if table["row"].tolist() != list(range(n)):
        raise UserError(f"{judgements}: its rows are not those of {responses}; delete it and run again")
    return table["score"].to_numpy(float)


def _nothing_left(counts: pd.DataFrame, options: FilterOptions) -> str:
    asked, scored, kept = (int(counts[name].to_numpy().sum()) for name in ("responses", "scored", "kept"))
    most = int(counts["kept"].to_numpy().max(initial=0))
    return (
        f"aggregation.role_filter: nothing is left: {asked} responses of {len(counts)} roles, {scored} with a score, "
        f"{kept} with adherence >= {options.adherence:g}, at most {most} of a role, and min_count is "
        f"{options.min_count}; lower adherence or min_count, or ask another judge"
    )


def write_role_filter(
    *,
    roles: list[str],
    responses: Files,
    judgements: Files,
    features: Files,
    residuals: Files,
    matrices: Files,
    worth: str | Path,
    judge: str,
    options: FilterOptions,
    axis: AxisOptions,
    outputs: Files,
) -> None:
    """Write the filtered matrices, their counts (`table`) and the cosines of their axes (`axis_cosine`).

    features, residuals: {role: file}; matrices: {"mean", "residual": the matrix of all responses}, without "residual"
    where no layer is kept; outputs: {"mean", "max", "mean_of_max", "residual", "table", "axis_cosine": file}.
    """
    filtered = keep(roles, responses, judgements, options)
    left = list(filtered.kept)
    made = aggregate_features({role: features[role] for role in left}, filtered.kept)
    for pooling, matrix in made.items():
        matrix.save(outputs[pooling])
    chance = aggregate_features({role: features[role] for role in left}, filtered.drawn)["mean"]
    spaces = {SAE: (load_role_matrix(matrices["mean"]), made["mean"], chance)}
    if "residual" in matrices:
        spaces |= _residual_spaces({role: residuals[role] for role in left}, filtered, matrices, outputs)
    said = {"judge": judge, "verdict": verdict(read_worth(worth), ["adherence"])}
    cosines = [{"space": space, **axis_cosines(*three, _of_space(axis, space))} for space, three in spaces.items()]
    write_csv(outputs["table"], filtered.counts.assign(**said))
    write_csv(outputs["axis_cosine"], pd.DataFrame(cosines).assign(**said))


def _residual_spaces(
    files: dict[str, str | Path], filtered: Filtered, matrices: Files, outputs: Files
) -> dict[str, tuple[RoleMatrix, RoleMatrix, RoleMatrix]]:
    """{space: (all responses, those kept, as many at random)} of the layers; the filtered matrix is written."""
    matrix, layers = aggregate_residuals(files, filtered.kept)
    chance, _ = aggregate_residuals(files, filtered.drawn)
    matrix.save(outputs["residual"], layers=layers, metadata=json_array(residual_description(files)))
    everything = load_role_matrix(matrices["residual"])
    (known,) = load_npz(matrices["residual"], "layers")
    places = [known.tolist().index(layer) for layer in layers.tolist()]
    return {
        space: (_at(everything, place), _at(matrix, i), _at(chance, i))
        for i, (space, place) in enumerate(zip(axis_spaces(layers.tolist())[1:], places, strict=True))
    }


def _at(matrix: RoleMatrix, layer: int) -> RoleMatrix:
    return replace(matrix, features=matrix.features[:, layer])


def _of_space(axis: AxisOptions, space: str) -> AxisOptions:
    """The options of the axis in a space: residuals are not transformed."""
    layer = layer_of(space)
    return axis if layer is None else replace(axis, transform="raw", space="residual", layer=layer)


def axis_cosines(
    everything: RoleMatrix, filtered: RoleMatrix, chance: RoleMatrix, options: AxisOptions
) -> dict[str, float | int | str]:
    """Cosine between the axis of all responses and that of those kept: with all roles on the one side, and with the
    roles that are left on both (`same_roles`: what filtering responses does, apart from losing roles; `at_random`: the
    same for as many responses drawn at random, so a `same_roles` below it is what the judge's choice does).

    All are NaN, and `note` says why, where an anchor is not left.
    """
    there = [everything.role_names.index(name) for name in filtered.role_names]
    counted: dict[str, float | int | str] = {"roles": len(everything.role_names), "roles_left": len(there)}
    try:
        mine = role_space_of(filtered.features, filtered.role_names, options).axis
    except UserError as error:
        nothing = dict.fromkeys(("cosine", "same_roles", "at_random"), float("nan"))
        return counted | nothing | {"note": str(error)}
    whole_axis = role_space_of(everything.features, everything.role_names, options).axis
    same = role_space_of(everything.features[there], filtered.role_names, options).axis
    random = role_space_of(chance.features, chance.role_names, options).axis
    cosines = {"cosine": mine @ whole_axis, "same_roles": mine @ same, "at_random": random @ same}
    return counted | {name: float(value) for name, value in cosines.items()} | {"note": ""}
