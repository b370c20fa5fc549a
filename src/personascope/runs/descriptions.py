"""What an experiment asks for where features are described: contexts, labels, and descriptions by others."""

from functools import cached_property
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.runs.steering import SteeringFiles

FOLDER = "<out>/descriptions/<cell>"
PAGES = "https://neuronpedia.org"


class DescriptionFiles(SteeringFiles):
    """The files of descriptions, and whether their configuration is right."""

    @property
    def contexts(self) -> int:
        """Texts of each feature that are kept; 0: features are not described."""
        return self.config["descriptions"]["contexts"]

    @property
    def context_params(self) -> dict[str, Any]:
        """Parameters of `extract` where contexts are collected; without them it is as it was."""
        return {"k": self.contexts} if self.contexts else {}

    @property
    def context_outputs(self) -> dict[str, str]:
        """The outputs of `extract` from which features are described."""
        kinds = {"contexts": "contexts.parquet", "activity": "activity.npz"} if self.contexts else {}
        return {name: f"<out>/features/<cell>/{{role}}.{suffix}" for name, suffix in kinds.items()}

    def role_contexts(self, kind: str) -> list[str]:
        """The files of one kind, role by role."""
        return [self.context_outputs[kind].format(role=role) for role in self.roles] if self.contexts else []

    def talk_contexts(self, suffix: str) -> list[str]:
        """The file of that ending of all conversations, where there are any."""
        return [f"{FOLDER}/conversations.{suffix}"] if self.contexts and self.conversations else []

    @cached_property
    def description_sources(self) -> dict[str, str]:
        """{source: descriptions cache}, what comes first is believed; UserError names the key that lacks another."""
        block = self.config["descriptions"]
        wanted = {"neuronpedia": bool(block["neuronpedia"]["id"]), "llm": bool(block["llm"]["model"])}
        for name, asked in wanted.items():
            if asked and not self.contexts:
                raise UserError(f"config, descriptions.{name}: it needs descriptions.contexts, which is 0; give 8")
        if wanted["llm"] and "base_url" not in block["llm"]["backend_options"]:
            raise UserError("config, descriptions.llm.backend_options.base_url: the endpoint is asked there; give it")
        given = self.config["sae"]["descriptions"]
        found = {"cache": given} if given else {}
        fetch = {"neuronpedia": wanted["neuronpedia"] and block["neuronpedia"]["features"], "llm": wanted["llm"]}
        return found | {name: f"{FOLDER}/{name}.json" for name, asked in fetch.items() if asked}

    def check_description_file(self) -> None:
        """UserError where `sae.descriptions` is no cache of this SAE. It may be large, and is read once a run, before
        anything is computed, not by every job."""
        from personascope.explorer.describe import check_width
        from personascope.formats.descriptions import read_descriptions

        if not (path := self.config["sae"]["descriptions"]):
            return
        if not Path(path).is_file():
            raise UserError(f"config, sae.descriptions: there is no file {path}; null where there are no descriptions")
        known = read_descriptions(path)
        if self.known_d_sae:
            check_width(path, known, self.known_d_sae)

    @property
    def feature_link(self) -> str:
        """The start of a feature's page on Neuronpedia; "" without one."""
        name = self.config["descriptions"]["neuronpedia"]["id"]
        return f"{PAGES}/{name}/" if name else ""

    @cached_property
    def descriptions(self) -> list[str]:
        """The file of what features are called, which tables and figures read; [] where they have only numbers."""
        sources = self.description_sources
        if self.contexts:
            return [f"{FOLDER}/descriptions.json"]
        return list(sources.values())

    @cached_property
    def described(self) -> list[str]:
        """All that is made of them."""
        names = ("features.parquet", "contexts.parquet", "descriptions.json") if self.contexts else ()
        return [f"{FOLDER}/{name}" for name in names]

    @property
    def llm_options(self) -> dict[str, Any]:
        """How the LLM that explains features is asked."""
        return self.config["descriptions"]["llm"]["backend_options"]

    @cached_property
    def contexts_mb(self) -> int:
        """Memory of contexts at work: of each feature 3 k texts, 130 bytes each, in two copies, and their text."""
        return 1000 + round((2 * 130 + 700) * 3 * self.contexts * self.d_sae / 1e6)
