"""What a host keeps loaded between the jobs that ask it: models and engines for good, large arrays within a limit."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


class Loaded:
    """Things by key; each is loaded once.

    note: called after every load of a model with its name and the seconds it took; logs: folder for the logs of servers
    that are started.
    """

    def __init__(self, note: Callable[[str, float], None] = lambda name, seconds: None, logs: Path = Path("logs")):
        self.note, self.logs = note, logs
        self._kept: dict[Hashable, Any] = {}
        self._weighed: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def once(self, key: Hashable, load: Callable[[], T]) -> T:
        """What `load` gave the first time it was called for this key."""
        if key not in self._kept:
            self._kept[key] = load()
        return self._kept[key]

    def within(self, limit: int, key: Hashable, load: Callable[[], T], expected: int = 0) -> T:
        """The same for arrays: those used least recently go, so that all of them together have at most `limit` bytes.

        expected: bytes that this one will have, so that the room is made before it is loaded. It is loaded and kept in
        any case, since the job needs it.
        """
        if key not in self._weighed:
            self._make_room(limit - expected)
            value = load()
            self._weighed[key] = value, weight(value)
        self._weighed.move_to_end(key)
        self._make_room(limit, but=key)
        return self._weighed[key][0]

    def _make_room(self, limit: int, but: Hashable = None) -> None:
        for key in list(self._weighed):
            if sum(n_bytes for _, n_bytes in self._weighed.values()) <= limit:
                return
            if key != but:
                del self._weighed[key]


def weight(value: Any) -> int:
    """Bytes of the arrays in an object: its own, and those in its fields and in mappings."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    parts = value.values() if isinstance(value, Mapping) else getattr(value, "__dict__", {}).values()
    return sum(map(weight, parts))
