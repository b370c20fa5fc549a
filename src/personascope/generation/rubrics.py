"""What a judge is asked: a rubric with the question and the answer filled in."""

import re
from pathlib import Path

from personascope.errors import UserError
from personascope.formats.files import read_json

PLACEHOLDERS = ("question", "answer")
SCALE_LINE = re.compile(r"\W{0,3}\d+\W")


def read_rubric(path: str | Path) -> str:
    """The `eval_prompt` of a role or trait file, or the whole of a text file; UserError where no judge could use it."""
    path = Path(path)
    if path.suffix == ".json":
        data = read_json(path)
        rubric = data.get("eval_prompt") if isinstance(data, dict) else None
    else:
        try:
            rubric = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read: {error}") from None
    if not isinstance(rubric, str) or not rubric.strip():
        raise UserError(f'{path}: has no "eval_prompt", which a judge needs; add one with {{question}} and {{answer}}')
    if missing := [name for name in PLACEHOLDERS if f"{{{name}}}" not in rubric]:
        raise UserError(f"{path}: the prompt for judges has no {{{missing[0]}}}, so a judge would not see it")
    return rubric.strip()


def fill(rubric: str, question: str, answer: str) -> str:
    """The rubric with both filled in, in one pass: an answer that contains "{question}" stays as it is."""
    texts = {"question": question, "answer": answer}
    return re.sub(r"\{(question|answer)\}", lambda found: texts[found[1]], rubric)


def reworded(rubric: str) -> str:
    """A second wording of the same rubric: its scale from the other end, between two sentences of ours.

    The longest run of lines that each begin with a number is reversed; a rubric without one keeps its text. An exact
    judge gives the same score to the same prompt, so that its stability is measured against another wording.
    """
    lines = rubric.split("\n")
    start, end = _scale_lines(lines)
    turned = "\n".join([*lines[:start], *lines[start:end][::-1], *lines[end:]])
    return f"What follows is a grading task.\n\n{turned}\n\nGo through the scale once more, then give your number."


def _scale_lines(lines: list[str]) -> tuple[int, int]:
    """The half-open range of the longest run of lines that begin with a number; empty where no run has two."""
    best, start = (0, 0), 0
    for i in range(len(lines) + 1):
        if i == len(lines) or not SCALE_LINE.match(lines[i]):
            if i - start > max(best[1] - best[0], 1):
                best = (start, i)
            start = i + 1
    return best
