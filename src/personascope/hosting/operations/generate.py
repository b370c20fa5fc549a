"""The responses of one role: those that the store lacks are generated, and all are written in row order."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from personascope.backends import ENDPOINTS, Backend, Sampling, make_backend, steered
from personascope.formats.files import content_key, write_jsonl
from personascope.formats.responses import oddities
from personascope.formats.roles import (
    Prompt,
    build_prompts,
    questions_for,
    read_questions,
    read_role,
    select_questions,
)
from personascope.generation.generate import Row, build_requests, generate
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._model import ModelRequest, identity, model, tokenizer
from personascope.hosting.progress import Progress, Report
from personascope.hosting.store import RecordLog, response_log
from personascope.models.loading import stop_ids
from personascope.models.steering import Intervention


@dataclass(frozen=True, kw_only=True)
class EngineRequest(ModelRequest):
    """How text is generated. engine: the part of `backend_options` that decides results, and so belongs into the keys
    of the store."""

    model_name: str
    backend: str
    engine: dict[str, Any]
    backend_options: dict[str, Any]
    temperature: float
    top_p: float
    max_tokens: int
    max_model_len: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class TextRequest(EngineRequest):
    """responses: the output."""

    responses: str


@dataclass(frozen=True, kw_only=True)
class Request(TextRequest):
    """Files of the role and of the questions, and which of them."""

    role_file: str
    questions_file: str
    questions: str | int | list[int]
    question_mode: str
    variants: list[int]


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Write a role's responses as JSON lines."""
    role = read_role(request.role_file)
    shared = []
    if request.question_mode == "general":
        shared = select_questions(read_questions(request.questions_file), request.questions)
    questions = questions_for(role, request.question_mode, shared)
    prompts = build_prompts(role, request.variants, questions, request.model_name)
    respond(loaded, report, request, prompts, response_log(request.store, request.model_name, role.name))


def respond(
    loaded: Loaded,
    report: Report,
    request: TextRequest,
    prompts: Sequence[Prompt],
    records: RecordLog,
    interventions: Sequence[Intervention] = (),
    steering: Any = None,
) -> None:
    """Write the responses to prompts of one role, trait or sweep; each is in the store as soon as it is finished.

    interventions: what the model is steered by, and steering: what decides them, which belongs into the store's keys.
    """
    known_tokenizer, name = tokenizer(loaded, request.spec), prompts[0].role
    limits = {"seed": request.seed, "max_tokens": request.max_tokens, "max_model_len": request.max_model_len}
    asked = build_requests(known_tokenizer, prompts, **limits)
    common = common_key(loaded, request) + ([steering] if interventions else [])
    keys = [
        content_key([common, asdict(one), prompt.role, prompt.prompt_index, prompt.question.id, prompt.messages])
        for prompt, one in zip(prompts, asked, strict=True)
    ]
    done = records.keys()
    missing = [i for i, key in enumerate(keys) if key not in done]
    report(f"{name}: {len(keys)} responses, {len(keys) - len(missing)} of them in the store")
    if missing:
        progress = Progress(report, name, len(missing))
        rows = ([prompts[i] for i in missing], [asked[i] for i in missing], sampling_of(request))
        with records.writer() as append:
            backend = steered(engine(loaded, request), interventions)
            for index, row in generate(known_tokenizer, backend, *rows):
                append(keys[missing[index]], row)
                progress.add(len(row["response_token_ids"]))
    odd: Counter[str] = Counter()
    write_jsonl(request.responses, _counted((records.read(key) for key in keys), odd))
    records.touch()
    for oddity, count in odd.items():
        report(f"{name}: {count} of {len(keys)} responses {oddity}")


def _counted(rows: Iterator[Row], odd: Counter[str]) -> Iterator[Row]:
    """The same rows, while `odd` counts what is odd of them."""
    for row in rows:
        odd.update(oddities(row))
        yield row


def sampling_of(request: EngineRequest) -> Sampling:
    """How tokens are drawn."""
    return Sampling(request.temperature, request.top_p)


def common_key(loaded: Loaded, request: EngineRequest) -> list[Any]:
    """What decides a generated text besides its own prompt, seed and limit."""
    spec = request.spec
    return [
        *(identity(loaded, spec), spec.dtype, request.backend, request.engine),
        *(asdict(sampling_of(request)), request.code),
    ]


def engine(loaded: Loaded, request: EngineRequest) -> Backend:
    """The engine that the request names, kept for the next one with the same options."""
    options = [request.backend, asdict(request.spec), request.max_model_len, request.backend_options]
    return loaded.once(("engine", content_key(options)), lambda: _make_engine(loaded, request))


def _make_engine(loaded: Loaded, request: EngineRequest) -> Backend:
    name, spec, options = request.backend, request.spec, request.backend_options
    stops = stop_ids(spec, tokenizer(loaded, spec))
    if name == "transformers":
        return make_backend(name, model(loaded, spec), stops, **options)
    if name in ENDPOINTS:
        served = {"model": spec.id} | options
        return make_backend(name, served.pop("model"), stops, tokenizer=tokenizer(loaded, spec), **served)
    given: dict[str, Any] = {"revision": spec.revision, "dtype": spec.dtype}
    given |= {"trust_remote_code": spec.trust_remote_code, "max_model_len": request.max_model_len}
    if name == "vllm_server":  # it is started again where it died, and notes each of its own loads
        return make_backend(name, spec.id, stops, **given, logs=loaded.logs, note_load=loaded.note, **options)
    started = time.perf_counter()
    made = make_backend(name, spec.id, stops, **given, **options)
    loaded.note(spec.id, time.perf_counter() - started)
    return made
