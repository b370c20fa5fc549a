"""The template that the package ships is what its source builds."""

import shutil
import subprocess
from pathlib import Path

import pytest

from personascope.explorer.page import TEMPLATE, template

SOURCE = Path(__file__).parents[2] / "src" / "explorer"
BUILT = shutil.which("npm") is not None and (SOURCE / "node_modules").is_dir()


def test_the_template_is_whole_and_loads_nothing() -> None:
    text = template()
    assert "<noscript>" in text and "http://" not in text.replace("http://www.w3.org/", "")
    assert not [tag for tag in ("<link", "<iframe", "@import", " src=") if tag in text.split("<script")[0]]


@pytest.mark.skipif(not BUILT, reason="needs npm ci in src/explorer")
def test_the_shipped_template_is_what_the_source_builds(tmp_path: Path) -> None:
    source = tmp_path / "src" / "explorer"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (source / "node_modules").symlink_to(SOURCE / "node_modules")
    (tmp_path / "src" / "personascope" / "explorer").mkdir(parents=True)
    subprocess.run(["npm", "run", "build"], cwd=source, check=True, capture_output=True)
    built = tmp_path / "src" / "personascope" / "explorer" / "template.html"
    assert built.read_bytes() == TEMPLATE.read_bytes()
