"""Reading dry-runs, counting tokens, and the arithmetic of a plan; tests/workflow/test_planning.py asks Snakemake."""

from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from personascope.cli import main
from personascope.display.terminal import duration, size, table
from personascope.errors import UserError
from personascope.formats.files import write_json, write_jsonl
from personascope.models.spans import encode_conversation
from personascope.runs.counting import TokenCounter, count_script
from personascope.runs.dryrun import DryRun, Job, _unknown_target, dry_run, parse_jobs
from personascope.runs.measured import log_work, mean_response, spread
from personascope.runs.plan import Given, _api, _loads
from personascope.runs.why import reason_of, show

DRY_RUN = """Building DAG of jobs...
Job stats:
job         count
--------  -------
generate        3

[Sun Nov 22 05:23:25 2026]
rule fetch_model:
    output: results/models/m/config.json
    jobid: 2
[Sun Nov 22 05:23:25 2026] Group job generate (jobs in lexicogr. order):

    [Sun Nov 22 05:23:25 2026]
    rule generate:
        input: resources/roles/pirate.json
        output: results/responses/general/m/pirate.jsonl
        reason: Missing output files: results/responses/general/m/pirate.jsonl
        wildcards: question_mode=general, model=m, role=pirate
        resources: tmpdir=/tmp
    [Sun Nov 22 05:23:25 2026]
    rule generate:
        output: results/responses/general/m/ghost.jsonl
        wildcards: question_mode=general, model=m, role=ghost
[Sun Nov 22 05:23:25 2026] Group job generate (jobs in lexicogr. order):

    [Sun Nov 22 05:23:25 2026]
    rule generate:
        output: results/responses/general/m/sage.jsonl
        wildcards: question_mode=general, model=m, role=sage

[Sun Nov 22 05:23:25 2026]
rule train_sae:
    output: results/saes/s/cfg.json
    wildcards: name=s
[Sun Nov 22 05:23:25 2026]
rule all:
    input: results/responses/general/m/pirate.jsonl
    jobid: 0
Reasons:
    (check individual jobs above for details)
"""


def test_parse_jobs():
    run = DryRun(parse_jobs(DRY_RUN), {})
    assert run.counts() == {"fetch_model": 1, "generate": 3, "train_sae": 1}
    assert [(job.wildcards["role"], job.group) for job in run.jobs[1:4]] == [("pirate", 0), ("ghost", 0), ("sage", 1)]
    assert run.allocations("generate") == 2 and run.allocations() == 4
    assert (_loads(run, cluster=True), _loads(run, cluster=False)) == (3, 2)
    assert run.jobs[1].reason == "Missing output files: results/responses/general/m/pirate.jsonl"
    assert run.jobs[2].reason == ""


HASHES = ("'" + "a" * 64 + "'", "'" + "b" * 64 + "'")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (
            "Missing output files: results/a.csv; Input files updated by another job: results/b.csv",
            ("its output is missing", ""),
        ),
        ("Input files updated by another job: results/b.csv", ("what it reads is made anew", "")),
        ("Updated input files: resources/roles/pirate.json", ("an input is newer", "resources/roles/pirate.json")),
        (
            "Params have changed since last execution: Union of exclusive params before and now across all output: "
            "before: 0.7 now: 0.9 ",
            ("a parameter has changed", "was 0.7, now 0.9"),
        ),
        (
            "Params have changed since last execution: Union of exclusive params before and now across all output: "
            "before: 0.7 now: <nothing exclusive> ",
            ("a parameter has changed", "was 0.7"),
        ),
        (
            "Params have changed since last execution: Union of exclusive params before and now across all output: "
            f"before: {HASHES[0]} now: {HASHES[1]} ",
            ("its code has changed", ""),
        ),
        ("Code has changed since last execution", ("its code has changed", "")),
        ("Something that a later Snakemake says", ("Something that a later Snakemake says", "")),
    ],
)
def test_a_job_s_own_reason_is_told(reason: str, said: tuple[str, str]):
    assert reason_of(Job("axis", {}, None, reason)) == said


def test_reasons_are_shown_by_stage_on_one_screen():
    groups = [
        {
            "stage": "generation",
            "reason": "an input is newer",
            "jobs": 1003,
            "rules": {"generate": 1000, "simulate": 1, "judge": 1, "causal": 1, "judge_worth": 1},
            "details": ["resources/roles/pirate.json", "resources/roles/ghost.json"],
        },
        {"stage": "drift", "reason": "its output is missing", "jobs": 2, "rules": {"causal": 2}, "details": []},
    ]
    assert show(groups).splitlines() == [
        "stage        jobs  reason",
        "generation  1,003  an input is newer: resources/roles/pirate.json and 1 more; generate (1,000), simulate, "
        "judge, causal and 1 more",
        "drift           2  its output is missing; causal (2)",
        "total       1,005",
    ]
    assert show([]) == "nothing is left to do"


def test_nothing_to_do_loads_nothing():
    run = DryRun(parse_jobs("Nothing to be done (all requested files are present and up to date).\n"), {})
    assert run.jobs == [] and _loads(run, cluster=True) == _loads(run, cluster=False) == 0
    assert _loads(DryRun([Job("aggregate", {}, None)], {}), cluster=True) == 0


def test_mistakes_are_told_before_snakemake_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no Snakefile"):
        dry_run([], [], None)
    (tmp_path / "Snakefile").touch()
    with pytest.raises(UserError, match=r"--configfile none\.yaml: no such file$"):
        dry_run([], ["none.yaml"], None)
    with pytest.raises(
        UserError, match=r"--configfile axis: no such file; a target comes first: personascope plan axis"
    ):
        dry_run([], ["axis"], None)


