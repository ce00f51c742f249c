"""The settings that say when an entity's state may be of another type than before."""

from __future__ import annotations

from pydantic import Field

from cos_ray.config.values import Choice, Group, Renames


class TypeChanges(Choice):
    """What becomes of a change of types that nobody has declared."""

    REFUSE = "refuse"
    WARN = "warn"
    ALLOW = "allow"


class StateTypes(Group):
    """When an entity's state may be of another type than before."""

    changes: TypeChanges | None = Field(None, alias="COS_TYPE_CHANGES")
    """What to do with a change that is not declared; unset: refuse, or warn where CoS wrote the journal."""
    renames: Renames = Field((), alias="COS_TYPE_RENAMES")
    """The changes that are meant, `old.Name=new.Name`, separated by commas."""

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The old and the new name of each rename."""
        return tuple((old, new) for old, _, new in (rename.partition("=") for rename in self.renames))
