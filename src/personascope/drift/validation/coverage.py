"""How often 95 % intervals hold what they are intervals of, on simulated responses whose axis is known.

The intervals are made by the package's own functions, from block sums to `turn_intervals`. Targets, by name:

- score: kappa times the turn's score on the population's axis (`intervals.spread`), kappa the cosine of both axes;
- population: that score itself, the interval divided by the median of cos_to_axis;
- change: kappa times the difference of two turns' scores;
- contribution: kappa times delta_x * axis of a feature, whatever it is; largest: of the CHOSEN largest ones, which
  were chosen by the same axis;
- text: kappa times the score of what the turn's tokens are drawn around, with other questions and other tokens;
- tokens: the score of that on the estimated axis, the interval of the token noise alone.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from personascope.directions.axis import RoleSpace, role_space_of
from personascope.directions.bootstrap import AxisBootstrap, bootstrap, role_features
from personascope.directions.options import AxisOptions
from personascope.directions.simulated import Population, population, simulated_sums
from personascope.drift.intervals import contribution_intervals, spread, token_half_width, turn_intervals
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference
from personascope.drift.result import Transition, TurnScores
from personascope.drift.token_noise import token_noise
from personascope.drift.turns import score_vectors, turn_scores
from personascope.formats.tokens import TokenActivations

VARIANTS, QUESTIONS, WIDTHS = (2, 3, 5, 10), (6, 12, 24, 240), (40, 400)
AXES = ("diff", "pc1")
TOKENS, CARRIED = (32, 64, 128, 400), (0.0, 0.6, 0.8)
TEXT_VARIANTS, TEXT_QUESTIONS, TEXT_WIDTH = 5, 24, 40
ROLES, TURNS, DRAWS = 8, 10, 400
CHOSEN = 10  # features with the largest contributions
TURN_NOISE, TOKEN_NOISE = 0.5, 2.0  # standard deviations a dimension: of turns around roles, of tokens around a turn
REPLICATIONS = 100


@dataclass(frozen=True)
class Sample:
    """One sample of responses: the population, the role space estimated from them, and its draws as a reference."""

    people: Population
    roles: RoleSpace
    reference: Reference
    options: DriftOptions

    @property
    def true_axis(self) -> np.ndarray:
        """The population's axis, unit float64 [d]."""
        return self.people.axis(self.options.axis)

    @property
    def kappa(self) -> float:
        """Cosine of the estimated axis to the population's."""
        return float(self.true_axis @ self.roles.axis)


def samples(rng: np.random.Generator, variants: int, questions: int, d: int) -> list[Sample]:
    """One sample of responses, analyzed with each of AXES."""
    people = population(rng, ROLES, d)
    sums = simulated_sums(rng, people, variants, questions)
    features, seed = role_features(sums, AxisOptions(transform="raw")), int(rng.integers(2**31))
    found = []
    for method in AXES:
        options = DriftOptions.of(transform="raw", axis_method=method)
        roles = role_space_of(features, people.names, options.axis)
        found.append(Sample(people, roles, drawn_reference(bootstrap(sums, options.axis, DRAWS, seed)), options))
    return found


def drawn_reference(drawn: AxisBootstrap) -> Reference:
    """A reference of which only the draws matter."""
    none = np.empty(0, np.int32)
    return Reference({}, {}, none, none, none, none, [], none, none, **vars(drawn), split_half=float("nan"))


def true_turns(rng: np.random.Generator, people: Population, n: int) -> np.ndarray:
    """float64 [n, d]: turns between the roles' vectors, each with something of its own."""
    shares = rng.dirichlet(np.ones(len(people.names)), n)
    return shares @ people.means + TURN_NOISE * rng.standard_normal((n, people.means.shape[1]))


def given_turns(pooled: np.ndarray, sample: Sample) -> TurnScores:
    """Turns with these pooled vectors."""
    pooled = pooled.astype(np.float32)
    scores, mass = score_vectors(pooled, sample.roles, sample.options)
    return TurnScores(pooled, pooled, scores, mass, np.full(len(pooled), 100))


def axis_hits(rng: np.random.Generator, sample: Sample) -> dict[str, np.ndarray]:
    """{target: whether each interval holds it}, the turns given."""
    x = true_turns(rng, sample.people, TURNS)
    truth, kappa, reference = sample.true_axis, sample.kappa, sample.reference
    table = turn_intervals(given_turns(x, sample), sample.roles, reference, sample.options, np.full(TURNS, np.nan))
    assert table is not None
    low, high = table["score_low"].to_numpy(), table["score_high"].to_numpy()
    scale, score = float(np.median(reference.cos_to_axis)), x @ truth
    delta = np.diff(x, axis=0)
    changes = spread(delta @ reference.axes, reference.cos_to_axis, reference.freedom)
    step, of_feature = delta[0].astype(np.float32), kappa * delta[0] * truth
    nothing = Transition(0, 1, 0.0, 0.0, 0.0, 0.0, 0.0, "", step, step * sample.roles.axis)
    contributions = contribution_intervals(nothing, np.arange(len(step)), reference)
    assert contributions is not None
    largest = np.argsort(-np.abs(nothing.contrib))[:CHOSEN]
    held = _within(of_feature, *contributions)
    return {
        "score": _within(kappa * score, low, high),
        "population": _within(score, low / scale, high / scale),
        "change": _within(kappa * delta @ truth, *changes),
        "contribution": held,
        "largest": held[largest],
    }


