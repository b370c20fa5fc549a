"""personascope: which SAE features make up a persona, and where in a conversation a model stops being the assistant.

What a notebook needs is here by name, and imported when it is used: `from personascope import analyze`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from personascope.directions.axis import assistant_axis
    from personascope.directions.options import AxisOptions
    from personascope.drift.analysis import analyze
    from personascope.drift.options import DriftOptions
    from personascope.drift.result_file import load_run
    from personascope.drift.tables import tables
    from personascope.extraction.reader import ResidualReader, load_responses
    from personascope.formats.conversations import read_conversation
    from personascope.formats.directions import load_directions, save_directions, save_pt
    from personascope.formats.role_matrix import load_role_matrix
    from personascope.formats.tokens import read_activations
    from personascope.models.spans import encode_conversation, message_spans

__version__ = "0.1.0"

_MODULES = {
    "AxisOptions": "directions.options",
    "DriftOptions": "drift.options",
    "ResidualReader": "extraction.reader",
    "analyze": "drift.analysis",
    "assistant_axis": "directions.axis",
    "encode_conversation": "models.spans",
    "load_directions": "formats.directions",
    "load_responses": "extraction.reader",
    "load_role_matrix": "formats.role_matrix",
    "load_run": "drift.result_file",
    "message_spans": "models.spans",
    "read_activations": "formats.tokens",
    "read_conversation": "formats.conversations",
    "save_directions": "formats.directions",
    "save_pt": "formats.directions",
    "tables": "drift.tables",
}
__all__ = [
    "AxisOptions",
    "DriftOptions",
    "ResidualReader",
    "__version__",
    "analyze",
    "assistant_axis",
    "encode_conversation",
    "load_directions",
    "load_responses",
    "load_role_matrix",
    "load_run",
    "message_spans",
    "read_activations",
    "read_conversation",
    "save_directions",
    "save_pt",
    "tables",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"personascope has no {name!r}")
    return getattr(importlib.import_module(f"personascope.{_MODULES[name]}"), name)
