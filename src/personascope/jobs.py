"""What the model host does for a job: the stages `generate` and `extract`, with the store before and behind them.

Each operation gets plain JSON arguments, writes what it finishes to the store, and returns where it is.
Models, tokenizers, SAEs and engines are loaded once and kept for the next request.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from personascope import __version__
from personascope.backends import Backend, Sampling, make_backend
from personascope.errors import UserError
from personascope.extract import ExtractOptions, Item, extract, layers_available, make_item
from personascope.files import iter_jsonl
from personascope.generate import build_requests, generate
from personascope.models import (
    LAYER_CONVENTION,
    ModelSpec,
    choose_device,
    context_length,
    load_model,
    load_tokenizer,
    model_identity,
    stop_ids,
)
from personascope.pooling import Pooled
from personascope.roles import build_prompts, questions_for, read_questions, read_role, select_questions
from personascope.saes import LoadedSAE, SAESpec, check_fit, load_sae, sae_identity
from personascope.spans import template_hash
from personascope.storage import FeatureRows, residual_writer, write_features
from personascope.store import content_key, feature_files, file_digest, response_log

log = logging.getLogger(__name__)

Report = Callable[[str], None]
WINDOW = 256  # responses extracted before they are written: bounds memory, and pads are few among so many


class Resources:
    """What is loaded; every loader runs once per distinct specification."""

    def __init__(self) -> None:
        self.tokenizer = lru_cache(load_tokenizer)
        self.model = lru_cache(load_model)
        self.identity = lru_cache(model_identity)
        self.sae_identity = lru_cache(sae_identity)
        self._backends: dict[str, Backend] = {}

    @lru_cache  # noqa: B019 - one Resources a process
    def sae(self, spec: SAESpec, model: ModelSpec) -> LoadedSAE:
        sae = load_sae(spec, choose_device(model.device))
        check_fit(sae, self.model(model))
        return sae

    def backend(self, name: str, spec: ModelSpec, options: dict[str, Any]) -> Backend:
        key = content_key([name, asdict(spec), options])
        if key not in self._backends:
            self._backends[key] = self._make_backend(name, spec, options)
        return self._backends[key]

    def _make_backend(self, name: str, spec: ModelSpec, options: dict[str, Any]) -> Backend:
        stops = stop_ids(spec, self.tokenizer(spec))
        if name == "transformers":
            return make_backend(name, self.model(spec), stops, **options)
        if name == "openai":
            served = {"model": spec.id} | options
            return make_backend(name, served.pop("model"), stops, tokenizer=self.tokenizer(spec), **served)
        engine = {"revision": spec.revision, "dtype": spec.dtype, "trust_remote_code": spec.trust_remote_code}
        return make_backend(name, spec.id, stops, **engine, **options)


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
        limits = {"max_model_len": max_model_len} if backend == "vllm" else {}
        loaded = resources.backend(backend, spec, limits | backend_options)
        progress = Progress(report, role.name, len(missing))
        todo, asked = [prompts[i] for i in missing], [requests[i] for i in missing]
        with records.writer() as append:
            for index, row in generate(tokenizer, loaded, todo, asked, sampling):
                append(keys[missing[index]], row)
                progress.add(len(row["response_token_ids"]))
    return {"log": str(records.path), "keys": keys}


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
    identity = {
        "weights": resources.identity(spec),
        "dtype": spec.dtype,
        "sae_weights": resources.sae_identity(sae_spec),
        "template": template_hash(tokenizer),
        "token_selection": token_selection,
        "residual_layers": residual_layers,
        "code": code,
    }
    key = content_key([identity, file_digest(Path(responses))])
    files = feature_files(store)
    name = Path(responses).stem
    if files.verify(key):
        report(f"{name}: features are in the store")
        return {"key": key}
    network = resources.model(spec)
    layers_available(network, residual_layers)
    loaded = resources.sae(sae_spec, spec)
    metadata = identity | {
        "model": spec.id,
        "sae": sae_spec.path or f"{sae_spec.release}/{sae_spec.id}",
        "hook_name": loaded.hook_name,
        "d_sae": loaded.d_sae,
        "layer_convention": LAYER_CONVENTION,
        "version": __version__,
    }
    total = sum(1 for _ in iter_jsonl(responses))
    if not total:
        raise UserError(f"{responses}: holds no response; delete it and generate it again")
    context = context_length(network)
    progress = Progress(report, name, total)

    with files.add(key) as folder, residual_writer(folder / "residuals.parquet", residual_layers, metadata) as keep:

        def blocks() -> Iterator[FeatureRows]:
            rows = enumerate(iter_jsonl(responses))
            while window := list(itertools.islice(rows, WINDOW)):
                items = [_item(tokenizer, f"{responses}, row {i}", row, token_selection, context) for i, row in window]
                pooled = extract(network, loaded, items, options)
                block = _feature_rows([row for _, row in window], pooled)
                keep(block, np.stack([p.residual_means for p in pooled]))
                progress.add(sum(len(item.ids) for item in items), len(window))
                yield block

        write_features(folder / "features.parquet", blocks(), metadata)
    return {"key": key}


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


class Progress:
    """Reports done/total, tokens a second and the time left, at most every two seconds."""

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
        elapsed = max(now - self.started, 1e-9)
        left = elapsed / self.done * (self.total - self.done)
        rate = self.tokens / elapsed
        self.report(f"{self.name}: {self.done}/{self.total} responses, {rate:.0f} tokens/s, {left:.0f} s left")


OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {"generate": run_generate, "extract": run_extract}
