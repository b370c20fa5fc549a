"""What an experiment asks for around directions: persona vectors, judges, traits, decompositions."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from personascope.backends import BACKENDS
from personascope.errors import UserError, did_you_mean
from personascope.formats.files import iter_jsonl
from personascope.formats.traits import list_traits, read_trait, trait_prompts
from personascope.generation.rubrics import read_rubric
from personascope.runs.names import ENGINE, MODEL_SPEC
from personascope.runs.needs import BYTES, UNKNOWN_BILLIONS, Needs

# Responses whose label is known by construction: what judges are worth.
LABELED = "resources/judge/labelled.jsonl"
SERVED_MB = 2000  # a job that only asks a server
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
            near = did_you_mean(name, self.judges)
            raise UserError(f"config, {key}: {name!r} is no judge; there are {', '.join(self.judges)}{near}")
        return name or self.judges[0]

    def judge_params(self, name: str) -> dict[str, Any]:
        """What defines a judge's scores."""
        judge = self.config["judges"][name]
        model = self.spec("model", *MODEL_SPEC)
        model |= {key: judge[key] for key in ("revision", "dtype") if judge[key] is not None}
        if judge["model"] is not None:
            model |= {"id": judge["model"], "revision": judge["revision"]}
            model["template"] = {"date": model["template"]["date"]}  # the rest is that of another tokenizer
        engine = {key: judge["backend_options"][key] for key in ENGINE if key in judge["backend_options"]}
        own = {key: judge[key] for key in ("backend", "opening", "samples")}
        values = {"model": model, "engine": engine, **own, **self.spec("generation", "max_model_len")}
        return {key: values[key] for key in JUDGE_KEYS}

    def judge_mb(self, name: str) -> int:
        """Main memory of a job with a judge: that of any model's job; a guess where it has a model of its own."""
        judge = self.config["judges"][name]
        if judge["backend"] == "chat":
            return SERVED_MB
        own = judge["model"] not in (None, self.config["model"]["id"])
        dtype = judge["dtype"] or self.config["model"]["dtype"]
        return round(4000 + 2 * 1000 * UNKNOWN_BILLIONS * BYTES[dtype]) if own else self.model_mb

    @property
    def of_judge(self) -> dict[str, Callable[[Any], Any]]:
        """The same as parameters of a rule: each a function of its wildcards, of which `judge` names the judge."""

        def one(key: str) -> Callable[[Any], Any]:
            return lambda wildcards: self.judge_params(wildcards.judge)[key]

        return {key: one(key) for key in JUDGE_KEYS}

    def judge_module(self, name: str) -> str:
        """The module of the engine that a judge runs on."""
        return BACKENDS[self.config["judges"][name]["backend"]].module

    def check_judges(self) -> None:
        """UserError names the key of a judge that cannot work."""
        for role in self.judged_roles if self.role_filter_judge else ():
            read_rubric(Path(self.config["roles"]["folder"]) / f"{role}.json")
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
        """Names of the traits; UserError where one has no file, or not the pairs and questions asked for."""
        return sorted(self._trait_prompts)

    @cached_property
    def _trait_prompts(self) -> dict[str, int]:
        """{trait: its prompts}; every file is read and checked."""
        block = self.config["traits"]
        folder, wanted = Path(block["folder"]), block["select"]
        there = list_traits(folder) if wanted else []
        if wanted != "all" and (missing := sorted(set(wanted) - set(there))):
            near = did_you_mean(missing[0], there)
            raise UserError(f"config, traits.select: no file in {folder} for {', '.join(missing)}{near}")
        asked = [block[key] for key in ("pairs", "questions", "evaluation_questions", "samples")]
        prompts = {}
        for name in there if wanted == "all" else wanted:
            trait = read_trait(folder / f"{name}.json")
            if self.trait_judge and not trait.eval_prompt:
                raise UserError(f'{folder / name}.json: no "eval_prompt", which the judge of traits needs')
            prompts[name] = len(trait_prompts(trait, *asked))
        return prompts

    @property
    def trait_judge(self) -> str | None:
        """The judge of the traits' responses; None where there is none and nothing is filtered by one."""
        block = self.config["traits"]
        if block["filter"] == "none" and block["judge"] is None and not self.judges:
            return None
        if not self.judges:
            raise UserError(
                "config, traits.judge: it needs a judge; name one under `judges`, or set traits.filter: none"
            )
        return self.judge_named("traits.judge", block["judge"])

    @property
    def trait_judged(self) -> dict[str, str]:
        """What the judge says of a trait's responses, and what that judge is worth; nothing where there is no judge."""
        if not self.traits or (judge := self.trait_judge) is None:
            return {}
        judgements = f"<out>/judgements/{judge}/traits/<model>/{{trait}}.parquet"
        return {"judgements": judgements, "worth": f"<out>/judgements/{judge}/worth.json"}

    @property
    def trait_neighbors(self) -> dict[str, str]:
        """What the traits' vectors are compared with: axis and role vectors, where residuals of roles are kept."""
        if not self.config["extraction"]["residual_layers"] or not self.has_axis:
            return {}
        matrix = "<out>/aggregated/<cell>/residual/per_role.npz"
        return {"axis": "<out>/axis/<cell>/axis.npz", "roles": matrix}

    @property
    def has_axis(self) -> bool:
        """Whether the axis's anchors are among the roles, and others beside them."""
        there = {name.strip().lower() for name in self.roles}
        anchors = {name.strip().lower() for name in self.config["axis"]["anchor"]}
        return anchors <= there and bool(there - anchors - {"default"})

    @property
    def trait_filter(self) -> dict[str, Any]:
        """Which couples of responses make a trait's vectors."""
        block = self.config["traits"]
        return {"filter": block["filter"], "threshold": block["threshold"], "coherence": block["coherence"]}

    @cached_property
    def trait_minutes(self) -> int:
        return self.minutes_of(max(self._trait_prompts.values(), default=0), self.trait_params["max_tokens"])

    @cached_property
    def trait_mb(self) -> int:
        """Memory of a job with the activations of one trait: one reading of all rows and layers, and room."""
        rows = max(self._trait_prompts.values(), default=0)
        return 1000 + round(1.5 * 4 * rows * self.known_layers * self.d_model / 1e6)

    @property
    def trait_params(self) -> dict[str, Any]:
        """What defines the text that is generated for a trait."""
        block = self.config["traits"]
        chosen = {key: block[key] for key in ("pairs", "questions", "evaluation_questions", "samples", "temperature")}
        return self.engine_params | chosen | {"max_tokens": block["max_tokens"] or self.engine_params["max_tokens"]}

    @cached_property
    def trait_vectors(self) -> list[str]:
        return self._of_traits("vectors.safetensors", "vectors.pt")

    @cached_property
    def trait_results(self) -> list[str]:
        evaluated = self._of_traits("evaluation.json", "evaluation.png")
        return self.trait_vectors + evaluated + (["<out>/traits/<model>/traits.png"] if self.traits else [])

    def _of_traits(self, *names: str) -> list[str]:
        return [f"<out>/traits/<model>/{trait}/{name}" for trait in self.traits for name in names]

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
        raise UserError(
            f"config, {key}: no direction {name!r}; there are {', '.join(known)}{did_you_mean(name, known)}"
        )

    def direction_options(self, name: str) -> dict[str, Any]:
        """What config says of a direction from a file of others; empty for one of ours."""
        block = self.config["directions"].get(name, {})
        return {key: value for key, value in block.items() if key != "file"}

    # ---- decompositions ---------------------------------------------------------------------------------------------

    @cached_property
    def decomposed(self) -> dict[str, str]:
        """{name in paths: direction} of those that are decomposed; UserError where one is not known."""
        names: dict[str, str] = {}
        for name in self.config["decompose"]:
            self.direction_file("decompose", name)
            if names.setdefault(name.replace(":", "-"), name) != name:
                raise UserError(
                    f"config, decompose: {name!r} and {names[name.replace(':', '-')]!r} have the same files"
                )
        return names

    @cached_property
    def decompositions(self) -> list[str]:
        """A table and a figure of each direction in SAE features."""
        return [f"<out>/decomposition/<cell>/{name}.{kind}" for name in self.decomposed for kind in ("csv", "png")]

    @cached_property
    def targets_mb(self) -> int:
        """Memory of what comes before: sums of random parts of the responses, and the block sums of one role."""
        cells = len(self.config["generation"]["variants"]) * self.config["drift"]["uncertainty"]["blocks"]
        kept = len(self.config["extraction"]["residual_layers"])
        return 1000 + round((3 * 8 * 100 * self.d_sae + 3 * 4 * cells * (self.d_sae + kept * self.d_model)) / 1e6)

    @cached_property
    def fit_mb(self) -> int:
        """Memory of a fit: the SAE, and what is left of 302 directions along each of its rows, twice."""
        return self.decoder_mb + round(2 * 302 * 4 * self.d_sae / 1e6)
