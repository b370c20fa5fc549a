"""How long the residual stream is: its mean norm at every layer over the assistant's tokens."""

from dataclasses import dataclass

import torch

from personascope.errors import UserError
from personascope.extraction.extract import batches_by_tokens
from personascope.extraction.items import response_item
from personascope.formats.files import write_json
from personascope.formats.responses import read_responses
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._model import ModelRequest, identity, model, tokenizer
from personascope.hosting.progress import Report
from personascope.models.hookpoints import HookPoint, decoder_layers, run_to
from personascope.models.loading import LAYER_CONVENTION, context_length


@dataclass(frozen=True, kw_only=True)
class Request(ModelRequest):
    """The responses over whose answer tokens the norms are averaged, how many of them at most, and the output."""

    responses: str
    most: int
    batch_tokens: int
    norms: str


@torch.inference_mode()
def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Write {"norms": [mean norm at the output of block k, ...], "tokens": ..., and where they are from}."""
    network, words = model(loaded, request.spec), tokenizer(loaded, request.spec)
    rows = [row for _, row in zip(range(request.most), read_responses(request.responses), strict=False)]
    items = [response_item(words, row, "response_only", context_length(network)) for row in rows]
    items = [item for item in items if item.n_selected]
    if not items:
        raise UserError(f"{request.responses}: no response has a token; the residual stream's norm is unknown")
    points = [HookPoint(layer, "resid_post") for layer in range(len(decoder_layers(network)))]
    sums, tokens = torch.zeros(len(points), dtype=torch.float64), 0
    device = network.get_input_embeddings().weight.device
    for batch in batches_by_tokens([len(item.ids) for item in items], request.batch_tokens):
        ids = torch.zeros(len(batch), max(len(items[i].ids) for i in batch), dtype=torch.long)
        for row, i in enumerate(batch):
            ids[row, : len(items[i].ids)] = torch.tensor(items[i].ids)
        found = run_to(network, ids.to(device), set(points), [items[i].ranges for i in batch])
        sums += torch.stack([found[point].float().norm(dim=-1).sum().double().cpu() for point in points])
        tokens += len(found[points[0]])
    made_from = {"model": request.spec.id, "weights": identity(loaded, request.spec), "responses": request.responses}
    write_json(
        request.norms,
        {"norms": (sums / tokens).tolist(), "tokens": tokens, "layer_convention": LAYER_CONVENTION} | made_from,
    )
    report(f"norms of the residual stream over {tokens} tokens of {len(items)} responses")
