import re
from pathlib import Path

from jsonschema import Draft202012Validator
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import validate
from yaml import safe_load

from personascope.code_hash import code_hash
from personascope.errors import UserError
from personascope.roles import (
    build_prompts,
    questions_for,
    read_questions,
    read_role,
    select_questions,
    select_roles,
)

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
    """Read every role and the questions before anything runs; return the names of the roles."""
    try:
        folder, generation = Path(config["roles"]["folder"]), config["generation"]
        names = select_roles(folder, config["roles"]["select"])
        shared = read_questions(config["questions"]["file"])
        chosen = select_questions(shared, config["questions"]["select"])
        for name in names:
            role = read_role(folder / f"{name}.json")
            questions = questions_for(role, generation["question_mode"], chosen)
            build_prompts(role, generation["variants"], questions, "")
        assistant = config["axis"]["assistant_role"].strip().lower()
        if assistant not in (name.lower() for name in names):
            logger.warning(
                f"config, axis.assistant_role: {assistant!r} is not among roles.select: no axis"
            )
    except UserError as error:
        raise WorkflowError(str(error))
    return names


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


check_config()
ROLES = check_inputs()
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
GPU = int(config["model"]["device"].startswith("cuda"))

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


wildcard_constraints:
    question_mode="general|role_specific",
    model=re.escape(MODEL),
    sae=re.escape(SAE),
    role=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    space="mean|max|residual",


localrules:
    all,
    model,
    sae,
    responses,
    features,
    role_matrix,
    axis,
