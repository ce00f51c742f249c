"""
The kinds of values a variable can have: how its text is read, and what is allowed.

A kind is a type with the words a user sees when a text does not fit; see `complaints`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)


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


UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
}
LONGEST = timedelta(days=3650)

_TYPE_NAME = r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)"
_RENAME = re.compile(rf"{_TYPE_NAME}\s*=\s*{_TYPE_NAME}", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
LONGEST_NAME = 63
"""Bytes of a name in PostgreSQL."""
LONGEST_HOST = 253
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_IPV6 = re.compile(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*(%[A-Za-z0-9._-]+)?")
_RESERVED = re.compile(r"pg_|information_schema$")
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a value of this kind may be, in words for the user."""

    text: str


class Choice(Enum):
    """One of a few words, upper or lower case alike."""

    @classmethod
    def _missing_(cls, value: object) -> Choice | None:
        wanted = str(value).strip().casefold()
        return next((member for member in cls if member.value.casefold() == wanted), None)


def duration(text: str, plain: str | None = None) -> timedelta:
    """Read `500ms`, `10s`, `1m`, `1h`; a number without unit counts `plain`, if that is given."""
    match = _DURATION.fullmatch(text.strip().lower())
    unit = UNITS.get(match[2] or plain or "") if match else None
    if match is None or unit is None:
        raise ValueError("not a duration")
    milliseconds = Decimal(match[1]) * (unit // UNITS["ms"])
    if not 1 <= milliseconds <= LONGEST // UNITS["ms"]:
        raise ValueError("shorter than 1 ms, or longer than ten years")
    return timedelta(milliseconds=float(milliseconds))


def duration_text(value: timedelta) -> str:
    """Write a duration as `duration` reads it, in the largest unit that leaves no fraction."""
    for name, unit in reversed(UNITS.items()):
        if value and value % unit == timedelta(0):
            return f"{value // unit}{name}"
    return f"{value / UNITS['ms']:g}ms"


def _reading(read: Callable[[str], Any]) -> BeforeValidator:
    """Read texts; leave alone what a Python caller gives as it should be."""
    return BeforeValidator(lambda value: read(value) if isinstance(value, str) else value)


def _flag(text: str) -> bool:
    if (value := _FLAGS.get(text.strip().lower())) is None:
        raise ValueError("not a flag")
    return value


def _names(text: str) -> tuple[str, ...]:
    """Split at commas; blanks and duplicates go, the order stays (as in CoS)."""
    return tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))


def _renames(text: str) -> tuple[str, ...]:
    """Pairs of full names of types, as `old=new`."""
    renames = []
    for pair in _names(text):
        match = _RENAME.fullmatch(pair)
        if match is None or match[1] == match[2]:
            raise ValueError("not the names of two types")
        renames.append(f"{match[1]}={match[2]}")
    return tuple(renames)


def _path(text: str) -> Path:
    if not text.strip():
        raise ValueError("blank")
    return Path(text.strip())


def is_host(text: str) -> bool:
    """Whether this can be a host's name, or an IP address: nothing around it, nothing to be filled in."""
    if ":" in text:
        return _IPV6.fullmatch(text) is not None
    labels = text.removesuffix(".").split(".")
    return len(text) <= LONGEST_HOST and all(_LABEL.fullmatch(label) for label in labels)


def is_socket_folder(text: str) -> bool:
    """Whether this can be the folder of a database's socket, or the name of an abstract one."""
    return text.startswith(("/", "@")) and text.isprintable() and "," not in text


def _is_identifier(text: str) -> bool:
    # PostgreSQL cuts what is longer, without an error: it would be another one's schema, or role.
    return text.isprintable() and 1 <= len(text.encode()) <= LONGEST_NAME


def _if(holds: bool, text: str) -> str:
    if not holds:
        raise ValueError("not allowed")
    return text


_A_DURATION = "a duration such as 500ms, 10s, 1m or 1h"

Flag = Annotated[bool, _reading(_flag), Allowed("true or false")]
Port = Annotated[int, Field(ge=1, le=65535)]
BreakerFailures = Annotated[int, Field(ge=1, le=100)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1), Allowed("a text that is not blank")
]
Host = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    AfterValidator(lambda text: _if(is_host(text), text)),
    Allowed("a host name or an IP address, without a scheme or a port"),
]
DatabaseHost = Annotated[
    str,
    AfterValidator(lambda text: _if(is_host(text) or is_socket_folder(text), text)),
    Allowed("a host name, an IP address or a socket folder; leave it out for the embedded database"),
]
ServiceName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"),
    Allowed("at most 100 letters, digits, dots, hyphens and underscores, beginning with a letter or digit"),
]
DatabaseName = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    AfterValidator(lambda text: _if(_is_identifier(text), text)),
    Allowed(f"a name of 1 to {LONGEST_NAME} bytes in UTF-8, without control characters"),
]
SchemaName = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    AfterValidator(lambda text: _if(_is_identifier(text) and not _RESERVED.match(text), text)),
    Allowed(
        f"a schema's name of 1 to {LONGEST_NAME} bytes in UTF-8, without control characters, and none of "
        "PostgreSQL's own (pg_..., information_schema)"
    ),
]
Handler = Annotated[
    str,
    StringConstraints(strip_whitespace=True, pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"),
    Allowed("package.module:Class"),
]
Duration = Annotated[timedelta, _reading(duration), Allowed(_A_DURATION)]
Milliseconds = Annotated[
    timedelta,
    _reading(lambda text: duration(text, plain="ms")),
    Allowed(f"a number of milliseconds, or {_A_DURATION}"),
]
Seconds = Annotated[
    timedelta,
    _reading(lambda text: duration(text, plain="s")),
    Allowed(f"a number of seconds, or {_A_DURATION}"),
]
Names = Annotated[tuple[str, ...], _reading(_names), Allowed("names separated by commas")]
HeaderKeys = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")], ...],
    _reading(_names),
    Allowed("header names separated by commas, each of letters, digits, dots, hyphens and underscores"),
]
Renames = Annotated[
    tuple[str, ...],
    _reading(_renames),
    Allowed("pairs old.Name=new.Name separated by commas: the full names of two types, the old one first"),
]
Folder = Annotated[Path, _reading(_path), Allowed("a folder's path")]
File = Annotated[Path, _reading(_path), Allowed("a file's path")]
Files = Annotated[
    tuple[Path, ...],
    _reading(lambda text: tuple(Path(name) for name in _names(text))),
    Allowed("paths of files, separated by commas"),
]
