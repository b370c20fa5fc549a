"""What several tests share: tiny real things, and working copies of the workflow."""

import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.slurm_cluster import Cluster, why_not
from tests.helpers.workspace import MODEL, TINY, Workspace, embedded_model, wait_for

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SENTENCES = [
    "You are a pirate who sails the seven seas.",
    "What is the meaning of life? I am only a language model.",
    "The answer is forty two, said the assistant to the user.",
]


@pytest.fixture(scope="session")
def chat_tokenizer() -> Any:
    """A byte-level BPE tokenizer of 300 tokens with the ChatML template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", chat_template=CHATML
    )


@pytest.fixture(scope="session")
def tiny_llama() -> Any:
    """A random Llama: 3 layers of width 32, grouped-query attention, weights large enough to be decided."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from personascope.models.attention import use_cpu_attention

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    use_cpu_attention(model)
    return model


@pytest.fixture(scope="session")
def model() -> Path:
    return embedded_model()


@pytest.fixture
def clone(tmp_path: Path) -> Workspace:
    """The workflow as it is after a clone: no results."""
    return Workspace.make(tmp_path / "w", with_model=False)


@pytest.fixture
def workspace(tmp_path: Path, model: Path) -> Workspace:
    """The workflow with the model in place."""
    return Workspace.make(tmp_path / "w", with_model=True)


@dataclass
class Finished:
    """A tiny experiment that ran to its end, and what was seen while it ran."""

    workspace: Workspace
    socket_mode: str
    folder_mode: str
    left: list[str]


def once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Any]) -> tuple[Path, Any]:
    """A folder that one of the test processes fills with make(folder) and all of them read, and what make returned."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, note = base / name, base / f"{name}.json"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not note.exists():
            note.write_text(json.dumps(make(folder)))
    return folder, json.loads(note.read_text())


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Finished:
    """3 roles, 1 variant, 2 questions, 8 tokens, and one role's own questions. Copy it before changing anything."""
    folder, seen = once(tmp_path_factory, "tiny", run_tiny)
    return Finished(Workspace(folder / "w"), **seen)


def run_tiny(folder: Path) -> dict[str, Any]:
    workspace = Workspace.make(folder / "w", with_model=True)
    own_questions = f"results/main/responses/role_specific/{MODEL}/pirate.jsonl"
    run = workspace.start("all", own_questions, "--cores", "2", "--configfile", workspace.overlay(TINY))
    try:
        host = wait_for(lambda: workspace.find_process("personascope.hosting.host", "--socket"), 60)
        assert host, workspace.read("run.log")
        command = host.cmdline()
        socket = Path(command[command.index("--socket") + 1])
        assert wait_for(socket.exists, 20)
        socket_mode, folder_mode = (stat.filemode(path.stat().st_mode) for path in (socket, socket.parent))
        assert run.wait(timeout=600) == 0, workspace.read("run.log")
        wait_for(lambda: not workspace.processes(), 3)
        left = [" ".join(process.cmdline()) for process in workspace.processes()]
    finally:
        run.kill()
    return {"socket_mode": socket_mode, "folder_mode": folder_mode, "left": left}


@pytest.fixture
def finished(finished_run: Finished, tmp_path: Path) -> Workspace:
    """A copy of the finished experiment; its configuration is overlay.yaml."""
    return finished_run.workspace.copy(tmp_path / "w")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := why_not():
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
