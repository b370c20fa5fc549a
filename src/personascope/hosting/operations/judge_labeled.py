"""A judge's scores of responses whose label is known, in the rubrics' own wording and in a second one."""

from dataclasses import dataclass
from pathlib import Path

from personascope.errors import UserError
from personascope.formats.judgements import read_labeled, select_labeled
from personascope.generation.rubrics import read_rubric, reworded
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations._judging import Asked, JudgeRequest, judge_all
from personascope.hosting.progress import Report


@dataclass(frozen=True, kw_only=True)
class Request(JudgeRequest):
    """labeled, select: see `formats.judgements.read_labeled` and `select_labeled`; roles, traits: the subjects' files;
    coherence: that metric's rubric; judgements, retest: the outputs, a row a labeled response."""

    labeled: str
    select: str | int
    roles: list[str]
    traits: list[str]
    coherence: str
    judgements: str
    retest: str


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Write the judgements in both wordings."""
    files = {("adherence", Path(path).stem): path for path in request.roles}
    files |= {("trait", Path(path).stem): path for path in request.traits}
    rubrics = {key: read_rubric(path) for key, path in files.items()}
    coherence = read_rubric(request.coherence)
    asked = []
    rows = read_labeled(request.labeled)
    for row in select_labeled(rows, request.select):
        line = rows[row]
        metric, subject = line["metric"], line["subject"]
        if metric != "coherence" and (metric, subject) not in rubrics:
            raise UserError(f"{request.labeled}, labeled response {row + 1}: no file of {subject!r} with a rubric")
        rubric = coherence if metric == "coherence" else rubrics[metric, subject]
        asked.append(Asked(row, metric, rubric, line["question"], line["answer"]))
    judge_all(loaded, report, request, asked, "labeled", request.judgements)
    second = [Asked(one.row, one.metric, reworded(one.rubric), one.question, one.answer) for one in asked]
    judge_all(loaded, report, request, second, "labeled", request.retest)
