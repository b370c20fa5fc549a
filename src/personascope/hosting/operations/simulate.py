"""Conversations of the model with a scripted user, all samples of a script at once."""

from dataclasses import asdict, dataclass
from pathlib import Path

from personascope import backends
from personascope.formats.conversations import read_simulation
from personascope.formats.files import content_key, write_json
from personascope.generation.simulate import simulate
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._model import tokenizer
from personascope.hosting.operations.generate import EngineRequest, common_key, engine, sampling_of
from personascope.hosting.progress import Progress, Report
from personascope.hosting.store import response_log


@dataclass(frozen=True, kw_only=True)
class Request(EngineRequest):
    """The script's file, and an output a sample."""

    script_file: str
    conversations: list[str]


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Write one conversation a sample; each answer is in the store as soon as it is finished."""
    script = read_simulation(request.script_file)
    samples = len(request.conversations)
    common = common_key(loaded, request)
    records = response_log(request.store, request.model_name, f"simulate.{script.name}")
    done, exact = records.keys(), set[bool]()
    progress = Progress(report, script.name, samples * len(script.user_turns))
    with records.writer() as append:

        def finish(asked: list[backends.Request]) -> list[backends.Completion]:
            """The store's completions of these requests, and the engine's for the rest."""
            keys = [content_key([common, asdict(one)]) for one in asked]
            missing = [i for i, key in enumerate(keys) if key not in done]
            if missing:
                texts = engine(loaded, request).generate([asked[i] for i in missing], sampling_of(request))
                for i, completion in texts:
                    append(keys[missing[i]], asdict(completion))
                    done.add(keys[missing[i]])
            found = [backends.Completion(**records.read(key)) for key in keys]
            exact.update(completion.prompt_exact for completion in found)
            progress.add(sum(len(completion.token_ids) for completion in found), len(found))
            return found

        limits = {"seed": request.seed, "max_tokens": request.max_tokens, "max_model_len": request.max_model_len}
        made = simulate(tokenizer(loaded, request.spec), finish, script, samples, **limits)
    metadata = script.metadata | {"condition": script.condition, "pressure_from": script.pressure_from}
    metadata |= {"script": script.name, "model": Path(request.spec.id).name, "prompt_exact": exact == {True}}
    for sample, (messages, output) in enumerate(zip(made, request.conversations, strict=True)):
        write_json(output, metadata | {"sample": sample, "conversation": messages})
    records.touch()
