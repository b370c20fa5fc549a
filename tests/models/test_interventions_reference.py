"""Add, cap and ablate against another library's code (recorded by tests/record_interp_engine.py)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from personascope.models.interventions import AblateDirection, Add, Cap, intervene
from tests.helpers.drawn_llama import IDS, VECTORS, drawn_llama
from tests.record_interp_engine import BOUNDS

A, B = VECTORS
CASES = {
    "none": [],
    "add": [Add(1, 2.5 * A)],
    "cap": [Cap(1, A, *BOUNDS)],
    "cap_above": [Cap(0, A, high=BOUNDS[1])],
    "ablate": [AblateDirection(1, A)],
    "band": [Cap(0, B, *BOUNDS), Cap(1, A, *BOUNDS), Add(2, -B)],
}


@pytest.mark.parametrize("name", list(CASES))
def test_against_interp_engine(name: str) -> None:
    recorded = np.load(Path(__file__).parent / "interp_engine.npz")
    model = drawn_llama()
    with intervene(model, CASES[name]):
        got = model(input_ids=torch.tensor(IDS)).logits[0].numpy()
    np.testing.assert_allclose(got, recorded[name], rtol=0, atol=1e-5)
    assert (name == "none") == np.allclose(got, recorded["none"], atol=1e-3)
