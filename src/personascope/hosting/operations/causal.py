"""The causal test of one transition: its features set back while the model reads the turn, and while it writes it."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from personascope.backends import Completion, Sampling, steered
from personascope.backends import Request as TextRequest
from personascope.backends.local import TransformersBackend
from personascope.drift.causal import READING, SAEShare, sae_share
from personascope.drift.causal_arms import Patch, feature_patches, vector_patches
from personascope.drift.causal_case import (
    CausalCase,
    NoTest,
    ReadAxes,
    axis_doubts,
    causal_case,
    feature_facts,
    read_axes,
)
from personascope.drift.causal_report import BY_CONSTRUCTION, Direct, Measured, Total, content, no_test
from personascope.drift.options import DriftOptions
from personascope.errors import UserError
from personascope.extraction.extract_conversation import EncodedConversation, encode_within
from personascope.extraction.patched import (
    Axes,
    Prompt,
    TurnRead,
    decoder_facts,
    read_answers,
    read_turn,
    reconstruction_change,
)
from personascope.formats.files import content_key, write_json, write_jsonl
from personascope.generation.answers import read_answer
from personascope.generation.regenerate import sample_seed, turn_requests
from personascope.generation.simulate import in_order
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._model import identity, tokenizer
from personascope.hosting.operations.extract import ActivationsRequest, network_and_sae
from personascope.hosting.progress import Progress, Report
from personascope.hosting.store import response_log
from personascope.models.interventions import Add, ClampFeatures
from personascope.models.loading import LAYER_CONVENTION, context_length, stop_ids
from personascope.models.reasoning import Split
from personascope.models.saes import LoadedSAE
from personascope.models.steering import Intervention, Positions

SETTINGS = ("top", "controls", "seeds", "max_tokens", "temperature", "top_p", "seed")


@dataclass(frozen=True, kw_only=True)
class Request(ActivationsRequest):
    """Files of the conversation's tokens, the role matrix, the axes and how good they are; both outputs; the analysis
    and its options; the sizes of the test; how texts are sampled. text_code: the hash of the code that makes texts, for
    the store's keys."""

    tokens: str
    matrix: str
    axes: str
    agreement: str
    causal: str
    samples: str
    analysis: str
    conversation: str
    model_name: str
    options: dict[str, Any]
    top: int
    controls: int
    seeds: int
    max_tokens: int
    read_layers: list[int]
    temperature: float
    top_p: float
    max_model_len: int
    seed: int
    too_long: str
    batch_tokens: int = 2048
    text_code: str = ""


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Write the test's numbers and its texts; a conversation that cannot be tested has its reason in them."""
    settings = {name: getattr(request, name) for name in SETTINGS} | {"layer_convention": LAYER_CONVENTION}
    started = time.perf_counter()
    try:
        case = causal_case(request.tokens, request.matrix, DriftOptions.of(**request.options))
        bench = _Bench.of(loaded, request, case)
        measured, texts = _measure(loaded, report, request, bench)
    except NoTest as reason:
        report(f"error: {reason}")
        write_json(request.causal, no_test(request.analysis, request.conversation, str(reason), settings))
        write_jsonl(request.samples, [])
        return
    made = content(case, request.analysis, request.conversation, measured, settings)
    write_jsonl(request.samples, texts)
    write_json(request.causal, made)
    report(f"{request.conversation}: {made['verdict']} in {time.perf_counter() - started:.1f} s ({made['reason']})")


@dataclass(frozen=True)
class _Bench:
    """What every part of the test needs: case, model, SAE, the conversation's tokens and the axes."""

    case: CausalCase
    network: Any
    sae: LoadedSAE
    words: Any
    conversation: EncodedConversation
    read: ReadAxes

    @classmethod
    def of(cls, loaded: Loaded, request: Request, case: CausalCase) -> "_Bench":
        network, sae = network_and_sae(loaded, request)
        words, messages = tokenizer(loaded, request.spec), case.metadata["conversation"]["messages"]
        encoded = encode_within(words, messages, context_length(network), request.too_long)
        for turn in case.pair:
            span = encoded.spans[turn]
            if (span.start, span.end) != case.range_of(turn):
                raise UserError(f"{request.tokens}: its turn {turn} is elsewhere in the text; delete it and run again")
        read = read_axes(request.axes, request.tokens, case, patched_layer(sae), request.read_layers)
        return cls(case, network, sae, words, encoded, read)

    @property
    def turn_ids(self) -> list[int]:
        start, end = self.case.range_of(self.case.pair[1])
        return self.conversation.encoded.ids[start:end]

    @property
    def before(self) -> list[dict[str, str]]:
        """The messages before the turn, without those that were taken off the front."""
        messages = self.case.metadata["conversation"]["messages"]
        keep = 1 if messages[0]["role"] == "system" else 0
        index = self.conversation.spans[self.case.pair[1]].message_index
        return [*messages[:keep], *messages[keep + self.conversation.dropped : index]]

    def interventions(self, patch: Patch, positions: Positions) -> list[Intervention]:
        if patch.vector is not None:
            return [Add(self.read.patched, patch.vector, positions)]
        return [ClampFeatures(self.sae, patch.features.tolist(), patch.values, positions)]


