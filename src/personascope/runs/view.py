"""Opening an experiment's page."""

import os
import sys
import webbrowser
from pathlib import Path

from personascope.errors import UserError
from personascope.runs.explorer import PAGE
from personascope.runs.status import last_run


def page_of(experiment: str | None) -> Path:
    """The page of an experiment, of the run started last where none is named; UserError where it has not been made."""
    run = last_run(experiment)
    page = Path(run["results"]) / PAGE
    if not page.is_file():
        raise UserError(f"{page}: no such file; make it with `snakemake --cores all explorer`")
    return page.absolute()


def view(experiment: str | None) -> None:
    """Print where the page is, and open it where there is a screen."""
    page = page_of(experiment)
    print(page)
    screen = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if screen:
        webbrowser.open(page.as_uri())
