"""What all groups of settings have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """Settings that belong together; fields are named here, variables by their alias."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def variables(cls) -> dict[str, str]:
        """The variables of this group, each with the name of its field."""
        return {field.alias: name for name, field in cls.model_fields.items() if field.alias}
