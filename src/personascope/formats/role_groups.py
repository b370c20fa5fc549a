"""Groups of roles, by which figures and the explorer color and order them: a YAML file {label: [roles]}."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from personascope.errors import UserError
from personascope.formats.yaml_files import read_yaml

OTHERS = "Other roles"
MOST_GROUPS = 12  # as many colors can be told apart


def read_role_groups(path: str | Path) -> dict[str, list[str]]:
    """{label: its roles} in the order of the file; UserError where it is not that, or a role is in two groups."""
    try:
        groups = read_yaml(path)
    except UserError as error:
        raise UserError(f"roles.groups: {error}") from None
    if not isinstance(groups, dict) or not groups:
        raise UserError(f"{path}: must be groups of roles, `label: [role, ...]`")
    if len(groups) > MOST_GROUPS:
        raise UserError(f"{path}: {len(groups)} groups; more than {MOST_GROUPS} colors cannot be told apart")
    group_of: dict[str, str] = {}
    for label, roles in groups.items():
        if not isinstance(label, str) or not isinstance(roles, list) or not all(isinstance(r, str) for r in roles):
            raise UserError(f"{path}: {label!r} must be a label with a list of names of roles")
        for role in roles:
            if role in group_of:
                raise UserError(f"{path}: the role {role} is in {group_of[role]!r} and in {label!r}; leave it in one")
            group_of[role] = label
    return groups


def groups_of(roles: Iterable[str], groups: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """{label: those of `roles` that are in the group}, without empty groups; what is in none is last, as OTHERS."""
    wanted = list(roles)
    found = {label: [role for role in wanted if role in set(members)] for label, members in groups.items()}
    placed = {role for members in found.values() for role in members}
    found[OTHERS] = [role for role in wanted if role not in placed]
    return {label: members for label, members in found.items() if members}
