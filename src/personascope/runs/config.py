"""The configuration of an experiment: checked against the schema, with the schema's defaults filled in."""

import copy
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from personascope.errors import UserError, did_you_mean
from personascope.formats.yaml_files import read_yaml

log = logging.getLogger(__name__)

# How the kinds of values are called where one of several is meant.
KINDS = {
    **{"array": "a list", "integer": "a whole number", "number": "a number", "string": "text", "null": "null"},
    **{"object": "a block of keys", "boolean": "true or false"},
}


def check_files(overlays: Sequence[str | Path]) -> None:
    """UserError for the first configuration file that can't be read, or has a key twice: Snakemake does not name the
    file of the one, and takes the last of the other without a word."""
    for file in map(Path, ["config/config.yaml", *overlays]):
        if file.is_file() and not isinstance(read_yaml(file), dict):
            raise UserError(f"{file}: a configuration has keys at its top level (`model: ...`), and this has none")


def check_folder(workflow: str, overlays: Sequence[Path]) -> None:
    """UserError where this is not the workflow's folder, from which the configuration names its files; a configuration
    that is given may name others, so that a warning is enough."""
    if Path("config/config.yaml").is_file():
        return
    here = f"no config/config.yaml in {Path.cwd()}, where files are looked for"
    there = f"run in the workflow's folder (cd {workflow}), or give it with --directory"
    if not overlays:
        raise UserError(f"{here}; {there}")
    log.warning("%s; where they are missing, %s", here, there)


def checked_config(config: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A copy with the schema's defaults filled in and the analyses that an overlay took back (null) left out."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    config = copy.deepcopy(config)
    _check_plain(config)
    model = config.get("model")
    template = model.get("template") if isinstance(model, dict) else None
    if isinstance(template, dict) and isinstance(template.get("date"), date):  # as YAML reads a day without quotes
        template["date"] = template["date"].isoformat()
    drift = config.get("drift")
    analyses = drift.get("analyses") if isinstance(drift, dict) else None
    if isinstance(analyses, dict):
        config["drift"]["analyses"] = {name: block for name, block in analyses.items() if block is not None}
    whole = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    for error in extend(Draft202012Validator, type_checker=whole)(schema).iter_errors(config):
        key = ".".join(map(str, error.absolute_path)) or "top level"
        said = _said(error, schema)
        raise UserError(f"config, {key}: {said}{'' if said.endswith('?') else ';'} config/README.md explains every key")
    _fill_in(config, schema)
    return config


def _said(error: Any, schema: dict[str, Any]) -> str:
    """What is wrong, from an error of the schema's check, with what may be meant."""
    given, part = error.instance, error.schema
    if error.validator == "additionalProperties":
        unknown = sorted(set(given) - set(part.get("properties", {})))[0]
        elsewhere = [path for path in _paths(schema) if path.rpartition(".")[2] == unknown]
        there = f"; there is {' and '.join(elsewhere[:2])}" if elsewhere else ""
        return f"no key {unknown!r}{did_you_mean(unknown, part.get('properties', {})) or there}"
    if error.validator == "enum":
        known = list(map(str, part["enum"]))
        return f"{given!r} is none of {', '.join(known)}{did_you_mean(str(given), known)}"
    if error.validator == "oneOf":
        known = [name for one in part["oneOf"] for name in one.get("enum", [one["const"]] if "const" in one else [])]
        kinds = [KINDS[one["type"]] for one in part["oneOf"] if "type" in one]
        return f"{given!r} is none of {', '.join([*known, *kinds])}{did_you_mean(str(given), known)}"
    if error.validator == "type":
        kinds = part["type"] if isinstance(part["type"], list) else [part["type"]]
        found = "null (nothing)" if given is None else repr(given)
        return f"{found} is not {' or '.join(KINDS[kind] for kind in kinds)}"
    return error.message


def _check_plain(block: Mapping[str, Any], above: str = "") -> None:
    """UserError for a key that is no text, and for a number that is none."""
    for key, value in block.items():
        if not isinstance(key, str):
            raise UserError(f"config, {above or 'top level'}: the key {key!r} is not text; put it in quotes")
        where = f"{above}.{key}" if above else key
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"config, {where}: {value} is no number to compute with")
        if isinstance(value, Mapping):
            _check_plain(value, where)


def _paths(schema: dict[str, Any], above: str = "") -> Iterator[str]:
    """The keys of a schema, block by block: generation, generation.temperature, ..."""
    for name, part in schema.get("properties", {}).items():
        yield f"{above}{name}"
        yield from _paths(part, f"{above}{name}.")


def _fill_in(values: dict[str, Any], schema: dict[str, Any]) -> None:
    """Put the defaults of a schema where keys are missing, however deep."""
    parts = dict(schema.get("properties", {}))
    if isinstance(named := schema.get("additionalProperties"), dict):
        parts |= dict.fromkeys(values, named)
    for name, part in parts.items():
        if name not in values and "default" in part:
            values[name] = copy.deepcopy(part["default"])
        if isinstance(values.get(name), dict):
            _fill_in(values[name], part)


def sizes(config: dict[str, Any]) -> dict[str, Any]:
    """What says where and in what portions work is done, and decides no result: a change of it reruns nothing."""
    return {
        "store": config["store"],
        "device": config["model"]["device"],
        "device_map": config["model"]["device_map"],
        "backend_options": config["generation"]["backend_options"],
        "judge_options": {name: judge["backend_options"] for name, judge in config["judges"].items()},
        "batch_tokens": config["extraction"]["batch_tokens"],
        "chunk_tokens": config["extraction"]["chunk_tokens"],
    }
