"""Which tokens each feature's decoder row promotes and suppresses."""

from dataclasses import dataclass

from personascope.extraction.logit_lens import logit_lens
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._model import identity, tokenizer
from personascope.hosting.operations.extract import ActivationsRequest, description, network_and_sae
from personascope.hosting.progress import Report
from personascope.models.saes import sae_identity


@dataclass(frozen=True, kw_only=True)
class Request(ActivationsRequest):
    """The output."""

    lens: str


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Write the logit lens of all features."""
    network, sae = network_and_sae(loaded, request)
    lens = logit_lens(network, sae, tokenizer(loaded, request.spec))
    weights = {"weights": identity(loaded, request.spec), "sae_weights": sae_identity(request.sae)}
    lens.save(request.lens, description(request, sae) | weights)
    report(f"logit lens of {sae.d_sae} features")
