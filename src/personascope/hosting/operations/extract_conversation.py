"""The token activations of one conversation: one forward pass, and every assistant token kept."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.extraction.extract import ExtractOptions
from personascope.extraction.extract_conversation import EncodedConversation, encode_within, token_blocks
from personascope.formats.conversations import read_conversation
from personascope.formats.files import content_key, file_digest
from personascope.formats.tokens import token_writer, write_failure
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._model import tokenizer
from personascope.hosting.operations.extract import (
    ActivationsRequest,
    activations_key,
    description,
    network_and_sae,
)
from personascope.hosting.progress import Report, took
from personascope.hosting.store import feature_files
from personascope.models.loading import context_length, d_model
from personascope.models.saes import LoadedSAE


@dataclass(frozen=True, kw_only=True)
class Request(ActivationsRequest):
    """The conversation's file, the output, and what becomes of one that is longer than the model's context."""

    conversation_file: str
    tokens: str
    too_long: str


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Extract into the store, where it lacks them, and link the tokens to the output.

    A conversation that is malformed or too long fails alone: its output says why, and the others go on.
    """
    files, source = feature_files(request.store), Path(request.conversation_file)
    described = activations_key(loaded, request) | {"too_long": request.too_long}
    key = content_key([described, source.stem, file_digest(source)])
    if files.verify(key):
        report(f"{source.stem}: token activations are in the store")
    else:
        network, sae = network_and_sae(loaded, request)
        metadata = described | description(request, sae)
        try:
            read = read_conversation(source)
            limit = context_length(network)
            encoded = encode_within(tokenizer(loaded, request.spec), read.messages, limit, request.too_long)
        except UserError as error:
            report(f"error: {_write_reason(request, metadata, error)}")
            return
        with files.add(key) as folder:
            metadata |= {"conversation": asdict(read)}
            report(_extract(loaded, request, (network, sae), encoded, metadata, folder / "tokens.parquet"))
    files.link(key, {"tokens.parquet": request.tokens})


def _write_reason(request: Request, metadata: dict[str, Any], error: UserError) -> str:
    """Write the output of a conversation that cannot be extracted; the reason, with the file's name."""
    source = request.conversation_file
    reason = str(error) if source in str(error) else f"{source}: {error}"
    empty = {"conversation": {"name": Path(source).stem, "messages": [], "metadata": {}}}
    write_failure(request.tokens, metadata | empty | {"turns": [], "n_tokens": 0, "dropped_messages": 0}, reason)
    return reason


def _extract(
    loaded: Loaded,
    request: Request,
    network_and_sae: tuple[Any, LoadedSAE],
    encoded: EncodedConversation,
    metadata: dict[str, Any],
    path: Path,
) -> str:
    """Write the tokens; what to report."""
    network, sae = network_and_sae
    n_tokens = len(encoded.encoded.ids)
    metadata |= {"turns": [asdict(span) for span in encoded.spans], "n_tokens": n_tokens}
    metadata |= {"dropped_messages": encoded.dropped, "error": None}
    options = ExtractOptions(tuple(request.residual_layers), chunk_tokens=request.chunk_tokens)
    started = time.perf_counter()
    with token_writer(path, metadata, d_model(network)) as write:
        for block in token_blocks(network, sae, tokenizer(loaded, request.spec), encoded, options):
            write(block)
    name = metadata["conversation"]["name"]
    return f"{name}: {len(encoded.spans)} assistant turns, {took(n_tokens, time.perf_counter() - started)}"
