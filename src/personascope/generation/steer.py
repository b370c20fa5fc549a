"""Sweeps: what is added to the residual stream at each point of one, and the prompts of all of them.

A point is an arm and a coefficient c. At each layer, h += c s u with u a unit vector and s a size: the mean norm of the
residual stream over the assistant's tokens there, or the direction's own norm (units "residual_norm" and "raw").
Arms: "none"; "direction"; "random0", "random1", ...: u drawn at random; "orthogonal": drawn at random, its part along
the direction taken out; "prompt": nothing is added, the system prompt asks for it.

A response's sampling noise is the same in all points of a sweep: its seed is a hash of the experiment's seed, the
question and the sample.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from personascope.formats.roles import Prompt, Question

UNSTEERED = ("none", "prompt")


def added_vectors(
    arm: str, coefficient: float, direction: Mapping[int, np.ndarray], sizes: Mapping[int, float], seed: int
) -> dict[int, np.ndarray]:
    """{layer: vector float32 [d_model]} that an arm adds; none for arms that add nothing.

    direction: {layer: unit vector}; sizes: {layer: length of a coefficient of 1}.
    """
    if arm in UNSTEERED:
        return {}
    return {
        layer: (coefficient * sizes[layer] * _unit(arm, layer, unit.astype(np.float64), seed)).astype(np.float32)
        for layer, unit in direction.items()
    }


def _unit(arm: str, layer: int, direction: np.ndarray, seed: int) -> np.ndarray:
    if arm == "direction":
        return direction
    key = hashlib.sha256(f"{seed}/steer/{arm}/{layer}".encode()).digest()
    drawn = np.random.default_rng(int.from_bytes(key[:8])).normal(size=direction.shape)
    if arm == "orthogonal":
        drawn -= drawn @ direction * direction
    return drawn / np.linalg.norm(drawn)


@dataclass(frozen=True)
class SteerPrompt(Prompt):
    """One row of a point; `role` is the sweep's name. Its seed knows the question and the sample alone."""

    arm: str
    coefficient: str
    sample: int

    @property
    def key(self) -> str:
        return f"steer/{self.question.id}/{self.sample}"

    @property
    def keys(self) -> dict[str, str | int]:
        return {"arm": self.arm, "coefficient": self.coefficient, "sample": self.sample}


def steer_prompts(
    sweep: str, arm: str, coefficient: str, system: str, questions: Sequence[Question], samples: int
) -> list[SteerPrompt]:
    """The rows of a point: questions outer, samples inner. system: "" for none."""
    return [
        SteerPrompt(sweep, 0, question, system, arm, coefficient, sample)
        for question in questions
        for sample in range(samples)
    ]
