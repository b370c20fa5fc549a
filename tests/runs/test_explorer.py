"""The experiment's page: what defines it, and how the command finds it."""

import json
from pathlib import Path

import pytest

from personascope.cli import build_parser
from personascope.errors import UserError
from personascope.explorer.bundle import Settings
from personascope.runs.view import page_of
from tests.helpers.experiments import read


def test_the_page_s_settings_are_those_that_its_writer_takes(folder: Path) -> None:
    made = read({"experiment": "one", "explorer": {"responses": 3}})
    settings = Settings.of(made.explorer_params)
    assert (settings.experiment, settings.model, settings.sae) == ("one", "tiny", made.sae)
    assert settings.responses == 3 and settings.analyses == tuple(made.analyses)
    assert made.explorer == ["<out>/explorer/index.html"]


def test_view_prints_where_the_page_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UserError, match="no run was started here"):
        page_of(None)
    for name, started in (("old", 1), ("new", 2)):
        log = tmp_path / "logs" / name / "run.json"
        log.parent.mkdir(parents=True)
        log.write_text(json.dumps({"started": started, "results": f"results/{name}"}))
    with pytest.raises(UserError, match=r"results/new/explorer/index.html: no such file.*snakemake"):
        page_of(None)
    page = tmp_path / "results/old/explorer/index.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    arguments = build_parser().parse_args(["view", "old"])
    arguments.run(arguments)
    assert capsys.readouterr().out.strip() == str(page)