@pytest.fixture
def model(tmp_path: Path, chat_tokenizer: Any) -> dict[str, Any]:
    """A folder with tokenizer and configuration, and no weights."""
    chat_tokenizer.save_pretrained(tmp_path / "model")
    LlamaConfig(hidden_size=32, max_position_embeddings=60).save_pretrained(tmp_path / "model")
    return {"id": str(tmp_path / "model"), "revision": None, "trust_remote_code": False}


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("MissingRuleException:\nNo rule to produce axs (if you use", "no target 'axs'; did you mean 'axis'?"),
        ("No rule to produce results/main/x.csv (if", "no target 'results/main/x.csv'; there are all, model, "),
        ("MissingInputException in rule x", ""),
    ],
)
def test_a_target_that_nothing_makes_is_told_with_the_named_ones(output: str, said: str):
    told = _unknown_target(output, Path(__file__).parents[2] / "Snakefile")
    assert told.startswith(said) and bool(told) == bool(said)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["store", "prune", "--store", "nowhere"], "error: nowhere: no such folder; run this in"),
        (["plan", "--generation-rate", "fast"], "--generation-rate: fast is no number over 0"),
        (["chat", "--layer", "7,last"], "--layer: 7,last is no layer"),
    ],
)
def test_a_wrong_argument_is_told_by_its_name(
    command: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.argv", ["personascope", *command])
    with pytest.raises(SystemExit):
        main()
    assert said in capsys.readouterr().err


def test_tokens_are_those_of_the_tokenizer(model: dict[str, Any], chat_tokenizer: Any):
    counter = TokenCounter(model)
    messages = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "A pirate."}]
    assert counter.source == "counted" and counter.d_model == 32
    assert counter.conversation(messages) == len(encode_conversation(chat_tokenizer, messages).ids)
    answer = len(chat_tokenizer("A pirate.")["input_ids"])
    assert counter.prompt(messages[:1]) + answer + counter.closing() == counter.conversation(messages)
    assert counter.conversation([*messages] * 20) == 60  # the model's context


def test_without_a_tokenizer_characters_are_counted_and_the_source_says_so(tmp_path: Path):
    counter = TokenCounter({"id": str(tmp_path / "none"), "revision": None, "trust_remote_code": False})
    assert "4 characters a token" in counter.source
    assert counter.prompt([{"role": "user", "content": "x" * 400}]) == 104


def test_every_turn_of_a_script_sends_what_was_said_before(model: dict[str, Any], tmp_path: Path):
    counter, path = TokenCounter(model), tmp_path / "plain.json"
    write_json(path, {"user": ["Who?", "Why?"]})
    first = counter.prompt([{"role": "user", "content": "Who?"}])
    script = count_script(counter, path, answer=10.0)
    assert script.output == 20
    assert script.prompt > 2 * first + 10 and script.whole > script.prompt - first + 10


def test_rates_come_from_the_last_line_that_says_what_a_job_took(tmp_path: Path):
    (tmp_path / "a.log").write_text(
        "05:09 a: 1/2 responses, 4 tokens/s, 32 s left\n05:10 a: 100 tokens in 10.0 s, 10 tokens/s\n"
    )
    (tmp_path / "b.log").write_text("05:09 b: 2/2 responses, 300 tokens in 10.0 s, 30 tokens/s\n")
    (tmp_path / "c.log").write_text("c: 2 responses, 2 of them in the store\n")
    work = log_work(sorted(tmp_path.glob("*.log")))
    assert (work.tokens, work.seconds, work.jobs, work.rate) == (400, 20.0, 2, 20.0)
    assert log_work([tmp_path / "none.log"]).rate is None


def test_mean_response_is_not_taken_from_a_lower_limit(tmp_path: Path):
    rows = [
        {"response_token_ids": None, "finish_reason": "unknown"},  # imported: it does not count
        {"response_token_ids": [1] * 8, "finish_reason": "length"},
        {"response_token_ids": [1] * 4, "finish_reason": "stop"},
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)
    assert mean_response([tmp_path / "a.jsonl"], 8) == 6
    assert mean_response([tmp_path / "a.jsonl"], 6) == 5
    assert mean_response([tmp_path / "a.jsonl"], 16) is None
    assert mean_response([], 8) is None


def test_spread_meets_every_period():
    assert spread(3, 10) == [0, 1, 2]
    some = spread(1200, 60)
    assert len(some) == 60 and {i % 6 for i in some} == set(range(6))


def test_the_price_of_an_endpoint():
    tokens = {"prompt": {"left": 2_000_000.0}, "output": {"left": 500_000.0}}
    assert _api(tokens, Given(price_prompt=0.5, price_output=2.0))["cost"] == 2.0
    assert _api(tokens, Given(price_prompt=0.5))["cost"] is None


def test_durations_sizes_and_tables_are_readable():
    assert [duration(s) for s in (0, 40, 720, 7800, 7200, 273600)] == [
        "0 s",
        "40 s",
        "12 min",
        "2 h 10 min",
        "2 h",
        "3 d 4 h",
    ]
    assert [size(n) for n in (12, 12_345, 1.5e9, 2e15)] == ["12 B", "12.3 kB", "1.5 GB", "2000.0 TB"]
    assert table(["a", "n", "note"], [["bb", "1", "x"], ["c", "10", ""]]) == "a    n  note\nbb   1  x\nc   10"
