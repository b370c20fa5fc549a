"""Checks of what a JSON file from anywhere holds: real text, and values that can be written as JSON again.

Needs only the standard library.
"""

import math
from collections.abc import Collection
from typing import Any

from personascope.errors import UserError

MAX_DEPTH = 50  # nested lists and objects; deeper than this, what writes or prints the value may overflow


def short(text: str, limit: int = 40) -> str:
    """The text as one quoted line, cut where it is long."""
    return repr(text if len(text) <= limit else f"{text[:limit]}...")


def checked_text(value: Any, where: str, *, may_be_empty: bool = False) -> str:
    """The value, which must be text that UTF-8 can hold; UserError that starts with `where`."""
    if not isinstance(value, str):
        raise UserError(f"{where} must be text, found {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise UserError(
            f"{where} holds {half} at character {error.start}, half of a surrogate pair, which is no character"
        ) from None
    if not value.strip() and not may_be_empty:
        raise UserError(f"{where} is empty")
    return value


def others(data: dict[str, Any], known: Collection[str], where: str) -> dict[str, Any]:
    """What is not under the `known` keys, checked to be plain JSON: finite numbers, real text, and not too deep."""
    kept = {key: value for key, value in data.items() if key not in known}
    for name, value in kept.items():
        checked_text(name, f"{where}: a key", may_be_empty=True)
        place = f"{where}: key {short(name)}"
        # A list of what is still to be looked at: recursion would overflow on the depth that is to be refused.
        pending = [(value, 1)]
        while pending:
            item, depth = pending.pop()
            if depth > MAX_DEPTH:
                raise UserError(f"{place} is nested deeper than {MAX_DEPTH} levels")
            if isinstance(item, dict):
                pending += [(part, depth + 1) for pair in item.items() for part in pair]
            elif isinstance(item, list):
                pending += [(part, depth + 1) for part in item]
            else:
                _plain(item, place)
    return kept


def _plain(value: Any, where: str) -> None:
    if isinstance(value, str):
        checked_text(value, where, may_be_empty=True)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} holds {value}, which is no number in JSON; use null")
    elif value is not None and not isinstance(value, bool | int | float):
        raise UserError(f"{where} holds {type(value).__name__}, which is not JSON")
