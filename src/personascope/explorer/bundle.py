"""An experiment's results as an explorer bundle: every part that exists, and the names of those that do not.

The bundle has a head (version, experiment, parts, what is absent and why), which `bundle.schema.json` describes, and
parts that a page unpacks when a view first asks for them (`pack`). Parts:

=========================  ==========================================================================================
core                       provenance, findings, how good the axis is, ranked runs, alarm rates
features                   the map of all alive features, metrics, neighbors, descriptions
centered                   the same features on the centered map, where both maps were made
profiles                   means and standard errors of roles on the alive features
contexts/N                 where features are active, in text, from the feature N on
roles, responses           similarity, components, projections; some responses of each role
drift/ANALYSIS/NAME        a run
where                      in which transitions' tables each feature is
traces/NAME                a conversation's projections on directions
traits, steering, causal   evaluations, sweeps and tests
=========================  ==========================================================================================
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope import __version__
from personascope.display.heat import heat_limit
from personascope.drift.pages.findings import TITLES, axis_lines, causal_lines, cautions, flagged_lines
from personascope.errors import UserError
from personascope.explorer import directions, features, roles, runs
from personascope.explorer.page import write_page
from personascope.formats.files import iter_jsonl, read_json
from personascope.formats.tables import load_all_npz, open_parquet, plain, read_csv

log = logging.getLogger(__name__)

PROVENANCE = ("model", "weights", "dtype", "sae", "sae_id", "sae_release", "sae_weights", "sae_layer", "hook_name")
PROVENANCE += ("layer_convention", "template", "residual_layers", "token_selection", "version", "d_sae")

# Keys of the configuration that say where and how fast, not what; an address may hold a password.
UNTOLD = {"pathvars", "store", "device", "device_map", "gpus", "batch_tokens", "backend_options", "base_url"}


@dataclass(frozen=True)
class Settings:
    """Whose results, and how much of them. model, sae, mode: as in paths; transform: of the axis; analyses: in order;
    token_features, responses: how many are kept of each token and role; contexts: features of which all is kept;
    inline_mb: size up to which the data stand in the page; sensitive: conversations shown only when asked for;
    config: of the experiment, which the page shows; descriptions: the file of what features are called, or none;
    groups: {label: roles}, by which many roles are colored and ordered."""

    experiment: str
    model: str
    sae: str
    mode: str
    transform: str = "log1p"
    analyses: tuple[str, ...] = ()
    token_features: int = 12
    responses: int = 12
    contexts: int = 2000
    inline_mb: float = 20
    sensitive: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    descriptions: tuple[str, ...] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Settings":
        """From a rule's parameters, whose lists become tuples."""
        given: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in values.items()}
        return cls(**given)


