"""Steering in words, as a command line takes it: "axis:-0.1@15" adds a direction, "axis:-5:40@12-15" caps one."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from personascope.errors import UserError
from personascope.models.interventions import Add, Cap
from personascope.models.steering import Intervention

FORMS = {"steer": "NAME:COEFFICIENT@LAYER", "cap": "NAME:LOW:HIGH@LAYER (either bound may be empty)"}
_LAYERS = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class SteeringWord:
    """kind: "steer" or "cap"; numbers: the coefficient, or the two bounds; layers: ascending; text: as it was given."""

    kind: str
    text: str
    direction: str
    numbers: tuple[float, ...]
    layers: tuple[int, ...]

    def interventions(self, unit: Callable[[str, int], Tensor], size: Callable[[int], float]) -> list[Intervention]:
        """What is done to the model. unit(direction, layer): its unit vector [d_model]; size(layer): what a coefficient
        of 1 adds, in units of the residual stream."""
        made: list[Intervention] = []
        for layer in self.layers:
            vector = unit(self.direction, layer)
            if self.kind == "steer":
                made.append(Add(layer, vector * (self.numbers[0] * size(layer))))
            else:
                low, high = self.numbers
                made.append(Cap(layer, vector, low, high))
        return made


def steering_word(kind: str, text: str) -> SteeringWord:
    """Read one; UserError says what it should look like."""
    text = text.strip()
    front, _, where = text.rpartition("@")
    direction, *given = front.rsplit(":", 1 if kind == "steer" else 2)
    found = _LAYERS.fullmatch(where)
    try:
        assert found is not None and direction and len(given) == (1 if kind == "steer" else 2)
        open_ends = (-math.inf, math.inf) if kind == "cap" else ("", "")
        numbers = tuple(float(value or end) for value, end in zip(given, open_ends, strict=False))
    except (AssertionError, ValueError):
        raise UserError(f"{kind} {text!r}: expected {FORMS[kind]}, for example {_example(kind)}") from None
    if any(map(math.isnan, numbers)) or (kind == "steer" and math.isinf(numbers[0])):
        raise UserError(f"{kind} {text!r}: {numbers[0]} is no coefficient")
    if kind == "cap" and numbers[0] > numbers[1]:
        raise UserError(f"{kind} {text!r}: {numbers[0]} is above {numbers[1]}")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise UserError(f"{kind} {text!r}: layers {first}-{last} are none")
    return SteeringWord(kind, text, direction, numbers, tuple(range(first, last + 1)))


def _example(kind: str) -> str:
    return "axis:-0.1@15" if kind == "steer" else "axis:-5:40@15"
