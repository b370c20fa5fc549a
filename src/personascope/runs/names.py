"""What an experiment is called, and the parameters of its rules: what decides a result, and nothing else."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personascope.drift import options as drift_options
from personascope.drift.options import names_of
from personascope.errors import UserError, did_you_mean
from personascope.formats.conversation_files import safe_name

# The role matrix that turns are held against: the maxima of a turn, not of all responses of a role.
POOLED = {"mean": "mean", "max": "mean_of_max"}
# The keys of each block that decide results; the others only say where and in what portions the work is done.
MODEL_SPEC = ("id", "revision", "dtype", "trust_remote_code", "template")
ENGINE = ("model", "base_url", "engine_options", "vllm_extensions")
SAMPLING = ("temperature", "top_p", "max_tokens", "max_model_len", "seed")


@dataclass(frozen=True)
class Names:
    """config: checked, with every default; roles: sorted names; prompts: the most that a role has; conversations,
    references: {name: file} of those that are analyzed, and of those in which nothing drifts. Files are given with
    Snakemake's path variables (`<out>`, `<model>`, `<cell>`, ...). places: {name: {"line", "title"}} of conversations
    that are a line of their file, or not named as it; unread: {name: reason} of those that can't be read;
    conversation_notes: what is to be said of them."""

    config: dict[str, Any]
    roles: list[str]
    prompts: int
    conversations: dict[str, str]
    references: dict[str, str]
    places: dict[str, dict[str, Any]] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    conversation_notes: list[str] = field(default_factory=list)

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
    def path_variables(self) -> dict[str, str]:
        """Snakemake's path variables: the experiment's own folders, and the parts of its paths."""
        name = self.name
        folders = {"out": f"<results>/{name}", "log": f"<logs>/{name}", "bench": f"<benchmarks>/{name}"}
        return folders | {"model": self.model, "sae": self.sae, "cell": f"{self.mode}/<model>_<sae>"}

    def check_names(self, key: str, names: Iterable[str], known: Iterable[str], what: str) -> None:
        """UserError names the first that is no such thing of this experiment, and what there is."""
        there = list(known)
        for name in sorted(set(names) - set(there)):
            near = did_you_mean(name, there) or f"; there are {', '.join(there[:12]) or 'none'}"
            raise UserError(f"config, {key}: {name} is no {what} of this experiment{near}")

    def chosen(self, key: str, names: Iterable[str]) -> list[str]:
        """Those of the readable conversations that a key of config names, by name or title; UserError for one that is
        not there."""
        titles = {place["title"]: name for name, place in self.places.items()}
        known = {name: name if name in self.conversations else titles.get(name, safe_name(name)) for name in names}
        missing = [name for name, safe in known.items() if safe not in self.conversations]
        self.check_names(key, missing, self.conversations, "conversation")
        return [name for name in known.values() if name not in self.unread]

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
    def talk_tokens(self) -> int:
        """The longest answer to a scripted user."""
        return self.config["drift"]["max_tokens"] or self.config["generation"]["max_tokens"]

    @property
    def talk_params(self) -> dict[str, Any]:
        """What defines a conversation with a scripted user."""
        return self.engine_params | {"max_tokens": self.talk_tokens}

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

    def matrix_file(self, analysis: str) -> str:
        """That role matrix."""
        return f"<out>/aggregated/<cell>/{self.matrix_space(analysis)}/per_role.npz"
