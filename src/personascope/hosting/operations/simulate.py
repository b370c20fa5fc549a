"""Conversations of the model with a scripted user."""

from dataclasses import asdict
from typing import Any

from personascope.backends import Completion, Request, Sampling
from personascope.formats.conversations import read_simulation
from personascope.formats.files import content_key
from personascope.generation.simulate import in_order, simulate
from personascope.hosting.loaded import Resources
from personascope.hosting.progress import Progress, Report
from personascope.hosting.store import response_log
from personascope.models.loading import ModelSpec


def run_simulate(
    resources: Resources,
    report: Report,
    *,
    script: str,
    samples: int,
    model: dict[str, Any],
    model_name: str,
    backend: str,
    engine: dict[str, Any],
    backend_options: dict[str, Any],
    temperature: float,
    top_p: float,
    max_tokens: int,
    max_model_len: int,
    seed: int,
    store: str,
    code: str,
) -> dict[str, Any]:
    """Have the model talk with a scripted user, `samples` times; returns the conversations' keys in the store."""
    read = read_simulation(script)
    spec = ModelSpec(**model)
    tokenizer = resources.tokenizer(spec)
    sampling = Sampling(temperature, top_p)
    common = [resources.identity(spec), spec.dtype, backend, engine, asdict(sampling), code]
    records = response_log(store, model_name, f"simulate.{read.name}")
    done = records.keys()
    with records.writer() as append:
        progress = Progress(report, read.name, samples * len(read.user_turns))

        def finish(requests: list[Request]) -> list[Completion]:
            """The store's completions of these requests, and the backend's for the rest."""
            keys = [content_key([common, asdict(request)]) for request in requests]
            missing = [i for i, key in enumerate(keys) if key not in done]
            if missing:
                loaded = resources.backend(backend, spec, max_model_len, backend_options)
                for i, made in zip(missing, in_order(loaded, [requests[i] for i in missing], sampling), strict=True):
                    append(keys[i], asdict(made))
                    done.add(keys[i])
            found = [Completion(**records.read(key)) for key in keys]
            progress.add(sum(len(made.token_ids) for made in found), len(found))
            return found

        limits = {"seed": seed, "max_tokens": max_tokens, "max_model_len": max_model_len}
        conversations = simulate(tokenizer, finish, read, samples, **limits)
        keys = []
        for sample, messages in enumerate(conversations):
            metadata = read.metadata | {"condition": read.condition, "pressure_from": read.pressure_from}
            metadata |= {"script": read.name, "sample": sample, "model": model_name}
            payload = metadata | {"conversation": messages}
            keys.append(content_key([common, "conversation", payload]))
            if keys[-1] not in done:
                append(keys[-1], payload)
    return {"log": str(records.path), "keys": keys}
