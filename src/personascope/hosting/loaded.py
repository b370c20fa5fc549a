"""What the model host has loaded, and how it tells its progress."""

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from personascope.backends import Backend, make_backend
from personascope.formats.files import content_key
from personascope.models.loading import ModelSpec, choose_device, load_model, load_tokenizer, model_identity, stop_ids
from personascope.models.saes import LoadedSAE, SAESpec, check_fit, load_sae, sae_identity

Loaded = Callable[[str, float], None]


class Resources:
    """What is loaded; every loader runs once per distinct specification. `loaded` is told of models: name, seconds."""

    def __init__(self, loaded: Loaded = lambda name, seconds: None) -> None:
        self.loaded = loaded
        self.tokenizer = lru_cache(load_tokenizer)
        self.model = lru_cache(self._load_model)
        self.identity = lru_cache(model_identity)
        self.sae_identity = lru_cache(sae_identity)
        self._backends: dict[str, Backend] = {}

    def _load_model(self, spec: ModelSpec) -> Any:
        started = time.perf_counter()
        model = load_model(spec)
        self.loaded(spec.id, time.perf_counter() - started)
        return model

    @lru_cache  # noqa: B019 - one Resources a process
    def sae(self, spec: SAESpec, model: ModelSpec) -> LoadedSAE:
        sae = load_sae(spec, choose_device(model.device))
        check_fit(sae, self.model(model))
        return sae

    def backend(self, name: str, spec: ModelSpec, max_model_len: int, options: dict[str, Any]) -> Backend:
        key = content_key([name, asdict(spec), max_model_len, options])
        if key not in self._backends:
            self._backends[key] = self._make_backend(name, spec, max_model_len, options)
        return self._backends[key]

    def _make_backend(self, name: str, spec: ModelSpec, max_model_len: int, options: dict[str, Any]) -> Backend:
        stops = stop_ids(spec, self.tokenizer(spec))
        if name == "transformers":
            return make_backend(name, self.model(spec), stops, **options)
        if name == "openai":
            served = {"model": spec.id} | options
            return make_backend(name, served.pop("model"), stops, tokenizer=self.tokenizer(spec), **served)
        engine = {"revision": spec.revision, "dtype": spec.dtype, "trust_remote_code": spec.trust_remote_code}
        engine["max_model_len"] = max_model_len
        started = time.perf_counter()
        backend = make_backend(name, spec.id, stops, **engine, **options)
        if name == "vllm":  # the server counts its own starts
            self.loaded(spec.id, time.perf_counter() - started)
        return backend
