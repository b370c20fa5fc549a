"""Which axis: the options that the axis stage and every analysis of drift share. Light, since
the workflow reads it too."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from personascope.errors import UserError

# What the axis stage writes: a CSV a table; its figures are in `spaces`.
TABLES = ("agreement", "pca_spectrum", "role_projections", "role_similarity")


@dataclass(frozen=True)
class AxisOptions:
    """Which axis, by the names of the published notebook; UserError where a value is none of its variants."""

    anchor: tuple[str, ...] = ("default", "assistant")
    """The roles that the axis points to, in any case: the mean of their vectors."""
    transform: Literal["raw", "log1p"] = "log1p"
    """Applied to role vectors: one of `axis.TRANSFORMS`."""
    use_centering: bool = False
    """Subtract the mean role from every role vector."""
    other_group: Literal["all_other_roles", "roleplay_subset"] = "all_other_roles"
    """What the assistant is held against in `diff`: all other roles, or `roleplay_subset`."""
    roleplay_subset: tuple[str, ...] = ()
    """The roles of that subset; unknown names are warned about and left out."""
    space: Literal["sae", "residual"] = "sae"
    """SAE features, or the residual stream at the output of block `layer`."""
    layer: int | None = None
    """That block, from 0."""
    pooling: Literal["mean", "max"] = "mean"
    """From responses to a role's vector: the mean of the response means, or of the response maxima."""
    axis_method: Literal["diff", "pc1"] = "diff"
    """The axis that is scored on: one of `axis.AXIS_METHODS`."""

    def __post_init__(self) -> None:
        require_variants(self)
        if not self.anchor:
            raise UserError("anchor: names no role; give at least one, for example [default, assistant]")

    @classmethod
    def of(cls, **options: Any) -> "AxisOptions":
        """From a config block, where lists are lists."""
        return cls(**tuples(options))


def tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same options with lists as tuples, which cannot be changed."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def require_variants(options: Any) -> None:
    """UserError names the option of a dataclass whose value is none of the literals that its type allows."""
    for name, kind in get_type_hints(type(options)).items():
        if get_origin(kind) is Literal and (value := getattr(options, name)) not in get_args(kind):
            raise UserError(f"{name}: {value!r} is none of {', '.join(get_args(kind))}")
