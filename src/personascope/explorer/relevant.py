"""Which features are worth a description by others: those that say most of roles."""

import numpy as np

from personascope.errors import UserError
from personascope.explorer.selection import role_space
from personascope.formats.descriptions import read_feature_table
from personascope.formats.role_matrix import load_role_matrix
from personascope.formats.tables import load_all_npz


def relevant_features(labels: str, axes: str, matrix: str, n: int) -> list[int]:
    """The n features of the largest weight on the axis (`diff_sae`, where there is one) and of the largest sd of
    log1p(mean activation) over roles, in turns; features that are never active are left out."""
    table, _ = read_feature_table(labels)
    alive = table["density"].to_numpy() > 0
    orders = [role_space(load_role_matrix(matrix).features, centered=False).std(0)]
    if (axis := load_all_npz(axes).get("diff_sae")) is not None:
        orders.insert(0, np.abs(axis))
    if wrong := [len(values) for values in orders if len(values) != len(alive)]:
        raise UserError(f"{labels}: {len(alive)} features, but the axis or role matrix has {wrong[0]}; use one SAE")
    ranked = [np.argsort(-values, kind="stable") for values in orders]
    mixed = np.stack(ranked, axis=1).ravel()
    _, first = np.unique(mixed, return_index=True)
    in_turns = mixed[np.sort(first)]
    return in_turns[alive[in_turns]][:n].tolist()