def patched_layer(sae: LoadedSAE) -> int:
    """The layer whose output a patch at the SAE's place changes by construction; UserError where there is none."""
    layer = sae.point.layer - (sae.point.site == "resid_pre")
    if layer < 0:
        raise UserError(f"the SAE is read at {sae.hook_name}: no block stands before it, so nothing can be added there")
    return layer


def _measure(loaded: Loaded, report: Report, request: Request, bench: _Bench) -> tuple[Measured, list[dict[str, Any]]]:
    """All that the model says, and the texts that it wrote."""
    read = bench.read
    notes = axis_doubts(request.agreement, read.of_totals)
    axis = read.axes.get(read.patched)
    facts = feature_facts(bench.case, *decoder_facts(bench.sae, axis))
    patches = feature_patches(facts, request.top, request.controls, request.seed)
    if not patches:
        raise NoTest("no feature moves this transition away from the assistant")
    if not read.later:
        notes.append(
            f"No layer behind the patched layer {read.patched} is kept: the direct effect is read in the logits alone, "
            "and new texts at the layers kept, without hooks. Add later layers to extraction.residual_layers."
        )
    direct, plain = _direct(bench, patches)
    width = len(next(iter(read.axes.values())))
    vectors = vector_patches(direct[0].moved, width, request.controls, request.seed)
    patches = [*patches, *vectors]
    direct += [_directly(bench, plain, patch) for patch in vectors]
    report(f"{request.conversation}: direct effects of {len(direct)} patches")
    share = _share(bench, axis)
    notes += [f"What the SAE keeps of the change is not known: {share.reason}."] if share.reason else []
    totals, texts = _total(loaded, report, request, bench, [p for p in patches if p.arm not in ("fell", "rose")])
    return Measured(facts, read, patches, direct, totals, share, notes), texts


def _share(bench: _Bench, axis: np.ndarray | None) -> SAEShare:
    if bench.sae.point.site not in ("resid_post", "resid_pre"):
        return SAEShare(reason=f"the SAE is read at {bench.sae.hook_name}, which is no output of a block")
    if axis is None:
        return SAEShare(reason=f"its layer {bench.read.patched} is not among extraction.residual_layers")
    before, now = (bench.case.range_of(turn) for turn in bench.case.pair)
    ids = bench.conversation.encoded.ids[: now[1]]
    return sae_share(*reconstruction_change(bench.network, bench.sae, ids, (before, now), axis))


# ---- direct: the turn's own tokens ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plain:
    """The turn without a patch, and what it is read by."""

    prompt: Prompt
    axes: Axes
    read: TurnRead


def _direct(bench: _Bench, patches: Sequence[Patch]) -> tuple[list[Direct], _Plain]:
    start, _ = bench.case.range_of(bench.case.pair[1])
    prompt = Prompt(bench.network, bench.conversation.encoded.ids[:start])
    shown = {*bench.read.later, bench.read.patched} & bench.read.axes.keys()
    axes = {layer: bench.read.axes[layer] for layer in sorted(shown)}
    plain = _Plain(prompt, axes, read_turn(prompt, bench.turn_ids, bench.sae.point, axes))
    return [_directly(bench, plain, patch) for patch in patches], plain


def _directly(bench: _Bench, plain: _Plain, patch: Patch) -> Direct:
    ids, point = bench.turn_ids, bench.sae.point
    patched = read_turn(plain.prompt, ids, point, plain.axes, bench.interventions(patch, "all"))
    moved = {layer: patched.projections[layer] - plain.read.projections[layer] for layer in plain.axes}
    differences = {f"layer_{layer}": moved[layer] for layer in bench.read.later}
    if bench.read.later:
        differences = {READING: bench.read.reading(moved, bench.read.later)} | differences
    if bench.read.patched in moved:
        differences[BY_CONSTRUCTION] = moved[bench.read.patched]
    differences["kl"] = patched.divergence(plain.read)
    differences["log_likelihood"] = patched.log_likelihood(ids) - plain.read.log_likelihood(ids)
    return Direct(patch, patched.moved(plain.read), differences)


