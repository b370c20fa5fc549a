"""The folder in which the experiments of these tests are read."""

import json
from pathlib import Path

import pytest

from tests.helpers.experiments import PIRATE, QUESTIONS, write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three roles, two questions, two conversations and a script."""
    monkeypatch.chdir(tmp_path)
    write(
        PIRATE, json.dumps({"instruction": [{"pos": "Talk like a pirate."}, {"pos": "Ahoy."}], "questions": ["Why?"]})
    )
    write("resources/roles/assistant.json", json.dumps({"instruction": [{"pos": "Help."}, {"pos": "Assist."}]}))
    write("resources/roles/default.json", json.dumps({"instruction": [{"pos": ""}, {"pos": "You are {model_name}."}]}))
    write(QUESTIONS, '{"question": "Who?", "id": 0}\n{"question": "What?", "id": 1}\n')
    talk = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I."}]
    for name in ("talks/one.json", "talks/two.json"):
        write(name, json.dumps(talk))
    write("resources/simulations/plain.json", "[]")
    for name in ("resources/references/a.json", "resources/references/b.json"):
        write(name, "[]")
    return tmp_path
