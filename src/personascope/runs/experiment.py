"""One experiment: its configuration, checked, and all that the rules derive from it.

Plain Python: Snakemake only asks. It is read anew by every job of a run, so it imports nothing that takes long.
"""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from personascope.directions import options as axis_options
from personascope.directions.spaces import axis_spaces, figure_files
from personascope.drift import options as drift_options
from personascope.drift.options import DriftOptions, names_of
from personascope.errors import UserError
from personascope.formats.roles import (
    build_prompts,
    questions_for,
    read_questions,
    read_role,
    select_questions,
    select_roles,
)
from personascope.runs.config import checked_config
from personascope.runs.conversations import find_all

EMBEDDED = "SmolLM2-135M-Instruct"
# Folders beside those of the experiments, in results or logs: names that no experiment may have.
SHARED = ("models", "saes", "outputs", "slurm")
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
UNKNOWN_BILLIONS, UNKNOWN_D_SAE, UNKNOWN_D_MODEL = 8.0, 65536, 8192
# A GPU of 2023 generates some 30,000 tokens/s for each billion parameters, a few cores 10; reading is 4 times as fast.
GPU_RATE, CPU_RATE, READING = 30_000, 10, 4
ANALYSIS_MB = 500  # a drift job without the arrays that the host keeps: the process, and one conversation at work
# The role matrix that turns are held against: the maxima of a turn, not of all responses of a role.
POOLED = {"mean": "mean", "max": "mean_of_max"}
TURNS = 20  # of a conversation, where memory for all of them is asked for
HALVES = 40  # axes of halves of the questions that a reference holds (directions.halves: 2 a split)
# The keys of each block that decide results; the others only say where and in what portions the work is done.
MODEL_SPEC = ("id", "revision", "dtype", "trust_remote_code")
ENGINE = ("model", "base_url", "engine_options", "vllm_extensions")
SAMPLING = ("temperature", "top_p", "max_tokens", "max_model_len", "seed")


def read_experiment(config: dict[str, Any], schema: dict[str, Any]) -> "Experiment":
    """The experiment of a configuration; UserError names the first key, file or role that is wrong.

    config: the merged YAML; it is not changed. schema: that of `workflow/schemas/config.schema.yaml`.
    """
    config = checked_config(config, schema)
    roles, prompts = _read_roles(config)
    experiment = Experiment(config, roles, prompts, *find_all(config))
    experiment.check()
    return experiment


def _read_roles(config: dict[str, Any]) -> tuple[list[str], int]:
    """Names of the roles, and the most prompts that one of them has; every file is read and checked."""
    folder, generation = Path(config["roles"]["folder"]), config["generation"]
    names = select_roles(folder, config["roles"]["select"])
    shared = select_questions(read_questions(config["questions"]["file"]), config["questions"]["select"])
    prompts = 0
    for name in names:
        role = read_role(folder / f"{name}.json")
        questions = questions_for(role, generation["question_mode"], shared)
        prompts = max(prompts, len(build_prompts(role, generation["variants"], questions, "")))
    return names, prompts


