"""What a run will take, before it is paid for: jobs, model loads, tokens, hours, disk, and the price of an API.

Which jobs there are, and which are left, Snakemake says in a dry-run (`dryrun`). Texts are counted with the model's
tokenizer (`counting`); rates and sizes come from earlier runs in this folder (`measured`) or are given.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope.backends import ENDPOINTS
from personascope.display.terminal import duration, size, table
from personascope.runs.counting import (
    RolePrompts,
    Script,
    TokenCounter,
    count_conversations,
    count_prompts,
    count_script,
    count_traits,
)
from personascope.runs.dryrun import DryRun, dry_run
from personascope.runs.measured import (
    Work,
    bytes_a_line,
    bytes_a_row,
    bytes_a_token,
    load_seconds,
    log_work,
    mean_response,
    result_files,
)

SIMULATED = {"simulate": "simulations", "simulate_references": "references"}  # rules and their blocks in config
TRAITS = ("generate_trait", "extract_trait")
JUDGED = ("judge", "judge_traits", "judge_steered", "judge_causal", "judge_labeled")
STEERED = ("residual_norms", "steer", "simulate_capped")
# These share a loaded model.
HOSTED = ("generate", "extract", "extract_conversation", *SIMULATED, "causal", "monitor", "logit_lens")
HOSTED = (*HOSTED, *TRAITS, *JUDGED, *STEERED)
MODEL_RULES = (*HOSTED, "train_sae")
# Where nothing was measured: active features a response and a token, and bytes of one in the files.
FEATURES_A_RESPONSE, FEATURES_A_TOKEN, FEATURE_BYTES = 1000, 64, 8


@dataclass(frozen=True)
class Given:
    """What the user says: tokens a second of one GPU job, and dollars a million tokens."""

    generation_rate: float | None = None
    extraction_rate: float | None = None
    price_prompt: float | None = None
    price_output: float | None = None


@dataclass(frozen=True)
class Texts:
    """Tokens of the experiment's parts: prompts by role, an answer, scripts by rule and name."""

    prompts: dict[str, RolePrompts]
    prompts_note: str
    answer: float
    answer_note: str
    closing: float  # what the chat template writes behind an answer
    scripts: dict[tuple[str, str], Script]
    counter: TokenCounter
    traits: dict[str, RolePrompts]


def default_profile() -> str | None:
    """The profile that Snakemake would take of itself."""
    return os.environ.get("SNAKEMAKE_PROFILE")


def plan(targets: Sequence[str], configfiles: Sequence[str], profile: str | None, given: Given) -> dict[str, Any]:
    """The whole plan as JSON: `all` is the whole experiment, `left` what a run would do now."""
    profile = profile or default_profile()
    whole = dry_run(targets, configfiles, profile, everything=True)
    left = dry_run(targets, configfiles, profile)
    texts = _texts(whole)
    tokens = {name: {"all": n, "left": tokens_of(left, texts)[name]} for name, n in tokens_of(whole, texts).items()}
    config = whole.settings["config"]
    result: dict[str, Any] = {
        "model": whole.settings["model"],
        "sae": whole.settings["sae"],
        "gpu": config["model"]["device"].startswith("cuda"),
        "profile": profile,
        "jobs": _jobs(whole, left),
        "allocations": left.allocations(),
        "model_loads": _loads(left, cluster=profile is not None),
        "tokens": tokens,
        "notes": {"prompt": texts.prompts_note, "output": texts.answer_note},
    }
    result["hours"] = _hours(result, whole.settings, given)
    result["disk"] = _disk(left, texts, tokens)
    if config["generation"]["backend"] in ENDPOINTS:
        result["api"] = _api(tokens, given)
    return result


def _texts(run: DryRun) -> Texts:
    settings, counter = run.settings, TokenCounter(run.settings["config"]["model"])
    limit = settings["config"]["generation"]["max_tokens"]
    folder = Path(settings["folders"]["out"]) / "responses" / settings["mode"] / settings["model"]
    measured = mean_response(result_files(folder, ".jsonl"), limit)
    answer = float(limit) if measured is None else measured
    note = f"at most, {limit} a response" if measured is None else f"measured, {measured:.0f} a response"
    drift = settings["config"]["drift"]
    talk = answer
    if drift["max_tokens"] not in (None, limit):
        talk, note = float(drift["max_tokens"]), f"{note}; at most {drift['max_tokens']} an answer to a scripted user"
    scripts = {
        (job.rule, job.wildcards["script"]): Path(drift[SIMULATED[job.rule]]["folder"])
        for job in run.jobs
        if job.rule in SIMULATED
    }
    prompts, prompts_note = count_prompts(counter, settings)
    counted = {
        (rule, name): count_script(counter, folder / f"{name}.json", talk) for (rule, name), folder in scripts.items()
    }
    names = sorted({job.wildcards["trait"] for job in run.jobs if job.rule in TRAITS})
    traits = count_traits(counter, settings["config"]["traits"], names)
    return Texts(prompts, prompts_note, answer, note, counter.closing(), counted, counter, traits)


