"""The command `personascope`: plan a run, watch it, view it, sum it up; talk with the model; roles and the store."""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from personascope import __version__
from personascope.errors import UserError, one_line_errors
from personascope.formats.export import export_npz
from personascope.formats.importers import SystemPrompts, import_responses
from personascope.formats.roles import import_roles
from personascope.formats.traits import import_traits
from personascope.formats.transcripts import import_conversations
from personascope.hosting.store import prune, usage
from personascope.runs import costs, plan, status, view, why


def _import_roles(arguments: argparse.Namespace) -> None:
    roles, questions = import_roles(arguments.source, arguments.destination)
    print(f"{roles} roles and {questions} questions are in {arguments.destination}")


def _import_traits(arguments: argparse.Namespace) -> None:
    print(f"{import_traits(arguments.source, arguments.destination)} traits are in {arguments.destination}")


def _import_conversations(arguments: argparse.Namespace) -> None:
    result = import_conversations(arguments.source, arguments.destination)
    print(f"{result.written} conversations are in {arguments.destination}")
    for line in result.lines():
        logging.warning(line)


def _import_responses(arguments: argparse.Namespace) -> None:
    system = SystemPrompts(arguments.roles, arguments.variant, arguments.no_system)
    given = {"model": arguments.model, "system": system, "questions_file": arguments.questions}
    personas, responses = import_responses(arguments.cache, arguments.destination, **given)
    print(f"{responses} responses of {personas} personas are in {arguments.destination}/responses")


def _export_npz(arguments: argparse.Namespace) -> None:
    npz, jsonl = export_npz(arguments.features, arguments.responses, arguments.destination)
    print(f"wrote {npz} and {jsonl}")


def _store(arguments: argparse.Namespace) -> None:
    if not Path(arguments.store).is_dir():
        raise UserError(
            f"{arguments.store}: no such folder; run this in the workflow's folder, or name it with --store"
        )
    if arguments.action == "prune":
        freed = prune(arguments.store, unused_days=arguments.unused_days)
        print(f"freed {freed / 1e6:.1f} MB")
    for part in usage(arguments.store):
        print(f"{part.part:<10} {part.entries:>9,} entries {part.bytes / 1e6:>10.1f} MB")


def _print(result: dict[str, Any], text: str, *, as_json: bool) -> None:
    print(json.dumps(result, indent=2) if as_json else text)


def _plan(arguments: argparse.Namespace) -> None:
    if arguments.why:
        groups = why.why(arguments.targets, arguments.configfile, arguments.profile or plan.default_profile())
        print(json.dumps(groups, indent=2) if arguments.json else why.show(groups))
        return
    rates = (arguments.generation_rate, arguments.extraction_rate)
    given = plan.Given(*rates, arguments.price_prompt, arguments.price_output)
    result = plan.plan(arguments.targets, arguments.configfile, arguments.profile, given)
    _print(result, plan.show(result), as_json=arguments.json)


def _costs(arguments: argparse.Namespace) -> None:
    benchmarks, logs = arguments.benchmarks, arguments.logs
    if benchmarks is None or logs is None:
        experiment = status.last_run(arguments.experiment)["experiment"]
        benchmarks = benchmarks or Path("benchmarks") / experiment
        logs = logs or Path("logs") / experiment
    result = costs.costs(benchmarks, logs)
    _print(result, costs.show(result), as_json=arguments.json)


def _status(arguments: argparse.Namespace) -> None:
    result = status.status(arguments.experiment)
    _print(result, status.show(result), as_json=arguments.json)


def _view(arguments: argparse.Namespace) -> None:
    view.view(arguments.experiment)


