"""Which features the causal test patches, and the controls that it holds them against.

The arms: `features`, the top k by contribution among those that move the transition away from the assistant, whether
they fell or rose; `matched`, as many others of the same size, density and direction; `random_direction`, a random
vector of the same norm; `largest_change`, the top k by |delta| that are not among the first. Every patch of features
sets them to the mean activation that they had in the turn before, so that it changes the mean of h by
sum_f (before_f - now_f) W_dec,f: those that fell are brought back, which an ablation cannot do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personascope.drift.attribution import smallest
from personascope.drift.result import Transition

ARMS = ("features", "matched", "random_direction", "largest_change")
DRAWN = ("matched", "random_direction")  # these are drawn anew several times
PARTS = ("fell", "rose")  # of the arm `features`, read directly only
NEAREST = 5  # candidates among which a matched feature is drawn


@dataclass(frozen=True)
class FeatureFacts:
    """What the choice is made by, of each of D features.

    delta_x, contrib float32 [D]: of the transition, in role space; before, now float64 [D]: mean activation over the
    tokens of the turn before and of the turn; density float64 [D]: share of the conversation's assistant tokens with a
    value; norm float64 [D]: |W_dec,f|; along float64 [D]: W_dec,f . a for the residual axis a of the patched layer (0
    where none was kept).
    """

    delta_x: np.ndarray
    contrib: np.ndarray
    before: np.ndarray
    now: np.ndarray
    density: np.ndarray
    norm: np.ndarray
    along: np.ndarray

    @property
    def change(self) -> np.ndarray:
        """|change of the mean of h| that setting a feature back makes, float64 [D]."""
        return np.abs(self.before - self.now) * self.norm


@dataclass(frozen=True)
class Patch:
    """One patch: features int64 [k] and the values float64 [k] that they are set to, or a vector that is added."""

    arm: str
    draw: int
    features: np.ndarray
    values: np.ndarray
    vector: np.ndarray | None = None


def explained_contrib(transition: Transition) -> np.ndarray:
    """What each feature adds to the change of the selected score, float32 [D]."""
    return transition.contrib if transition.score_contrib is None else transition.score_contrib


def top_features(facts: FeatureFacts, k: int) -> np.ndarray:
    """The k features that move the score away from the assistant most, int64 [<= k]: fallen and risen ones."""
    return smallest(facts.contrib, (facts.contrib < 0) & (facts.before != facts.now), k)


def largest_changes(facts: FeatureFacts, k: int, but: np.ndarray) -> np.ndarray:
    """The k features with the largest |delta| in role space that are not among `but`, int64 [<= k]."""
    candidates = facts.before != facts.now
    candidates[but] = False
    return smallest(-np.abs(facts.delta_x), candidates, k)


def matched_features(facts: FeatureFacts, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each chosen feature another one like it, int64 [<= k], none twice and none of the chosen.

    Likeness: |change of h|, density (both as logarithms) and W_dec,f . a, each in standard deviations over all that
    changed; one of the NEAREST is drawn. The largest of the chosen, which has the fewest like it, draws first.
    """
    pool = (facts.change > 0) & (facts.density > 0)
    pool[chosen] = False
    ids = np.flatnonzero(pool)
    everyone = np.concatenate([ids, chosen])
    traits = np.stack([np.log(facts.change[everyone]), np.log(facts.density[everyone]), facts.along[everyone]], axis=1)
    traits /= np.maximum(traits.std(0), 1e-12)
    of_pool, of_chosen = traits[: len(ids)], traits[len(ids) :]
    free, taken = np.ones(len(ids), bool), []
    for row in np.argsort(-facts.change[chosen], kind="stable"):
        distance = np.where(free, np.square(of_pool - of_chosen[row]).sum(1), np.inf)
        near = np.argsort(distance, kind="stable")[: min(NEAREST, int(free.sum()))]
        if not len(near):
            break
        place = int(rng.choice(near))
        free[place] = False
        taken.append(int(ids[place]))
    return np.array(taken, np.int64)


def random_vector(norm: float, width: int, rng: np.random.Generator) -> np.ndarray:
    """A vector of this norm in a random direction, float32 [width]."""
    vector = rng.normal(size=width)
    return (norm * vector / np.linalg.norm(vector)).astype(np.float32)


def patch_of(arm: str, draw: int, features: np.ndarray, facts: FeatureFacts) -> Patch:
    """Features set back to the turn before."""
    return Patch(arm, draw, features, facts.before[features])


def feature_patches(facts: FeatureFacts, k: int, draws: int, seed: int) -> list[Patch]:
    """The arms that patch features: `features` first, `matched` in `draws` draws, `largest_change`, and of the first
    those that fell and those that rose by themselves, where there are both."""
    top = top_features(facts, k)
    patches = [patch_of("features", 0, top, facts)]
    for draw in range(draws):
        found = matched_features(facts, top, np.random.default_rng([seed, draw]))
        patches.append(patch_of("matched", draw, found, facts))
    patches.append(patch_of("largest_change", 0, largest_changes(facts, k, top), facts))
    fell = facts.now[top] < facts.before[top]
    if fell.any() and not fell.all():
        patches += [patch_of(name, 0, top[part], facts) for name, part in zip(PARTS, (fell, ~fell), strict=True)]
    return [patch for patch in patches if len(patch.features)]


def vector_patches(norm: float, width: int, draws: int, seed: int) -> list[Patch]:
    """The arm `random_direction`: vectors of the norm by which the patch of the features moves a token (root mean
    square over the turn)."""
    nothing = np.zeros(0, np.int64)
    return [
        Patch(
            "random_direction",
            draw,
            nothing,
            nothing.astype(np.float64),
            random_vector(norm, width, np.random.default_rng([seed, draw, 1])),
        )
        for draw in range(draws)
    ]


def balance(facts: FeatureFacts, patches: Sequence[Patch]) -> list[dict[str, float | int | str]]:
    """How well the arms match, a row a patch of features: means of |change of h|, density and W_dec,f . a."""
    return [
        {
            "arm": patch.arm,
            "draw": patch.draw,
            "n_features": len(patch.features),
            "change": float(facts.change[patch.features].mean()),
            "density": float(facts.density[patch.features].mean()),
            "along": float(facts.along[patch.features].mean()),
        }
        for patch in patches
        if patch.vector is None
    ]
