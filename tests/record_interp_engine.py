"""Record what another library's steering does, for the tests: ``PYTHON tests/record_interp_engine.py``.

interp-engine 1.14.2 (PyPI, Apache-2.0), its eager backend, on a tiny Llama whose weights are drawn by NumPy. It is run
in an environment of its own (``pip install interp-engine==1.14.2``), since nothing here needs it: the logits that it
gives are kept in ``tests/models/interp_engine.npz`` (1 row of 7 tokens, float32 [7, 41] each).
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.helpers.drawn_llama import IDS, VECTORS, drawn_llama

TARGET = Path(__file__).parent / "models" / "interp_engine.npz"
BOUNDS = (-0.2, 0.3)


def main() -> None:
    import torch
    from interp_engine import EagerModel, steer  # type: ignore[import-not-found]
    from interp_engine.steer import SteerMethod, SteerSpec  # type: ignore[import-not-found]

    model = drawn_llama()
    engine = EagerModel("drawn", hf_model=model, tokenizer=object(), device="cpu")
    a, b = (torch.tensor(vector) for vector in VECTORS)
    low, high = BOUNDS
    cap = {"method": SteerMethod.PROJECTION_CAP, "min": low, "max": high}
    cases = {
        "none": [],
        "add": [SteerSpec(a, layer=1, coeff=2.5)],
        "cap": [SteerSpec(a, layer=1, **cap)],
        "cap_above": [SteerSpec(a, layer=0, **(cap | {"min": None}))],
        "ablate": [SteerSpec(a, layer=1, method=SteerMethod.ABLATE)],
        "band": [SteerSpec(b, layer=0, **cap), SteerSpec(a, layer=1, **cap), SteerSpec(b, layer=2, coeff=-1.0)],
    }
    logits = {}
    for name, specs in cases.items():
        with steer(engine, specs), torch.no_grad():
            logits[name] = model(input_ids=torch.tensor(IDS)).logits[0].numpy()
    np.savez_compressed(TARGET, **logits)


if __name__ == "__main__":
    main()
