"""The trace of one conversation: the projections of its tokens on directions, and their surprise."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from personascope import __version__
from personascope.errors import UserError
from personascope.extraction.extract_conversation import encode_within
from personascope.extraction.monitor import monitor
from personascope.formats.conversation_files import safe_name
from personascope.formats.conversations import Conversation, read_conversation
from personascope.formats.directions import Directions, load_direction
from personascope.formats.files import file_digest
from personascope.formats.traces import empty_trace, write_trace
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._model import ModelRequest, identity, model, tokenizer
from personascope.hosting.progress import Report, took
from personascope.models.loading import LAYER_CONVENTION, context_length
from personascope.models.projection import Probe, common_layers, make_probe
from personascope.models.spans import template_hash

# What a direction's file says of where it is from.
SOURCE = ("kind", "model", "weights", "token_selection", "counts")


@dataclass(frozen=True, kw_only=True)
class Request(ModelRequest):
    """The conversation's file, its line and title where it has such (`place`), the directions, the layers and the
    output.

    names, directions: what config calls each direction, and its file; how: {name: what config says of its file}, for
    files that do not say it. layers: none for all at which all of them are known. too_long: what becomes of a
    conversation that is longer than the model's context.
    """

    conversation_file: str
    place: dict[str, Any] = field(default_factory=dict)
    names: list[str]
    directions: list[str]
    how: dict[str, dict[str, Any]]
    layers: list[int]
    too_long: str
    trace: str


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Write the trace. A conversation that is malformed or too long fails alone: its file says why."""
    network, words = model(loaded, request.spec), tokenizer(loaded, request.spec)
    directions, probe = _probe(loaded, request, network)
    metadata = _description(loaded, request, words, directions)
    source = Path(request.conversation_file)
    try:
        read = read_conversation(source, request.place.get("line"), request.place.get("title"))
        encoded = encode_within(words, read.messages, context_length(network), request.too_long)
    except UserError as error:
        reason = str(error) if str(source) in str(error) else f"{source}: {error}"
        failed = asdict(Conversation(safe_name(request.place.get("title") or source.stem), [])) | {"metadata": {}}
        failure = {"conversation": failed, "dropped_messages": 0, "error": reason}
        write_trace(request.trace, empty_trace(probe.columns), metadata | failure)
        report(f"error: {reason}")
        return
    started, dropped = time.perf_counter(), encoded.dropped
    first = 1 if read.messages[0]["role"] == "system" else 0
    kept = [*read.messages[:first], *read.messages[first + dropped :]]
    trace = monitor(network, words, kept, encoded.encoded, probe)
    # Messages are counted as in the file.
    trace.message_index[trace.message_index >= first] += dropped
    write_trace(
        request.trace,
        trace,
        metadata | {"conversation": asdict(read), "dropped_messages": dropped, "error": None},
    )
    report(f"{read.name}: {len(probe.columns)} columns, {took(len(trace), time.perf_counter() - started)}")


def _probe(loaded: Loaded, request: Request, network: Any) -> tuple[dict[str, Directions], Probe]:
    """The directions and what is read of them; they are loaded once for all conversations."""

    def load() -> tuple[dict[str, Directions], Probe]:
        files = zip(request.names, request.directions, strict=True)
        directions = {name: load_direction(name, path, **request.how.get(name, {})) for name, path in files}
        weights = identity(loaded, request.spec)
        try:
            layers = request.layers or common_layers(directions)
            return directions, make_probe(network, request.spec.id, directions, layers, weights)
        except UserError as error:
            raise UserError(f"config, monitor: {error}") from None

    digests = tuple(file_digest(Path(path)) for path in request.directions)
    key = ("probe", request.spec, tuple(request.names), digests, str(request.how), tuple(request.layers))
    return loaded.once(key, load)


def _description(loaded: Loaded, request: Request, words: Any, directions: dict[str, Directions]) -> dict[str, Any]:
    """What a trace says of how it was made."""
    sources = {
        name: {"file": path}
        | {key: directions[name].metadata[key] for key in SOURCE if key in directions[name].metadata}
        for name, path in zip(request.names, request.directions, strict=True)
    }
    return {
        "model": request.spec.id,
        "weights": identity(loaded, request.spec),
        "dtype": request.spec.dtype,
        "template": template_hash(words),
        "layer_convention": LAYER_CONVENTION,
        "directions": sources,
        "version": __version__,
    }
