"""Where the command `chat` finds its model and directions: an experiment by name or configuration, and files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.formats.directions import Directions, load_direction, load_directions
from personascope.formats.files import read_json
from personascope.runs.experiment import read_experiment
from personascope.runs.status import last_run

SCHEMA, CONFIG = Path("workflow/schemas/config.schema.yaml"), Path("config/config.yaml")


def experiment_settings(name: str | None, configfiles: Sequence[str]) -> dict[str, Any]:
    """The settings of an experiment: as the overlays over config/config.yaml describe it, else as it last ran here."""
    if not configfiles:
        settings = last_run(name)
        if "model_spec" not in settings:
            raise UserError(f"experiment {settings['experiment']}: its last run is too old; give its --configfile")
        return settings
    import yaml

    merged: dict[str, Any] = {}
    for path in (CONFIG, *map(Path, configfiles)):
        try:
            _merge(merged, yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        except (OSError, yaml.YAMLError, AttributeError) as error:
            raise UserError(f"{path}: cannot be read as configuration: {' '.join(str(error).split())}") from None
    folder = merged.get("pathvars", {}).get("results", "results")
    experiment = read_experiment(merged, yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))
    return experiment.settings(f"{folder}/{experiment.name}")


def _merge(into: dict[str, Any], overlay: dict[str, Any]) -> None:
    """As Snakemake does it: an overlay's keys win, block by block."""
    for key, value in overlay.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


@dataclass
class Sources:
    """Directions by name. settings: of the experiment, empty without one; files: as given, PATH or NAME=PATH."""

    settings: dict[str, Any]
    files: Sequence[str] = ()
    _given: dict[str, Directions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for given in self.files:
            name, _, path = given.rpartition("=")
            if name:
                self._given[name] = load_direction(name, path)
                continue
            found = load_directions(path)
            self._given |= dict.fromkeys(found.vectors, found)

    def find(self, name: str) -> tuple[str, Directions]:
        """(the full name, the directions that it is among); traits and roles need no prefix. UserError where there is
        none of that name."""
        if name in self._given:
            return name, self._given[name]
        for full, path, how in self._known(name):
            if not Path(path).is_file():
                raise UserError(f"{full}: {path} is not there yet; run the experiment first")
            return full, load_direction(full, path, **how)
        there = [*self._given, *self.names]
        raise UserError(f"no direction {name!r}; there are {', '.join(there) or 'none: give --directions FILE'}")

    @property
    def names(self) -> list[str]:
        """The directions of the experiment."""
        if not self.settings:
            return []
        traits = sorted(path.parent.name for path in self._out("traits", self._model).glob("*/vectors.safetensors"))
        return ["axis", *(f"trait:{t}" for t in traits), *self.settings["directions"], *self._roles]

    def scale(self) -> dict[str, Any]:
        """What the experiment's reference conversations project on directions; empty where that is not made."""
        path = self._out("traces", self._cell) / "scale.json" if self.settings else None
        return read_json(path) if path and path.is_file() else {}

    def _known(self, name: str) -> list[tuple[str, Path, dict[str, Any]]]:
        """(full name, file, how it is read) of a direction of the experiment, at most one."""
        if not self.settings:
            return []
        # The model is what the experiment's own files are of, where they do not say it themselves.
        own = {"model": self.settings["model_spec"]["id"]}
        if name in self.settings["directions"]:
            block = dict(self.settings["directions"][name])
            return [(name, Path(block.pop("file")), block)]
        if name == "axis":
            return [(name, self._out("axis", self._cell) / "axis.npz", own)]
        for full in (name, f"trait:{name}", f"role:{name}"):
            kind, _, rest = full.partition(":")
            trait = self._out("traits", self._model, rest) / "vectors.safetensors"
            if kind == "trait" and trait.is_file():
                return [(full, trait, own)]
            if kind == "role" and rest in self.settings["roles"]:
                return [(full, self._out("aggregated", self._cell) / "residual" / "per_role.npz", own)]
        return []

    @property
    def _model(self) -> str:
        return self.settings["model"]

    @property
    def _roles(self) -> list[str]:
        return [f"role:{role}" for role in self.settings["roles"]]

    @property
    def _cell(self) -> str:
        return f"{self.settings['mode']}/{self._model}_{self.settings['sae']}"

    def _out(self, *parts: str) -> Path:
        return Path(self.settings["results"], *parts)
