"""The residual stream of all layers for the responses of one trait, in three readings."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personascope import __version__
from personascope.errors import UserError
from personascope.extraction.items import response_item
from personascope.extraction.readings import read_layers
from personascope.formats.files import content_key, file_digest
from personascope.formats.responses import read_responses
from personascope.formats.trait_activations import READINGS, write_trait_activations
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._model import ModelRequest, identity, model, tokenizer
from personascope.hosting.progress import Progress, Report
from personascope.hosting.store import feature_files
from personascope.models.hookpoints import decoder_layers
from personascope.models.loading import LAYER_CONVENTION, context_length, d_model
from personascope.models.spans import template_hash

BLOCK_BYTES = 2**27  # of a block that is in memory at once
MOST_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class Request(ModelRequest):
    """The responses and the output."""

    responses: str
    activations: str
    batch_tokens: int


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Extract into the store what it lacks, and link it to the output."""
    files, name = feature_files(request.store), Path(request.responses).stem
    described = {
        "kind": "trait activations",
        "weights": identity(loaded, request.spec),
        "dtype": request.spec.dtype,
        "template": template_hash(tokenizer(loaded, request.spec)),
        "responses": file_digest(Path(request.responses)),
        "code": request.code,
    }
    key = content_key(described)
    if files.verify(key):
        report(f"{name}: activations are in the store")
    else:
        with files.add(key) as folder:
            _extract(loaded, report, request, described, folder / "activations.npz")
    files.link(key, {"activations.npz": request.activations})


def _extract(loaded: Loaded, report: Report, request: Request, described: dict[str, Any], path: Path) -> None:
    network = model(loaded, request.spec)
    layers = list(range(len(decoder_layers(network))))
    known_tokenizer, context = tokenizer(loaded, request.spec), context_length(network)
    total = sum(1 for _ in read_responses(request.responses))
    progress = Progress(report, Path(request.responses).stem, total)
    rows_at_once = max(1, min(MOST_ROWS, BLOCK_BYTES // (12 * len(layers) * d_model(network))))

    def blocks() -> Iterator[np.ndarray]:
        rows = enumerate(read_responses(request.responses))
        while window := list(itertools.islice(rows, rows_at_once)):
            items = []
            for i, row in window:
                try:
                    items.append(response_item(known_tokenizer, row, "response_only", context))
                except UserError as error:
                    raise UserError(f"{request.responses}, row {i}: {error}") from None
            block = np.empty((len(items), len(READINGS), len(layers), d_model(network)), np.float32)
            for i, reading in read_layers(network, items, layers, request.batch_tokens):
                block[i] = reading
                progress.add(len(items[i].ids))
            yield block

    metadata = {"model": request.spec.id, "layers": layers, "layer_convention": LAYER_CONVENTION}
    write_trait_activations(path, blocks(), described | metadata | {"version": __version__})
