"""Points of a sweep: the vectors of its arms, and prompts whose seeds are the same in all of them."""

import numpy as np
import pytest

from personascope.formats.roles import Question
from personascope.generation.generate import row_seed
from personascope.generation.steer import added_vectors, steer_prompts

RNG = np.random.default_rng(0)
UNITS = {layer: (v / np.linalg.norm(v)).astype(np.float32) for layer, v in enumerate(RNG.normal(size=(3, 40)))}
SIZES = {0: 2.0, 1: 3.0, 2: 5.0}


@pytest.mark.parametrize("arm", ["direction", "random0", "random1", "orthogonal"])
def test_every_arm_adds_the_same_length(arm: str) -> None:
    made = added_vectors(arm, -0.5, UNITS, SIZES, seed=1)
    for layer, vector in made.items():
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(0.5 * SIZES[layer], rel=1e-6)
        along = float(vector @ UNITS[layer])
        if arm == "direction":
            np.testing.assert_allclose(vector, -0.5 * SIZES[layer] * UNITS[layer], rtol=1e-6)
        elif arm == "orthogonal":
            assert abs(along) < 1e-6
        else:
            assert 1e-3 < abs(along) < 0.4 * SIZES[layer]


def test_arms_are_drawn_once() -> None:
    first, second = (added_vectors("random0", c, UNITS, SIZES, seed=1) for c in (1.0, -2.0))
    np.testing.assert_allclose(second[1], -2 * first[1], rtol=1e-6)
    others = [added_vectors(arm, 1.0, UNITS, SIZES, seed) for arm, seed in (("random1", 1), ("random0", 2))]
    assert all(abs(first[1] @ other[1]) < 0.6 * SIZES[1] ** 2 for other in others)
    assert abs(first[0] @ first[1]) < 0.6 * SIZES[0] * SIZES[1]


def test_what_is_not_steered_adds_nothing() -> None:
    for arm in ("none", "prompt"):
        assert added_vectors(arm, 0.0, UNITS, SIZES, seed=1) == {}


def test_responses_are_paired_by_their_seeds() -> None:
    questions = [Question(4, "Why?"), Question(9, "How?")]
    plain = steer_prompts("s", "none", "0", "", questions, 2)
    asked = steer_prompts("other", "prompt", "0", "Be a pirate.", questions, 2)
    assert [row_seed(3, p) for p in plain] == [row_seed(3, p) for p in asked]
    assert len({row_seed(3, p) for p in plain}) == 4
    assert [(p.question.id, p.sample) for p in plain] == [(4, 0), (4, 1), (9, 0), (9, 1)]
    assert [m["role"] for m in asked[0].messages] == ["system", "user"] and len(plain[0].messages) == 1
    assert plain[3].keys == {"arm": "none", "coefficient": "0", "sample": 1}