@dataclass
class Bundle:
    """The parts of an experiment. results: its folder; made: its files, without those that a configuration before this
    one has left in the folder (None: all that are there); absent: what there is not, and why."""

    results: Path
    settings: Settings
    made: frozenset[str] | None = None
    absent: list[dict[str, str]] = field(default_factory=list)
    _listed: dict[str, dict[str, Any]] = field(default_factory=dict)  # runs that have features, for `where`
    counts: dict[str, int] = field(default_factory=dict)  # of what is on the page, for the first view

    def folder(self, stage: str) -> Path:
        """The cell's folder of a stage."""
        settings = self.settings
        return self.results / stage / settings.mode / f"{settings.model}_{settings.sae}"

    def files(self, folder: Path, pattern: str) -> list[Path]:
        """The experiment's files below a folder."""
        return [path for path in sorted(folder.glob(pattern)) if self.made is None or str(path) in self.made]

    def parts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(name, content) of all that there are; a part that cannot be read is absent, with the reason."""
        axis, aggregated = self.folder("axis"), self.folder("aggregated")
        yield from self._features(aggregated)
        transform, groups = self.settings.transform, self.settings.groups
        yield from self._part("roles", lambda: roles.roles_part(axis, aggregated, transform, groups), axis)
        answers = self.results / "responses" / self.settings.mode / self.settings.model
        names = [path.stem for path in self.files(answers, "*.jsonl")]
        most = self.settings.responses
        for name, content in self._part("responses", lambda: roles.responses_part(answers, names, most), answers):
            said = content["roles"].values()
            self.counts |= {"roles": len(said), "responses": sum(one["n"] for one in said)}
            yield name, content
        yield from self._conversations()
        if self._listed:
            yield "where", runs.where_part(self._listed)
        traits, steering = self.results / "traits" / self.settings.model, self.folder("steering")
        evaluations, compared = self.files(traits, "*/evaluation.json"), self.files(traits, "traits.csv")
        yield from self._part("traits", lambda: directions.traits_part(evaluations, compared), traits)
        sweeps, capped = self.files(steering, "*/dose_response.csv"), self.files(steering, "*/capping.csv")
        yield from self._part("steering", lambda: directions.steering_part(sweeps, capped), steering)
        causal = self.folder("causal")
        yield from self._part("causal", lambda: causal_part(self.files(causal, "*/*.json")), causal)
        yield from self._part("core", lambda: core_part(self), self.folder("features"))

    def _features(self, aggregated: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        atlas, described = self.folder("atlas"), self.folder("descriptions")
        layout, centered, contexts = atlas / "layout.npz", atlas / "centered/layout.npz", described / "contexts.parquet"
        if not layout.is_file() and centered.is_file():  # the only map
            layout, centered = centered, layout
        self._missing("the map of features", layout)
        if not self.settings.descriptions:
            self._missing("labels of features", described)
        self._missing("contexts of features", contexts)
        responses, axis, most = self.folder("features"), self.folder("axis") / "axis.npz", self.settings.contexts
        made = list(
            self._part(
                "features",
                lambda: features.features_part(layout, aggregated, described, axis, most, self.settings.descriptions),
                aggregated,
            )
        )
        yield from made
        if not made:
            return
        part = made[0][1]
        ids, places = part["id"], features.first(part, most)
        self._missing("the centered map of features" if centered.parent != atlas else "the plain map", centered)
        if layout.is_file() and centered.is_file():
            yield from self._part("centered", lambda: features.centered_part(centered, ids), centered)
        yield from self._part("profiles", lambda: roles.profiles_part(aggregated, responses, ids, places), aggregated)
        self.counts |= {"features": len(ids), "labels": sum(map(bool, part.get("label", [])))}
        if contexts.is_file():
            shards = features.context_parts(contexts, ids[places], len(ids) > features.MANY)
            self.counts["contexts"] = sum(len(np.unique(shard["feature"])) for shard in shards.values())
            yield from shards.items()

    def _conversations(self) -> Iterator[tuple[str, dict[str, Any]]]:
        tokens = self.results / "tokens" / f"{self.settings.model}_{self.settings.sae}"
        most = self.settings.token_features
        for analysis in self.settings.analyses:
            folder = self.folder("drift") / analysis
            self._missing(f"drift runs of the analysis {analysis}", folder)
            for run in (path.parent for path in self.files(folder, "*/result.npz")):
                file = tokens / f"{run.name}.parquet"
                made = self._part(
                    f"drift/{analysis}/{run.name}", lambda run=run, file=file: runs.run_part(run, file, most), run
                )
                for name, content in made:
                    if content.get("features") is not None:
                        self._listed[f"{analysis}/{run.name}"] = content
                    yield name, content
        traces = self.folder("traces")
        self._missing("traces along directions", traces)
        for path in self.files(traces, "*.parquet"):
            yield from self._part(
                f"traces/{path.stem}", lambda path=path: runs.trace_part(path, self.settings.sensitive), path
            )

    def _missing(self, what: str, path: Path) -> None:
        if not path.exists():
            self.absent.append({"what": what, "why": f"{path} has not been made"})

    def _part(
        self, name: str, make: Callable[[], dict[str, Any]], needed: Path
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        if not needed.exists():
            self.absent.append({"what": name, "why": f"{needed} has not been made"})
            return
        try:
            content = make()
        except UserError as error:
            log.warning("explorer: %s is left out: %s", name, error)
            self.absent.append({"what": name, "why": str(error)})
            return
        yield name, content


def core_part(bundle: Bundle) -> dict[str, Any]:
    """What the first view shows."""
    axis, summary = bundle.folder("axis"), bundle.folder("summary") / "drift_summary.parquet"
    part: dict[str, Any] = {"provenance": provenance(bundle), "findings": [], "agreement": [], "runs": []}
    part["counts"] = bundle.counts
    agreement = read_csv(axis / "agreement.csv") if (axis / "agreement.csv").is_file() else pd.DataFrame()
    part["agreement"] = roles.table_rows(axis / "agreement.csv") if len(agreement) else []
    spectrum = axis / "pca_spectrum.csv"
    part["spectrum"] = roles.table_rows(spectrum) if spectrum.is_file() else []
    nulls = {path.stem: read_json(path) for path in bundle.files(bundle.folder("null"), "*.json")}
    part["nulls"] = nulls
    part["scales"] = {
        name: token_scales(bundle.files(bundle.folder("drift") / name, "*/result.npz"))
        for name in bundle.settings.analyses
    }
    if not summary.is_file():
        bundle.absent.append({"what": "the ranking of conversations", "why": f"{summary} has not been made"})
        return part
    table = pd.read_parquet(summary)
    ranked = plain(table.astype(object).where(table.notna(), None).to_dict("records"))
    talks = _conversation_heads(bundle, ranked)
    part["runs"] = [row | talks.get(row["conversation"], {}) for row in ranked]
    lines = (axis_lines(agreement), flagged_lines(table, nulls), causal_lines(table), cautions(agreement, table, nulls))
    part["findings"] = [{"title": title, "lines": said} for title, said in zip(TITLES, lines, strict=True) if said]
    return part


def _conversation_heads(bundle: Bundle, ranked: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """{conversation: its title, and whether it is shown only when asked for}."""
    heads = {}
    for row in ranked:
        path = bundle.folder("drift") / row["analysis"] / row["conversation"] / "summary.json"
        said = read_json(path) if path.is_file() else {}
        metadata = said.get("metadata") or {}
        sensitive = bool(metadata.get("sensitive")) or row["conversation"] in bundle.settings.sensitive
        heads[row["conversation"]] = {"title": str(metadata.get("title") or ""), "sensitive": sensitive}
    return heads


def provenance(bundle: Bundle) -> dict[str, Any]:
    """What the results were made with, from the metadata of a features file."""
    settings = bundle.settings
    known: dict[str, Any] = {"experiment": settings.experiment, "question_mode": settings.mode}
    known |= {"transform": settings.transform}
    for path in bundle.files(bundle.folder("features"), "*.parquet"):
        metadata = open_parquet(path)[1]
        known |= {name: metadata[name] for name in PROVENANCE if name in metadata}
        break
    config = dict(settings.config)
    if config.get("model", {}).get("revision"):
        known["revision"] = config["model"]["revision"]
    return known | {"explorer_version": __version__, "config": config}


def told(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that the page shows."""
    kept = {name: value for name, value in config.items() if name not in UNTOLD}
    return {name: told(value) if isinstance(value, dict) else value for name, value in kept.items()}


