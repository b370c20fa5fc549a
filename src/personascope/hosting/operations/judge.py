"""A judge's scores of one file of responses: how far they show a role or trait, and whether they are coherent."""

from dataclasses import dataclass
from pathlib import Path

from personascope.errors import UserError
from personascope.formats.files import iter_jsonl
from personascope.generation.rubrics import read_rubric
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._judging import Asked, JudgeRequest, judge_all
from personascope.hosting.progress import Report


@dataclass(frozen=True, kw_only=True)
class Request(JudgeRequest):
    """judged: JSON lines with `question` and `response`; rubric: the role or trait file; coherence: the rubric of
    that metric; metrics: which are scored."""

    judged: str
    rubric: str
    coherence: str
    metrics: list[str]
    judgements: str


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Write the judgements, row by row."""
    own, coherence = read_rubric(request.rubric), read_rubric(request.coherence)
    asked = []
    for row, line in enumerate(iter_jsonl(request.judged)):
        for key in ("question", "response"):
            if not isinstance(line.get(key), str):
                raise UserError(f'{request.judged}, row {row}: no "{key}" in it, so there is nothing to judge')
        asked += [
            Asked(row, metric, coherence if metric == "coherence" else own, line["question"], line["response"])
            for metric in request.metrics
        ]
    judge_all(loaded, report, request, asked, Path(request.judged).stem, request.judgements)
