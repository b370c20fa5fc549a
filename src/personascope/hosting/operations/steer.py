"""One point of a sweep: the responses under one arm and coefficient, and what they are."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope import __version__
from personascope.errors import UserError
from personascope.extraction.steered import Reading, Text, read_steered
from personascope.formats.directions import Directions, check_fit, load_direction
from personascope.formats.files import content_key, file_digest, read_json, write_json
from personascope.formats.responses import answer_range, read_responses
from personascope.formats.roles import Question, read_questions, read_role, select_questions
from personascope.formats.tables import write_csv
from personascope.formats.traits import read_trait
from personascope.generation.steer import SteerPrompt, added_vectors, steer_prompts
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._model import identity, model, tokenizer
from personascope.hosting.operations.generate import TextRequest, respond
from personascope.hosting.progress import Report
from personascope.hosting.store import response_log
from personascope.models.hookpoints import decoder_layers
from personascope.models.interventions import Add
from personascope.models.loading import LAYER_CONVENTION, d_model
from personascope.models.spans import prompt_ids
from personascope.models.steering import Positions, Steering

LATER = 3  # layers behind the steered ones that are read where the direction is not known at later ones


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What all points of a sweep share.

    direction, how: what config calls the direction, and what it says of its file; layers: none for the middle one of
    those at which the direction is known; units: "residual_norm" or "raw"; trait: whose evaluation questions are asked,
    none for the shared ones; questions: how many; samples: responses to each; seed: of the random arms.
    """

    direction: str
    how: dict[str, Any]
    layers: list[int]
    units: str
    positions: Positions
    trait: str | None
    questions: str | int
    samples: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Request(TextRequest):
    """A point of a sweep: its arm and coefficient.

    norms: the lengths of the residual stream, for units "residual_norm"; questions_file: shared questions, or the file
    of the trait; prompt_file: the role or trait whose instruction the arm "prompt" has.
    Outputs: responses, measures (CSV, a row a response) and info (JSON: what was added, and how many tokens that met).
    """

    direction_file: str
    norms: str | None = None
    questions_file: str
    prompt_file: str | None = None
    measures: str
    info: str
    sweep: str
    arm: str
    coefficient: str
    options: SweepOptions
    batch_tokens: int


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Generate what the store lacks, and read all of it."""
    options, network, words = request.options, model(loaded, request.spec), tokenizer(loaded, request.spec)
    direction = _direction(loaded, request, network)
    layers = _layers(request, direction)
    sizes = _sizes(request, direction, layers)
    units = {layer: direction.unit(options.direction, layer) for layer in layers}
    vectors = added_vectors(request.arm, _coefficient(request), units, sizes, options.seed)
    steer = [Add(layer, vector, options.positions) for layer, vector in vectors.items()]
    described = [[layer, vector.tobytes().hex(), options.positions] for layer, vector in vectors.items()]
    system = _system(request) if request.arm == "prompt" else ""
    point = (request.sweep, request.arm, request.coefficient)
    prompts = steer_prompts(*point, system, _questions(request), options.samples)
    records = response_log(request.store, request.model_name, f"steer.{request.sweep}.{request.arm}")
    respond(loaded, report, request, prompts, records, steer, content_key(described))
    rows = list(read_responses(request.responses))
    texts = [_text(words, prompt, row) for prompt, row in zip(prompts, rows, strict=True)]
    read = _read_units(direction, options.direction, layers, len(decoder_layers(network)))
    steering = Steering(network, steer)
    readings = read_steered(network, texts, steering, read, request.batch_tokens)
    write_csv(request.measures, _table(prompts, rows, readings))
    info = {"layers": layers, "sizes": sizes, "read_layers": list(read)}
    info |= {"added_norms": {layer: float(np.linalg.norm(vector)) for layer, vector in vectors.items()}}
    # Tokens of the teacher-forced pass; one counts at each layer that is steered.
    info |= {"tokens_seen": steering.seen, "tokens_changed": steering.changed}
    write_json(request.info, _description(loaded, request) | info)


def _direction(loaded: Loaded, request: Request, network: Any) -> Directions:
    """The sweep's direction, loaded once for all of its points; UserError where it does not fit the model."""
    path, options = Path(request.direction_file), request.options

    def load() -> Directions:
        try:
            found = load_direction(options.direction, path, **options.how)
            shape = (d_model(network), len(decoder_layers(network)))
            check_fit(found, request.spec.id, *shape, identity(loaded, request.spec))
        except UserError as error:
            raise UserError(f"config, steering.sweeps.{request.sweep}.direction: {error}") from None
        return found

    return loaded.once(("direction", request.spec, options.direction, file_digest(path), str(options.how)), load)