@dataclass(frozen=True)
class Experiment:
    """config: checked, with every default; roles: sorted names; prompts: the most that a role has; conversations,
    references: {name: file} of those that are analyzed, and of those in which nothing drifts. Files are given with
    Snakemake's path variables (`<out>`, `<model>`, `<cell>`, ...)."""

    config: dict[str, Any]
    roles: list[str]
    prompts: int
    conversations: dict[str, str]
    references: dict[str, str]

    def check(self) -> None:
        """UserError names the first key that does not fit the others."""
        config = self.config
        if self.name in SHARED:
            raise UserError(
                f"config, experiment: {self.name!r} is a folder that all experiments share; choose another name"
            )
        if bool(config["sae"]["path"]) == bool(config["sae"]["release"] and config["sae"]["id"]):
            raise UserError("config, sae: give either `path` (a local SAE) or `release` and `id`")
        generation = config["generation"]
        if generation["backend"] == "openai" and "base_url" not in generation["backend_options"]:
            raise UserError("config, generation.backend_options.base_url: the backend openai needs it")
        engine_gpus = generation["backend_options"].get("tensor_parallel_size", 1)
        if self.gpus and engine_gpus > self.gpus:
            key = "generation.backend_options.tensor_parallel_size"
            raise UserError(f"config, {key}: {engine_gpus} GPUs, but model.gpus is {self.gpus}")
        self._check_analyses()

    def _check_analyses(self) -> None:
        kept = self.config["extraction"]["residual_layers"]
        if self.config["drift"]["linear_split"] and not kept:
            raise UserError("config, drift.linear_split: it needs the SAE's layer among extraction.residual_layers")
        for name in self.analyses:
            where = f"config, drift.analyses.{name}"
            flat = self.analysis_options(name)
            if flat["transition_pick"] == "manual" and flat["manual_turn"] is None:
                raise UserError(f"{where}.manual_turn: transition_pick: manual needs it")
            if flat["space"] == "residual" and flat["layer"] not in kept:
                raise UserError(f"{where}.layer: {flat['layer']} is not among extraction.residual_layers {kept}")
            try:
                DriftOptions.of(**flat)
            except UserError as error:
                raise UserError(f"{where}: {error}") from None
        for key in ("tables", "figures", "user_prediction"):
            if unknown := sorted(set(self.analyses_with(key)) - set(self.analyses)):
                there = ", ".join(self.analyses)
                raise UserError(f"config, drift.{key}: {unknown[0]} is no analysis; there are {there}")

    def warnings(self) -> list[str]:
        """What is probably not meant, but may be."""
        there = {name.lower() for name in self.roles}
        missing = [role for role in self.config["axis"]["anchor"] if role.strip().lower() not in there]
        return [f"config, axis.anchor: {role!r} is not among roles.select: no axis" for role in missing]

    # ---- names ------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The experiment's name, its folder below results, logs and benchmarks."""
        return self.config["experiment"]

    @property
    def mode(self) -> str:
        return self.config["generation"]["question_mode"]

    @property
    def model(self) -> str:
        """The model's name in paths."""
        return self.config["model"].get("name") or Path(self.config["model"]["id"]).name

    @property
    def sae(self) -> str:
        """The SAE's name in paths."""
        sae = self.config["sae"]
        if sae["name"]:
            return sae["name"]
        name = Path(sae["path"]).name if sae["path"] else f"{sae['release']}_{sae['id']}"
        return re.sub(r"[^A-Za-z0-9._-]+", "_", name).removeprefix(f"{self.model}_")

    @property
    def subtitle(self) -> str:
        """What figures say of where their numbers come from."""
        width = f"{self.known_d_sae:,} features, " if self.known_d_sae else ""
        transform = self.config["axis"]["transform"]
        return f"{self.model}, SAE {self.sae} ({width}{transform}), {self.mode.replace('_', '-')} questions"

    @property
    def path_variables(self) -> dict[str, str]:
        """Snakemake's path variables: the experiment's own folders, and the parts of its paths."""
        name = self.name
        folders = {"out": f"<results>/{name}", "log": f"<logs>/{name}", "bench": f"<benchmarks>/{name}"}
        return folders | {"model": self.model, "sae": self.sae, "cell": f"{self.mode}/<model>_<sae>"}

    # ---- parameters of rules ----------------------------------------------------------------------------------------

    def spec(self, block: str, *keys: str) -> dict[str, Any]:
        """Some keys of a block."""
        return {key: self.config[block][key] for key in keys}

    @property
    def model_params(self) -> dict[str, Any]:
        """What defines the model's results."""
        return {"host": "model", "model": self.spec("model", *MODEL_SPEC)}

    @property
    def engine_params(self) -> dict[str, Any]:
        """What defines generated text."""
        generation = self.config["generation"]
        options = generation["backend_options"]
        engine = {"backend": generation["backend"], "engine": {key: options[key] for key in ENGINE if key in options}}
        return self.model_params | {"model_name": self.model} | engine | self.spec("generation", *SAMPLING)

    @property
    def activation_params(self) -> dict[str, Any]:
        """What defines the activations of a text."""
        sae = {key: self.config["sae"][key] for key in ("path", "release", "id")}
        return self.model_params | {"sae": sae} | self.spec("extraction", "residual_layers")

    @property
    def analyses(self) -> list[str]:
        return list(self.config["drift"]["analyses"])

    def analyses_with(self, key: str) -> list[str]:
        """The analyses whose `tables`, `figures` or `user_prediction` are asked for."""
        wanted = self.config["drift"][key]
        return self.analyses if wanted == "all" else wanted

    def analysis_options(self, name: str) -> dict[str, Any]:
        """The options of a named analysis, flat: the block `axis`, overridden by the analysis's own."""
        return self.config["axis"] | self.config["drift"]["analyses"][name]

    def reference_options(self, name: str) -> dict[str, Any]:
        """Those of them that decide the reference: neither the test's nor what is only displayed."""
        return self._options_but(name, drift_options.TestOptions, drift_options.DisplayOptions)

    def null_options(self, name: str) -> dict[str, Any]:
        """Those of them that decide the null: all but what is only displayed."""
        return self._options_but(name, drift_options.DisplayOptions)

    def _options_but(self, name: str, *groups: type) -> dict[str, Any]:
        left_out = {option for group in groups for option in names_of(group)}
        return {key: value for key, value in self.analysis_options(name).items() if key not in left_out}

    def matrix_space(self, analysis: str) -> str:
        """The folder of the role matrix that an analysis is made from."""
        options = self.analysis_options(analysis)
        return POOLED[options["pooling"]] if options["space"] == "sae" else "residual"

    # ---- what jobs ask of a scheduler: rough and on the safe side ---------------------------------------------------

    @property
    def gpus(self) -> int:
        """GPUs of a job with the model."""
        return self.config["model"]["gpus"] if self.config["model"]["device"].startswith("cuda") else 0

    @property
    def billions(self) -> float:
        """The model's parameters in billions by config, else by its files, else a guess."""
        weights = Path(self.config["model"]["id"]).glob("*.safetensors")
        on_disk = sum(file.stat().st_size for file in weights) / BYTES["bfloat16"] / 1e9
        guess = 0.135 if self.model == EMBEDDED else UNKNOWN_BILLIONS
        return self.config["model"]["billion_parameters"] or on_disk or guess

    @cached_property
    def model_mb(self) -> int:
        """Main memory of a job that loads the model: its weights, twice over while they are read, and room."""
        return round(4000 + 2 * 1000 * self.billions * BYTES[self.config["model"]["dtype"]])

    @cached_property
    def generate_minutes(self) -> int:
        return self._minutes(1)

    @cached_property
    def extract_minutes(self) -> int:
        return self._minutes(READING)

    def _minutes(self, speed: int) -> int:
        most_tokens = self.prompts * self.config["generation"]["max_tokens"]
        return 5 + round(most_tokens * self.billions / (speed * (GPU_RATE if self.gpus else CPU_RATE)) / 60)

    @cached_property
    def drift_mb(self) -> int:
        """Memory of a drift job: role space and reference of every analysis, which the host keeps side by side.

        A reference has a float for each dimension and draw (twice for scores that are held against the assistant) and
        for each half of a split of the questions, a role space is in memory four times while it is made.
        """
        draws, kept = self.config["drift"]["uncertainty"]["draws"], 0
        for name in self.analyses:
            options = self.analysis_options(name)
            width = self.d_sae if options["space"] == "sae" else self.d_model
            copies = draws * (2 if options["score_method"] == "cos_assistant" else 1) + (HALVES if draws else 0)
            kept += 4 * width * (copies + 4 * len(self.roles))
        return ANALYSIS_MB + round(kept / 1e6)

    @cached_property
    def user_prediction_mb(self) -> int:
        """Memory of that stage: 24 bytes a turn and dimension, in its copies, and six matrices of the dimensions."""
        turns = TURNS * len(self.conversations | self.references)
        return self.drift_mb + round((24 * turns + 48 * self.d_model) * self.d_model / 1e6)

    @cached_property
    def decoder_mb(self) -> int:
        """Memory of a job that loads the SAE alone: its two matrices, twice over while they are read, and room."""
        return 2000 + round(2 * 2 * 4 * self.d_sae * self.d_model / 1e6)

    @property
    def d_sae(self) -> int:
        """Features of the SAE, or a guess."""
        return self.known_d_sae or UNKNOWN_D_SAE

    @cached_property
    def known_d_sae(self) -> int | None:
        """Features of the SAE: from its files, else from its name; None where neither tells."""
        path, trained = self.config["sae"]["path"], self.config["train_sae"]["width"]
        if path:
            return _in_json(Path(path) / "cfg.json", "d_sae") or trained
        size = re.search(r"width_(\d+)([km]?)", self.config["sae"]["id"])
        if not size:
            return None
        # Widths are powers of two: 65k is 65,536, and 1m is 1,048,576.
        return 2 ** round(math.log2(int(size[1]) * {"": 1, "k": 1e3, "m": 1e6}[size[2]]))

    @cached_property
    def d_model(self) -> int:
        """Width of the residual stream: from the model's files, else a guess."""
        return _in_json(Path(self.config["model"]["id"]) / "config.json", "hidden_size") or UNKNOWN_D_MODEL

    # ---- files ------------------------------------------------------------------------------------------------------

    @cached_property
    def model_files(self) -> list[str]:
        """The files of the model's folder that jobs depend on; none for a model of the Hugging Face hub."""
        folder = self.config["model"]["id"]
        if Path(folder).name == EMBEDDED and Path(folder).parent.name == "models":
            return [f"{folder}/config.json", f"{folder}/model.safetensors"]
        return [f"{folder}/config.json"] if Path(folder).is_dir() else []

    @cached_property
    def sae_files(self) -> list[str]:
        folder = self.config["sae"]["path"]
        return [f"{folder}/cfg.json", f"{folder}/sae_weights.safetensors"] if folder else []

    @property
    def trained_elsewhere(self) -> bool:
        """Whether another experiment has trained the SAE, which is then used as it is."""
        path = self.config["sae"]["path"]
        return path is not None and _in_json(Path(path) / "card.json", "experiment") not in (None, self.name)

    @cached_property
    def responses(self) -> list[str]:
        return [f"<out>/responses/{self.mode}/<model>/{role}.jsonl" for role in self.roles]

    @cached_property
    def features(self) -> list[str]:
        return self._of_roles("features", ".parquet", ".residuals.parquet")

    @cached_property
    def role_matrix(self) -> list[str]:
        spaces = ["mean", "max", "mean_of_max"] + (["residual"] if self.config["extraction"]["residual_layers"] else [])
        return [f"<out>/aggregated/<cell>/{space}/per_role.npz" for space in spaces]

    @cached_property
    def axis(self) -> list[str]:
        names = [f"{name}.png" for name in self.axis_figures] + [f"{name}.csv" for name in axis_options.TABLES]
        return [f"<out>/axis/<cell>/{name}" for name in names]

    @cached_property
    def axis_figures(self) -> dict[str, tuple[str, str]]:
        """{file without suffix: (figure, space)} of the axis stage's figures."""
        return figure_files(axis_spaces(self.config["extraction"]["residual_layers"]))

    @cached_property
    def tokens(self) -> list[str]:
        return self._tokens_of(self.conversations)

    @cached_property
    def reference_tokens(self) -> list[str]:
        return self._tokens_of(self.references)

    @cached_property
    def user_means(self) -> list[str]:
        """What the user said in them, conversations and references in the order of their tokens."""
        return [f"{path.removesuffix('.parquet')}.user_means.npz" for path in self.tokens + self.reference_tokens]

    @cached_property
    def calibrations(self) -> list[str]:
        return [f"<out>/{stage}/<cell>/{name}.npz" for name in self.analyses for stage in ("reference", "null")]

    @cached_property
    def drift(self) -> list[str]:
        return self._of_runs("summary.json", self.analyses)

    @cached_property
    def drift_extras(self) -> list[str]:
        tables, figures = self.analyses_with("tables"), self.analyses_with("figures")
        return self._of_runs("arrays.npz", tables) + self._of_runs("token_heat.html", figures)

    @cached_property
    def user_prediction(self) -> list[str]:
        return [f"<out>/user_prediction/<cell>/{name}.csv" for name in self.analyses_with("user_prediction")]

    @cached_property
    def linear_split(self) -> list[str]:
        """One table a conversation, where they are asked for."""
        wanted = self.conversations if self.config["drift"]["linear_split"] else {}
        return [f"<out>/linear_split/<cell>/{name}.csv" for name in wanted]

    @cached_property
    def summary(self) -> list[str]:
        return ["<out>/summary/<cell>/drift_summary.parquet"] if self.conversations else []

    def _tokens_of(self, names: Iterable[str]) -> list[str]:
        return [f"<out>/tokens/<model>_<sae>/{name}.parquet" for name in names]

    def _of_roles(self, folder: str, *suffixes: str) -> list[str]:
        return [f"<out>/{folder}/<cell>/{role}{suffix}" for role in self.roles for suffix in suffixes]

    def _of_runs(self, file: str, analyses: Iterable[str]) -> list[str]:
        return [f"<out>/drift/<cell>/{name}/{talk}/{file}" for name in analyses for talk in self.conversations]

    # ---- for the commands -------------------------------------------------------------------------------------------

    def settings(self, results: str) -> dict[str, Any]:
        """What `personascope status` wants to know of a run; results: the folder of the experiment's results."""
        return {
            "experiment": self.name,
            "model": self.model,
            "sae": self.sae,
            "mode": self.mode,
            "roles": self.roles,
            "conversations": list(self.conversations),
            "analyses": self.analyses,
            "results": results,
            "store": self.config["store"],
        }


def _in_json(file: Path, key: str) -> Any:
    """A value of a JSON object on disk; None where there is none."""
    try:
        return json.loads(file.read_text(encoding="utf-8")).get(key)
    except (OSError, ValueError, AttributeError):
        return None
