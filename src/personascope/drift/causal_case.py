"""What the causal test of one conversation is about: the transition, the facts of its features, the axes to read at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personascope.directions.axis import RoleSpace, load_role_space
from personascope.directions.block_sums import dense_column
from personascope.directions.spaces import SAE
from personascope.drift.analysis import check_activations, select_transition
from personascope.drift.attribution import transitions_of
from personascope.drift.causal_arms import FeatureFacts, explained_contrib
from personascope.drift.options import DriftOptions
from personascope.drift.result import Transition
from personascope.drift.turns import mean_pool, turn_bounds, turn_scores
from personascope.errors import UserError
from personascope.formats.features import residual_column
from personascope.formats.tables import iter_tables, load_all_npz, read_csv, truths
from personascope.formats.tokens import TokenActivations, read_activations, read_metadata


class NoTest(Exception):
    """There is no causal test of this conversation; the text says why."""


@dataclass(frozen=True)
class CausalCase:
    """A conversation under an analysis in SAE space, and the transition that the analysis explains."""

    metadata: dict[str, Any]
    activations: TokenActivations
    roles: RoleSpace
    options: DriftOptions
    transition: Transition
    score_before: float

    @property
    def pair(self) -> tuple[int, int]:
        """The turn before, and the turn."""
        return self.transition.prev_turn, self.transition.turn

    def range_of(self, turn: int) -> tuple[int, int]:
        """The turn's half-open range of tokens in the rendered conversation."""
        bounds = turn_bounds(self.activations)
        first, last = self.activations.position[[bounds[turn], bounds[turn + 1] - 1]].tolist()
        return first, last + 1

    def scores(self, answers: TokenActivations) -> np.ndarray:
        """The analysis's score of answers, each a turn of its own, float64 [N]; NaN for one without tokens."""
        return turn_scores(answers, self.roles, self.options).scores[self.options.scoring.score_method]


def causal_case(tokens: str | Path, matrix: str | Path, options: DriftOptions) -> CausalCase:
    """From a conversation's tokens and the role matrix. NoTest where there is nothing to test, UserError for an option
    that does not fit."""
    metadata = read_metadata(tokens)
    if metadata.get("error"):
        raise NoTest(metadata["error"])
    roles, activations = load_role_space(matrix, options.axis), read_activations(tokens)
    check_activations(activations, roles)
    turns = turn_scores(activations, roles, options)
    transitions = transitions_of(turns, roles, options)
    selected = select_transition(transitions, activations.n_turns, options)
    if selected is None:
        raise NoTest("fewer than two turns with tokens: no transition")
    transition = transitions[selected]
    if transition.delta_score >= 0:
        raise NoTest(f"the score does not fall over the transition into turn {transition.turn}")
    before = float(turns.scores[options.scoring.score_method][transition.prev_turn])
    return CausalCase(metadata, activations, roles, options, transition, before)


def feature_facts(case: CausalCase, norm: np.ndarray, along: np.ndarray) -> FeatureFacts:
    """norm, along: see `FeatureFacts`. Activations are means over a turn's tokens, whatever the analysis pools by: that
    is what a patch of every token can bring back."""
    pooled = mean_pool(case.activations).astype(np.float64)
    active = np.bincount(case.activations.indices, minlength=case.activations.width)
    before, now = (pooled[turn] for turn in case.pair)
    contrib = explained_contrib(case.transition)
    density = active / max(len(case.activations), 1)
    return FeatureFacts(case.transition.delta_x, contrib, before, now, density, norm, along)


@dataclass(frozen=True)
class ReadAxes:
    """The residual axes that are read: patched, the layer of the patch; axes {layer: float32 [d_model]} of all layers
    kept; later, behind the patch; units {layer: spread of the conversation's assistant tokens}; means {layer: [T]}."""

    patched: int
    axes: dict[int, np.ndarray]
    later: tuple[int, ...]
    units: dict[int, float]
    means: dict[int, np.ndarray]

    @property
    def of_totals(self) -> tuple[int, ...]:
        """Layers at which new texts are read: later ones, else all kept, since nothing is patched when they are."""
        return self.later or tuple(self.axes)

    def reading(self, projections: Mapping[int, np.ndarray], layers: tuple[int, ...]) -> np.ndarray:
        """The mean over layers of projections [N] in units of the tokens' spread, float64 [N]."""
        return np.mean([projections[layer] / self.units[layer] for layer in layers], axis=0)

    def falls(self, pair: tuple[int, int]) -> dict[str, float]:
        """By how much the reading, and each layer's projection, falls from the turn before to the turn."""
        means = self.reading(self.means, self.of_totals)
        falls = {"reading": means} | {f"layer_{layer}": self.means[layer] for layer in self.of_totals}
        return {name: float(values[pair[0]] - values[pair[1]]) for name, values in falls.items()}


def read_axes(axes_file: str | Path, tokens: str | Path, case: CausalCase, patched: int, wanted: list[int]) -> ReadAxes:
    """patched: layer of the patch; wanted: layers to read at, none: all behind it. UserError for one that is not behind
    it or not kept; NoTest where no residual layer was kept."""
    prefix = f"{case.options.axis.axis_method}_residual_layer_"
    kept = {
        int(name.removeprefix(prefix)): axis.astype(np.float32)
        for name, axis in load_all_npz(axes_file).items()
        if name.startswith(prefix)
    }
    if not kept:
        raise NoTest("no residual layer is kept: name some behind the SAE's in extraction.residual_layers")
    for layer in wanted:
        if layer <= patched or layer not in kept:
            raise UserError(
                f"drift.causal.read_layers: {layer} is not behind the SAE's layer {patched} or not among "
                f"extraction.residual_layers {sorted(kept)}"
            )
    kept = dict(sorted(kept.items()))
    along = token_projections(tokens, kept)
    bounds = turn_bounds(case.activations)
    means = {
        layer: np.array([part.mean() if len(part) else np.nan for part in np.split(values, bounds[1:-1])])
        for layer, values in along.items()
    }
    units = {layer: max(float(values.std()), 1e-12) for layer, values in along.items()}
    return ReadAxes(patched, kept, tuple(wanted) or tuple(k for k in kept if k > patched), units, means)


def axis_doubts(agreement: str | Path, layers: Sequence[int]) -> list[str]:
    """Which of the axes that the test rests on are not to be interpreted, and why: from the axis stage's table."""
    table = read_csv(agreement)
    spaces = [SAE, *(f"residual layer {layer}" for layer in layers)]
    rows = zip(table["space"], truths(table, "interpretable"), table["reason"], strict=True)
    return [
        f"The axis of the space {space} is not to be interpreted: {reason}."
        for space, good, reason in rows
        if space in spaces and not good
    ]


def token_projections(tokens: str | Path, axes: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """h . axis of every assistant token, {layer: float64 [n]}; UserError where the file has not kept a layer."""
    columns = {layer: residual_column(layer) for layer in axes}
    parts: dict[int, list[np.ndarray]] = {layer: [] for layer in axes}
    for table in iter_tables(tokens, list(columns.values())):
        for layer, column in columns.items():
            parts[layer].append(dense_column(table.column(column)) @ axes[layer].astype(np.float64))
    return {layer: np.concatenate([np.zeros(0), *found]) for layer, found in parts.items()}
