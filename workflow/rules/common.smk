import re
from pathlib import Path

from jsonschema import Draft202012Validator
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import validate
from yaml import safe_load

from personascope.runs.code_hash import code_hash
from personascope.formats.conversations import find_conversations
from personascope.errors import UserError
from personascope.runs.integrity import note_times, set_aside_damaged
from personascope.formats.roles import build_prompts, questions_for, read_questions, read_role, select_questions, select_roles
from personascope.runs.status import note_run

SCHEMA = workflow.source_path("../schemas/config.schema.yaml")
EMBEDDED = "SmolLM2-135M-Instruct"


def check_config():
    """Stop at the first wrong key with its name; then fill in the schema's defaults."""
    for error in Draft202012Validator(safe_load(Path(SCHEMA).read_text())).iter_errors(config):
        key = ".".join(map(str, error.absolute_path)) or "top level"
        raise WorkflowError(f"config, {key}: {error.message}; config/README.md explains every key")
    validate(config, SCHEMA)
    pretrained = config["sae"]["release"] and config["sae"]["id"]
    if bool(config["sae"]["path"]) == bool(pretrained):
        raise WorkflowError("config, sae: give either `path` (a local SAE) or `release` and `id`")
    generation = config["generation"]
    if generation["backend"] == "openai" and "base_url" not in generation["backend_options"]:
        raise WorkflowError(
            "config, generation.backend_options.base_url: the backend openai needs it"
        )


def check_inputs():
    """Read every role and the questions before anything runs; names of the roles, most prompts that one has."""
    try:
        folder, generation = Path(config["roles"]["folder"]), config["generation"]
        names = select_roles(folder, config["roles"]["select"])
        shared = read_questions(config["questions"]["file"])
        chosen = select_questions(shared, config["questions"]["select"])
        prompts = 0
        for name in names:
            role = read_role(folder / f"{name}.json")
            questions = questions_for(role, generation["question_mode"], chosen)
            made = build_prompts(role, generation["variants"], questions, "")
            prompts = max(prompts, len(made))
        assistant = config["axis"]["assistant_role"].strip().lower()
        if assistant not in (name.lower() for name in names):
            logger.warning(
                f"config, axis.assistant_role: {assistant!r} is not among roles.select: no axis"
            )
    except UserError as error:
        raise WorkflowError(str(error))
    return names, prompts


def scaled(amount):
    """A resource that grows with each attempt at a job; too slow to look up for jobs by the thousand."""
    return lambda wildcards, attempt: attempt * amount


def model_memory(wildcards, attempt):
    """MB of main memory for a job that loads the model: its weights, twice over while they are read, and room."""
    return attempt * round(4000 + 2 * WEIGHTS_MB)


def billion_parameters():
    """The model's size by config, else by its files, else a guess."""
    weights = Path(config["model"]["id"]).glob("*.safetensors")
    on_disk = sum(file.stat().st_size for file in weights) / BYTES["bfloat16"] / 1e9
    return config["model"]["billion_parameters"] or on_disk or (0.135 if MODEL == EMBEDDED else 8)


def check_conversations():
    """The conversations to analyse by name: files of the folders that config names, and simulated ones."""
    drift = config["drift"]
    simulations = drift["simulations"]
    try:
        found = find_conversations(drift["conversations"])
        samples = range(simulations["samples"])
        scripts = find_conversations([simulations["folder"]]) if samples else {}
    except UserError as error:
        raise WorkflowError(f"config, drift: {error}")
    made = {
        f"{script}-{sample}": f"<results>/simulations/{MODEL}/{script}-{sample}.json"
        for script in scripts
        for sample in samples
    }
    if both := sorted(found.keys() & made.keys()):
        raise WorkflowError(
            f"config, drift: {both[0]} is the name of a file and of a simulation; rename the file"
        )
    return {name: str(path) for name, path in found.items()} | made


