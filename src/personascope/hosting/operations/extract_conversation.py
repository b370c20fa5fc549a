"""The token activations of one conversation: one forward pass, every assistant token kept, and the user's means."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from personascope.errors import UserError
from personascope.extraction.extract import MEASURED, ExtractOptions
from personascope.extraction.extract_conversation import EncodedConversation, conversation_activations, encode_within
from personascope.formats.conversation_files import conversation_digest, safe_name
from personascope.formats.conversations import read_conversation
from personascope.formats.files import content_key
from personascope.formats.tokens import UserMeans, save_user_means, token_writer, write_failure
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._model import tokenizer
from personascope.hosting.operations.extract import (
    ActivationsRequest,
    activations_key,
    description,
    network_and_sae,
    note_fit,
)
from personascope.hosting.progress import Report, took
from personascope.hosting.store import feature_files
from personascope.models.loading import context_length, d_model
from personascope.models.saes import LoadedSAE, unexplained

TOKENS, USER_MEANS = "tokens.parquet", "user_means.npz"  # in the store


@dataclass(frozen=True, kw_only=True)
class Request(ActivationsRequest):
    """The conversation's file, its line and title where it has such (`place`), the outputs, and what becomes of one
    that is longer than the model's context."""

    conversation_file: str
    place: dict[str, Any] = field(default_factory=dict)
    tokens: str
    user_means: str
    too_long: str


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Extract into the store, where it lacks them, and link the files to the outputs.

    A conversation that is malformed or too long fails alone: its tokens file says why, and the others go on.
    """
    files, source = feature_files(request.store), Path(request.conversation_file)
    described = activations_key(loaded, request) | {"too_long": request.too_long}
    line, called = request.place.get("line"), request.place.get("title") or source.stem
    key = content_key([described, called, conversation_digest(source, line)])
    if files.verify(key):
        report(f"{called}: token activations are in the store")
    else:
        network, sae = network_and_sae(loaded, request)
        metadata = described | description(request, sae)
        try:
            read = read_conversation(source, line, request.place.get("title"))
            limit = context_length(network)
            encoded = encode_within(tokenizer(loaded, request.spec), read.messages, limit, request.too_long)
        except UserError as error:
            report(f"error: {_write_reason(request, metadata, error)}")
            return
        with files.add(key) as folder:
            metadata |= {"conversation": asdict(read)}
            _extract(loaded, report, request, (network, sae), encoded, metadata, folder)
    files.link(key, {TOKENS: request.tokens, USER_MEANS: request.user_means})


def _write_reason(request: Request, metadata: dict[str, Any], error: UserError) -> str:
    """Write the outputs of a conversation that cannot be extracted; the reason, with the file's name."""
    source = request.conversation_file
    reason = str(error) if source in str(error) else f"{source}: {error}"
    called = request.place.get("title") or Path(source).stem
    metadata_of = {"title": called} if request.place.get("title") else {}
    empty = {"conversation": {"name": safe_name(called), "messages": [], "metadata": metadata_of}}
    write_failure(request.tokens, metadata | empty | {"turns": [], "n_tokens": 0, "dropped_messages": 0}, reason)
    save_user_means(request.user_means, UserMeans(np.zeros(0, np.int32), np.zeros((0, 0, 0), np.float32)), [])
    return reason


def _extract(
    loaded: Loaded,
    report: Report,
    request: Request,
    network_and_sae: tuple[Any, LoadedSAE],
    encoded: EncodedConversation,
    metadata: dict[str, Any],
    folder: Path,
) -> None:
    """Write the files into the folder."""
    network, sae = network_and_sae
    n_tokens = len(encoded.encoded.ids)
    metadata |= {"turns": [asdict(span) for span in encoded.spans], "n_tokens": n_tokens}
    metadata |= {"dropped_messages": encoded.dropped, "error": None}
    options = ExtractOptions(tuple(request.residual_layers), chunk_tokens=request.chunk_tokens)
    started = time.perf_counter()

    def measure(h: Tensor) -> None:
        first = h[:MEASURED]
        metadata.update(note_fit(report, request, sae, unexplained(sae, first), len(first)))

    known = tokenizer(loaded, request.spec)
    user, blocks = conversation_activations(network, sae, known, encoded, options, measure)
    save_user_means(folder / USER_MEANS, user, options.residual_layers)
    with token_writer(folder / TOKENS, metadata, d_model(network)) as write:
        for block in blocks:
            write(block)
    name = metadata["conversation"]["name"]
    report(f"{name}: {len(encoded.spans)} assistant turns, {took(n_tokens, time.perf_counter() - started)}")