def tokens_of(run: DryRun, texts: Texts) -> dict[str, float]:
    """Responses and tokens of the jobs of a run: {responses, prompt, output, extraction, conversations}."""
    by_rule = {rule: [job.wildcards for job in run.jobs if job.rule == rule] for rule in HOSTED}
    generated = [texts.prompts[job["role"]] for job in by_rule["generate"]]
    extracted = [texts.prompts[job["role"]] for job in by_rule["extract"]]
    drift = run.settings["config"]["drift"]
    made = [
        (drift[block]["samples"], texts.scripts[rule, job["script"]])
        for rule, block in SIMULATED.items()
        for job in by_rule[rule]
    ]
    generated += [texts.traits[job["trait"]] for job in by_rule[TRAITS[0]]]
    read = extracted + [texts.traits[job["trait"]] for job in by_rule[TRAITS[1]]]
    responses = sum(prompts.n for prompts in generated)
    return {
        "responses": responses,
        "prompt": sum(p.n * p.mean for p in generated) + sum(n * script.prompt for n, script in made),
        "output": responses * texts.answer + sum(n * script.output for n, script in made),
        "extracted_responses": sum(p.n for p in extracted),
        "extraction": sum(p.n * (p.mean + texts.answer + texts.closing) for p in read),
        "conversations": _conversation_tokens(run, texts, [job["conversation"] for job in by_rule[HOSTED[2]]]),
    }


def _conversation_tokens(run: DryRun, texts: Texts, names: list[str]) -> float:
    """Tokens of conversations: of their files, and of those that are still to be simulated as their script says."""
    paths = {name: Path(run.settings["conversations"][name]) for name in names}
    lines = {name: place["line"] for name, place in run.settings["places"].items()}
    there = [(path, lines.get(name)) for name, path in paths.items() if path.is_file()]
    rules = {block: rule for rule, block in SIMULATED.items()}
    # A simulated one lies in the folder of its block: .../simulations/{model}/{script}-{sample}.json
    to_come = [
        (rules[path.parent.parent.name], name.rpartition("-")[0]) for name, path in paths.items() if not path.is_file()
    ]
    return count_conversations(texts.counter, there) + sum(texts.scripts[script].whole for script in to_come)


def _jobs(whole: DryRun, left: DryRun) -> list[dict[str, Any]]:
    remaining = left.counts()
    return [
        {"rule": rule, "all": n, "left": remaining[rule], "groups": left.allocations(rule)}
        for rule, n in whole.counts().items()
    ]


def _loads(left: DryRun, *, cluster: bool) -> int:
    """How often the model is loaded: once an allocation; without a cluster once for all, and once to train an SAE."""
    if cluster:
        return left.allocations(*MODEL_RULES)
    counts = left.counts()
    return int(any(counts[rule] for rule in HOSTED)) + counts["train_sae"]


def _hours(result: dict[str, Any], settings: dict[str, Any], given: Given) -> dict[str, Any]:
    """Hours of generation and extraction, at given or measured rates; `hours` is None where there is neither."""
    logs, mode = Path(settings["folders"]["log"]), settings["mode"]
    model, cell = settings["model"], f"{settings['model']}_{settings['sae']}"
    folders = {
        "generation": ("output", logs / "generate" / mode / model, given.generation_rate),
        "extraction": ("extraction", logs / "extract" / mode / cell, given.extraction_rate),
        "conversations": ("conversations", logs / "extract_conversation" / cell, given.extraction_rate),
    }
    hours: dict[str, Any] = {}
    for name, (tokens, folder, rate) in folders.items():
        hours[name] = _at_rate(result["tokens"][tokens]["left"], rate, log_work(result_files(folder, ".log")))
    if (each := load_seconds(settings["config"]["model"]["id"])) is not None and result["model_loads"]:
        note = f"{each:.0f} s each, measured"
        hours["loading"] = {"hours": result["model_loads"] * each / 3600, "note": note}
    return hours


def _at_rate(tokens: float, given: float | None, measured: Work) -> dict[str, Any]:
    rate = given or measured.rate
    if not tokens:
        return {"hours": 0.0, "note": "nothing left"}
    if not rate:
        return {"hours": None, "note": "no rate measured here yet; give one"}
    source = "given" if given else f"measured on {measured.jobs} jobs"
    return {"hours": tokens / rate / 3600, "rate": rate, "note": f"{rate:,.0f} tokens/s, {source}"}


