"""What the figures of the axis stage share: why a space must not be interpreted, and which spaces are shown."""

import numpy as np
import pandas as pd

from personascope.formats.tables import truths

MOST_NAMED = 3  # spaces that one line names


def reasons(agreement: pd.DataFrame) -> dict[str, str]:
    """{space: why it should not be interpreted} of the spaces of which the table says so."""
    if "interpretable" not in agreement:
        return {}
    rows = zip(agreement["space"], agreement["reason"], truths(agreement, "interpretable"), strict=True)
    return {str(space): str(reason) for space, reason, interpretable in rows if not interpretable}


def of_space(table: pd.DataFrame, space: str) -> pd.DataFrame:
    """The rows of one space."""
    return table.loc[table["space"] == space]


def warning_line(reason: str | None) -> str:
    """The line that a figure carries where there is a reason, even one without words."""
    return "" if reason is None else f"do not interpret: {reason or 'no reason given'}"


def spaces_of(table: pd.DataFrame) -> list[str]:
    """The spaces of a table in its order."""
    return list(dict.fromkeys(str(space) for space in table["space"]))


def spread(spaces: list[str], most: int) -> list[str]:
    """At most so many of the spaces: the first one, the last one, and others evenly between."""
    if len(spaces) <= most:
        return spaces
    return [spaces[int(i)] for i in np.unique(np.linspace(0, len(spaces) - 1, most).round().astype(int))]
