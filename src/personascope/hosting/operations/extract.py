"""SAE features and residual means of the responses of one role, and contexts of the features where asked for."""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from personascope import __version__
from personascope.errors import UserError
from personascope.extraction.contexts import Collector
from personascope.extraction.extract import (
    MEASURED,
    ExtractOptions,
    Watch,
    extract,
    layers_available,
    unexplained_variance,
)
from personascope.extraction.items import Item, response_item
from personascope.formats.contexts import Texts, save_activity, save_contexts
from personascope.formats.features import FeatureRows, Pooled, residual_writer, write_features
from personascope.formats.files import content_key, file_digest
from personascope.formats.responses import EMPTY, NEVER_ENDED, count_oddities, read_responses
from personascope.formats.saes import other_model
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._model import ModelRequest, identity, model, tokenizer
from personascope.hosting.progress import Progress, Report
from personascope.hosting.store import feature_files
from personascope.models.loading import LAYER_CONVENTION, choose_device, context_length
from personascope.models.saes import LoadedSAE, SAESpec, check_fit, load_sae, sae_identity
from personascope.models.spans import template_hash

T = TypeVar("T")
FEW = 128  # tokens; of fewer, a large fraction unexplained says little
MOST_UNEXPLAINED = 0.5  # the fraction of the variance unexplained above which SAE and model hardly belong together
WINDOW = 256  # responses extracted before they are written: bounds memory, and pads are few among so many


@dataclass(frozen=True, kw_only=True)
class ActivationsRequest(ModelRequest):
    """What is read from the model: SAE features, and the residual stream of some layers."""

    sae: SAESpec
    residual_layers: list[int]
    chunk_tokens: int


@dataclass(frozen=True, kw_only=True)
class Request(ActivationsRequest):
    """The responses, the outputs, and which tokens are pooled over; k: texts kept of each feature, 0 for none."""

    responses: str
    features: str
    residuals: str
    contexts: str | None = None
    activity: str | None = None
    k: int = 0
    token_selection: str
    batch_tokens: int


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Extract into the store what it lacks, and link features and residual means to the outputs."""
    files, name = feature_files(request.store), Path(request.responses).stem
    described = activations_key(loaded, request) | {"token_selection": request.token_selection}
    outputs: dict[str, str | Path] = {"features.parquet": request.features, "residuals.parquet": request.residuals}
    if request.contexts and request.activity:
        described |= {"contexts": request.k}
        outputs |= {"contexts.parquet": request.contexts, "activity.npz": request.activity}
    key = content_key([described, file_digest(Path(request.responses))])
    if files.verify(key):
        report(f"{name}: features are in the store")
    else:
        with files.add(key) as folder:
            _extract(loaded, report, request, described, folder)
    files.link(key, outputs)


def _extract(loaded: Loaded, report: Report, request: Request, described: dict[str, Any], folder: Path) -> None:
    """Write features.parquet and residuals.parquet into a folder, and what the contexts are made from."""
    responses, layers = request.responses, request.residual_layers
    network, sae = network_and_sae(loaded, request)
    metadata = described | description(request, sae)
    counts = count_oddities(read_responses(responses))
    metadata |= {"counts": counts}
    name, total = Path(responses).stem, counts["responses"]
    for oddity in (NEVER_ENDED, EMPTY):
        if counts.get(oddity):
            report(f"{name}: {counts[oddity]} of {total} responses {oddity}: they are left out of all means")
    if not total:
        raise UserError(f"{responses}: holds no response; delete it and generate it again")
    options = ExtractOptions(tuple(layers), request.batch_tokens, request.chunk_tokens)
    known_tokenizer, context = tokenizer(loaded, request.spec), context_length(network)
    watched = _Watched(sae.d_sae, request.k, name, known_tokenizer) if "contexts" in described else None
    progress = Progress(report, name, total)

    def windows() -> Iterator[tuple[list[dict[str, Any]], list[Item]]]:
        rows = enumerate(read_responses(responses))
        while window := list(itertools.islice(rows, WINDOW)):
            where = f"{responses}, row"
            yield (
                [row for _, row in window],
                [_item(known_tokenizer, f"{where} {i}", row, request.token_selection, context) for i, row in window],
            )

    read = windows()
    first = next(read)
    measured = min(MEASURED, sum(item.n_selected for item in first[1]))
    fraction = unexplained_variance(network, sae, first[1], request.batch_tokens)
    metadata |= note_fit(report, request, sae, fraction, measured)

    with residual_writer(folder / "residuals.parquet", layers, metadata) as keep:

        def blocks() -> Iterator[FeatureRows]:
            for rows, items in one_ahead(itertools.chain([first], read)):
                pooled = extract(network, sae, items, options, watched and watched.window(rows, items))
                block = _feature_rows(rows, pooled)
                keep(block, np.stack([p.residual_means for p in pooled]))
                progress.add(sum(len(item.ids) for item in items), len(rows))
                yield block

        write_features(folder / "features.parquet", one_ahead(blocks()), metadata)
    if watched is not None:
        watched.save(folder, metadata)


class _Watched:
    """Contexts of a role's features, collected while its responses are extracted window by window."""

    def __init__(self, d_sae: int, k: int, name: str, tokenizer: Any):
        self.collector, self.name, self.tokenizer = Collector(d_sae, k, name), name, tokenizer
        self.questions: list[str] = []
        self.token_ids: list[list[int]] = []

    def window(self, rows: Sequence[dict[str, Any]], items: Sequence[Item]) -> Watch:
        """Note the next responses; what is to see their activations."""
        first = len(self.token_ids)
        self.questions += [str(row["question"]) for row in rows]
        self.token_ids += [[token for start, end in item.ranges for token in item.ids[start:end]] for item in items]
        return lambda texts, counts, active: self.collector.add([first + text for text in texts], counts, active)

    def save(self, folder: Path, metadata: dict[str, Any]) -> None:
        """Write contexts.parquet and activity.npz."""
        used = sorted(set().union(*self.token_ids))
        texts = Texts(
            token_ids=np.array([token for ids in self.token_ids for token in ids], np.int32),
            offsets=np.concatenate([[0], np.cumsum([len(ids) for ids in self.token_ids])]).astype(np.int64),
            names=[self.name] * len(self.token_ids),
            questions=self.questions,
            pieces=dict(zip(used, self.tokenizer.convert_ids_to_tokens(used), strict=True)),
        )
        save_contexts(folder / "contexts.parquet", self.collector.contexts(), metadata)
        save_activity(folder / "activity.npz", self.collector.activity(), texts, metadata)


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made in a thread while the one before it is used: the model never waits for files."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item