def token_scales(results: Sequence[Path]) -> dict[str, float]:
    """Weights at which the color of a token is full, the same for all runs of an analysis: `w` of those in a score,
    `change` of those in a transition. results: result.npz of the runs."""
    found: dict[str, list[np.ndarray]] = {"w": [], "change": []}
    for path in results:
        try:
            arrays = load_all_npz(path)
        except UserError:  # the run is left out, with this reason
            continue
        if "weights_w" in arrays:  # not in the file of a conversation that failed
            found["w"].append(arrays["weights_w"])
            found["change"] += [arrays["weights_as_turn"], arrays["weights_as_prev"]]
    return {name: heat_limit(np.concatenate(values)) for name, values in found.items() if values}


def causal_part(reports: Sequence[Path]) -> dict[str, Any]:
    """{analysis/conversation: the test, and the texts of its arms}. reports: ANALYSIS/CONVERSATION.json."""
    tests = {}
    for path in reports:
        samples = path.with_name(f"{path.stem}.samples.jsonl")
        texts = list(iter_jsonl(samples)) if samples.is_file() else []
        tests[f"{path.parent.name}/{path.stem}"] = {"test": read_json(path), "samples": texts}
    return {"tests": tests}


def write_explorer(
    results: str | Path, page: str | Path, settings: Settings, made: Iterable[str | Path] | None = None
) -> int:
    """Write the page of an experiment's results (and data-*.js beside it above `inline_mb`); returns its bytes.
    made: the experiment's files, below `results`; None: all that are there."""
    bundle = Bundle(
        Path(results), settings, None if made is None else frozenset(os.path.normpath(path) for path in made)
    )
    parts = list(bundle.parts())
    title = f"{settings.experiment}: {settings.model}"
    head = {"experiment": settings.experiment, "title": title, "made_by": __version__, "absent": bundle.absent}
    return write_page(page, head, parts, int(settings.inline_mb * 1e6))
