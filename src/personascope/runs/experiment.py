"""One experiment: its configuration, checked, and all that the rules derive from it.

Plain Python: Snakemake only asks. It is read anew by every job of a run, so it imports nothing that takes long.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from personascope.backends import ENDPOINTS
from personascope.directions import options as axis_options
from personascope.directions.spaces import axis_spaces, figure_files
from personascope.drift.options import DriftOptions
from personascope.errors import UserError, did_you_mean
from personascope.formats.roles import (
    build_prompts,
    questions_for,
    read_questions,
    read_role,
    select_questions,
    select_roles,
)
from personascope.formats.saes import other_model, read_config, require_folded, trained_on
from personascope.models.templates import Template
from personascope.runs.config import checked_config
from personascope.runs.conversations import find_all
from personascope.runs.explorer import ExplorerFiles
from personascope.runs.names import MODEL_SPEC
from personascope.runs.pretrained import check_pretrained, find_release
from personascope.runs.sources import check_model_id, in_json, is_embedded

# Folders beside those of the experiments, in results or logs: names that no experiment may have.
SHARED = ("models", "saes", "outputs", "slurm")


def read_experiment(config: dict[str, Any], schema: dict[str, Any]) -> "Experiment":
    """The experiment of a configuration; UserError names the first key, file or role that is wrong.

    config: the merged YAML; it is not changed. schema: that of `workflow/schemas/config.schema.yaml`.
    """
    config = checked_config(config, schema)
    check_model_id(config["model"]["id"])
    roles, prompts = _read_roles(config)
    found = find_all(config)
    talks = (found.analyzed, found.references, found.places, found.unread, found.notes)
    experiment = Experiment(config, roles, prompts, *talks)
    if config["extraction"]["residual_layers"] == "all":
        config["extraction"]["residual_layers"] = list(range(experiment.need_layers("extraction.residual_layers")))
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


class Experiment(ExplorerFiles):
    """An experiment: whether its configuration is right, and the files that it asks for."""

    def check(self) -> None:
        """UserError names the first key that does not fit the others."""
        config = self.config
        if self.name in SHARED:
            raise UserError(
                f"config, experiment: {self.name!r} is a folder that all experiments share; choose another name"
            )
        if bool(config["sae"]["path"]) == bool(config["sae"]["release"] and config["sae"]["id"]):
            raise UserError("config, sae: give either `path` (a local SAE) or `release` and `id`")
        try:
            Template(**config["model"]["template"])
        except UserError as error:
            raise UserError(f"config, {error}") from None
        require_folded(self._sae_config.get("normalize_activations"), f"config, sae.path: {config['sae']['path']}")
        generation = config["generation"]
        if generation["backend"] in ENDPOINTS and "base_url" not in generation["backend_options"]:
            raise UserError(
                f"config, generation.backend_options.base_url: the backend {generation['backend']} needs it"
            )
        engine_gpus = generation["backend_options"].get("tensor_parallel_size", 1)
        if self.gpus and engine_gpus > self.gpus:
            key = "generation.backend_options.tensor_parallel_size"
            raise UserError(f"config, {key}: {engine_gpus} GPUs, but model.gpus is {self.gpus}")
        self.check_depth()
        self._check_analyses()
        self.check_judges()
        _ = self.persona_vectors, self.role_filter, self.trait_results, self.decompositions, self.traces
        _ = self.monitor_directions(), self.steering, self.causal, self.description_sources
        _ = self.atlas, self.published, self.explorer_params

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
        for key in ("tables", "figures", "user_prediction", "published"):
            self.check_names(f"drift.{key}", self.analyses_with(key), self.analyses, "analysis")

    def check_pretrained(self) -> None:
        """UserError where SAELens does not know the SAE's release or id. Once a run: its list is long."""
        sae = self.config["sae"]
        if not sae["path"]:
            check_pretrained(sae["release"], sae["id"])

    def check_anchor(self, analysis: str | None = None) -> None:
        """UserError where a role that the axis, or that of an analysis, points to is none of the experiment's."""
        own = self.config["drift"]["analyses"][analysis] if analysis else {}
        block, options = (f"drift.analyses.{analysis}", own) if "anchor" in own else ("axis", self.config["axis"])
        there = {name.lower() for name in self.roles}
        for role in options["anchor"]:
            if role.strip().lower() not in there:
                near = did_you_mean(role, self.roles) or "; add it there, or name another anchor"
                raise UserError(f"config, {block}.anchor: {role!r} is not among roles.select{near}")

    def warnings(self) -> list[str]:
        """What is probably not meant, but may be."""
        there = {name.lower() for name in self.roles}
        missing = [role for role in self.config["axis"]["anchor"] if role.strip().lower() not in there]
        said = [f"config, axis.anchor: {role!r} is not among roles.select: no axis" for role in missing]
        subset = [role for role in self.config["axis"]["roleplay_subset"] if role.strip().lower() not in there]
        said += [
            f"config, axis.roleplay_subset: {role!r} is not among roles.select, and left out"
            f"{did_you_mean(role, self.roles)}"
            for role in subset
        ]
        asked = self.config["questions"]["select"]
        if self.mode == "general" and (asked == 1 or (isinstance(asked, list) and len(asked) == 1)):
            said.append("config, questions.select: one question is too few for an axis, which is judged on others")
        return said + self.notes + self.conversation_notes

    @property
    def notes(self) -> list[str]:
        """Those of the warnings that the findings repeat: they concern what every number means."""
        sae = self.config["sae"]
        released = None if sae["path"] else find_release(sae["release"])
        named = released.model if released else trained_on(self._sae_config)
        said = other_model(named, self.config["model"]["id"])
        return [f"config, sae: {said}"] if said else []

    @cached_property
    def _sae_config(self) -> dict[str, Any]:
        """What a local SAE says of itself; {} of others, and of one that is not there yet."""
        path = self.config["sae"]["path"]
        return read_config(path) if path else {}

    @property
    def subtitle(self) -> str:
        """What figures say of where their numbers come from."""
        width = f"{self.known_d_sae:,} features, " if self.known_d_sae else ""
        transform = self.config["axis"]["transform"]
        return f"{self.model}, SAE {self.sae} ({width}{transform}), {self.mode.replace('_', '-')} questions"

    # ---- files ------------------------------------------------------------------------------------------------------

    @cached_property
    def model_files(self) -> list[str]:
        """The files of the model's folder that jobs depend on; none for a model of the Hugging Face hub."""
        folder = self.config["model"]["id"]
        if is_embedded(folder):
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
        return path is not None and in_json(Path(path) / "card.json", "experiment") not in (None, self.name)

    @cached_property
    def responses(self) -> list[str]:
        return [f"<out>/responses/{self.mode}/<model>/{role}.jsonl" for role in self.roles]

    @cached_property
    def features(self) -> list[str]:
        return self._of_roles("features", ".parquet", ".residuals.parquet")

    def axis_features(self) -> list[str]:
        """The roles' features that the axis is made from; UserError where its anchor is not among them."""
        self.check_anchor()
        return self._of_roles("features", ".parquet")

    def response_files(self, analysis: str) -> list[str]:
        """The features, or the residual means, of the roles of an analysis; UserError as of `axis_features`."""
        self.check_anchor(analysis)
        suffix = ".residuals.parquet" if self.matrix_space(analysis) == "residual" else ".parquet"
        return self._of_roles("features", suffix)

    @cached_property
    def role_matrix(self) -> list[str]:
        spaces = ["mean", "max", "mean_of_max"] + (["residual"] if self.config["extraction"]["residual_layers"] else [])
        return [f"<out>/aggregated/<cell>/{space}/per_role.npz" for space in spaces]

    @cached_property
    def axis(self) -> list[str]:
        return [f"<out>/axis/<cell>/{name}.png" for name in self.axis_figures] + self.axis_tables

    @cached_property
    def axis_tables(self) -> list[str]:
        return [f"<out>/axis/<cell>/{name}.csv" for name in axis_options.TABLES]

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
    def null_reports(self) -> list[str]:
        return [f"<out>/null/<cell>/{name}.json" for name in self.analyses]

    @cached_property
    def drift(self) -> list[str]:
        return self._of_runs("summary.json", self.analyses)

    @cached_property
    def drift_results(self) -> list[str]:
        return self._of_runs("result.npz", self.analyses)

    @cached_property
    def benchmark(self) -> list[str]:
        """The table of conversations with labels, where it is asked for."""
        wanted = self.config["drift"]["benchmark"] and self.conversations
        return ["<out>/benchmark/<cell>/benchmark.csv"] if wanted else []

    @cached_property
    def drift_extras(self) -> list[str]:
        tables, figures = self.analyses_with("tables"), self.analyses_with("figures")
        drawn = [
            path for path in self._of_runs("token_heat.html", figures) if Path(path).parent.name not in self.unread
        ]
        return self._of_runs("arrays.npz", tables) + drawn

    @cached_property
    def user_prediction(self) -> list[str]:
        return [f"<out>/user_prediction/<cell>/{name}.csv" for name in self.analyses_with("user_prediction")]

    @cached_property
    def linear_split(self) -> list[str]:
        """One table a conversation, where they are asked for."""
        wanted = self.conversations if self.config["drift"]["linear_split"] else {}
        return [f"<out>/linear_split/<cell>/{name}.csv" for name in wanted if name not in self.unread]

    @cached_property
    def summary(self) -> list[str]:
        ranked = ["<out>/summary/<cell>/drift_summary.parquet"] if self.conversations else []
        return [*ranked, "<out>/summary/<cell>/findings.html"]

    def _tokens_of(self, names: Iterable[str]) -> list[str]:
        return [f"<out>/tokens/<model>_<sae>/{name}.parquet" for name in names]

    def _of_roles(self, folder: str, *suffixes: str) -> list[str]:
        return [f"<out>/{folder}/<cell>/{role}{suffix}" for role in self.roles for suffix in suffixes]

    def _of_runs(self, file: str, analyses: Iterable[str]) -> list[str]:
        return [f"<out>/drift/<cell>/{name}/{talk}/{file}" for name in analyses for talk in self.conversations]

    # ---- for the commands -------------------------------------------------------------------------------------------

    def settings(self, results: str) -> dict[str, Any]:
        """What the commands want to know of a run; results: the folder of the experiment's results."""
        return {
            "experiment": self.name,
            "model": self.model,
            "sae": self.sae,
            "mode": self.mode,
            "roles": self.roles,
            "conversations": list(self.conversations),
            "unread": self.unread,
            "analyses": self.analyses,
            "results": results,
            "store": self.config["store"],
            # What `personascope chat` needs.
            "model_spec": self.spec("model", *MODEL_SPEC, "device", "device_map"),
            "sampling": self.spec("generation", "temperature", "top_p", "max_tokens"),
            "directions": self.config["directions"],
        }