def activations_key(loaded: Loaded, request: ActivationsRequest) -> dict[str, Any]:
    """What decides the activations of a given text."""
    spec, sae = request.spec, request.sae
    return {
        "weights": identity(loaded, spec),
        "dtype": spec.dtype,
        "sae_weights": loaded.once(("sae identity", sae), lambda: sae_identity(sae)),
        "template": template_hash(tokenizer(loaded, spec)),
        "residual_layers": request.residual_layers,
        "code": request.code,
    }


def description(request: ActivationsRequest, loaded_sae: LoadedSAE) -> dict[str, Any]:
    """What else a reader of the file wants to know."""
    sae = request.sae
    return {
        "model": request.model.id,
        "sae": sae.path or f"{sae.release}/{sae.id}",
        "sae_release": sae.release,
        "sae_id": sae.id or Path(str(sae.path)).name,
        "sae_layer": loaded_sae.point.layer,
        "hook_name": loaded_sae.hook_name,
        "d_sae": loaded_sae.d_sae,
        "sae_model": loaded_sae.trained_on,
        "layer_convention": LAYER_CONVENTION,
        "version": __version__,
    }


def note_fit(
    report: Report, request: ActivationsRequest, sae: LoadedSAE, fraction: float | None, tokens: int
) -> dict[str, Any]:
    """Report how well the SAE fits, and return it as metadata: `fvu`, the fraction of the variance of the first so many
    tokens that it leaves unexplained. Of few tokens a large one is no reason to warn."""
    if said := other_model(sae.trained_on, request.model.id):
        report(f"warning: {said}")
    if fraction is not None:
        report(f"the SAE leaves {fraction:.1%} of the variance of the first {tokens} tokens unexplained")
        if tokens >= FEW and not fraction <= MOST_UNEXPLAINED:
            report(
                f"warning: FVU {fraction:.2f}: this SAE hardly reconstructs what it reads here, and its features say "
                "little of it; was it trained on text of this kind, and with this model, layer and scale of inputs?"
            )
    return {"fvu": fraction}


def network_and_sae(loaded: Loaded, request: ActivationsRequest) -> tuple[Any, LoadedSAE]:
    """The model and the SAE on the same device; UserError where they, or the layers, do not fit."""
    network = model(loaded, request.spec)
    layers_available(network, request.residual_layers)

    def load() -> LoadedSAE:
        sae = load_sae(request.sae, choose_device(request.device))
        check_fit(sae, network)
        return sae

    return network, loaded.once(("sae", request.sae, request.spec), load)


def _item(tokenizer: Any, where: str, row: dict[str, Any], selection: str, context: int | None) -> Item:
    try:
        return response_item(tokenizer, row, selection, context)
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