# ---- total: the turn generated anew ---------------------------------------------------------------------------------


def _total(
    loaded: Loaded, report: Report, request: Request, bench: _Bench, patches: Sequence[Patch]
) -> tuple[list[Total], list[dict[str, Any]]]:
    """Without a patch first, then each patch: the texts, read without hooks."""
    turn = bench.case.pair[1]
    seeds = [sample_seed(request.seed, request.conversation, turn, i) for i in range(request.seeds)]
    limits = {"max_tokens": request.max_tokens, "max_model_len": request.max_model_len}
    try:
        asked = turn_requests(bench.words, bench.before, seeds, **limits)
    except UserError as error:
        raise NoTest(str(error)) from None
    arms: list[Patch | None] = [None, *patches]
    written = _written(loaded, report, request, bench, arms, asked)
    flat = [completion for completions in written for completion in completions]
    splits = [read_answer(bench.words, completion, asked[0].prompt_ids) for completion in flat]
    ranges = [split.answer for split in splits]
    axes = {layer: bench.read.axes[layer] for layer in bench.read.of_totals}
    prompt = Prompt(bench.network, asked[0].prompt_ids)
    ids = [completion.token_ids for completion in flat]
    found = read_answers(prompt, ids, ranges, axes, bench.sae, batch_tokens=request.batch_tokens)
    readings = {READING: bench.read.reading(found.projections, bench.read.of_totals)}
    readings |= {f"layer_{layer}": values for layer, values in found.projections.items()}
    readings["score"] = bench.case.scores(found.activations)
    lengths = np.array([end - start for start, end in ranges])
    totals, texts = [], []
    for i, (patch, completions) in enumerate(zip(arms, written, strict=True)):
        rows = slice(i * len(seeds), (i + 1) * len(seeds))
        totals.append(Total(patch, {name: values[rows] for name, values in readings.items()}, lengths[rows]))
        said = zip(completions, splits[rows], strict=True)
        texts += [_text(bench, patch, n, asked[n].seed, *one) for n, one in enumerate(said)]
    return totals, texts


def _written(
    loaded: Loaded,
    report: Report,
    request: Request,
    bench: _Bench,
    arms: Sequence[Patch | None],
    asked: list[TextRequest],
) -> list[list[Completion]]:
    """Completions of each arm; those that the store lacks are generated, and an arm's are kept once it is finished."""
    spec, sampling = request.spec, Sampling(request.temperature, request.top_p)
    common = [identity(loaded, spec), spec.dtype, asdict(sampling), request.text_code, asdict(request.sae)]
    engine = TransformersBackend(bench.network, stop_ids(spec, bench.words))
    records = response_log(request.store, request.model_name, f"causal.{request.conversation}")
    done = records.keys()
    progress = Progress(report, request.conversation, len(arms) * len(asked))
    made = []
    with records.writer() as append:
        for patch in arms:
            keys = [content_key([common, _said(patch), asdict(one)]) for one in asked]
            missing = [i for i, key in enumerate(keys) if key not in done]
            changes = [] if patch is None else bench.interventions(patch, "response")
            if missing:
                finished = in_order(steered(engine, changes), [asked[i] for i in missing], sampling)
                for i, completion in zip(missing, finished, strict=True):
                    append(keys[i], asdict(completion))
                    done.add(keys[i])
            made.append([Completion(**records.read(key)) for key in keys])
            progress.add(sum(len(completion.token_ids) for completion in made[-1]), len(keys))
    records.touch()
    return made


def _said(patch: Patch | None) -> Any:
    """All that decides what a patch does."""
    if patch is None:
        return None
    parts = replace(patch, arm="", draw=0)
    return [x.tolist() if x is not None else None for x in (parts.features, parts.values, parts.vector)]


def _text(
    bench: _Bench, patch: Patch | None, sample: int, seed: int, completion: Completion, split: Split
) -> dict[str, Any]:
    arm, draw = ("none", 0) if patch is None else (patch.arm, patch.draw)
    return {
        "arm": arm,
        "draw": draw,
        "sample": sample,
        "seed": seed,
        "question": bench.before[-1]["content"],
        "response": split.text,
        "reasoning": split.reasoning,
        "response_token_ids": completion.token_ids,
        "answer_start": split.answer[0],
        "answer_end": split.answer[1],
        "finish_reason": completion.finish_reason,
    }
