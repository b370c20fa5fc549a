"""What an experiment asks for where the model is steered: sweeps over coefficients, and capping."""

import math
from functools import cached_property
from typing import Any

from personascope.errors import UserError, did_you_mean
from personascope.formats.roles import read_questions, select_questions
from personascope.runs.traits import TraitFiles

FOLDER = "<out>/steering/<cell>"


class SweepFiles(TraitFiles):
    """The files of sweeps and of capping, and whether their configuration is right."""

    @property
    def sweeps(self) -> list[str]:
        return list(self.config["steering"]["sweeps"])

    def sweep(self, name: str) -> dict[str, Any]:
        """The block of a named sweep."""
        return self.config["steering"]["sweeps"][name]

    def sweep_points(self, name: str) -> list[tuple[str, str]]:
        """(arm, coefficient) of every job of a sweep; what is not steered has the coefficient 0."""
        block = self.sweep(name)
        arms = ["direction", *(f"random{i}" for i in range(block["random"])), "orthogonal"]
        coefficients = [f"{value:g}" for value in block["coefficients"] if value]
        unsteered = [("none", "0")] + ([("prompt", "0")] if self.sweep_prompt_file(name) else [])
        return unsteered + [(arm, coefficient) for arm in arms for coefficient in coefficients]

    def sweep_files(self, name: str, suffix: str) -> list[str]:
        """A file of every point of a sweep, in the order of `sweep_points`."""
        return [f"{FOLDER}/{name}/{arm}/{value}{suffix}" for arm, value in self.sweep_points(name)]

    def sweep_direction(self, name: str) -> str:
        """The file of a sweep's direction."""
        return self.direction_file(f"steering.sweeps.{name}.direction", self.sweep(name)["direction"])

    def sweep_questions_file(self, name: str) -> str:
        """Where a sweep's questions are: the trait's file, or the shared questions."""
        trait = self.sweep(name)["trait"]
        return self.config["questions"]["file"] if trait is None else self._trait_file(trait)

    def sweep_prompt_file(self, name: str) -> str | None:
        """The trait or role whose instruction the arm `prompt` has; None where nothing says what to ask for.

        Steering along the axis is compared with a role's instruction: the first that is no anchor and not `default`.
        """
        block = self.sweep(name)
        kind, _, role = block["direction"].partition(":")
        if block["trait"] is not None:
            return self._trait_file(block["trait"])
        if block["direction"] == "axis":
            anchors = {anchor.strip().lower() for anchor in self.config["axis"]["anchor"]} | {"default"}
            role = next((name for name in self.roles if name.lower() not in anchors), "")
        elif kind != "role":
            role = ""
        return f"{self.config['roles']['folder']}/{role}.json" if role else None

    def _trait_file(self, trait: str) -> str:
        return f"{self.config['traits']['folder']}/{trait}.json"

    @property
    def norms_role(self) -> str:
        """The role over whose answers the residual stream's norms are averaged: `default`, else the first anchor."""
        wanted = ["default", *(anchor.strip().lower() for anchor in self.config["axis"]["anchor"])]
        there = {role.lower(): role for role in self.roles}
        return next((there[role] for role in wanted if role in there), self.roles[0])

    def sweep_inputs(self, name: str) -> dict[str, str]:
        """The files that a point of a sweep is made from."""
        made = {"direction_file": self.sweep_direction(name), "questions_file": self.sweep_questions_file(name)}
        if (prompt := self.sweep_prompt_file(name)) is not None:
            made["prompt_file"] = prompt
        if self.sweep(name)["units"] == "residual_norm":
            made["norms"] = f"{FOLDER}/residual_norms.json"
        return made

    def sweep_judge(self, name: str) -> str | None:
        """Who judges a sweep's responses: the judge of traits, where there is one and the sweep has a trait."""
        if self.sweep(name)["trait"] is None or not self.judges:
            return None
        return self.judge_named("traits.judge", self.config["traits"]["judge"])

    def dose_inputs(self, name: str) -> dict[str, Any]:
        """The files that a sweep's table is made from."""
        files: dict[str, Any] = {
            kind: self.sweep_files(name, suffix) for kind, suffix in (("measures", ".csv"), ("infos", ".json"))
        }
        if judge := self.sweep_judge(name):
            points = [f"{name}/{arm}/{value}.parquet" for arm, value in self.sweep_points(name)]
            folder = f"<out>/judgements/{judge}"
            files |= {"judgements": [f"{folder}/steering/<cell>/{point}" for point in points]}
            files |= {"worth": f"{folder}/worth.json"}
        return files

    @property
    def sweep_wildcards(self) -> dict[str, str]:
        """What the wildcards of a sweep's rules match."""
        named = "|".join(self.sweeps) or "(?!)"
        return {"sweep": named, "arm": r"none|prompt|direction|orthogonal|random\d+", "coefficient": r"[-+.e\d]+"}

    def direction_how(self, name: str) -> dict[str, Any]:
        """What config says of the file of a direction that does not say it itself."""
        return {key: value for key, value in self.config["directions"].get(name, {}).items() if key != "file"}

    def sweep_options(self, name: str) -> dict[str, Any]:
        """What defines the text of a sweep's points, beside arm and coefficient."""
        block = self.sweep(name)
        chosen = {key: block[key] for key in ("direction", "units", "positions", "trait", "questions", "samples")}
        own = {"layers": block.get("layers", []), "how": self.direction_how(block["direction"])}
        return chosen | own | {"seed": self.config["steering"]["seed"]}

    def sweep_tokens(self, name: str) -> int:
        """The longest response of a sweep."""
        return self.sweep(name)["max_tokens"] or self.config["generation"]["max_tokens"]

    def check_sweeps(self) -> None:
        """UserError names the first key of a sweep that does not fit."""
        for name in self.sweeps:
            block, where = self.sweep(name), f"config, steering.sweeps.{name}"
            self.sweep_direction(name)
            for value in block["coefficients"]:
                if not math.isfinite(value):
                    raise UserError(f"{where}.coefficients: {value} is no number to steer by; give finite ones")
            if not any(block["coefficients"]):
                raise UserError(f"{where}.coefficients: only 0, which steers nothing, and is always run as `none`")
            if len({f"{value:g}" for value in block["coefficients"]}) < len(block["coefficients"]):
                raise UserError(f"{where}.coefficients: two of them are alike in their first six digits")
            if block["trait"] is not None and block["trait"] not in self.traits:
                there, near = ", ".join(self.traits) or "none", did_you_mean(block["trait"], self.traits)
                raise UserError(
                    f"{where}.trait: {block['trait']!r} is not among traits.select; there are {there}{near}"
                )
            self.check_layers(f"steering.sweeps.{name}.layers", block.get("layers", []), [block["direction"]])
            if block["trait"] is None:
                try:
                    select_questions(read_questions(self.config["questions"]["file"]), block["questions"])
                except UserError as error:
                    raise UserError(f"{where}.questions: {error}") from None
        self._check_engine()

    def check_layers(self, key: str, layers: list[int], directions: list[str]) -> None:
        """UserError where a layer is not in the model, as far as its depth is known here, or one of the directions that
        this run makes is not known at it: axis and roles are where residual means are kept."""
        if self.depth and (outside := [layer for layer in layers if layer >= self.depth]):
            raise UserError(f"config, {key}: {outside[0]}; the model has layers 0 to {self.depth - 1}")
        kept = self.config["extraction"]["residual_layers"]
        made = [name for name in directions if name == "axis" or name.startswith("role:")]
        if made and (missing := sorted(set(layers) - set(kept))):
            raise UserError(
                f"config, {key}: {made[0]} is not known at layer {missing[0]}, which is not among "
                f"extraction.residual_layers {kept}; add it there"
            )

    def _check_engine(self) -> None:
        backend = self.config["generation"]["backend"]
        if (self.sweeps or self.capping_points) and backend != "transformers":
            raise UserError(
                f"config, steering: the backend {backend} cannot be steered; it needs generation.backend: transformers"
            )

    # ---- capping ----------------------------------------------------------------------------------------------------

    @property
    def capping_points(self) -> list[str]:
        """The percentiles at which the axis is capped; the conversations without a cap are "none"."""
        percentiles = [f"{value:g}" for value in self.config["steering"]["capping"]["percentiles"]]
        return ["none", *percentiles] if percentiles else []

    @cached_property
    def capping_layers(self) -> list[int]:
        """The layers that are capped; by default the last of those whose residuals are kept."""
        kept, layers = self.config["extraction"]["residual_layers"], self.config["steering"]["capping"]["layers"]
        key = "config, steering.capping.layers"
        if missing := sorted(set(layers) - set(kept)):
            raise UserError(f"{key}: {missing[0]} is not among extraction.residual_layers {kept}; add it there")
        if not (layers or kept):
            raise UserError(f"{key}: there is no residual axis; name layers in extraction.residual_layers")
        return sorted(layers) or [max(kept)]

    @cached_property
    def capping_scripts(self) -> list[str]:
        """The scripts that are simulated with and without a cap."""
        from personascope.formats.conversation_files import find_scripts

        return list(find_scripts(self.config["drift"]["simulations"]["folder"]))

    def capping_files(self, suffix: str) -> list[str]:
        """A file of every script and cap."""
        return [
            f"{FOLDER}/capping/{cap}/{script}{suffix}" for cap in self.capping_points for script in self.capping_scripts
        ]

    def check_capping(self) -> None:
        """UserError where capping is asked for and cannot be done."""
        if not self.capping_points:
            return
        _ = self.capping_layers
        if not self.references:
            key = "config, steering.capping"
            raise UserError(f"{key}: its floor is a percentile of plain conversations; drift.references has none")
        if not self.capping_scripts:
            raise UserError("config, steering.capping: no script in drift.simulations.folder")

    # ---- what is made -----------------------------------------------------------------------------------------------

    @cached_property
    def steering(self) -> list[str]:
        """What sweeps and capping end in."""
        self.check_sweeps()
        self.check_capping()
        kinds = ("csv", "json", "png", "svg")
        made = [f"{FOLDER}/{name}/dose_response.{kind}" for name in self.sweeps for kind in kinds]
        capped = [f"{FOLDER}/capping/capping.{kind}" for kind in ("csv", "png", "svg")]
        return made + (capped if self.capping_points else [])
