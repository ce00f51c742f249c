"""
The settings as a table: what each variable is now, would be otherwise, and means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from pydantic import SecretStr

from cos_ray.config.complaints import MASK
from cos_ray.config.environment import file_of
from cos_ray.config.settings import Settings, groups
from cos_ray.config.values import duration_text


@dataclass(frozen=True, slots=True)
class Row:
    """One variable."""

    group: str
    """What the variables around it are about: the group's name in `Settings`, in words."""
    variable: str
    value: str
    """Its value as it would be written; blank if it has none, masked if it is a secret."""
    default: str
    meaning: str
    source: str
    """Where the value comes from: environment, file (of COS_CONFIG), secret file or default."""


def described(settings: Settings, environment: Mapping[str, str]) -> list[Row]:
    """A row for each variable, in the order of the groups; `environment` is what the settings came from."""
    file = file_of(environment)
    rows = []
    for name, group in groups().items():
        for variable, field_name in group.variables().items():
            field = group.model_fields[field_name]
            rows.append(
                Row(
                    group=name.replace("_", " "),
                    variable=variable,
                    value=written(getattr(getattr(settings, name), field_name)),
                    default=written(field.default),
                    meaning=field.description or "",
                    source=_source(variable, environment, file),
                )
            )
    return rows


def _source(variable: str, environment: Mapping[str, str], file: Mapping[str, str]) -> str:
    if variable in environment:
        return "environment"
    if variable in file:
        return "file"
    return "secret file" if f"{variable}_FILE" in {*environment, *file} else "default"


def written(value: object) -> str:
    """A value as it would be written in the environment."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case SecretStr():
            return MASK
        case timedelta():
            return duration_text(value)
        case Enum():
            return str(value.value)
        case tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)