def _chat(arguments: argparse.Namespace) -> None:
    from personascope.runs.chat import chat

    logging.getLogger().setLevel(logging.WARNING)
    chat(arguments)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="personascope", description=__doc__)
    parser.add_argument("--version", action="version", version=f"personascope {__version__}")
    parser.set_defaults(run=lambda arguments: parser.print_help())
    commands = parser.add_subparsers(metavar="COMMAND")

    roles = commands.add_parser("import-roles", help="bring in the roles and questions of an assistant-axis checkout")
    roles.add_argument("source", help="the checkout, or its data folder")
    roles.add_argument("destination", help="folder that gets roles/ and questions.jsonl")
    roles.set_defaults(run=_import_roles)

    traits = commands.add_parser("import-traits", help="bring in trait files of assistant-axis or persona_vectors")
    traits.add_argument("source", help="the checkout, its data folder, or a folder of trait files")
    traits.add_argument("destination", help="folder that gets TRAIT.json, for traits.folder")
    traits.set_defaults(run=_import_traits)

    talks = commands.add_parser("import-conversations", help="bring in transcripts of HH, Inspect or Petri")
    talks.add_argument("source", help="a file, or a folder that is searched with those below")
    talks.add_argument("destination", help="folder that gets NAME.json, for drift.conversations")
    talks.set_defaults(run=_import_conversations)

    _add_import_responses(commands)

    export = commands.add_parser("export-npz", help="write a role's features as dense .npz and .jsonl")
    export.add_argument("features", help="results/EXPERIMENT/features/.../ROLE.parquet")
    export.add_argument(
        "responses", help="results/EXPERIMENT/responses/.../ROLE.jsonl, the responses of these features"
    )
    export.add_argument("destination", help="folder that gets ROLE.npz and ROLE.jsonl")
    export.set_defaults(run=_export_npz)

    store = commands.add_parser("store", help="show or prune the store of finished work")
    store.add_argument("action", choices=["show", "prune"])
    store.add_argument("--store", default="store", help="folder of the store (default: store)")
    store.add_argument(
        "--unused-days", type=float, default=30, help="prune what was not used for so long (default: 30)"
    )
    store.set_defaults(run=_store)
    _add_plan(commands)
    _add_chat(commands)

    shown = commands.add_parser("view", help="open the experiment's page: roles, features, conversations")
    shown.add_argument("experiment", nargs="?", metavar="EXPERIMENT", help="default: that of the run started last")
    shown.set_defaults(run=_view)

    watch = commands.add_parser("status", help="what the run here has done, is doing, and what failed")
    watch.set_defaults(run=_status)

    after = commands.add_parser("costs", help="what the jobs here took: time, memory, tokens, SLURM's accounting")
    after.add_argument("--benchmarks", type=Path, help="folder (default: benchmarks/EXPERIMENT)")
    after.add_argument("--logs", type=Path, help="folder of the jobs' logs (default: logs/EXPERIMENT)")
    after.set_defaults(run=_costs)
    for one in (watch, after):
        one.add_argument("--experiment", metavar="NAME", help="default: that of the run started last")
        one.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_import_responses(commands: Any) -> None:
    parser = commands.add_parser("import-responses", help="bring in responses that another program has cached")
    parser.add_argument("cache", help="JSON: {persona: {question: response}}, or a list of persona, question, response")
    parser.add_argument("destination", help="folder of the experiment's results, results/EXPERIMENT")
    parser.add_argument("--model", required=True, help="the model that answered, as results name it (model.name)")
    system = parser.add_mutually_exclusive_group()
    system.add_argument("--roles", type=Path, metavar="FOLDER", help="role files with the personas' system prompts")
    system.add_argument("--no-system", action="store_true", help="the responses were made without a system prompt")
    parser.add_argument("--variant", type=int, default=0, help="which of a role's instructions it was (default: 0)")
    parser.add_argument("--questions", metavar="FILE", help="JSON lines of question and id (default: numbered anew)")
    parser.set_defaults(run=_import_responses)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number over 0")
    return value


def _add_plan(commands: Any) -> None:
    parser = commands.add_parser("plan", help="what a run will take: jobs, model loads, tokens, hours, disk, price")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="what to make (default: all)")
    parser.add_argument("--configfile", nargs="+", action="extend", default=[], metavar="FILE", help="overlays")
    parser.add_argument("--why", action="store_true", help="instead: the jobs that are left by stage, and why")
    parser.add_argument("--profile", help="Snakemake profile of the run, for example slurm")
    for name in ("generation", "extraction"):
        meaning = f"tokens/s of one job of {name}, instead of what was measured here"
        parser.add_argument(f"--{name}-rate", type=_positive, metavar="RATE", help=meaning)
    for name in ("prompt", "output"):
        meaning = f"$ a million {name} tokens of the endpoint"
        parser.add_argument(f"--price-{name}", type=float, metavar="PRICE", help=meaning)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_plan)


def _layers(text: str) -> list[int]:
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text} is no layer, and no list of them (7,15)")
    return [int(part) for part in text.split(",")]


def _add_chat(commands: Any) -> None:
    parser = commands.add_parser("chat", help="talk with the local model: each token's projections, and steering")
    add = parser.add_argument
    add(
        "--monitor",
        default="",
        metavar="NAMES",
        help="directions: axis,paternalism,role:pirate or names of --directions",
    )
    add("--layer", type=_layers, metavar="K[,K]", help="where they are read (default: nearest to 0.65 of the depth)")
    add("--experiment", metavar="NAME", help="whose model and directions (default: that of the run started last)")
    add(
        "--configfile", nargs="+", action="extend", default=[], metavar="FILE", help="overlays that describe it instead"
    )
    add("--model", metavar="ID", help="another model: a folder or a Hugging Face id")
    add("--dtype", choices=["float32", "bfloat16", "float16"])
    add("--device", help="auto, cpu, cuda, ...")
    add("--directions", nargs="+", action="extend", default=[], metavar="[NAME=]FILE", help="further directions")
    add("--steer", action="append", default=[], metavar="NAME:C@K", help="add a direction, for example axis:-0.1@15")
    add("--cap", action="append", default=[], metavar="NAME:LOW:HIGH@K", help="keep a projection between two bounds")
    units = "of --steer: the mean norm of the residual stream at the layer, or raw (default: residual_norm)"
    add("--steer-units", choices=["residual_norm", "raw"], default="residual_norm", help=units)
    add("--system", default="", metavar="TEXT", help="system turn")
    add("--seed", type=int, default=0)
    add("--temperature", type=float)
    add("--top-p", type=float)
    add("--max-tokens", type=int, help="the most tokens of an answer")
    add("--say", action="append", default=[], metavar="TEXT", help="send this and end; may be repeated")
    add("--json", action="store_true", help="one JSON object a token, of prompt and answer")
    add("--save", metavar="FILE", help="save the conversation, after each answer, as drift reads it")
    parser.set_defaults(run=_chat)


def main() -> None:
    """Entry point; mistakes in the input are one line and exit status 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors():
        arguments = build_parser().parse_args()
        arguments.run(arguments)


if __name__ == "__main__":
    main()
