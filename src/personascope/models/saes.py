"""Loading a sparse autoencoder and checking that it fits the model it is read at."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from personascope.errors import UserError
from personascope.formats.saes import CONFIG, require_folded
from personascope.models.hookpoints import HookPoint, hook_module, parse_hook_name
from personascope.models.hub import cache_where_silent, not_here, silence
from personascope.models.loading import d_model
from personascope.models.trial import require_added

WEIGHTS = "sae_weights.safetensors"
BLOCK_FEATURES = 2048
OF_SEQUENCES = ("temporal",)
# The value above which a feature is active, [d_sae], for SAEs that decide each feature by itself.
THRESHOLDS: dict[str, Callable[[Any], Tensor]] = {
    "StandardSAE": lambda sae: torch.zeros_like(sae.b_enc),
    "JumpReLUSAE": lambda sae: sae.threshold.clamp(min=0),
}
# By what an SAE that normalizes each token divides it, and multiplies what it reconstructs.
INPUT_SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "constant_norm_rescale": lambda x: x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5,
    "layer_norm": lambda x: x.std(dim=-1, keepdim=True),
}


@dataclass(frozen=True)
class SAESpec:
    """Which SAE: a local folder in sae-lens's disk format (`path`), or a pretrained `release` and `id`."""

    path: str | None = None
    release: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class LoadedSAE:
    """An SAE and where in the model it is read."""

    sae: Any
    point: HookPoint
    d_sae: int
    hook_name: str

    @property
    def dtype(self) -> torch.dtype:
        return self.sae.dtype

    @property
    def device(self) -> torch.device:
        return self.sae.W_enc.device

    @property
    def trained_on(self) -> str | None:
        """The model that its metadata name."""
        return self.sae.cfg.metadata.model_name

    def directions(self, features: Tensor) -> Tensor:
        """What a unit of each of these features adds to the reconstruction, [k, d_in]."""
        rows = self.sae.W_dec[features]
        scaled = getattr(self.sae.cfg, "rescale_acts_by_decoder_norm", False)
        return rows / rows.norm(dim=-1, keepdim=True) if scaled else rows


def load_sae(spec: SAESpec, device: str | torch.device = "cpu") -> LoadedSAE:
    """Load with sae-lens; UserError where it is absent, its hook point is not served, it looks at several tokens at
    once, or its inputs must be scaled by what is not in its weights."""
    from sae_lens import SAE
    from safetensors import SafetensorError

    where = f"sae.path: {spec.path}" if spec.path else f"sae: release {spec.release}, id {spec.id}"
    try:
        if spec.path:
            _files(spec.path)
            sae = SAE.load_from_disk(spec.path, device=str(device))
        else:
            with cache_where_silent():
                sae = SAE.from_pretrained(str(spec.release), str(spec.id), device=str(device))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if not spec.path and isinstance(error, OSError) and (reason := silence()):
            raise UserError(not_here(where, reason)) from None
        raise UserError(f"{where}: cannot be loaded: {' '.join(str(error).split())[:300]}") from None
    sae.requires_grad_(False)
    require_folded(sae.cfg.normalize_activations, where)
    if (kind := sae.cfg.architecture()) in OF_SEQUENCES:
        raise UserError(
            f"{where}: a {kind} SAE encodes whole sequences, not tokens by themselves, and is not read here"
        )
    hook_name = sae.cfg.metadata.hook_name
    if not hook_name:
        raise UserError(f"{where}: its metadata has no hook_name, so it is unknown where the model must be read")
    return LoadedSAE(sae.eval(), parse_hook_name(hook_name), sae.cfg.d_sae, hook_name)


def _files(folder: str) -> list[Path]:
    files = [Path(folder) / name for name in (CONFIG, WEIGHTS)]
    if missing := [file.name for file in files if not file.is_file()]:
        raise UserError(f"sae.path: {folder}: {', '.join(missing)} not found; give a folder in sae-lens's disk format")
    return files


def encode_blocks(sae: LoadedSAE, tokens: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """z = sae.encode(tokens [n, d_in]) as float32 blocks: (columns, z[:, columns]).

    A CPU is bound by memory traffic: over 65,536 features, bias, ReLU and threshold as passes of their own cost as
    much as the matrix product. Where each feature is decided by itself, a block of them stays in the caches.
    """
    tokens = tokens.to(sae.device, sae.dtype)
    threshold = THRESHOLDS.get(type(sae.sae).__name__)
    if threshold is None or tokens.device.type != "cpu" or not isinstance(sae.sae.activation_fn, torch.nn.ReLU):
        yield slice(0, sae.d_sae), sae.sae.encode(tokens).float()
        return
    x, floor = sae.sae.process_sae_in(tokens), threshold(sae.sae)
    for start in range(0, sae.d_sae, BLOCK_FEATURES):
        columns = slice(start, start + BLOCK_FEATURES)
        z = (x @ sae.sae.W_enc[:, columns]).add_(sae.sae.b_enc[columns])
        yield columns, z.mul_(z > floor[columns]).float()


def encode_features(sae: LoadedSAE, tokens: Tensor, features: Tensor) -> tuple[Tensor, Tensor | None]:
    """z of some features, float32 [..., k], for tokens [..., d_in]; and the factor [..., 1] by which each token's
    reconstruction is scaled where the SAE normalizes its inputs (None: 1)."""
    tokens = tokens.to(sae.device, sae.dtype)
    scale = INPUT_SCALES.get(sae.sae.cfg.normalize_activations, lambda x: None)(tokens)
    threshold = THRESHOLDS.get(type(sae.sae).__name__)
    if threshold is None or not isinstance(sae.sae.activation_fn, torch.nn.ReLU):
        return sae.sae.encode(tokens)[..., features].float(), scale
    x = sae.sae.process_sae_in(tokens)
    z = x @ sae.sae.W_enc[:, features] + sae.sae.b_enc[features]
    return (z * (z > threshold(sae.sae)[features])).float(), scale


def unexplained(sae: LoadedSAE, tokens: Tensor) -> float | None:
    """The fraction of the variance of tokens [n, d_in] that the SAE leaves unexplained, sum |h - decode(encode(h))|^2 /
    sum |h - mean(h)|^2; None where it reconstructs something else (a transcoder), or nothing varies.

    Near 0 for a good SAE, and 1 or more where layer, model or scale are not those that it was trained on.
    """
    if "transcoder" in sae.sae.cfg.architecture() or len(tokens) < 2:
        return None
    h = tokens.to(sae.device, sae.dtype)
    error, spread = h - sae.sae.decode(sae.sae.encode(h)), h - h.mean(0)
    total = spread.float().square().sum().item()
    return error.float().square().sum().item() / total if total else None


def check_fit(sae: LoadedSAE, model: Any) -> None:
    """UserError where layer, hook point or width of the SAE do not fit the model."""
    hook_module(model, sae.point)
    if sae.sae.cfg.d_in != d_model(model):
        raise UserError(
            f"SAE at {sae.hook_name} reads {sae.sae.cfg.d_in} dimensions, the model's d_model is {d_model(model)}; "
            "choose an SAE that was trained on this model"
        )
    require_added(model, sae.point)


def sae_identity(spec: SAESpec) -> str:
    """What the SAE is: release and id, or a hash over the two files of a local one."""
    if not spec.path:
        return f"{spec.release}/{spec.id}"
    digest = hashlib.sha256()
    for file in _files(spec.path):
        digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()}"
