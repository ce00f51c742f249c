"""What all groups of settings have in common."""

from __future__ import annotations

import re
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Group(BaseModel):
    """Settings that belong together; fields are named here, variables by their alias."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _whole_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """A whole number is written in digits: not as 9_000 or 9000.0, which pydantic takes."""
        is_number = _is_whole_number(cls.model_fields[info.field_name or ""].annotation)
        if is_number and isinstance(value, str) and not re.fullmatch(r"\s*-?[0-9]+\s*", value):
            raise ValueError("not a whole number")
        return value

    @classmethod
    def variables(cls) -> dict[str, str]:
        """The variables of this group, each with the name of its field."""
        return {field.alias: name for name, field in cls.model_fields.items() if field.alias}


def _is_whole_number(type_: object) -> bool:
    """Whether a field of this type is a whole number, or none."""
    return type_ is int or any(map(_is_whole_number, get_args(type_)))
