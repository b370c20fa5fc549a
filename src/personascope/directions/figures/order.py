"""The one order in which all spaces show the roles: similar ones side by side."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from personascope.directions.figures.parts import of_space, spaces_of
from personascope.directions.spaces import SAE
from personascope.formats.tables import numbers, write_csv


def cosines_of(table: pd.DataFrame, space: str) -> pd.DataFrame:
    """The square of cosines of one space from the table role_similarity, roles as rows and columns."""
    part = of_space(table, space)
    roles = [str(role) for role in part["role"]]
    return pd.DataFrame({role: numbers(part, role) for role in roles}, index=pd.Index(roles))


def ordering_space(table: pd.DataFrame) -> str:
    """The space that the order is made in: SAE features where they are there, else the first."""
    spaces = spaces_of(table)
    return SAE if SAE in spaces else spaces[0]


def cluster_tree(cosines: np.ndarray) -> np.ndarray:
    """Average linkage on 1 - cosine, as scipy writes it: [R - 1, 4]; no row for fewer than two roles."""
    if len(cosines) < 2:
        return np.zeros((0, 4))
    distances = np.clip(1 - np.nan_to_num((cosines + cosines.T) / 2), 0, None)
    np.fill_diagonal(distances, 0)
    return linkage(squareform(distances, checks=False), "average", optimal_ordering=True)


def leaves(tree: np.ndarray, roles: int) -> list[int]:
    """The rows in the order of the tree's leaves."""
    return leaves_list(tree).tolist() if len(tree) else list(range(roles))


def cluster_order(cosines: np.ndarray) -> list[int]:
    """Order of the roles in which similar ones stand together."""
    return leaves(cluster_tree(cosines), len(cosines))


def write_order(path: str | Path, table: pd.DataFrame) -> None:
    """Write the order of the roles in the figure as a table: position from 1, and role."""
    cosines = cosines_of(table, ordering_space(table))
    order = cluster_order(cosines.to_numpy(float))
    write_csv(path, pd.DataFrame({"position": np.arange(1, len(order) + 1), "role": cosines.index[order]}))