def _disk(left: DryRun, texts: Texts, tokens: dict[str, Any]) -> dict[str, Any]:
    """Bytes that the run adds, by kind: as measured here, else estimated."""
    settings = left.settings
    results, mode = Path(settings["folders"]["out"]), settings["mode"]
    cell = f"{settings['model']}_{settings['sae']}"
    features = results / "features" / mode / cell
    layers = len(settings["config"]["extraction"]["residual_layers"])
    width = texts.counter.d_model if layers else 0
    vectors = None if width is None else 4.0 * layers * width
    prompt = sum(p.n * p.mean for p in texts.prompts.values()) / max(sum(p.n for p in texts.prompts.values()), 1)
    kinds: dict[str, tuple[float, float | None, float | None]] = {
        "responses": (
            tokens["responses"]["left"],
            bytes_a_line(result_files(results / "responses" / mode / settings["model"], ".jsonl")),
            300 + 8 * prompt + 15 * texts.answer,  # each text twice, a token's id with comma and space
        ),
        "features": (
            tokens["extracted_responses"]["left"],
            bytes_a_row(result_files(features, ".parquet", but=".residuals.parquet")),
            FEATURES_A_RESPONSE * FEATURE_BYTES,
        ),
        "residuals": (
            tokens["extracted_responses"]["left"],
            bytes_a_row(result_files(features, ".residuals.parquet")) if layers else 0.0,
            vectors,
        ),
        "conversations": (
            tokens["conversations"]["left"],
            bytes_a_token(result_files(results / "tokens" / cell, ".parquet")),
            vectors + FEATURES_A_TOKEN * FEATURE_BYTES if vectors is not None else None,
        ),
    }
    units = {"conversations": "token"}
    return {
        name: _bytes(n, measured, estimate, units.get(name, "response"))
        for name, (n, measured, estimate) in kinds.items()
    }


def _bytes(n: float, measured: float | None, estimate: float | None, unit: str) -> dict[str, Any]:
    each = measured if measured is not None else estimate
    if each is None:
        return {"bytes": None, "note": "unknown: the model's width is not known here yet"}
    source = "measured" if measured is not None else "estimate"
    return {"bytes": n * each, "note": f"{size(each)} a {unit}, {source}" if each else "none are kept"}


def _api(tokens: dict[str, Any], given: Given) -> dict[str, Any]:
    """Tokens that the endpoint is sent and sends, and what they cost, in dollars."""
    prompt, output = tokens["prompt"]["left"], tokens["output"]["left"]
    cost = None
    if given.price_prompt is not None and given.price_output is not None:
        cost = (prompt * given.price_prompt + output * given.price_output) / 1e6
    return {"prompt_tokens": prompt, "output_tokens": output, "cost": cost}


def show(result: dict[str, Any]) -> str:
    """The plan as text tables."""
    parts = [_jobs_text(result), f"model loads: {result['model_loads']}"]
    names = {
        "responses": ("responses", ""),
        "prompt": ("prompt tokens", result["notes"]["prompt"]),
        "output": ("output tokens", result["notes"]["output"]),
        "extraction": ("tokens extracted", "prompts and responses"),
        "conversations": ("conversation tokens", ""),
    }
    counts = result["tokens"]
    rows = [[text, f"{counts[k]['all']:,.0f}", f"{counts[k]['left']:,.0f}", note] for k, (text, note) in names.items()]
    parts.append(table(["tokens", "all", "left", "note"], rows))
    rows = [[name, _hours_text(part["hours"]), part["note"]] for name, part in result["hours"].items()]
    parts.append(table(["GPU hours" if result["gpu"] else "hours of one job", "left", "note"], rows))
    rows = [
        [k, "?" if part["bytes"] is None else size(part["bytes"]), part["note"]] for k, part in result["disk"].items()
    ]
    parts.append(table(["disk", "to come", "note"], rows))
    if api := result.get("api"):
        cost = "give --price-prompt and --price-output" if api["cost"] is None else f"${api['cost']:,.2f}"
        sent = f"{api['prompt_tokens']:,.0f} prompt tokens, {api['output_tokens']:,.0f} output tokens"
        parts.append(f"API: {sent}; cost: {cost}")
    return "\n\n".join(parts)


def _jobs_text(result: dict[str, Any]) -> str:
    """Jobs by rule; with a profile, how many jobs of the cluster they make (a group counts under each of its rules)."""
    rows = [[job["rule"], job["all"], job["all"] - job["left"], job["left"], job["groups"]] for job in result["jobs"]]
    sums = [sum(row[i] for row in rows) for i in (1, 2, 3)]
    rows.append(["total", *sums, result["allocations"]])
    columns = 5 if result["profile"] else 4
    text = [[row[0], *(f"{n:,}" for n in row[1:])] for row in rows]
    return table(["jobs", "all", "done", "left", "submitted as"][:columns], [row[:columns] for row in text])


def _hours_text(hours: float | None) -> str:
    return "?" if hours is None else duration(hours * 3600)
