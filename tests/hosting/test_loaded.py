"""What a host keeps: each thing is loaded once, and large arrays stay within the memory that they may take."""

from dataclasses import dataclass

import numpy as np
import pytest

from personascope.errors import UserError
from personascope.hosting.loaded import Loaded, weight
from personascope.hosting.operations import operation

MB = 2**20


@dataclass(frozen=True)
class Held:
    """An object with arrays, as a reference is."""

    axes: np.ndarray
    scores: dict[str, np.ndarray]
    name: str = "held"


def held(mb: float) -> Held:
    half = np.zeros(int(mb * MB / 2), np.uint8)
    return Held(half, {"projection": half.copy()})


class Loads:
    """Loads and counts."""

    def __init__(self, mb: float = 1) -> None:
        self.mb, self.count = mb, 0

    def __call__(self) -> Held:
        self.count += 1
        return held(self.mb)


def test_each_key_is_loaded_once() -> None:
    loaded, load = Loaded(), Loads()
    assert loaded.once("a", load) is loaded.once("a", load) is not loaded.once("b", load)
    assert load.count == 2


def test_weight_counts_arrays_wherever_they_are() -> None:
    assert weight(held(4)) == 4 * MB and weight("text") == weight(None) == 0


def test_the_least_recently_used_goes_when_room_is_needed() -> None:
    loaded, loads = Loaded(), {name: Loads() for name in "abcd"}
    for name in ("a", "b", "c", "a", "d"):
        loaded.within(3 * MB, name, loads[name])
    for name in ("a", "c", "d"):
        loaded.within(3 * MB, name, loads[name])
    assert {name: load.count for name, load in loads.items()} == {"a": 1, "b": 1, "c": 1, "d": 1}
    loaded.within(3 * MB, "b", loads["b"])
    assert loads["b"].count == 2


def test_room_is_made_before_something_large_is_loaded() -> None:
    loaded, kept = Loaded(), []
    loaded.within(3 * MB, "small", Loads(2))

    def load() -> Held:
        kept.append(sum(n_bytes for _, n_bytes in loaded._weighed.values()))
        return held(2.5)

    loaded.within(3 * MB, "large", load, expected=int(2.5 * MB))
    assert kept == [0]


def test_what_a_job_needs_is_there_even_where_it_does_not_fit() -> None:
    loaded, load = Loaded(), Loads(5)
    assert loaded.within(MB, "large", load) is loaded.within(MB, "large", load) and load.count == 1


@pytest.mark.parametrize("name", ["nothing", "_model", "__init__", "../host", ""])
def test_only_operations_can_be_asked_for(name: str) -> None:
    with pytest.raises(UserError, match=r"unknown operation .* there are causal, drift_conversation, extract"):
        operation(name)
