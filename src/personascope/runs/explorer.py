"""What an experiment asks for where its results are put into one page."""

from functools import cached_property
from pathlib import Path
from typing import Any

from personascope.formats.files import file_digest
from personascope.formats.role_groups import read_role_groups
from personascope.runs.atlas import AtlasFiles

PAGE = "explorer/index.html"  # below the experiment's results
TEMPLATE = Path(__file__).parents[1] / "explorer" / "template.html"


class ExplorerFiles(AtlasFiles):
    """The page, and whether its configuration is right."""

    @cached_property
    def explorer(self) -> list[str]:
        return [f"<out>/{PAGE}"]

    @cached_property
    def role_groups(self) -> dict[str, list[str]]:
        """Groups by which figures and the page color and order roles: {label: those of the experiment's roles}. A group
        without any is kept, so that colors are the same in all experiments."""
        path, there = self.config["roles"]["groups"], set(self.roles)
        groups = read_role_groups(path) if path else {}
        return {label: [role for role in roles if role in there] for label, roles in groups.items()}

    @property
    def explained(self) -> list[str]:
        """The map of features and what each of them is, as far as the experiment makes these."""
        return [*self.atlas, *self.described]

    @property
    def explorer_template(self) -> str:
        """Of the built page: a new one makes the experiment's page again."""
        return file_digest(TEMPLATE)[:16] if TEMPLATE.is_file() else ""

    @property
    def explorer_params(self) -> dict[str, Any]:
        """What defines the page, beside the results."""
        block = self.config["explorer"] | {"sensitive": self.sensitive}
        named = {"experiment": self.name, "model": self.model, "sae": self.sae, "mode": self.mode}
        named |= {"transform": self.config["axis"]["transform"], "analyses": self.analyses, "groups": self.role_groups}
        return named | block
