"""The responses of one trait: both ends of its instruction pairs, and for evaluation a neutral one too."""

from dataclasses import dataclass

from personascope.formats.traits import read_trait, trait_prompts
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations.generate import TextRequest, respond
from personascope.hosting.progress import Report
from personascope.hosting.store import response_log


@dataclass(frozen=True, kw_only=True)
class Request(TextRequest):
    """The trait's file; which pairs and how many questions, "all" for all; samples a prompt."""

    trait_file: str
    pairs: str | list[int]
    questions: str | int
    evaluation_questions: str | int
    samples: int


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Write a trait's responses as JSON lines."""
    trait = read_trait(request.trait_file)
    prompts = trait_prompts(
        trait, request.pairs, request.questions, request.evaluation_questions, samples=request.samples
    )
    records = response_log(request.store, request.model_name, f"trait.{trait.name}")
    respond(loaded, report, request, prompts, records)
