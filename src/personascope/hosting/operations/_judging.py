"""What the operations with a judge share: who it is, and prompts scored through the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope.backends import make_backend
from personascope.errors import UserError
from personascope.formats.files import content_key
from personascope.formats.judgements import SCALES, problem_counts, write_judgements
from personascope.generation.judge import Judge, LocalJudge
from personascope.generation.judge_served import ChatJudge, ServerJudge
from personascope.generation.rubrics import fill
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._model import ModelRequest, identity, model, tokenizer
from personascope.hosting.progress import Progress, Report
from personascope.hosting.store import response_log
from personascope.models.loading import stop_ids
from personascope.models.spans import template_hash


@dataclass(frozen=True, kw_only=True)
class JudgeRequest(ModelRequest):
    """Who judges. judge: its name in the configuration; engine: the part of its `backend_options` that decides scores;
    judge_options: {judge: all of its `backend_options`}."""

    judge: str
    backend: str
    opening: str
    samples: int
    engine: dict[str, Any]
    max_model_len: int
    judge_options: dict[str, dict[str, Any]]
    batch_tokens: int


@dataclass(frozen=True)
class Asked:
    """One judgement to make: the row of the judged file, the metric, and what is judged by which rubric."""

    row: int
    metric: str
    rubric: str
    question: str
    answer: str


def judge_all(
    loaded: Loaded, report: Report, request: JudgeRequest, asked: Sequence[Asked], name: str, output: str
) -> None:
    """Write the judgements of all that is asked, in its order; those that the store lacks are made.

    name: of the store's file, and for reports. Empty answers are not shown to the judge.
    """
    import pandas as pd

    common = judge_key(loaded, request)
    prompts = [fill(one.rubric, one.question, one.answer) if one.answer.strip() else None for one in asked]
    keys = [content_key([common, SCALES[one.metric], prompt]) for one, prompt in zip(asked, prompts, strict=True)]
    records = response_log(request.store, Path(request.model.id).name, f"judge.{name}")
    done = records.keys()
    for scale in sorted({SCALES[one.metric] for one in asked}):
        missing = {
            key: prompt
            for one, prompt, key in zip(asked, prompts, keys, strict=True)
            if prompt is not None and key not in done and SCALES[one.metric] == scale
        }
        if missing:
            progress = Progress(report, f"{request.judge} judges {name}", len(missing))
            with records.writer() as append:
                for index, made in the_judge(loaded, request).judge(list(missing.values()), scale):
                    append(list(missing)[index], [made.score, made.mass, made.problem])
                    progress.add(0)
    nothing = [None, 0.0, "empty"]
    found = [nothing if prompt is None else records.read(key) for key, prompt in zip(keys, prompts, strict=True)]
    records.touch()
    rows = [
        {"row": one.row, "metric": one.metric, "score": float("nan") if score is None else score}
        | {"mass": mass, "problem": problem}
        for one, (score, mass, problem) in zip(asked, found, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["row", "metric", "score", "mass", "problem"])
    _say(report, request, asked, table, name)
    write_judgements(output, table, description(request, asked))


def _say(report: Report, request: JudgeRequest, asked: Sequence[Asked], table: Any, name: str) -> None:
    """Say how many judgements there are, and why there is none where there is none."""
    counts = ", ".join(f"{count} {problem}" for problem, count in problem_counts(table).items())
    report(f"{request.judge} judges {name}: {counts or 'nothing to judge'}")


def description(request: JudgeRequest, asked: Sequence[Asked]) -> dict[str, Any]:
    """The metadata of a file of judgements."""
    return {
        "judge": request.judge,
        "model": request.model.id,
        "backend": request.backend,
        "opening": request.opening,
        "samples": request.samples,
        "prompts": content_key(sorted({f"{one.metric}: {one.rubric}" for one in asked}))[:16],
    }


def judge_key(loaded: Loaded, request: JudgeRequest) -> list[Any]:
    """What decides a score besides its own prompt and scale."""
    spec = request.spec
    decides = [request.backend, request.engine, request.opening, request.samples, request.code]
    if request.backend == "chat":  # whose weights nobody here knows
        return [spec.id, *decides]
    return [identity(loaded, spec), spec.dtype, template_hash(tokenizer(loaded, spec)), *decides]


def the_judge(loaded: Loaded, request: JudgeRequest) -> Judge:
    """The judge that the request names, kept for the next one with the same options."""
    options = request.judge_options.get(request.judge, {})
    key = [request.judge, request.backend, request.model.id, request.model.revision, request.model.dtype]
    key += [request.opening, request.samples, request.max_model_len, options]
    try:
        return loaded.once(("judge", content_key(key)), lambda: _make(loaded, request, options))
    except UserError as error:
        raise UserError(str(error).replace("generation.backend", f"judges.{request.judge}.backend")) from None


def _make(loaded: Loaded, request: JudgeRequest, options: dict[str, Any]) -> Judge:
    spec = request.spec
    if request.backend == "chat":
        served = {"model": spec.id} | options
        client = make_backend("chat", served.pop("model"), [], **served)
        return ChatJudge(client, name=request.judge, samples=request.samples)
    known = tokenizer(loaded, spec)
    if request.backend == "transformers":
        if options:
            raise UserError(f"judges.{request.judge}.backend_options: {sorted(options)[0]} unknown to a loaded model")
        limits = {"opening": request.opening, "batch_tokens": request.batch_tokens}
        return LocalJudge(model(loaded, spec), known, **limits)
    given = {"revision": spec.revision, "dtype": spec.dtype, "trust_remote_code": spec.trust_remote_code}
    given |= {"max_model_len": request.max_model_len, "logs": loaded.logs, "note_load": loaded.note}
    server = make_backend("vllm_server", spec.id, stop_ids(spec, known), **given, **options)
    return ServerJudge(server, known, opening=request.opening)
