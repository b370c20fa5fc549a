"""What the figures of the axis stage share: the line that says why a space must not be interpreted, and which are shown."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from personascope.formats.tables import truths

MOST_NAMED = 3  # spaces that one line names


def reasons(agreement: pd.DataFrame) -> dict[str, str]:
    """{space: why it should not be interpreted} of the spaces of which the table says so."""
    if "interpretable" not in agreement:
        return {}
    refused = agreement[~truths(agreement, "interpretable")]
    return {str(row["space"]): str(row["reason"]) for row in refused.to_dict("records")}


def warning_line(reason: str | None) -> str:
    """The line that a figure carries where there is a reason, even one without words."""
    return "" if reason is None else f"do not interpret: {reason or 'no reason given'}"


def spread(spaces: Sequence[str], most: int) -> list[str]:
    """At most so many of the spaces: the first one, the last one, and others evenly between."""
    if len(spaces) <= most:
        return list(spaces)
    return [spaces[i] for i in np.unique(np.linspace(0, len(spaces) - 1, most).round().astype(int))]
