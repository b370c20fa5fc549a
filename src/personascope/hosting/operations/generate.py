"""The responses of one role."""

from dataclasses import asdict
from typing import Any

from personascope.backends import Sampling
from personascope.formats.files import content_key
from personascope.formats.roles import build_prompts, questions_for, read_questions, read_role, select_questions
from personascope.generation.generate import build_requests, generate
from personascope.hosting.loaded import Resources
from personascope.hosting.progress import Progress, Report
from personascope.hosting.store import response_log
from personascope.models.loading import ModelSpec


def run_generate(
    resources: Resources,
    report: Report,
    *,
    role_file: str,
    questions_file: str,
    questions: str | int | list[int],
    question_mode: str,
    variants: list[int],
    model: dict[str, Any],
    model_name: str,
    backend: str,
    engine: dict[str, Any],
    backend_options: dict[str, Any],
    temperature: float,
    top_p: float,
    max_tokens: int,
    max_model_len: int,
    seed: int,
    store: str,
    code: str,
) -> dict[str, Any]:
    """Generate the responses of a role that the store lacks; returns the keys of all, in row order.

    `engine` is the part of `backend_options` that decides results (not sizes), and so belongs into the keys.
    """
    role = read_role(role_file)
    shared = select_questions(read_questions(questions_file), questions) if question_mode == "general" else []
    prompts = build_prompts(role, variants, questions_for(role, question_mode, shared), model_name)
    spec = ModelSpec(**model)
    tokenizer = resources.tokenizer(spec)
    requests = build_requests(tokenizer, prompts, seed=seed, max_tokens=max_tokens, max_model_len=max_model_len)
    sampling = Sampling(temperature, top_p)
    common = [resources.identity(spec), spec.dtype, backend, engine, asdict(sampling), code]
    keys = [
        content_key([common, asdict(request), prompt.role, prompt.prompt_index, prompt.question.id, prompt.messages])
        for prompt, request in zip(prompts, requests, strict=True)
    ]
    records = response_log(store, model_name, role.name)
    done = records.keys()
    missing = [i for i, key in enumerate(keys) if key not in done]
    report(f"{role.name}: {len(keys)} responses, {len(keys) - len(missing)} of them in the store")
    if missing:
        loaded = resources.backend(backend, spec, max_model_len, backend_options)
        progress = Progress(report, role.name, len(missing))
        todo, asked = [prompts[i] for i in missing], [requests[i] for i in missing]
        with records.writer() as append:
            for index, row in generate(tokenizer, loaded, todo, asked, sampling):
                append(keys[missing[index]], row)
                progress.add(len(row["response_token_ids"]))
    return {"log": str(records.path), "keys": keys}