def check_gpus():
    """Stop where an engine wants more GPUs than its job asks for."""
    engine = config["generation"]["backend_options"].get("tensor_parallel_size", 1)
    if GPU and engine > GPU:
        raise WorkflowError(
            f"config, generation.backend_options.tensor_parallel_size: {engine} GPUs, but model.gpus is {GPU}"
        )


def check_analyses():
    """Stop where an analysis asks for what config does not keep."""
    kept = config["extraction"]["residual_layers"]
    analyses = config["drift"]["analyses"]
    for name, knobs in analyses.items():
        if knobs["space"] == "residual" and knobs["layer"] not in kept:
            raise WorkflowError(
                f"config, drift.analyses.{name}.layer: {knobs['layer']} is not among "
                f"extraction.residual_layers {kept}"
            )
        if knobs["transition_pick"] == "manual" and knobs["manual_turn"] is None:
            raise WorkflowError(
                f"config, drift.analyses.{name}.manual_turn: transition_pick: manual needs it"
            )
    for key in ("tables", "figures"):
        wanted = config["drift"][key]
        if wanted != "all" and (unknown := sorted(set(wanted) - set(analyses))):
            raise WorkflowError(
                f"config, drift.{key}: {unknown[0]} is no analysis; there are {', '.join(analyses)}"
            )


def analyses_with(key):
    wanted = config["drift"][key]
    return list(config["drift"]["analyses"]) if wanted == "all" else wanted


def conversation_file(wildcards):
    return CONVERSATIONS[wildcards.conversation]


def analysis_options(wildcards):
    """The knobs of a named analysis; which tables and figures are asked for does not change them."""
    return config["drift"]["analyses"][wildcards.analysis]


def analysis_matrix(wildcards):
    """The role matrix that an analysis is made from."""
    knobs = analysis_options(wildcards)
    space = knobs["pooling"] if knobs["space"] == "sae" else "residual"
    return f"<results>/aggregated/{{question_mode}}/{{model}}_{{sae}}/{space}/per_role.npz"


def local_model_files():
    """The files of the model's folder that jobs depend on; none for a model of the Hugging Face hub."""
    folder = config["model"]["id"]
    if Path(folder).name == EMBEDDED and Path(folder).parent.name == "models":
        return [f"{folder}/config.json", f"{folder}/model.safetensors"]
    return [f"{folder}/config.json"] if Path(folder).is_dir() else []


def local_sae_files():
    folder = config["sae"]["path"]
    return [f"{folder}/cfg.json", f"{folder}/sae_weights.safetensors"] if folder else []


def spec(block, *keys):
    return {key: config[block][key] for key in keys}


if workflow.is_main_process:
    for line in set_aside_damaged():
        logger.warning(line)
check_config()
ROLES, PROMPTS = check_inputs()
MODE = config["generation"]["question_mode"]
MODEL = config["model"].get("name") or Path(config["model"]["id"]).name
SAE = re.sub(r"[^A-Za-z0-9._-]+", "_", config["sae"]["id"] or Path(config["sae"]["path"]).name)
SAE = SAE.removeprefix(f"{MODEL}_")
MODEL_FILES = local_model_files()
SAE_FILES = local_sae_files()
# What defines the model's results, and with it when jobs are rerun; device and sizes do not.
MODEL_SPEC = spec("model", "id", "revision", "dtype", "trust_remote_code")
ENGINE = {
    key: value
    for key, value in config["generation"]["backend_options"].items()
    if key in ("model", "base_url", "engine_options", "vllm_extensions")
}
GPU = config["model"]["gpus"] if config["model"]["device"].startswith("cuda") else 0
# What jobs ask of a scheduler: rough and on the safe side, doubled by a second attempt. A GPU of 2023 generates some
# 30,000 tokens/s for each billion parameters, a few cores 10; reading them goes four times as fast.
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
BILLIONS = billion_parameters()
WEIGHTS_MB = 1000 * BILLIONS * BYTES[config["model"]["dtype"]]
TOKENS = PROMPTS * config["generation"]["max_tokens"]
GENERATE_MINUTES = 5 + round(TOKENS * BILLIONS / (30_000 if GPU else 10) / 60)
EXTRACT_MINUTES = 5 + round(TOKENS * BILLIONS / (120_000 if GPU else 40) / 60)

