"""What `explorer_results` has, with traits, sweeps, capping and a causal test, and names that may break a page."""

from pathlib import Path

import numpy as np
import pandas as pd

from personascope.formats.files import write_json, write_jsonl
from personascope.formats.tables import write_csv
from tests.helpers.explorer_results import CELL, IMAGE, SCRIPT, TEXTS, Results

EVIL = '"><img src=x onerror=window.hacked=1>'  # of a file, which may have no slash in its name
LAYERS, COEFFICIENTS, MEASURES = range(4), (-1.0, 1.0), ("projection_3", "kl")


class AllResults(Results):
    """Everything that a page can show."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, talks=("talk", "whisper", EVIL), role=EVIL)
        rng = np.random.default_rng(4)
        self.traits(rng)
        self.sweep(rng)
        self.capping(rng)
        self.causal()

    def traits(self, rng: np.random.Generator) -> None:
        folder, compared = self.folder / "traits/tiny", []
        for name, label in (("candor", "candor"), ("warmth", f"warmth {SCRIPT}")):
            rows = [
                {"layer": layer, "auc": value, "auc_low": value - 0.1, "auc_high": value + 0.1, "split_half": value / 2}
                | {"separation": value * 3, "r_within": 0.2, "r_low": 0.1, "r_high": 0.3, "n_judged": 8}
                | {"pair_cosine": 0.4, "nuisance_share": 0.1, "nuisance_share_shuffled": 0.2}
                for layer, value in zip(LAYERS, rng.uniform(0.5, 0.9, len(LAYERS)), strict=True)
            ]
            write_csv(folder / name / "layers.csv", pd.DataFrame(rows))
            said = {"trait": name, "label": label, "polarity": IMAGE, "couples": 6, "kept": 5, "evaluation_rows": 8}
            said |= {
                "evaluation_questions": 4,
                "at_selected_layer": rows[2],
                "held_out": {"separation": 1.5, "auc": 0.625, "r_within": 0.125},
            }
            said |= {"doubts": [f"AUC 0.60 < 0.75 {IMAGE}"] if name == "warmth" else []}
            write_json(folder / name / "evaluation.json", said)
            others = [("axis", "axis"), ("role", EVIL), ("role", "assistant")]
            cosines = rng.uniform(-0.5, 0.5, (2, len(others)))
            compared += [
                {"first": name, "kind": kind, "second": second, "layer": layer, "cosine": cosines[row, column]}
                for row, layer in enumerate((1, 3))
                for column, (kind, second) in enumerate(others)
            ]
        write_csv(folder / "traits.csv", pd.DataFrame(compared))

    def sweep(self, rng: np.random.Generator) -> None:
        folder = self.folder / "steering" / CELL / EVIL
        arms = [("none", 0.0), ("prompt", 0.0)]
        arms += [(arm, size) for arm in ("direction", "random0", "orthogonal") for size in COEFFICIENTS]
        rows = [
            {"arm": arm, "coefficient": size, "measure": measure, "mean": value, "low": value - 1, "high": value + 1}
            | {"n": 3, "questions": 3}
            for measure in MEASURES
            for (arm, size), value in zip(arms, rng.normal(size=len(arms)), strict=True)
        ]
        write_csv(folder / "dose_response.csv", pd.DataFrame(rows))
        turning = {"measure": "projection_3", "side": "negative", "peak": -1.0, "largest": -1.0, "loss": 0.1}
        said = {"direction": IMAGE, "units": "residual_norm", "layers": [3], "primary": "projection_3", "questions": 3}
        said |= {"samples": 1, "turning_points": [turning | {"low": -0.1, "high": 0.3, "inverted_u": False}]}
        write_json(folder / "dose_response.json", said)
        equal = {"at": "direction", "coefficient": 1.0, "kl": 0.5, "direction": 1.5, "orthogonal": 0.1, "random": 0.2}
        equal |= {"prompt": 0.3, "excess": 1.3, "excess_low": 0.4, "excess_high": 2.2}
        write_csv(folder / "equal_kl.csv", pd.DataFrame([equal]))
        for arm, size in arms:
            said = [{"question": f"Who? {SCRIPT}", "response": text} for text in TEXTS[:3]]
            write_jsonl(folder / arm / f"{size}.jsonl", said)

    def capping(self, rng: np.random.Generator) -> None:
        folder = self.folder / "steering" / CELL / "capped"
        rows = [
            {"condition": "plain", "cap": cap, "turn": turn, "measure": measure, "mean": value, "low": value - 0.5}
            | {"high": value + 0.5, "n": 2}
            for cap in ("none", "25")
            for measure in ("projection_3", "nll")
            for turn, value in enumerate(rng.normal(size=4))
        ]
        write_csv(folder / "capping.csv", pd.DataFrame(rows))
        write_json(folder / "floors.json", {"floors": {"3": {"25": -0.2}}, "tokens": 50, "conversations": 3})

    def causal(self) -> None:
        folder = self.folder / "causal" / CELL / "default"
        effect = {"mean": 0.25, "low": 0.125, "high": 0.5, "n": 3}
        test = {"verdict": "supported", "reason": f"because {IMAGE}", "transition": {"prev_turn": 3, "turn": 4}}
        test |= {"effects": {"total": effect, "direct": effect, "unit": "SD"}, "notes": [SCRIPT]}
        test |= {"controls": {"matched": {"total": [0.5, 0.25], "direct": [0.125, 0.5]}}}
        test |= {"features": [{"feature_idx": 7, "before": 0.5, "now": 2.0, "contrib": -0.75}]}
        write_json(folder / "talk.json", test)
        write_jsonl(folder / "talk.samples.jsonl", [{"arm": "features", "response": text} for text in TEXTS])
