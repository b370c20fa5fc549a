"""Training an SAE with sae-lens's own trainer on this pipeline's own activations, and measuring what it is worth.

Activations are those of the response tokens of role-prompted conversations at one layer. Tokens of massive
norm (a few attention sinks, hundreds of times the median) are left out of the training set, since their
squared error would drown all others; the measurements below are over ALL response tokens of the held-out
questions, and once more without those tokens.

- FVU = sum |h - h'|^2 / sum |h - mean(h)|^2
- L0 = mean number of active features a token; dead = share of features that fire on no held-out token
- loss recovered = (CE_zero - CE_sae) / (CE_zero - CE_clean): next-token cross-entropy of the responses with
  the activations of the response tokens replaced by zero, by the reconstruction, or left alone
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from personascope.errors import UserError
from personascope.extraction.extract import batches_by_tokens
from personascope.extraction.items import Item, response_item
from personascope.formats.files import atomic_path, write_json, write_text
from personascope.models.hookpoints import HookPoint, hooks, run_to
from personascope.models.loading import context_length, d_model
from personascope.models.saes import CONFIG, WEIGHTS, LoadedSAE, SAESpec, load_sae

log = logging.getLogger(__name__)

BATCH_TOKENS = 2048
NORM_BATCHES = 20


@dataclass(frozen=True)
class TrainOptions:
    """layer: block whose output is read; width: d_sae; k: active features a token (TopK) in training.

    k_use: active features a token when the SAE is used (k where None); some more than in training lower the FVU.
    massive_norm: tokens above so many times the median norm are not trained on; loss_responses: how many of the
    held-out responses, evenly spread, the loss is measured on (three passes through the whole model).
    """

    layer: int
    width: int = 4096
    k: int = 32
    k_use: int | None = None
    samples: int = 4_000_000
    batch_size: int = 2048
    learning_rate: float = 8e-4
    heldout_questions: float = 0.2
    massive_norm: float = 10.0
    loss_responses: int = 128
    seed: int = 0


def split_questions(rows: Sequence[dict[str, Any]], share: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(training rows, held-out rows): every n-th question is held out for all roles and variants."""
    ids = sorted({row["question_id"] for row in rows})
    count = max(1, round(share * len(ids)))
    if count >= len(ids):
        raise UserError(f"train_sae.heldout_questions: {share} of {len(ids)} questions leaves none to train on")
    heldout = {ids[(2 * i + 1) * len(ids) // (2 * count)] for i in range(count)}
    return (
        [row for row in rows if row["question_id"] not in heldout],
        [row for row in rows if row["question_id"] in heldout],
    )


def collect_activations(model: Any, items: Sequence[Item], point: HookPoint) -> Tensor:
    """Activations of the selected tokens, float32 [n_tokens, d_model], on the CPU."""
    total = sum(item.n_selected for item in items)
    out = torch.empty(total, d_model(model))
    position = 0
    with torch.inference_mode():
        for batch in batches_by_tokens([len(item.ids) for item in items], BATCH_TOKENS):
            ids = _pad([items[i] for i in batch]).to(model.get_input_embeddings().weight.device)
            found = run_to(model, ids, {point}, [items[i].ranges for i in batch])[point]
            out[position : position + len(found)] = found.float().cpu()
            position += len(found)
    return out


def _pad(items: Sequence[Item]) -> Tensor:
    ids = torch.zeros(len(items), max(len(item.ids) for item in items), dtype=torch.long)
    for row, item in enumerate(items):
        ids[row, : len(item.ids)] = torch.tensor(item.ids)
    return ids


def ordinary(activations: Tensor, massive_norm: float) -> Tensor:
    """Mask of the tokens whose norm is at most `massive_norm` times the median norm."""
    norms = activations.norm(dim=-1)
    return norms <= massive_norm * norms.median()


def fit(activations: Tensor, options: TrainOptions, metadata: dict[str, Any], device: str) -> Any:
    """Train a TopK SAE on activations [n_tokens, d_model] with sae-lens's SAETrainer."""
    from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig

    torch.manual_seed(options.seed)
    steps = options.samples // options.batch_size
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=activations.shape[1],
            d_sae=options.width,
            k=options.k,
            device=device,
            normalize_activations="expected_average_only_in",
            rescale_acts_by_decoder_norm=True,
        )
    )
    for key, value in metadata.items():
        sae.cfg.metadata[key] = value
    # Starting the decoder bias at the mean spares it the long way there at Adam's step size.
    scale = activations.shape[1] ** 0.5 / activations.norm(dim=-1).mean()
    sae.b_dec.data = (activations.mean(0) * scale).to(device)
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=steps * options.batch_size,
            train_batch_size_samples=options.batch_size,
            lr=options.learning_rate,
            lr_end=options.learning_rate / 10,
            lr_warm_up_steps=min(100, steps // 10),
            lr_decay_steps=steps // 3,
            dead_feature_window=200,
            device=device,
            n_batches_for_norm_estimate=NORM_BATCHES,
        ),
        sae,
        shuffled_batches(activations, options.batch_size, options.seed),
    )
    return trainer.fit()


