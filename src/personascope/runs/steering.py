"""What an experiment asks for where the model is watched or steered: traces, sweeps, capping, the causal test."""

from functools import cached_property
from typing import Any

from personascope.errors import UserError
from personascope.runs.sweeps import SweepFiles


class SteeringFiles(SweepFiles):
    """The files of monitor, steering and causal test, and whether their configuration is right."""

    # ---- monitor ----------------------------------------------------------------------------------------------------

    @cached_property
    def monitored(self) -> list[str]:
        """Names of the conversations whose tokens are projected on directions."""
        wanted = self.config["monitor"]["conversations"]
        names = list(self.conversations) if wanted == "all" else wanted
        if unknown := sorted(set(names) - set(self.conversations)):
            raise UserError(f"config, monitor.conversations: {unknown[0]} is no conversation of this experiment")
        return names

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

    @cached_property
    def traces(self) -> list[str]:
        suffixes = (".parquet", ".html", ".png")
        if self.monitored and not self.config["monitor"]["directions"]:
            raise UserError("config, monitor.directions: conversations are monitored, but no direction is named")
        return [f"<out>/traces/<cell>/{name}{suffix}" for name in self.monitored for suffix in suffixes]

    # ---- causal test ------------------------------------------------------------------------------------------------

    @cached_property
    def causal(self) -> list[str]:
        """One verdict a conversation and analysis that is validated."""
        block = self.config["drift"]["causal"]
        names = list(self.conversations) if block["conversations"] == "all" else block["conversations"]
        if unknown := sorted(set(names) - set(self.conversations)):
            raise UserError(f"config, drift.causal.conversations: {unknown[0]} is no conversation of this experiment")
        if unknown := sorted(set(block["analyses"]) - set(self.analyses)):
            raise UserError(f"config, drift.causal.analyses: {unknown[0]} is no analysis of this experiment")
        return [f"<out>/causal/<cell>/{name}/{talk}.json" for name in block["analyses"] for talk in names]
