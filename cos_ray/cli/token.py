"""
The token that a command shows to a service that lets in whom it knows (COS_AUTH_FILE there).

It comes from a file or from the environment, never from the command line, which every user of the
machine can read. No error, and no `repr`, says what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cos_ray.domain.errors import ConfigurationError

OPTION, FILE_VARIABLE, VARIABLE = "--token-file", "COS_TOKEN_FILE", "COS_TOKEN"

LONGEST = 64 * 1024
"""Bytes of a file that are read at most: no service takes a header of more."""


@dataclass(frozen=True, slots=True)
class Token:
    """What proves who calls."""

    value: str = field(repr=False)
    source: str
    """Where it was found, for complaints."""


def find_token(option: Path | None, environment: Mapping[str, str]) -> Token | None:
    """
    The token of the file that the option names, or of the environment; None if nobody gave one.

    Empty variables count as not set. Raises ConfigurationError with one line, which names the source.
    """
    if option is not None:
        return _from_file(OPTION, option)
    path, value = (environment.get(name, "").strip() for name in (FILE_VARIABLE, VARIABLE))
    if path and value:
        raise ConfigurationError(f"{FILE_VARIABLE} and {VARIABLE} are both set; leave one of them out")
    if path:
        return _from_file(FILE_VARIABLE, Path(path))
    return _checked(VARIABLE, value) if value else None


def _from_file(named_by: str, path: Path) -> Token:
    # repr keeps a path with line breaks on one line.
    source = f"{named_by} {str(path)!r}"
    try:
        with path.open("rb") as stream:
            content = stream.read(LONGEST + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise ConfigurationError(f"{source}: cannot be read ({(why or 'no such path').lower()})") from error
    if len(content) > LONGEST:
        raise ConfigurationError(f"{source}: is no token: it is larger than {LONGEST} bytes")
    return _checked(source, content.decode("latin-1"))


def _checked(source: str, text: str) -> Token:
    value = text.strip()
    if not value:
        raise ConfigurationError(f"{source}: is empty")
    # gRPC refuses all else, without saying what it was about.
    if not (value.isascii() and value.isprintable()):
        allowed = "a token is one line of plain ASCII characters"
        raise ConfigurationError(f"{source}: holds what cannot be sent in a header; {allowed}")
    return Token(value, source)
