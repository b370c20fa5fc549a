"""What a host does for a rule: one module an operation, named as the rule.

Each has a frozen dataclass `Request`, with a field for everything that the operation takes, and a function
`run(loaded, report, request)` that writes the rule's outputs. To add an operation, add such a module and a rule with
the script `ask_host.py`.
"""

import importlib
import json
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from personascope.errors import UserError

# The parts of a message: what the rule names is taken, what is merely at hand is offered.
TAKEN, OFFERED = ("inputs", "outputs", "params"), ("wildcards", "sizes")


def operation(name: str) -> ModuleType:
    """The module of an operation; UserError where there is none of this name."""
    known = {path.stem for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("_")}
    if name not in known:
        raise UserError(f"unknown operation {name!r}; there are {', '.join(sorted(known))}")
    return importlib.import_module(f"{__name__}.{name}")


def parse_request(kind: type, message: dict[str, Any]) -> Any:
    """A `Request` from a rule's inputs, outputs and params, all of which it must know, and from those of its wildcards
    and sizes that it has a field for; UserError names the field that is unknown, missing or of the wrong type."""
    op = message["op"]
    known = {field.name for field in fields(kind)}
    values = {name: value for part in OFFERED for name, value in message.get(part, {}).items() if name in known}
    taken: dict[str, Any] = {}
    for part in TAKEN:
        if both := sorted(taken.keys() & message.get(part, {}).keys()):
            raise UserError(f"{op}: the rule names {both[0]} twice")
        taken |= message.get(part, {})
    if unknown := sorted(taken.keys() - known):
        raise UserError(f"{op}: unknown field {unknown[0]}; there are {', '.join(sorted(known))}")
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values | taken), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{op}: {place}: {first['msg']}, found {first['input']!r}"[:500]) from None