def _coefficient(request: Request) -> float:
    value = float(request.coefficient)
    if not math.isfinite(value):
        raise UserError(f"config, steering.sweeps.{request.sweep}.coefficients: {value} is no number to steer by")
    return value


def _layers(request: Request, direction: Directions) -> list[int]:
    layers = sorted(request.options.layers) or [direction.layers[len(direction.layers) // 2]]
    if missing := [layer for layer in layers if layer not in direction.layers]:
        there = ", ".join(map(str, direction.layers))
        key = f"config, steering.sweeps.{request.sweep}.layers"
        name = request.options.direction
        raise UserError(f"{key}: {name} is not known at layer {missing[0]}; it is at layers {there}")
    return layers


def _sizes(request: Request, direction: Directions, layers: list[int]) -> dict[int, float]:
    """The length that a coefficient of 1 has at each layer."""
    if request.options.units == "raw" or request.norms is None:
        return {layer: float(np.linalg.norm(direction.at(request.options.direction, layer))) for layer in layers}
    norms = read_json(request.norms)["norms"]
    return {layer: float(norms[layer]) for layer in layers}


def _questions(request: Request) -> list[Question]:
    if request.options.trait is None:
        return select_questions(read_questions(request.questions_file), request.options.questions)
    shared = [Question(i, text) for i, text in enumerate(read_trait(request.questions_file).evaluation_questions)]
    return select_questions(shared, request.options.questions)


def _system(request: Request) -> str:
    """The instruction that asks for what the direction stands for."""
    if request.prompt_file is None:
        raise UserError(f"sweep {request.sweep}: nothing says what the arm `prompt` asks for")
    if request.options.trait is not None:
        return read_trait(request.prompt_file).system_prompt(0, "pos")
    return read_role(request.prompt_file).instructions[0]


def _text(words: Any, prompt: SteerPrompt, row: dict[str, Any]) -> Text:
    plain = prompt_ids(words, [message for message in prompt.messages if message["role"] != "system"])
    ids, (start, end) = row["response_token_ids"], answer_range(row) or (0, len(row["response_token_ids"]))
    return Text(plain, prompt_ids(words, prompt.messages), ids[start:end], ids[:start])


def _read_units(direction: Directions, name: str, layers: list[int], n_layers: int) -> dict[int, np.ndarray]:
    """{layer: unit vector} that the text is projected on: the last steered layer, and later ones. Where the direction
    is not known at later layers, its vector of the last steered one is read at a few of them."""
    last = layers[-1]
    later = [layer for layer in direction.layers if layer > last]
    if later:
        return {layer: direction.unit(name, layer) for layer in [last, *later]}
    further = np.linspace(last, n_layers - 1, LATER + 1)[1:] if last < n_layers - 1 else []
    return {layer: direction.unit(name, last) for layer in [last, *sorted({int(layer) for layer in further} - {last})]}


def _table(prompts: list[SteerPrompt], rows: list[dict[str, Any]], readings: list[Reading]) -> pd.DataFrame:
    made = []
    for prompt, row, reading in zip(prompts, rows, readings, strict=True):
        values = asdict(reading)
        projections = values.pop("projections")
        keys = {"question_id": prompt.question.id, "sample": prompt.sample, "ended": row["finish_reason"] == "stop"}
        made.append(keys | values | {f"projection_{layer}": value for layer, value in projections.items()})
    return pd.DataFrame(made)


def _description(loaded: Loaded, request: Request) -> dict[str, Any]:
    """What the point is."""
    options = request.options
    return {
        "sweep": request.sweep,
        "arm": request.arm,
        "coefficient": float(request.coefficient),
        "direction": options.direction,
        "units": options.units,
        "positions": options.positions,
        "trait": options.trait,
        "model": request.spec.id,
        "weights": identity(loaded, request.spec),
        "dtype": request.spec.dtype,
        "layer_convention": LAYER_CONVENTION,
        "version": __version__,
    }