def shuffled_batches(activations: Tensor, size: int, seed: int) -> Iterator[Tensor]:
    """Batches [size, d_model] for ever, each epoch in a new order."""
    generator = torch.Generator().manual_seed(seed)
    size = min(size, len(activations))
    while True:
        order = torch.randperm(len(activations), generator=generator)
        for start in range(0, len(order) - size + 1, size):
            yield activations[order[start : start + size]]


def save_half(sae: Any, folder: str | Path, k_use: int | None = None) -> None:
    """Write sae-lens's disk format with half-precision weights; the configuration stays float32 for use."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sae.fold_W_dec_norm()
    sae.save_inference_model(folder)
    weights = {name: tensor.half().contiguous() for name, tensor in load_file(folder / WEIGHTS).items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(weights, temporary)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    write_json(folder / CONFIG, config | {"device": "cpu"} | ({"k": k_use} if k_use else {}))


@torch.inference_mode()
def reconstruction(sae: LoadedSAE, activations: Tensor, keep: Tensor) -> dict[str, float]:
    """FVU over all tokens and over the `keep` tokens, L0, share of dead features."""
    error, fired, active = torch.empty(len(activations)), torch.zeros(sae.d_sae, dtype=torch.bool), 0
    for start in range(0, len(activations), BATCH_TOKENS):
        h = activations[start : start + BATCH_TOKENS].to(sae.device, sae.dtype)
        z = sae.sae.encode(h)
        error[start : start + len(h)] = (sae.sae.decode(z) - h).pow(2).sum(-1).float().cpu()
        fired |= (z != 0).any(0).cpu()
        active += int((z != 0).sum())

    def fvu(mask: Tensor) -> float:
        h = activations[mask]
        return (error[mask].double().sum() / (h - h.mean(0)).pow(2).sum(dtype=torch.float64)).item()

    everything = torch.ones_like(keep)
    return {
        "fvu": fvu(everything),
        "fvu_ordinary_tokens": fvu(keep),
        "l0": active / len(activations),
        "dead_share": 1.0 - fired.float().mean().item(),
        "massive_norm_tokens": int((~keep).sum()),
    }


@torch.inference_mode()
def loss_recovered(model: Any, sae: LoadedSAE, items: Sequence[Item]) -> dict[str, float]:
    """Cross-entropies (nats a token) of the response tokens: clean, reconstruction spliced in, zero-ablated."""
    replacements = {"clean": None, "sae": lambda h: sae.sae(h.to(sae.dtype)).to(h.dtype), "zero": torch.zeros_like}
    losses = {}
    for name, replace in replacements.items():
        total, count = 0.0, 0
        for batch in batches_by_tokens([len(item.ids) for item in items], BATCH_TOKENS):
            chosen = [items[i] for i in batch]
            batch_total, batch_count = _response_loss(model, sae.point, chosen, replace)
            total, count = total + batch_total, count + batch_count
        losses[f"loss_{name}"] = total / count
    gap = losses["loss_zero"] - losses["loss_clean"]
    return losses | {"loss_recovered": (losses["loss_zero"] - losses["loss_sae"]) / gap}


def _response_loss(model: Any, point: HookPoint, items: list[Item], replace: Any) -> tuple[float, int]:
    """Summed next-token cross-entropy over the selected tokens, and their number."""
    ids = _pad(items).to(model.get_input_embeddings().weight.device)
    selected = torch.zeros_like(ids, dtype=torch.bool)
    for row, item in enumerate(items):
        for start, end in item.ranges:
            selected[row, start:end] = True

    def splice(_: HookPoint, activation: Tensor) -> None:
        if replace is not None:
            activation[selected] = replace(activation[selected])

    with hooks(model, {point}, splice):
        logits = model(input_ids=ids, use_cache=False).logits
    targets = ids[:, 1:][selected[:, 1:]]
    loss = nn.functional.cross_entropy(logits[:, :-1][selected[:, 1:]].float(), targets, reduction="sum")
    return loss.item(), len(targets)


def train_sae(
    tokenizer: Any,
    model: Any,
    rows: Sequence[dict[str, Any]],
    options: TrainOptions,
    folder: str | Path,
    *,
    model_name: str,
    experiment: str,
) -> dict[str, Any]:
    """Train on the responses, write the SAE and its card to `folder`, and return the card's figures.

    experiment: whose responses these are; the others use the SAE as it is, and none of them trains it again.
    """
    context = context_length(model)
    training, heldout = (
        [response_item(tokenizer, row, "response_only", context) for row in part]
        for part in split_questions(rows, options.heldout_questions)
    )
    point = HookPoint(options.layer, "resid_post")
    device = str(model.get_input_embeddings().weight.device)
    activations = collect_activations(model, training, point)
    activations = activations[ordinary(activations, options.massive_norm)]
    log.info("training on %d tokens of %d responses", len(activations), len(training))
    metadata = {"model_name": model_name, "hook_name": f"blocks.{options.layer}.hook_resid_post"}
    save_half(fit(activations, options, metadata, device), folder, options.k_use)

    sae = load_sae(SAESpec(path=str(folder)), device)
    held = collect_activations(model, heldout, point)
    card = {
        "model": model_name,
        "experiment": experiment,
        "layer": options.layer,
        "width": options.width,
        "k": options.k,
        "k_use": options.k_use or options.k,
        "training_tokens": len(activations),
        "training_samples_seen": options.samples // options.batch_size * options.batch_size,
        "heldout_tokens": len(held),
        "heldout_responses": len(heldout),
        **reconstruction(sae, held, ordinary(held, options.massive_norm)),
        **loss_recovered(model, sae, heldout[:: max(1, len(heldout) // options.loss_responses)]),
    }
    write_json(Path(folder) / "card.json", card)
    write_text(Path(folder) / "README.md", card_text(card))
    return card


def card_text(card: dict[str, Any]) -> str:
    """The card as a short Markdown page."""
    return f"""# SAE for {card["model"]}, layer {card["layer"]}, width {card["width"]}

A TopK sparse autoencoder (k = {card["k"]} in training, {card["k_use"]} in use), trained with sae-lens on the
output of decoder block {card["layer"]} (`blocks.{card["layer"]}.hook_resid_post`), on the response tokens of
role-prompted conversations, by the rule `train_sae` of personascope.
Weights are in half precision; sae-lens loads them as float32.

| measured on {card["heldout_responses"]} responses to questions that were not trained on | |
|---|---|
| tokens in the training set / samples seen | {card["training_tokens"]:,} / {card["training_samples_seen"]:,} |
| held-out tokens | {card["heldout_tokens"]:,} |
| FVU, all response tokens | {card["fvu"]:.4f} |
| FVU without the {card["massive_norm_tokens"]} tokens of massive norm | {card["fvu_ordinary_tokens"]:.4f} |
| L0 (active features a token) | {card["l0"]:.2f} |
| features that fire on no held-out token | {card["dead_share"]:.2%} |
| cross-entropy of the responses (nats a token): clean / SAE spliced in / zero-ablated | \
{card["loss_clean"]:.4f} / {card["loss_sae"]:.4f} / {card["loss_zero"]:.4f} |
| loss recovered | {card["loss_recovered"]:.4f} |
"""
