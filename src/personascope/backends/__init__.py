"""Generation engines behind one small protocol; each engine's library is imported only when it is made."""

import importlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from personascope.errors import UserError

Message = dict[str, str]


@dataclass(frozen=True)
class Request:
    """One response to generate: prompt token ids (as the chat template gave them), sampling seed, token limit, and the
    messages that the ids were made of, for engines that take no ids (None: only ids are known)."""

    prompt_ids: list[int]
    seed: int
    max_tokens: int
    messages: list[Message] | None = None


@dataclass(frozen=True)
class Completion:
    """One generated response: token ids without the end-of-turn token, and "stop", "length" or the server's own word.

    text: the answer as the server wrote it, where the ids were made again from it; else None
    reasoning: what the server says that the model thought before it, which is not among the ids
    prompt_exact: whether the model read exactly `Request.prompt_ids`
    """

    token_ids: list[int]
    finish_reason: str
    text: str | None = None
    reasoning: str | None = None
    prompt_exact: bool = True


@dataclass(frozen=True)
class Sampling:
    """temperature 0 is greedy; top_p keeps the smallest set of tokens whose probability reaches it."""

    temperature: float = 0.7
    top_p: float = 0.9


class Backend(Protocol):
    """An engine that answers requests in any order, each as soon as it is finished."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        """Yield (index into `requests`, completion)."""
        ...


class Engine(NamedTuple):
    """Where an engine is: its module inside the package, and the class, which takes (model, stop ids, options)."""

    module: str
    class_name: str


BACKENDS = {
    "transformers": Engine("backends.local", "TransformersBackend"),
    "openai": Engine("backends.openai", "OpenAIBackend"),
    "chat": Engine("backends.chat", "ChatClient"),
    "vllm": Engine("backends.vllm", "VLLMBackend"),
    "vllm_server": Engine("backends.vllm_server", "VLLMServerBackend"),
}
# Servers of somebody else, who may have another name for the model.
ENDPOINTS = ("openai", "chat")


def engine_class(name: str) -> Any:
    """The class of an engine; ModuleNotFoundError where its library is not installed."""
    module, class_name = BACKENDS[name]
    return getattr(importlib.import_module(f"personascope.{module}"), class_name)


def make_backend(name: str, *args: Any, **options: Any) -> Backend:
    """The engine called `name`; UserError where the name is unknown or its library is not installed."""
    if name not in BACKENDS:
        raise UserError(f"generation.backend: {name!r} is unknown; choose one of {', '.join(BACKENDS)}")
    try:
        factory = engine_class(name)
        known = inspect.signature(factory).parameters
        if unknown := sorted(set(options) - set(known)):
            raise UserError(f"generation.backend_options: {', '.join(unknown)} unknown to the backend {name}")
        return factory(*args, **options)
    except ModuleNotFoundError as error:
        raise UserError(f"generation.backend: {name} needs the package {error.name}, not installed here") from None


def steered(backend: Backend, interventions: Sequence[Any]) -> Backend:
    """The engine with interventions (`models.interventions`) on the model; UserError where it has none to reach."""
    if not interventions:
        return backend
    steer = getattr(backend, "steered", None)
    if steer is None:
        raise UserError(
            f"{type(backend).__name__} cannot be steered: its model runs elsewhere; use the backend transformers"
        )
    return steer(interventions)
