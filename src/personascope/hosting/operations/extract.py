"""What the model host does for a job: the stages that need a model, with the store before and behind them.

Each operation gets plain JSON arguments, writes what it finishes to the store, and returns where it is.
Models, tokenizers, SAEs and engines are loaded once and kept for the next request.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from personascope import __version__
from personascope.errors import UserError
from personascope.extraction.extract import ExtractOptions, Item, extract, layers_available, make_item
from personascope.formats.features import FeatureRows, Pooled, residual_writer, write_features
from personascope.formats.files import content_key, file_digest, iter_jsonl
from personascope.hosting.loaded import Resources
from personascope.hosting.operations.extract_conversation import run_extract_conversation
from personascope.hosting.operations.generate import run_generate
from personascope.hosting.operations.simulate import run_simulate
from personascope.hosting.progress import Progress, Report, note_load
from personascope.hosting.store import feature_files
from personascope.models.loading import LAYER_CONVENTION, ModelSpec, context_length
from personascope.models.saes import LoadedSAE, SAESpec
from personascope.models.spans import template_hash

T = TypeVar("T")
WINDOW = 256  # responses extracted before they are written: bounds memory, and pads are few among so many


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
