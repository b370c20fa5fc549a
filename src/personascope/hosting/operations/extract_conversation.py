"""The token activations of one conversation."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.extraction.extract import ExtractOptions
from personascope.extraction.extract_conversation import encode_within, token_blocks
from personascope.formats.conversations import read_conversation
from personascope.formats.files import content_key, file_digest
from personascope.formats.tokens import token_writer, write_failure
from personascope.hosting.loaded import Resources
from personascope.hosting.operations.extract import _description, _identity, _network
from personascope.hosting.progress import Report, took
from personascope.hosting.store import feature_files
from personascope.models.loading import ModelSpec, context_length, d_model
from personascope.models.saes import SAESpec


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
