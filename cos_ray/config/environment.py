"""
The variables before they are understood: from the environment, a file, or a secret's own file.

The environment wins over the file. Nothing here knows what a variable means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from cos_ray.config.complaints import complaint
from cos_ray.config.yaml_files import TextLoader
from cos_ray.domain.errors import ConfigurationError

CONFIG = "COS_CONFIG"
"""The variable that names the file."""

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*(__[A-Za-z0-9_-]+)?")
"""At the end may be the id of a read side."""


def with_file(environment: Mapping[str, str]) -> dict[str, str]:
    """
    The environment, and below it what the file of COS_CONFIG says.

    Doing so twice changes nothing. Raises ConfigurationError when the file cannot be used.
    """
    return {**file_of(environment), **environment}


def file_of(environment: Mapping[str, str]) -> dict[str, str]:
    """What the file of COS_CONFIG says, as texts; nothing when the variable is not set."""
    if (path := environment.get(CONFIG)) is None:
        return {}
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), TextLoader)  # noqa: S506 - it is safe
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise ConfigurationError(complaint(CONFIG, path, f"a YAML file ({_why(error)})")) from error
    if content in (None, ""):
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(complaint(CONFIG, path, "a YAML file of variables and their values"))
    wrong = [name for name, value in content.items() if not _is_plain(value)]
    if wrong:
        allowed = (
            f"a YAML file in which {', '.join(map(str, wrong))} is a text, a number, true, false or a list"
        )
        raise ConfigurationError(complaint(CONFIG, path, allowed))
    if misnamed := [str(name) for name in content if not _VARIABLE.fullmatch(str(name))]:
        allowed = f"a YAML file of variables: {', '.join(misnamed)} is no name of one (capitals, digits, _)"
        raise ConfigurationError(complaint(CONFIG, path, allowed))
    return {
        str(name): ",".join(value) if isinstance(value, list) else value for name, value in content.items()
    }


def with_secret(told: Mapping[str, str], variable: str) -> tuple[dict[str, str], list[str]]:
    """Fill a secret in from the file that `<variable>_FILE` names; answer also with what is wrong."""
    source = f"{variable}_FILE"
    if source not in told:
        return dict(told), []
    if variable in told:
        return dict(told), [complaint(source, told[source], f"either this or {variable}")]
    try:
        # Some editors begin a file with a mark that is no part of its text.
        secret = Path(told[source]).read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        return dict(told), [complaint(source, told[source], f"a text file ({_why(error)})")]
    return {**told, variable: secret}, []


def _is_plain(value: object) -> bool:
    parts = value if isinstance(value, list) else [value]
    return all(isinstance(part, str) for part in parts)


def _why(error: Exception) -> str:
    """The library's reason, on one line, without anything of the file's content: that may be secret."""
    match error:
        case yaml.MarkedYAMLError(problem=str(problem), problem_mark=yaml.Mark(line=line)):
            return f"line {line + 1}: {problem.splitlines()[0]}"
        case OSError(strerror=str(reason)):
            return reason.lower()
        case _:
            return f"it holds no readable text ({type(error).__name__})"
