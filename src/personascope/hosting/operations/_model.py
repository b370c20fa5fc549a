"""What the operations that need the model share."""

import time
from dataclasses import dataclass, replace
from typing import Any

from personascope.hosting.loaded import Loaded
from personascope.models.loading import ModelSpec, load_model, load_tokenizer, model_identity


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """The model, the store, and the hash of the code that makes the result."""

    model: ModelSpec
    device: str = "auto"
    device_map: str | None = None
    store: str
    code: str

    @property
    def spec(self) -> ModelSpec:
        """The model and where it is loaded."""
        return replace(self.model, device=self.device, device_map=self.device_map)


def model(loaded: Loaded, spec: ModelSpec) -> Any:
    """The model; each load is noted."""

    def load() -> Any:
        started = time.perf_counter()
        network = load_model(spec)
        loaded.note(spec.id, time.perf_counter() - started)
        return network

    return loaded.once(("model", spec), load)


def tokenizer(loaded: Loaded, spec: ModelSpec) -> Any:
    """The model's tokenizer."""
    return loaded.once(("tokenizer", spec), lambda: load_tokenizer(spec))


def identity(loaded: Loaded, spec: ModelSpec) -> str:
    """What the model's weights are."""
    return loaded.once(("identity", spec), lambda: model_identity(spec))