RESPONSES = collect(
    "<results>/responses/{mode}/{model}/{role}.jsonl", mode=MODE, model=MODEL, role=ROLES
)
CELL = f"{MODE}/{MODEL}_{SAE}"
FEATURES = collect(
    "<results>/features/{cell}/{role}{suffix}.parquet",
    cell=CELL,
    role=ROLES,
    suffix=["", ".residuals"],
)
SPACES = ["mean", "max"] + (["residual"] if config["extraction"]["residual_layers"] else [])
ROLE_MATRIX = collect("<results>/aggregated/{cell}/{space}/per_role.npz", cell=CELL, space=SPACES)
AXIS_TABLES = ["agreement", "pca_spectrum", "role_projections", "role_similarity"]
AXIS_FIGURES = ["role_projections", "pca_spectrum", "role_similarity"]
AXIS = collect("<results>/axis/{cell}/{name}.png", cell=CELL, name=AXIS_FIGURES)
AXIS += collect("<results>/axis/{cell}/{name}.csv", cell=CELL, name=AXIS_TABLES)

check_gpus()
check_analyses()
CONVERSATIONS = check_conversations()
SAMPLES = list(range(config["drift"]["simulations"]["samples"]))
ANALYSES = list(config["drift"]["analyses"])
DRIFT_TABLES = [
    "turn_meta",
    "role_trace",
    "score_mass_diag",
    "score_mass_pivot",
    "selected_diag",
    "transition_df",
    "q2_top_away_contrib",
    "q2_top_toward_contrib",
    "q2_deactivated_assistant_features",
    "q2_activated_nonassistant_features",
    "q3_token_localization",
]
DRIFT_FIGURES = ["trajectory", "top_features", "token_heat", "nearest_roles", "confounds"]
TOKENS = collect(
    "<results>/conversations/{model}_{sae}/{conversation}.parquet",
    model=MODEL,
    sae=SAE,
    conversation=CONVERSATIONS,
)
REFERENCES = collect(
    "<results>/drift_reference/{cell}/{analysis}.npz", cell=CELL, analysis=ANALYSES
)
DRIFT = collect(
    "<results>/drift/{cell}/{analysis}/{conversation}/summary.json",
    cell=CELL,
    analysis=ANALYSES,
    conversation=CONVERSATIONS,
)
DRIFT_EXTRAS = collect(
    "<results>/drift/{cell}/{analysis}/{conversation}/arrays.npz",
    cell=CELL,
    analysis=analyses_with("tables"),
    conversation=CONVERSATIONS,
) + collect(
    "<results>/drift/{cell}/{analysis}/{conversation}/token_heat.html",
    cell=CELL,
    analysis=analyses_with("figures"),
    conversation=CONVERSATIONS,
)
DRIFT_SUMMARY = collect(
    "<results>/drift_summary/{cell}/drift_summary.parquet", cell=CELL if CONVERSATIONS else []
)

RUN = {
    "model": MODEL,
    "sae": SAE,
    "mode": MODE,
    "roles": ROLES,
    "conversations": list(CONVERSATIONS),
    "analyses": ANALYSES,
    "results": workflow.pathvars.apply("<results>"),
    "store": config["store"],
}


wildcard_constraints:
    question_mode="general|role_specific",
    model=re.escape(MODEL),
    sae=re.escape(SAE),
    role=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    space="mean|max|residual",
    conversation=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    script=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    analysis=r"[A-Za-z0-9][A-Za-z0-9_-]*",


# The model is fetched where Snakemake runs: the nodes of many clusters do not reach the network.
localrules:
    all,
    fetch_model,
    model,
    sae,
    responses,
    features,
    role_matrix,
    axis,
    conversations,
    drift,