def text_hits(rng: np.random.Generator, sample: Sample, n_tokens: int, carried: float) -> dict[str, np.ndarray]:
    """The same for turns of so many tokens that follow an AR(1) of coefficient `carried` around the turn's vector."""
    x = true_turns(rng, sample.people, TURNS)
    activations = simulated_tokens(rng, x, n_tokens, carried)
    turns = turn_scores(activations, sample.roles, sample.options)
    noise = token_noise(activations, turns, sample.roles, sample.options)
    table = turn_intervals(turns, sample.roles, sample.reference, sample.options, noise)
    assert table is not None
    score, here = turns.scores["projection"], x @ sample.roles.axis
    half = token_half_width(noise, turns.n_tokens)
    return {
        "text": _within(
            sample.kappa * x @ sample.true_axis, table["score_low"].to_numpy(), table["score_high"].to_numpy()
        ),
        "tokens": _within(here, score - half, score + half),
    }


def simulated_tokens(rng: np.random.Generator, x: np.ndarray, n_tokens: int, carried: float) -> TokenActivations:
    """n_tokens tokens around each of the turns x [T, d]."""
    n_turns, d = x.shape
    noise = rng.standard_normal((n_turns, n_tokens, d))
    for token in range(1, n_tokens):
        noise[:, token] = carried * noise[:, token - 1] + np.sqrt(1 - carried**2) * noise[:, token]
    n = n_turns * n_tokens
    return TokenActivations(
        turn=np.repeat(np.arange(n_turns, dtype=np.int32), n_tokens),
        n_turns=n_turns,
        offsets=np.arange(n + 1, dtype=np.int64) * d,
        indices=np.tile(np.arange(d, dtype=np.int32), n),
        values=(x[:, None] + TOKEN_NOISE * noise).ravel().astype(np.float32),
        width=d,
        tokens=[""] * n,
        token_ids=np.zeros(n, np.int32),
        position=np.arange(n, dtype=np.int32),
        message_index=np.arange(n_turns, dtype=np.int32),
    )


def _within(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return (low <= values) & (values <= high)


def axis_coverage(seed: int, effort: float) -> pd.DataFrame:
    """d, variants, questions, axis, kappa (its median), target, coverage, error: a row a target; error is the
    Monte-Carlo standard error over samples of responses."""
    rows = []
    with threadpool_limits(1):
        for cell, (d, variants, questions) in enumerate(itertools.product(WIDTHS, VARIANTS, QUESTIONS)):
            rng = np.random.default_rng([seed, cell])
            place = {"d": d, "variants": variants, "questions": questions}
            rows += _covered(rng, place, replications(effort), lambda sample, rng=rng: axis_hits(rng, sample))
    return pd.DataFrame(rows)


def text_coverage(seed: int, effort: float) -> pd.DataFrame:
    """The same with the noise of the turn's own tokens, with 5 variants and 24 questions: columns n_tokens and carried
    beside those of `axis_coverage`."""
    rows, place = [], {"d": TEXT_WIDTH, "variants": TEXT_VARIANTS, "questions": TEXT_QUESTIONS}
    with threadpool_limits(1):
        for cell, (n_tokens, carried) in enumerate(itertools.product(TOKENS, CARRIED)):
            rng = np.random.default_rng([seed, 1000 + cell])
            found = _covered(
                rng,
                place,
                replications(effort),
                lambda sample, rng=rng, n=n_tokens, carried=carried: text_hits(rng, sample, n, carried),
            )
            rows += [{"n_tokens": n_tokens, "carried": carried} | row for row in found]
    return pd.DataFrame(rows)


def replications(effort: float) -> int:
    """Samples of responses a cell."""
    return max(round(REPLICATIONS * effort), 2)


def _covered(
    rng: np.random.Generator, place: dict[str, int], n: int, hits: Callable[[Sample], dict[str, np.ndarray]]
) -> list[dict[str, Any]]:
    """A row an axis and target of one cell, from n samples of responses."""
    kappas: dict[str, list[float]] = {axis: [] for axis in AXES}
    shares: dict[tuple[str, str], list[float]] = {}
    for _ in range(n):
        for sample in samples(rng, place["variants"], place["questions"], place["d"]):
            axis = sample.options.axis.axis_method
            kappas[axis].append(abs(sample.kappa))
            for target, held in hits(sample).items():
                shares.setdefault((axis, target), []).append(float(held.mean()))
    return [
        place
        | {"axis": axis, "kappa": float(np.median(kappas[axis])), "target": target}
        | {"coverage": float(np.mean(values)), "error": float(np.std(values, ddof=1) / np.sqrt(n))}
        for (axis, target), values in shares.items()
    ]
