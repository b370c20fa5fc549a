"""What the model host has loaded, and how it tells its progress."""

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from personascope.backends import Backend, make_backend
from personascope.display.terminal import duration
from personascope.formats.files import content_key
from personascope.models.loading import ModelSpec, choose_device, load_model, load_tokenizer, model_identity, stop_ids
from personascope.models.saes import LoadedSAE, SAESpec, check_fit, load_sae, sae_identity

Report = Callable[[str], None]
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


class Progress:
    """Reports done/total, tokens a second and the time left, at most every two seconds; at the end what it took."""

    def __init__(self, report: Report, name: str, total: int, every: float = 2.0):
        self.report, self.name, self.total, self.every = report, name, total, every
        self.started = self.reported = time.monotonic()
        self.done = self.tokens = 0

    def add(self, tokens: int, rows: int = 1) -> None:
        self.done += rows
        self.tokens += tokens
        now = time.monotonic()
        if now - self.reported < self.every and self.done < self.total:
            return
        self.reported = now
        elapsed, counted = max(now - self.started, 1e-9), f"{self.name}: {self.done}/{self.total} responses"
        if self.done < self.total:
            left = duration(elapsed / self.done * (self.total - self.done))
            self.report(f"{counted}, {self.tokens / elapsed:.0f} tokens/s, {left} left")
        else:
            self.report(f"{counted}, {took(self.tokens, elapsed)}")


def took(tokens: int, seconds: float) -> str:
    """What a job's log says of its work at the end; `personascope plan` and `costs` read it there."""
    return f"{tokens} tokens in {seconds:.1f} s, {tokens / seconds:.0f} tokens/s"
