"""Conversations of the model with a scripted user, all samples of a script at once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from personascope import backends
from personascope.backends import steered
from personascope.formats.conversations import Simulation, read_simulation
from personascope.formats.files import content_key, write_json
from personascope.formats.responses import KNOWN_ENDS, answer_of
from personascope.generation.simulate import simulate
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._model import tokenizer
from personascope.hosting.operations.generate import EngineRequest, common_key, engine, sampling_of
from personascope.hosting.progress import Progress, Report
from personascope.hosting.store import RecordLog, response_log
from personascope.models.steering import Intervention


@dataclass(frozen=True, kw_only=True)
class Request(EngineRequest):
    """The script's file, and an output a sample."""

    script_file: str
    conversations: list[str]


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Write one conversation a sample; each answer is in the store as soon as it is finished."""
    script = read_simulation(request.script_file)
    records = response_log(request.store, request.model_name, f"simulate.{script.name}")
    talk(loaded, report, request, script, records)


def talk(
    loaded: Loaded,
    report: Report,
    request: Request,
    script: Simulation,
    records: RecordLog,
    interventions: Sequence[Intervention] = (),
    steering: Any = None,
) -> None:
    """The same for a script that is read. interventions: what the model is steered by, and steering: what decides
    them, which belongs into the store's keys."""
    samples = len(request.conversations)
    common = common_key(loaded, request) + ([steering] if interventions else [])
    done, exact, odd = records.keys(), set[bool](), Counter[str]()
    progress = Progress(report, script.name, samples * len(script.user_turns))
    with records.writer() as append:

        def finish(asked: list[backends.Request]) -> list[backends.Completion]:
            """The store's completions of these requests, and the engine's for the rest."""
            keys = [content_key([common, asdict(one)]) for one in asked]
            missing = [i for i, key in enumerate(keys) if key not in done]
            if missing:
                backend = steered(engine(loaded, request), interventions)
                texts = backend.generate([asked[i] for i in missing], sampling_of(request))
                for i, completion in texts:
                    append(keys[missing[i]], asdict(completion))
                    done.add(keys[missing[i]])
            found = [backends.Completion(**records.read(key)) for key in keys]
            exact.update(completion.prompt_exact for completion in found)
            odd.update(one.finish_reason for one in found if one.finish_reason not in KNOWN_ENDS)
            progress.add(sum(len(completion.token_ids) for completion in found), len(found))
            return found

        limits = {"seed": request.seed, "max_tokens": request.max_tokens, "max_model_len": request.max_model_len}
        made = simulate(tokenizer(loaded, request.spec), finish, script, samples, **limits)
    metadata = script.metadata | {"condition": script.condition, "pressure_from": script.pressure_from}
    metadata |= {"script": script.name, "model": Path(request.spec.id).name, "prompt_exact": exact == {True}}
    said = [message for messages in made for message in messages if message["role"] == "assistant"]
    if mute := sum(not answer_of(message["content"]).strip() for message in said):
        report(f"{script.name}: {mute} of {len(said)} answers have no text, or reasoning that never ended")
    for reason, count in odd.items():
        report(f"{script.name}: {count} of {len(said)} answers ended with finish_reason {reason!r}")
    for sample, (messages, output) in enumerate(zip(made, request.conversations, strict=True)):
        write_json(output, metadata | {"sample": sample, "conversation": messages})
    records.touch()
