"""The configuration of an experiment: checked against the schema, with the schema's defaults filled in."""

import copy
from datetime import date
from typing import Any

from personascope.errors import UserError


def checked_config(config: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A copy with the schema's defaults filled in and the analyses that an overlay took back (null) left out."""
    from jsonschema import Draft202012Validator

    config = copy.deepcopy(config)
    model = config.get("model")
    template = model.get("template") if isinstance(model, dict) else None
    if isinstance(template, dict) and isinstance(template.get("date"), date):  # as YAML reads a day without quotes
        template["date"] = template["date"].isoformat()
    analyses = (config.get("drift") or {}).get("analyses")
    if isinstance(analyses, dict):
        config["drift"]["analyses"] = {name: block for name, block in analyses.items() if block is not None}
    for error in Draft202012Validator(schema).iter_errors(config):
        key = ".".join(map(str, error.absolute_path)) or "top level"
        raise UserError(f"config, {key}: {error.message}; config/README.md explains every key")
    _fill_in(config, schema)
    return config


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
