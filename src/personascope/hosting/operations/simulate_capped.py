"""A script's conversations under a floor on the residual axis, and their turns as the uncapped model reads them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from personascope.extraction.capped import Turn, read_turns
from personascope.formats.conversations import read_conversation, read_simulation
from personascope.formats.directions import check_fit, load_direction
from personascope.formats.files import content_key, read_json
from personascope.formats.tables import write_csv
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations import simulate
from personascope.hosting.operations._model import identity, model, tokenizer
from personascope.hosting.progress import Report
from personascope.hosting.store import response_log
from personascope.models.hookpoints import decoder_layers
from personascope.models.interventions import Cap
from personascope.models.loading import d_model


@dataclass(frozen=True, kw_only=True)
class Request(simulate.Request):
    """Beside a simulation: the axis, the floors (of `cap_floors`), the layers that are capped, the cap ("none", or the
    percentile whose floor is meant), and the table of turns."""

    axis: str
    floors: str
    layers: list[int]
    cap: str
    turns: str


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Write the conversations, and a row an assistant turn of each."""
    network, words = model(loaded, request.spec), tokenizer(loaded, request.spec)
    axis = load_direction("axis", request.axis)
    shape = (d_model(network), len(decoder_layers(network)))
    check_fit(axis, request.spec.id, *shape, identity(loaded, request.spec))
    units = {layer: axis.unit("axis", layer) for layer in axis.layers}
    caps = []
    if request.cap != "none":
        floors = read_json(request.floors)["floors"]
        caps = [Cap(layer, units[layer], low=floors[str(layer)][request.cap]) for layer in request.layers]
    described = [[cap.layer, cap.low, cap.direction.tobytes().hex()] for cap in caps]
    script = read_simulation(request.script_file)
    records = response_log(request.store, request.model_name, f"capped.{script.name}.{request.cap}")
    simulate.talk(loaded, report, request, script, records, caps, content_key(described))
    rows = []
    for sample, path in enumerate(request.conversations):
        keys = {"script": script.name, "condition": script.condition or "", "cap": request.cap, "sample": sample}
        messages = read_conversation(Path(path)).messages
        rows += [keys | _row(turn) for turn in read_turns(network, words, messages, caps, units)]
    write_csv(request.turns, pd.DataFrame(rows))


def _row(turn: Turn) -> dict[str, Any]:
    values = asdict(turn)
    read, capped = values.pop("projections"), values.pop("capped")
    values |= {f"projection_{layer}": value for layer, value in read.items()}
    return values | {f"capped_{layer}": share for layer, share in capped.items()}
