"""What the model host does for a job: the stages that need a model, with the store before and behind them.

Each operation gets plain JSON arguments, writes what it finishes to the store, and returns where it is.
Models, tokenizers, SAEs and engines are loaded once and kept for the next request.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from personascope import __version__
from personascope.backends import Completion, Request, Sampling
from personascope.errors import UserError
from personascope.extraction.extract import ExtractOptions, Item, extract, layers_available, make_item
from personascope.extraction.extract_conversation import encode_within, token_blocks
from personascope.formats.conversations import read_conversation, read_simulation
from personascope.formats.features import FeatureRows, Pooled, residual_writer, write_features
from personascope.formats.files import content_key, file_digest, iter_jsonl
from personascope.formats.roles import build_prompts, questions_for, read_questions, read_role, select_questions
from personascope.formats.tokens import token_writer, write_failure
from personascope.generation.generate import build_requests, generate
from personascope.generation.simulate import in_order, simulate
from personascope.measured import note_load
from personascope.models.loading import LAYER_CONVENTION, ModelSpec, context_length, d_model
from personascope.models.saes import LoadedSAE, SAESpec
from personascope.models.spans import template_hash
from personascope.resources import Progress, Report, Resources, took
from personascope.store import feature_files, response_log

T = TypeVar("T")
WINDOW = 256  # responses extracted before they are written: bounds memory, and pads are few among so many


def run_generate(
    resources: Resources,
    report: Report,
    *,
    role_file: str,
    questions_file: str,
    questions: str | int | list[int],
    question_mode: str,
    variants: list[int],
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
    """Generate the responses of a role that the store lacks; returns the keys of all, in row order.

    `engine` is the part of `backend_options` that decides results (not sizes), and so belongs into the keys.
    """
    role = read_role(role_file)
    shared = select_questions(read_questions(questions_file), questions) if question_mode == "general" else []
    prompts = build_prompts(role, variants, questions_for(role, question_mode, shared), model_name)
    spec = ModelSpec(**model)
    tokenizer = resources.tokenizer(spec)
    requests = build_requests(tokenizer, prompts, seed=seed, max_tokens=max_tokens, max_model_len=max_model_len)
    sampling = Sampling(temperature, top_p)
    common = [resources.identity(spec), spec.dtype, backend, engine, asdict(sampling), code]
    keys = [
        content_key([common, asdict(request), prompt.role, prompt.prompt_index, prompt.question.id, prompt.messages])
        for prompt, request in zip(prompts, requests, strict=True)
    ]
    records = response_log(store, model_name, role.name)
    done = records.keys()
    missing = [i for i, key in enumerate(keys) if key not in done]
    report(f"{role.name}: {len(keys)} responses, {len(keys) - len(missing)} of them in the store")
    if missing:
        loaded = resources.backend(backend, spec, max_model_len, backend_options)
        progress = Progress(report, role.name, len(missing))
        todo, asked = [prompts[i] for i in missing], [requests[i] for i in missing]
        with records.writer() as append:
            for index, row in generate(tokenizer, loaded, todo, asked, sampling):
                append(keys[missing[index]], row)
                progress.add(len(row["response_token_ids"]))
    return {"log": str(records.path), "keys": keys}


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made in a thread while the one before it is used: the model never waits for files."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item


def run_extract(
    resources: Resources,
    report: Report,
    *,
    responses: str,
    model: dict[str, Any],
    sae: dict[str, Any],
    token_selection: str,
    residual_layers: list[int],
    batch_tokens: int,
    chunk_tokens: int,
    store: str,
    code: str,
) -> dict[str, Any]:
    """Extract features and residual means of a responses file into the store; returns the key."""
    spec, sae_spec = ModelSpec(**model), SAESpec(**sae)
    options = ExtractOptions(tuple(residual_layers), batch_tokens, chunk_tokens)
    tokenizer = resources.tokenizer(spec)
    identity = _identity(resources, spec, sae_spec, residual_layers, code) | {"token_selection": token_selection}
    key = content_key([identity, file_digest(Path(responses))])
    files = feature_files(store)
    name = Path(responses).stem
    if files.verify(key):
        report(f"{name}: features are in the store")
        return {"key": key}
    network, loaded = _network(resources, spec, sae_spec, residual_layers)
    metadata = identity | _description(spec, sae_spec, loaded)
    total = sum(1 for _ in iter_jsonl(responses))
    if not total:
        raise UserError(f"{responses}: holds no response; delete it and generate it again")
    context = context_length(network)
    progress = Progress(report, name, total)

    with files.add(key) as folder, residual_writer(folder / "residuals.parquet", residual_layers, metadata) as keep:

        def windows() -> Iterator[tuple[list[dict[str, Any]], list[Item]]]:
            rows = enumerate(iter_jsonl(responses))
            while window := list(itertools.islice(rows, WINDOW)):
                items = [_item(tokenizer, f"{responses}, row {i}", row, token_selection, context) for i, row in window]
                yield [row for _, row in window], items

        def blocks() -> Iterator[FeatureRows]:
            for rows, items in one_ahead(windows()):
                pooled = extract(network, loaded, items, options)
                block = _feature_rows(rows, pooled)
                keep(block, np.stack([p.residual_means for p in pooled]))
                progress.add(sum(len(item.ids) for item in items), len(rows))
                yield block

        write_features(folder / "features.parquet", one_ahead(blocks()), metadata)
    return {"key": key}


def run_extract_conversation(
    resources: Resources,
    report: Report,
    *,
    conversation: str,
    model: dict[str, Any],
    sae: dict[str, Any],
    residual_layers: list[int],
    chunk_tokens: int,
    too_long: str,
    store: str,
    code: str,
) -> dict[str, Any]:
    """Extract the assistant tokens of a conversation file into the store; returns the key.

    A conversation that is malformed or too long fails alone: its file says why, and the others go on.
    """
    spec, sae_spec = ModelSpec(**model), SAESpec(**sae)
    identity = _identity(resources, spec, sae_spec, residual_layers, code) | {"too_long": too_long}
    key = content_key([identity, conversation, file_digest(Path(conversation))])
    files = feature_files(store)
    if files.verify(key):
        report(f"{Path(conversation).stem}: token activations are in the store")
        return {"key": key}
    network, loaded = _network(resources, spec, sae_spec, residual_layers)
    metadata = identity | _description(spec, sae_spec, loaded)
    with files.add(key) as folder:
        path = folder / "tokens.parquet"
        try:
            read = read_conversation(conversation)
            tokenizer = resources.tokenizer(spec)
            encoded = encode_within(tokenizer, read.messages, context_length(network), too_long)
        except UserError as error:
            told = str(error) if conversation in str(error) else f"{conversation}: {error}"
            report(f"error: {told}")
            empty = {"conversation": {"name": Path(conversation).stem, "messages": [], "metadata": {}}}
            write_failure(path, metadata | empty | {"turns": [], "n_tokens": 0, "dropped_messages": 0}, told)
            return {"key": key}
        metadata |= {
            "conversation": asdict(read),
            "turns": [asdict(span) for span in encoded.spans],
            "n_tokens": len(encoded.encoded.ids),
            "dropped_messages": encoded.dropped,
            "error": None,
        }
        options = ExtractOptions(tuple(residual_layers), chunk_tokens=chunk_tokens)
        started = time.perf_counter()
        with token_writer(path, metadata, d_model(network)) as write:
            for block in token_blocks(network, loaded, tokenizer, encoded, options):
                write(block)
    seconds = time.perf_counter() - started
    report(f"{read.name}: {len(encoded.spans)} assistant turns, {took(len(encoded.encoded.ids), seconds)}")
    return {"key": key}


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


def _identity(
    resources: Resources, spec: ModelSpec, sae: SAESpec, residual_layers: list[int], code: str
) -> dict[str, Any]:
    """What decides the activations of a given text."""
    return {
        "weights": resources.identity(spec),
        "dtype": spec.dtype,
        "sae_weights": resources.sae_identity(sae),
        "template": template_hash(resources.tokenizer(spec)),
        "residual_layers": residual_layers,
        "code": code,
    }


def _description(spec: ModelSpec, sae: SAESpec, loaded: LoadedSAE) -> dict[str, Any]:
    """What else a reader of the file wants to know."""
    return {
        "model": spec.id,
        "sae": sae.path or f"{sae.release}/{sae.id}",
        "sae_release": sae.release,
        "sae_id": sae.id or Path(str(sae.path)).name,
        "sae_layer": loaded.point.layer,
        "hook_name": loaded.hook_name,
        "d_sae": loaded.d_sae,
        "layer_convention": LAYER_CONVENTION,
        "version": __version__,
    }


def _network(resources: Resources, spec: ModelSpec, sae: SAESpec, layers: list[int]) -> tuple[Any, LoadedSAE]:
    network = resources.model(spec)
    layers_available(network, layers)
    return network, resources.sae(sae, spec)


def _item(tokenizer: Any, where: str, row: dict[str, Any], selection: str, context: int | None) -> Item:
    try:
        return make_item(tokenizer, row["conversation"], selection, context)
    except KeyError as error:
        raise UserError(f"{where}: no {error} in it") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _feature_rows(rows: Sequence[dict[str, Any]], pooled: Sequence[Pooled]) -> FeatureRows:
    return FeatureRows(
        prompt_index=np.array([row["prompt_index"] for row in rows], np.int32),
        question_id=np.array([row["question_id"] for row in rows], np.int32),
        n_tokens=np.array([p.n_tokens for p in pooled], np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(p.indices) for p in pooled])]).astype(np.int64),
        indices=np.concatenate([p.indices for p in pooled]),
        mean=np.concatenate([p.mean for p in pooled]),
        max=np.concatenate([p.max for p in pooled]),
    )


def make_resources() -> Resources:
    """What a model host starts with; each load of a model is counted among the benchmark files."""
    return Resources(loaded=note_load)


OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "generate": run_generate,
    "extract": run_extract,
    "extract_conversation": run_extract_conversation,
    "simulate": run_simulate,
}
