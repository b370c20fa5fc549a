"""What jobs ask of a scheduler: memory, time and GPUs, rough and on the safe side."""

import math
import re
from functools import cached_property
from pathlib import Path

from personascope.errors import UserError
from personascope.runs.names import Names
from personascope.runs.pretrained import layer_of
from personascope.runs.sources import EMBEDDED, in_json, model_config_file, text_value

EMBEDDED_LAYERS = 30
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
UNKNOWN_BILLIONS, UNKNOWN_D_SAE, UNKNOWN_D_MODEL, UNKNOWN_LAYERS = 8.0, 65536, 8192, 80
# A GPU of 2023 generates some 30,000 tokens/s for each billion parameters, a few cores 10; reading is 4 times as fast.
GPU_RATE, CPU_RATE, READING = 30_000, 10, 4
ANALYSIS_MB = 500  # a drift job without the arrays that the host keeps: the process, and one conversation at work
TURNS = 20  # of a conversation, where memory for all of them is asked for
HALVES = 40  # axes of halves of the questions that a reference holds (directions.halves: 2 a split)


class Needs(Names):
    """The sizes of an experiment's jobs."""

    @property
    def gpus(self) -> int:
        """GPUs of a job with the model."""
        return self.config["model"]["gpus"] if self.config["model"]["device"].startswith("cuda") else 0

    @property
    def billions(self) -> float:
        """The model's parameters in billions by config, else by its files, else a guess."""
        weights = Path(self.config["model"]["id"]).glob("*.safetensors")
        on_disk = sum(file.stat().st_size for file in weights) / BYTES["bfloat16"] / 1e9
        guess = 0.135 if self.model == EMBEDDED else UNKNOWN_BILLIONS
        return self.config["model"]["billion_parameters"] or on_disk or guess

    @cached_property
    def model_mb(self) -> int:
        """Main memory of a job that loads the model: its weights, twice over while they are read, and room."""
        return round(4000 + 2 * 1000 * self.billions * BYTES[self.config["model"]["dtype"]])

    @cached_property
    def generate_minutes(self) -> int:
        return self._minutes(1)

    @cached_property
    def extract_minutes(self) -> int:
        return self._minutes(READING)

    def _minutes(self, speed: int) -> int:
        return self.minutes_of(self.prompts, self.config["generation"]["max_tokens"], speed)

    def minutes_of(self, responses: int, tokens: int, speed: int = 1) -> int:
        """Minutes for so many responses of at most so many tokens; speed: READING where they are only read."""
        most_tokens = responses * tokens
        return 5 + round(most_tokens * self.billions / (speed * (GPU_RATE if self.gpus else CPU_RATE)) / 60)

    @cached_property
    def drift_mb(self) -> int:
        """Memory of a drift job: role space and reference of every analysis, which the host keeps side by side.

        A reference has a float for each dimension and draw (twice for scores that are held against the assistant) and
        for each half of a split of the questions, a role space is in memory four times while it is made.
        """
        draws, kept = self.config["drift"]["uncertainty"]["draws"], 0
        for name in self.analyses:
            options = self.analysis_options(name)
            width = self.d_sae if options["space"] == "sae" else self.d_model
            copies = draws * (2 if options["score_method"] == "cos_assistant" else 1) + (HALVES if draws else 0)
            kept += 4 * width * (copies + 4 * len(self.roles))
        return ANALYSIS_MB + round(kept / 1e6)

    @cached_property
    def user_prediction_mb(self) -> int:
        """Memory of that stage: 24 bytes a turn and dimension, in its copies, and six matrices of the dimensions."""
        turns = TURNS * len(self.conversations | self.references)
        return self.drift_mb + round((24 * turns + 48 * self.d_model) * self.d_model / 1e6)

    @cached_property
    def decoder_mb(self) -> int:
        """Memory of a job that loads the SAE alone: its two matrices, twice over while they are read, and room."""
        return 2000 + round(2 * 2 * 4 * self.d_sae * self.d_model / 1e6)

    @property
    def d_sae(self) -> int:
        """Features of the SAE, or a guess."""
        return self.known_d_sae or UNKNOWN_D_SAE

    @cached_property
    def known_d_sae(self) -> int | None:
        """Features of the SAE: from its files, else from its name; None where neither tells."""
        path, trained = self.config["sae"]["path"], self.config["train_sae"]["width"]
        if path:
            return in_json(Path(path) / "cfg.json", "d_sae") or trained
        size = re.search(r"width_(\d+)([km]?)", self.config["sae"]["id"])
        if not size:
            return None
        # Widths are powers of two: 65k is 65,536, and 1m is 1,048,576.
        return 2 ** round(math.log2(int(size[1]) * {"": 1, "k": 1e3, "m": 1e6}[size[2]]))

    def need_layers(self, key: str) -> int:
        """Decoder blocks of the model, by config or the model's files; UserError with the key that asks for them."""
        if self.depth is None:
            raise UserError(f"config, {key}: how many layers the model has is not known here; set model.layers")
        return self.depth

    @cached_property
    def depth(self) -> int | None:
        """Decoder blocks of the model, by its files or by config; None where neither tells."""
        found = text_value(self.model_config, "num_hidden_layers") or self.config["model"]["layers"]
        return EMBEDDED_LAYERS if found is None and self.model == EMBEDDED else found

    @cached_property
    def model_config(self) -> Path:
        """The model's config.json, where it is on this machine."""
        return model_config_file(self.config["model"]["id"], self.config["model"]["revision"])

    @cached_property
    def sae_layer(self) -> int | None:
        """The block that the SAE belongs to, by its files or its name; None where they do not tell."""
        sae = self.config["sae"]
        if not sae["path"]:
            return layer_of(sae["id"])
        file = Path(sae["path"]) / "cfg.json"
        return layer_of((in_json(file, "metadata") or {}).get("hook_name") or in_json(file, "hook_name") or "")

    @cached_property
    def known_layers(self) -> int:
        """Decoder blocks of the model, or a guess."""
        return self.depth or UNKNOWN_LAYERS

    def check_depth(self) -> None:
        """UserError where model, SAE and layers do not fit together, as far as files that are here tell."""
        model, said = self.config["model"], text_value(self.model_config, "num_hidden_layers")
        if model["layers"] and said and model["layers"] != said:
            raise UserError(
                f"config, model.layers: {model['layers']}, but {self.model_config} says {said}; leave it out"
            )
        asked = {"extraction.residual_layers": self.config["extraction"]["residual_layers"]}
        sae = Path(self.config["sae"]["path"] or "")
        trained_here = Path(self.config.get("pathvars", {}).get("results", "results")) / "saes"
        if self.sae_layer is not None:
            asked["sae"] = [self.sae_layer]
        elif sae.parent == trained_here:
            asked["train_sae.layer"] = [self.config["train_sae"]["layer"]]
        for key, layers in asked.items():
            if self.depth and (outside := [layer for layer in layers if layer >= self.depth]):
                raise UserError(f"config, {key}: layer {outside[0]}; the model has layers 0 to {self.depth - 1}")
        width = text_value(self.model_config, "hidden_size")
        read = in_json(sae / "cfg.json", "d_in")
        if width and read and width != read:
            raise UserError(
                f"config, sae.path: the SAE reads {read} dimensions, the model's d_model is {width}; "
                "choose an SAE that was trained on this model"
            )

    @cached_property
    def d_model(self) -> int:
        """Width of the residual stream: from the model's files, else a guess."""
        return text_value(self.model_config, "hidden_size") or UNKNOWN_D_MODEL
