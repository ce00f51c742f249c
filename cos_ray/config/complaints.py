"""
What a wrong variable is answered with: one line with its name, its value and what is allowed.

Secrets are never shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from annotated_types import Ge, Le
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from cos_ray.config.values import Allowed, Choice

MASK = "******"
LONGEST_VALUE = 120

_CREDENTIALS = re.compile(r"//[^/\s]*@")
"""User and password inside an address, which someone may have written where a host belongs."""


def complaint(variable: str, value: str, allowed: str) -> str:
    """One line about a variable that is wrong."""
    shown = _CREDENTIALS.sub(f"//{MASK}@", value)
    # repr keeps a value with line breaks on one line.
    shown = repr(shown if len(shown) <= LONGEST_VALUE else shown[:LONGEST_VALUE] + "…")
    return f"{variable} is {shown}; allowed: {allowed}"


def complaints_of(model: type[BaseModel], error: ValidationError, told: Mapping[str, str]) -> list[str]:
    """A line for each variable of the model that did not pass."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    lines = []
    for fault in error.errors(include_url=False):
        if not fault["loc"]:
            # A check across several variables brings its own line.
            lines.append(str(fault["ctx"]["error"]))
            continue
        variable = str(fault["loc"][0])
        field = fields[variable]
        lines.append(complaint(variable, MASK if is_secret(field) else told[variable], allowed(field)))
    return list(dict.fromkeys(lines))


def is_secret(field: FieldInfo) -> bool:
    """Whether the field's value must not be shown."""
    return field.annotation is SecretStr


def allowed(field: FieldInfo) -> str:
    """What a value of this field may be."""
    marks = list(_marks(field))
    for mark in marks:
        if isinstance(mark, Allowed):
            return mark.text
        if isinstance(mark, type) and issubclass(mark, Choice):
            return "one of " + ", ".join(str(member.value) for member in mark)
    least = next((mark.ge for mark in marks if isinstance(mark, Ge)), None)
    most = next((mark.le for mark in marks if isinstance(mark, Le)), None)
    if least is not None and most is not None:
        return f"a whole number from {least} to {most}"
    return "a valid value"


def _marks(field: FieldInfo) -> Iterator[Any]:
    """Everything a field's type says about it: its own annotations and those inside a union."""
    yield from field.metadata
    pending = [field.annotation]
    while pending:
        mark = pending.pop()
        if isinstance(mark, FieldInfo):
            yield from mark.metadata
        else:
            yield mark
        pending += get_args(mark)
