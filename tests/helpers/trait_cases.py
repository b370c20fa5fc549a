"""Responses of a trait whose direction is known: activations drawn, not read from a model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personascope.formats.trait_activations import READINGS, write_trait_activations
from personascope.formats.traits import Trait, TraitPrompt, trait_prompts

WORDS = "the sea is wide and the road is long so we walk and rest and talk about bread salt rain wind stone and light"


@dataclass(frozen=True)
class Case:
    """What was drawn: prompts; activations float32 [n, 3, n_layers, d]; how much each response shows [n]; words [n];
    direction float64 [d]: the trait's, unit; length_direction [d]: that of long answers, orthogonal to it."""

    prompts: list[TraitPrompt]
    activations: np.ndarray
    shows: np.ndarray
    words: np.ndarray
    direction: np.ndarray
    length_direction: np.ndarray


def trait(pairs: int = 4, questions: int = 12, evaluation: int = 12) -> Trait:
    return Trait(
        "gloom",
        tuple((f"Be gloomy {i}.", f"Be cheerful {i}.") for i in range(pairs)),
        tuple(f"What is {i}?" for i in range(questions)),
        tuple(f"What was {i}?" for i in range(evaluation)),
        "Rate {question} and {answer}.",
        ("gloomy", "upbeat"),
        "A high score means gloom.",
        "gloom",
    )


def case(
    seed: int = 0, *, strength: float = 2.0, length: float = 0.0, noise: float = 1.0, d: int = 24, **sizes: Any
) -> Case:
    """strength: of the trait between the ends, in standard deviations of the noise; it grows over 3 layers from none.
    length: how much longer positive answers are, which moves them along a direction of its own."""
    rng = np.random.default_rng(seed)
    prompts = trait_prompts(trait(**sizes))
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    sign = np.array([{"pos": 1, "neg": -1, "neutral": 0}[prompt.polarity] for prompt in prompts])
    shows = sign * 0.5 + 0.5 * rng.standard_normal(len(prompts))
    words = np.clip(np.round(20 * np.exp(0.4 * rng.standard_normal(len(prompts)) + length * sign / 2)), 5, None)
    question = np.array([(prompt.set == "evaluation") * 1000 + prompt.question.id for prompt in prompts])
    of_question = rng.standard_normal((2000, d))[question]
    base = 3 + of_question + noise * rng.standard_normal((len(prompts), d))
    base += 3 * (np.log(words / 20) if length else np.zeros(len(prompts)))[:, None] * basis[1]
    layers = [base + strength * share * shows[:, None] * basis[0] for share in (0, 0.5, 1)]
    response = np.stack(layers, axis=1)
    prompt_only = np.stack([base] * 3, axis=1)
    activations = np.stack([response, prompt_only, prompt_only], axis=1).astype(np.float32)
    return Case(prompts, activations, shows, words.astype(int), basis[0], basis[1])


def write_case(folder: Path, made: Case, layers: tuple[int, ...] = (0, 1, 2)) -> tuple[Path, Path]:
    """(responses, activations) on disk; a response has as many words and tokens as the case says."""
    text, rows = WORDS.split(), []
    for prompt, count in zip(made.prompts, made.words.tolist(), strict=True):
        response = " ".join(f"{text[i % len(text)]}{i}" for i in range(count))
        row = {"role": prompt.role, **prompt.keys, "question_id": prompt.question.id, "question": prompt.question.text}
        rows.append(row | {"response": response, "response_token_ids": list(range(count)), "finish_reason": "stop"})
    folder.mkdir(parents=True, exist_ok=True)
    responses, activations = folder / "gloom.jsonl", folder / "gloom.npz"
    responses.write_text("".join(json.dumps(row) + "\n" for row in rows))
    blocks = np.array_split(made.activations, 3)
    metadata = {"model": "m", "weights": "w", "dtype": "float32", "responses": "r", "template": "t"}
    write_trait_activations(activations, blocks, metadata | {"layers": list(layers)})
    assert made.activations.shape[1] == len(READINGS)
    return responses, activations


def judgement_table(made: Case, *, slope: float = 30.0, noise: float = 5.0, coherence: float = 90.0) -> Any:
    """Judgements of all rows: 50 + slope * what the response shows, and noise."""
    import pandas as pd

    rng = np.random.default_rng(1)
    scores = np.clip(50 + slope * made.shows + noise * rng.standard_normal(len(made.shows)), 0, 100)
    parts = [
        pd.DataFrame({"row": range(len(scores)), "metric": metric, "score": values, "mass": 1.0, "problem": ""})
        for metric, values in (("trait", scores), ("coherence", np.full(len(scores), coherence)))
    ]
    return pd.concat(parts, ignore_index=True)
