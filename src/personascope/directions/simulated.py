"""Responses whose population is known, for measuring what the methods promise: `validation` here and in `drift`.

The response of role r to question q under variant v is, in d dimensions,

    y_rvq = mean_r + variant_rv + question_q + question_rq + response_rvq,

each effect normal and independent from dimension to dimension. The population's axis is that of the means: what all
questions and variants that might have been asked would give.
"""

import math
from dataclasses import dataclass

import numpy as np

from personascope.directions.axis import AXIS_METHODS, AxisRoles, axis_roles, unit
from personascope.directions.block_sums import N_BLOCKS, BlockSums, deal_questions
from personascope.directions.options import AxisOptions

ANCHORS = ("assistant", "default")
SIGNAL = 3.0  # between the anchors' mean and the others', along the first direction
SPREAD = 1.0  # length of what is particular to one role
COMMON = 5.0  # length of what all roles share


@dataclass(frozen=True)
class Noise:
    """Standard deviations a dimension: of a role's variant, of a question for all roles, of a question for one role,
    and of a single response."""

    variant: float = 0.5
    question: float = 0.5
    role_question: float = 0.5
    response: float = 0.5


@dataclass(frozen=True)
class Population:
    """names: of the R roles, sorted; means float64 [R, d]: their vectors over all questions and variants."""

    names: list[str]
    means: np.ndarray

    def roles(self, options: AxisOptions) -> AxisRoles:
        """The part that each role takes."""
        return axis_roles(self.names, options)

    def axis(self, options: AxisOptions) -> np.ndarray:
        """The population's axis, unit float64 [d]."""
        return AXIS_METHODS[options.axis_method](self.means, self.roles(options)).astype(np.float64)


def population(rng: np.random.Generator, roles: int, d: int, signal: float = SIGNAL) -> Population:
    """`roles` roles, two of them anchors, whose mean lies `signal` from the others' but for what is particular to
    each."""
    names = sorted([*ANCHORS, *(f"role{i:02}" for i in range(roles - len(ANCHORS)))])
    directions = unit(rng.standard_normal((roles + 2, d)))
    means = COMMON * directions[0] + SPREAD * directions[2:]
    means[[names.index(name) for name in ANCHORS]] += signal * directions[1]
    return Population(names, means)


def simulated_sums(
    rng: np.random.Generator,
    people: Population,
    variants: int,
    questions: int,
    noise: Noise = Noise(),
    blocks: int = N_BLOCKS,
) -> dict[str, BlockSums]:
    """Block sums of one sample of questions (dealt into at most `blocks` blocks) and variants, by role.

    The sums of a block's questions are drawn as such, which has the same distribution as drawing every response.
    UserError does not occur; `questions` must be a multiple of the number of blocks.
    """
    n, d = people.means.shape
    groups = min(questions, blocks)
    each = questions // groups
    of_variant = noise.variant * rng.standard_normal((n, variants, 1, d))
    shared = noise.question * rng.standard_normal((1, 1, groups, d))
    own = noise.role_question * rng.standard_normal((n, 1, groups, d))
    rest = noise.response * rng.standard_normal((n, variants, groups, d), dtype=np.float32)
    cells = each * (people.means[:, None, None] + of_variant) + math.sqrt(each) * (shared + own + rest)
    ids, dealt = deal_questions(np.arange(groups * each), groups)
    nothing = np.empty((variants, groups, 0, 0), np.float32)
    return {
        name: BlockSums(
            variants=np.arange(variants, dtype=np.int32),
            blocks=np.arange(groups, dtype=np.int32),
            question_ids=ids,
            question_blocks=dealt,
            counts=np.full((variants, groups), each),
            sums=part,
            max_sums=part,
            residual_sums=nothing,
            layers=np.empty(0, np.int32),
        )
        for name, part in zip(people.names, cells.astype(np.float32), strict=True)
    }
