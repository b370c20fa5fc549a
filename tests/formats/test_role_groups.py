"""Groups of roles: what is read, and what is refused in one line."""

from pathlib import Path

import pytest

from personascope.errors import UserError
from personascope.formats.role_groups import OTHERS, groups_of, read_role_groups
from personascope.formats.roles import list_roles

RESOURCES = Path(__file__).parents[2] / "resources"


def write(folder: Path, text: str) -> Path:
    path = folder / "groups.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_groups_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "Sea: [pirate, whale]\nAir: [wind]\n")
    assert list(read_role_groups(path).items()) == [("Sea", ["pirate", "whale"]), ("Air", ["wind"])]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Sea: [pirate]\nAir: [wind, pirate]\n", "the role pirate is in 'Sea' and in 'Air'; leave it in one"),
        ("Sea: [pirate, pirate]\n", "the role pirate is in 'Sea' and in 'Sea'"),
        ("Sea: pirate\n", "'Sea' must be a label with a list of names of roles"),
        ("Sea: [1]\n", "'Sea' must be a label with a list of names of roles"),
        ("1: [pirate]\n", "1 must be a label with a list of names of roles"),
        ("- pirate\n", "must be groups of roles"),
        ("", "must be groups of roles"),
        ("Sea: [pirate]\nAir: [wind]\nSea: [whale]\n", "lines 1 and 3: the key 'Sea' stands twice"),
        ("Sea: [pirate\n", "while parsing a flow sequence"),
        ("".join(f"g{i}: [r{i}]\n" for i in range(13)), "13 groups; more than 12 colors cannot be told apart"),
    ],
)
def test_what_is_no_file_of_groups_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        read_role_groups(path)
    complaint = str(error.value).removeprefix("roles.groups: ")
    assert complaint.startswith(str(path)) and said in complaint and "\n" not in complaint


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: .*No such file"):
        read_role_groups(tmp_path / "nowhere.yaml")


def test_roles_in_no_group_are_last_and_empty_groups_are_left_out() -> None:
    groups = {"Sea": ["whale", "pirate"], "Air": ["wind"], "Earth": ["tree"]}
    assert list(groups_of(["pirate", "baker", "tree", "whale"], groups).items()) == [
        ("Sea", ["pirate", "whale"]),
        ("Earth", ["tree"]),
        (OTHERS, ["baker"]),
    ]


def test_every_shipped_role_is_in_one_group() -> None:
    groups = read_role_groups(RESOURCES / "role_groups.yaml")
    assert sorted(role for roles in groups.values() for role in roles) == list_roles(RESOURCES / "roles")
    assert len(groups) == 12 and min(map(len, groups.values())) >= 10
