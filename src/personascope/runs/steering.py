"""What an experiment asks for where the model is watched or steered: traces, sweeps, capping, the causal test."""

from functools import cached_property
from typing import Any

from personascope.errors import UserError
from personascope.generation.rubrics import read_rubric
from personascope.runs.sweeps import SweepFiles

SUFFIXES = (".json", ".png")  # of a causal test


class SteeringFiles(SweepFiles):
    """The files of monitor, steering and causal test, and whether their configuration is right."""

    # ---- monitor ----------------------------------------------------------------------------------------------------

    @cached_property
    def monitored(self) -> list[str]:
        """Names of the conversations whose tokens are projected on directions."""
        wanted = self.config["monitor"]["conversations"]
        return self.chosen("monitor.conversations", self.conversations if wanted == "all" else wanted)

    def monitor_directions(self) -> dict[str, str]:
        """{name: file} of the directions that are monitored."""
        names = self.config["monitor"]["directions"]
        return {name: self.direction_file("monitor.directions", name) for name in names}

    @property
    def monitor_params(self) -> dict[str, Any]:
        """What defines a trace, beside the files of its directions."""
        block, imported = self.config["monitor"], self.config["directions"]
        how = {
            name: {key: value for key, value in imported[name].items() if key != "file"}
            for name in block["directions"]
            if name in imported
        }
        return {"names": block["directions"], "how": how, "layers": block["layers"]}

    @property
    def monitor_evidence(self) -> dict[str, str]:
        """{name: file} of what is known of how good the monitored directions are."""
        named = {"axis": "<out>/axis/<cell>/agreement.csv"}
        named |= {f"trait:{trait}": f"<out>/traits/<model>/{trait}/evaluation.json" for trait in self.traits}
        return {name: file for name, file in named.items() if name in self.config["monitor"]["directions"]}

    @cached_property
    def traces(self) -> list[str]:
        suffixes = (".parquet", ".html", ".png")
        if self.monitored and not self.config["monitor"]["directions"]:
            raise UserError("config, monitor.directions: conversations are monitored, but no direction is named")
        self.check_layers("monitor.layers", self.config["monitor"]["layers"], self.config["monitor"]["directions"])
        return [f"<out>/traces/<cell>/{name}{suffix}" for name in self.monitored for suffix in suffixes]

    # ---- causal test ------------------------------------------------------------------------------------------------

    @cached_property
    def validated(self) -> list[tuple[str, str]]:
        """(analysis, conversation) of each causal test; UserError with the key that is wrong."""
        block = self.config["drift"]["causal"]
        wanted = self.conversations if block["conversations"] == "all" else block["conversations"]
        names = self.chosen("drift.causal.conversations", wanted)
        self.check_names("drift.causal.analyses", block["analyses"], self.analyses, "analysis")
        for name in block["analyses"]:
            if self.analysis_options(name)["space"] != "sae":
                raise UserError(
                    f"config, drift.causal.analyses: {name} has no features to patch; its space is residual"
                )
        kept = self.config["extraction"]["residual_layers"]
        if block["analyses"] and not kept:
            raise UserError("config, drift.causal: it reads residual axes; name layers in extraction.residual_layers")
        if missing := sorted(set(block["read_layers"]) - set(kept)):
            raise UserError(
                f"config, drift.causal.read_layers: {missing[0]} is not among extraction.residual_layers {kept}"
            )
        for rubric in {self.causal_rubric(name) for name in block["analyses"]} if self.causal_judge else ():
            read_rubric(rubric)
        return [(name, talk) for name in block["analyses"] for talk in names]

    @cached_property
    def causal(self) -> list[str]:
        """A verdict and its figure for each of them."""
        made = [f"<out>/causal/<cell>/{name}/{talk}{suffix}" for name, talk in self.validated for suffix in SUFFIXES]
        return made + [file for name, talk in self.validated for file in self.causal_judged(name, talk).values()]

    @property
    def causal_judge(self) -> str | None:
        """Who judges the texts of the causal test; None where nobody does."""
        name = self.config["drift"]["causal"]["judge"]
        return None if name is None else self.judge_named("drift.causal.judge", name)

    def causal_rubric(self, analysis: str) -> str:
        """The file of the role that these texts are held against: the first anchor of the axis that has a persona."""
        anchors = [name for name in self.analysis_options(analysis)["anchor"] if name.strip().lower() != "default"]
        if not anchors:
            raise UserError(
                f"config, drift.causal.judge: the anchor of {analysis} is `default` alone, which is no role to judge by"
            )
        return f"{self.config['roles']['folder']}/{anchors[0]}.json"

    def causal_judged(self, analysis: str, conversation: str) -> dict[str, str]:
        """The file of what the judge says of a test, for its figure; none where nobody judges."""
        if self.causal_judge is None:
            return {}
        return {"judged": f"<out>/judgements/{self.causal_judge}/causal/<cell>/{analysis}/{conversation}.json"}

    def causal_test(self, analysis: str, conversation: str) -> list[str]:
        """The file of the causal test that a drift run repeats the verdict of; none where it is not asked for."""
        wanted = (analysis, conversation) in self.validated
        return [f"<out>/causal/<cell>/{analysis}/{conversation}.json"] if wanted else []

    @property
    def causal_params(self) -> dict[str, Any]:
        """What defines a causal test, besides the analysis."""
        block = self.config["drift"]["causal"]
        sizes = {key: block[key] for key in ("top", "controls", "seeds", "max_tokens", "read_layers")}
        sampling = self.spec("generation", "temperature", "top_p", "max_model_len", "seed")
        named = {"model_name": self.model, "too_long": self.config["drift"]["too_long"]}
        return self.activation_params | sizes | sampling | named

    @cached_property
    def causal_minutes(self) -> int:
        """Of one test: the texts of every arm, and as much reading again."""
        block = self.config["drift"]["causal"]
        texts = (3 + 2 * block["controls"]) * block["seeds"]
        return 2 * self.minutes_of(texts, block["max_tokens"])
