"""YAML that is read with the place of a mistake. It comes with Snakemake, which alone needs such files."""

from json import JSONDecodeError
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.formats.files import parse_json


def read_yaml(path: str | Path) -> Any:
    """The value of a YAML (or JSON) file; UserError with its place, also where a block has a key twice, of which one
    would be lost."""
    import yaml

    class Loader(yaml.SafeLoader):
        """As safe_load's."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: dict[str, int] = {}
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                    continue
                if key.value in seen:
                    lines = f"lines {seen[key.value]} and {key.start_mark.line + 1}"
                    raise UserError(f"{path}, {lines}: the key {key.value!r} stands twice in a block; make it one")
                seen[key.value] = key.start_mark.line + 1
            return super().construct_mapping(node, deep)

    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        try:
            return parse_json(text)  # may be indented by tabs
        except JSONDecodeError:
            return yaml.load(text, Loader)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8; save it as UTF-8: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not read as YAML: {' '.join(str(error).split())}") from None
