"""What an experiment asks for around directions: persona vectors, judges, traits, decompositions."""

from functools import cached_property
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.formats.files import iter_jsonl
from personascope.runs.names import ENGINE, MODEL_SPEC
from personascope.runs.needs import Needs

# Responses whose label is known by construction: what judges are worth.
LABELED = "resources/judge/labelled.jsonl"
JUDGE_KEYS = ("model", "backend", "engine", "opening", "samples", "max_model_len")
RUBRICS_OF = {"adherence": "roles", "trait": "traits"}
DEFAULT = "default"


class TraitFiles(Needs):
    """The files of judges, persona vectors, traits and decompositions, and whether their configuration is right."""

    # ---- persona vectors --------------------------------------------------------------------------------------------

    @cached_property
    def persona_layers(self) -> list[int]:
        """The layers of the persona vectors; UserError where one is not kept, or the model's depth is not known."""
        wanted, kept = self.config["persona_vectors"]["layers"], self.config["extraction"]["residual_layers"]
        if wanted == "all":
            return kept
        if wanted == "by_fraction":
            wanted = [int(self.need_layers("persona_vectors.layers") * self._fraction + 0.5)]
        if missing := sorted(set(wanted) - set(kept)):
            key = "config, persona_vectors.layers"
            raise UserError(f"{key}: {missing[0]} is not among extraction.residual_layers {kept}; add it there")
        return wanted

    @property
    def _fraction(self) -> float:
        return self.config["persona_vectors"]["layer_fraction"]

    @cached_property
    def persona_vectors(self) -> list[str]:
        names = ("vectors.safetensors", "vectors.pt", "cosine.csv", "cosine.png", "pca.csv", "pca.png", "roles.csv")
        return [f"<out>/persona_vectors/<cell>/{name}" for name in names] if self.persona_layers else []

    @cached_property
    def persona_mb(self) -> int:
        """Memory of that stage: the sums of one role at all layers kept, and five vectors of every role."""
        cells = len(self.config["generation"]["variants"]) * self.config["drift"]["uncertainty"]["blocks"]
        one, kept = 4 * self.d_model, len(self.config["extraction"]["residual_layers"])
        vectors = 5 * len(self.roles) * len(self.persona_layers)
        return 1000 + round(2 * one * (cells * kept + vectors) / 1e6)

    # ---- judges -----------------------------------------------------------------------------------------------------

    @property
    def judges(self) -> list[str]:
        return list(self.config["judges"])

    def judge_named(self, key: str, name: str | None) -> str:
        """The judge that a key names, else the first; UserError where there is none."""
        if not self.judges:
            raise UserError(f"config, {key}: it needs a judge; name one under `judges`")
        if name is not None and name not in self.judges:
            raise UserError(f"config, {key}: {name!r} is no judge; there are {', '.join(self.judges)}")
        return name or self.judges[0]

    def judge_params(self, name: str) -> dict[str, Any]:
        """What defines a judge's scores."""
        judge = self.config["judges"][name]
        model = self.spec("model", *MODEL_SPEC)
        model |= {key: judge[key] for key in ("revision", "dtype") if judge[key] is not None}
        if judge["model"] is not None:
            model |= {"id": judge["model"], "revision": judge["revision"]}
        engine = {key: judge["backend_options"][key] for key in ENGINE if key in judge["backend_options"]}
        own = {key: judge[key] for key in ("backend", "opening", "samples")}
        values = {"model": model, "engine": engine, **own, **self.spec("generation", "max_model_len")}
        return {key: values[key] for key in JUDGE_KEYS}

    def check_judges(self) -> None:
        """UserError names the key of a judge that cannot work."""
        for name, judge in self.config["judges"].items():
            where, served = f"config, judges.{name}", judge["backend"] == "chat"
            if served and "base_url" not in judge["backend_options"]:
                raise UserError(f"{where}.backend_options.base_url: the backend chat needs it")
            if served and judge["opening"]:
                raise UserError(f"{where}.opening: an answer cannot be begun for a chat endpoint; leave it out")
            if judge["samples"] and not served:
                raise UserError(f"{where}.samples: {judge['backend']} gives exact probabilities; leave it out")

    @cached_property
    def judgements(self) -> list[str]:
        """What each judge is worth, and where there are two, how far they agree."""
        worth = [f"<out>/judgements/{name}/worth.{kind}" for name in self.judges for kind in ("json", "png")]
        return worth + (["<out>/judgements/agreement.csv"] if len(self.judges) > 1 else [])

    @cached_property
    def labeled_rubrics(self) -> dict[str, list[str]]:
        """The files of the roles and traits whose answers are labeled; none where those answers are not here."""
        subjects = {"roles": set[str](), "traits": set[str]()}
        for row in iter_jsonl(LABELED) if self.judges and Path(LABELED).is_file() else ():
            if row.get("metric") in RUBRICS_OF:
                subjects[RUBRICS_OF[row["metric"]]].add(str(row.get("subject")))
        return {
            folder: [f"resources/{folder}/{one}.json" for one in sorted(names)] for folder, names in subjects.items()
        }

    @property
    def role_filter_judge(self) -> str | None:
        """The judge by whom responses are filtered before aggregation; None where they are not."""
        name = self.config["aggregation"]["role_filter"]["judge"]
        return None if name is None else self.judge_named("aggregation.role_filter.judge", name)

    @property
    def judged_roles(self) -> list[str]:
        """The roles that are filtered: all but the one without a persona."""
        return [name for name in self.roles if name.strip().lower() != DEFAULT]

    @property
    def role_judgements(self) -> list[str]:
        """What the filter's judge says of them."""
        folder = f"<out>/judgements/{self.role_filter_judge}/responses/{self.mode}/<model>"
        return [f"{folder}/{role}.parquet" for role in self.judged_roles]

    @property
    def filtered_matrices(self) -> dict[str, str]:
        """{space: role matrix} of the responses that the filter keeps."""
        spaces = ["mean", "max", "mean_of_max"] + (["residual"] if self.config["extraction"]["residual_layers"] else [])
        return {space: f"<out>/filtered/<cell>/{space}/per_role.npz" for space in spaces}

    @cached_property
    def role_filter(self) -> list[str]:
        names = ("role_filter.csv", "axis_cosine.csv")
        return [f"<out>/filtered/<cell>/{name}" for name in names] if self.role_filter_judge else []

    # ---- traits -----------------------------------------------------------------------------------------------------

    @cached_property
    def traits(self) -> list[str]:
        """Names of the traits; UserError where one has no file."""
        folder, wanted = Path(self.config["traits"]["folder"]), self.config["traits"]["select"]
        there = sorted(path.stem for path in folder.glob("*.json"))
        if wanted == "all":
            return there
        if missing := sorted(set(wanted) - set(there)):
            raise UserError(f"config, traits.select: no file in {folder} for {', '.join(missing)}")
        return sorted(wanted)

    @property
    def trait_judge(self) -> str:
        return self.judge_named("traits.judge", self.config["traits"]["judge"])

    @property
    def trait_params(self) -> dict[str, Any]:
        """What defines the text that is generated for a trait."""
        block = self.config["traits"]
        chosen = {key: block[key] for key in ("pairs", "questions", "evaluation_questions", "samples", "temperature")}
        return self.engine_params | chosen | {"max_tokens": block["max_tokens"] or self.engine_params["max_tokens"]}

    @cached_property
    def trait_vectors(self) -> list[str]:
        return [f"<out>/traits/<model>/{name}/vectors.safetensors" for name in self.traits]

    @cached_property
    def trait_results(self) -> list[str]:
        evaluated = [f"<out>/traits/<model>/{name}/evaluation.json" for name in self.traits]
        return self.trait_vectors + evaluated + (["<out>/traits/<model>/traits.png"] if self.traits else [])

    # ---- directions by name -----------------------------------------------------------------------------------------

    def direction_file(self, key: str, name: str) -> str:
        """The file of a named direction: `axis`, `trait:NAME`, `role:NAME` or a name under `directions`; UserError with
        the key where there is none."""
        kind, _, rest = name.partition(":")
        if name == "axis":
            return "<out>/axis/<cell>/axis.npz"
        if kind == "trait" and rest in self.traits:
            return f"<out>/traits/<model>/{rest}/vectors.safetensors"
        if kind == "role" and rest in self.roles:
            return "<out>/aggregated/<cell>/residual/per_role.npz"
        if name in self.config["directions"]:
            return self.config["directions"][name]["file"]
        known = ["axis", *(f"trait:{t}" for t in self.traits), "role:NAME", *self.config["directions"]]
        raise UserError(f"config, {key}: no direction {name!r}; there are {', '.join(known)}")

    @cached_property
    def decompositions(self) -> list[str]:
        for name in self.config["decompose"]:
            self.direction_file("decompose", name)
        return [f"<out>/decomposition/<cell>/{name.replace(':', '-')}.csv" for name in self.config["decompose"]]
