"""
Read sides as they are written down, in variables or in YAML: names checked, values still texts.

YAML's scalars are taken as the texts they are, so both sources are read by the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import yaml

from cos_ray.config.yaml_files import is_null
from cos_ray.domain.errors import ConfigurationError

LOCATION = "COS_READ_SIDE_CONFIG"
PREFIX = LOCATION + "__"

_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
_YAML_NAMES = {
    "PROTOCOL": "protocol",
    "HOST": "host",
    "PORT": "port",
    "USE_TLS": "useTls",
    "TIMEOUT": "timeout",
    "AUTO_START": "autoStart",
    "ENABLED": "enabled",
    "FAILURE_POLICY": "failurePolicy",
    "FAILURE_RETRIES": "failureRetries",
    "FAILURE_DELAY": "failureDelay",
    "CONCURRENCY": "concurrency",
    "HANDLER": "handler",
}
"""Every setting: what variables call it, and what YAML does."""
_SETTINGS = {name: setting for setting, name in _YAML_NAMES.items()}
_ID_KEY = "readSideId"

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class _Entry:
    """One setting as found."""

    place: str
    value: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A read side's settings as found, by the names that variables give them."""

    read_side_id: str
    place: str
    place_of_setting: Callable[[str], str]
    """Where a setting that is missing would be."""
    entries: Mapping[str, _Entry]

    def require(self, setting: str, parse: Callable[[str], _Value]) -> _Value:
        """The setting's value. `parse` raises ValueError with what is allowed."""
        entry = self.entries.get(setting)
        if entry is None:
            place = self.place_of_setting(setting)
            raise ConfigurationError(f"readside {self.read_side_id} is missing a {setting} ({place})")
        return self._parse(entry, parse)

    def get(self, setting: str, parse: Callable[[str], _Value], default: _Value) -> _Value:
        """The setting's value, or the default where it is not set."""
        entry = self.entries.get(setting)
        return default if entry is None else self._parse(entry, parse)

    def place_of(self, setting: str) -> str | None:
        """Where the setting is set; None if it is not."""
        entry = self.entries.get(setting)
        return None if entry is None else entry.place

    def _parse(self, entry: _Entry, parse: Callable[[str], _Value]) -> _Value:
        try:
            return parse(entry.value)
        except ValueError as allowed:
            fault = f"{entry.place} is {entry.value!r}; allowed: {allowed}"
            raise ConfigurationError(f"readside {self.read_side_id}: {fault}") from None


def drafts_in_variables(variables: Mapping[str, str]) -> list[Draft]:
    """The read sides in these variables, by id. Raises ConfigurationError."""
    found: dict[str, dict[str, _Entry]] = {}
    for name in sorted(variables):
        setting, separator, read_side_id = name.removeprefix(PREFIX).partition("__")
        if not separator or not read_side_id:
            raise ConfigurationError(f"{name} names no read side; allowed: {PREFIX}<SETTING>__<ID>")
        if not setting:
            raise ConfigurationError(f"Setting must be defined in {name}; allowed: {', '.join(_YAML_NAMES)}")
        if setting not in _YAML_NAMES:
            known = ", ".join(_YAML_NAMES)
            raise ConfigurationError(
                f"{setting} is a not valid read side env var key ({name}); allowed: {known}"
            )
        entries = found.setdefault(_checked_id(read_side_id, name), {})
        if value := variables[name].strip():
            entries[setting] = _Entry(name, value)
    return [
        Draft(id_, f"{PREFIX}*__{id_}", partial(_variable, id_), entries)
        for id_, entries in sorted(found.items())
    ]


def _variable(read_side_id: str, setting: str) -> str:
    return f"{PREFIX}{setting}__{read_side_id}"


def drafts_in_files(location: str) -> Iterator[Draft]:
    """The read sides in this file, or in the YAML files of this folder. Raises ConfigurationError."""
    path = Path(location)
    if not path.exists():
        raise ConfigurationError(
            f"{LOCATION} is {location!r}, which does not exist; allowed: a YAML file or a folder"
        )
    try:
        files = list(_yaml_files(path, set())) if path.is_dir() else [path]
        documents = [(file, document) for file in files for document in _documents_in(file)]
    except OSError as error:
        raise ConfigurationError(f"{LOCATION} is {location!r}, which cannot be read: {error}") from error
    for file, document in documents:
        yield _draft_in(file, document)


def _yaml_files(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """
    The YAML files below the folder, by name, each real file once.

    In a mounted config map, visible names are links into the hidden folder `..data`: links are
    followed, hidden names are not.
    """
    seen.add(folder.resolve())
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.resolve() in seen:
            continue
        if entry.is_dir():
            yield from _yaml_files(entry, seen)
        elif entry.suffix.lower() in (".yml", ".yaml"):
            seen.add(entry.resolve())
            yield entry


def _documents_in(file: Path) -> list[yaml.Node]:
    try:
        with file.open("rb") as stream:
            nodes = list(yaml.compose_all(stream, Loader=yaml.BaseLoader))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}," if error.problem_mark else ""
        raise ConfigurationError(f"{file}{line} is no valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{file} is no valid YAML: {' '.join(str(error).split())}") from error
    return [node for node in nodes if not _is_null(node)]


def _draft_in(file: Path, document: yaml.Node) -> Draft:
    entries = _entries_in(file, document)
    place = f"{file}, line {document.start_mark.line + 1}"
    if _ID_KEY not in entries:
        raise ConfigurationError(f"the readside at {place}, is missing a {_ID_KEY}")
    id_ = entries.pop(_ID_KEY)
    return Draft(
        _checked_id(id_.value, id_.place),
        place,
        partial(_key, place),
        {_SETTINGS[key]: entry for key, entry in entries.items()},
    )


def _key(place: str, setting: str) -> str:
    return f"{_YAML_NAMES[setting]} in {place}"


def _entries_in(file: Path, document: yaml.Node) -> dict[str, _Entry]:
    """A document's keys, checked, and their values; keys without a value count as not there."""
    if not isinstance(document, yaml.MappingNode):
        line = document.start_mark.line + 1
        raise ConfigurationError(f"{file}, line {line}, is no read side; allowed: settings as key: value")
    whose = "".join(f"readside {value.value}: " for key, value in document.value if key.value == _ID_KEY)
    known = (_ID_KEY, *_SETTINGS)
    met: dict[str, int] = {}
    entries = {}
    for key, value in document.value:
        place = f"{key.value} in {file}, line {key.start_mark.line + 1}"
        if key.value not in known:
            fault = f"{place}, is a not valid read side key; allowed: {', '.join(known)}"
            raise ConfigurationError(whose + fault)
        if key.value in met:
            raise ConfigurationError(
                f"{whose}{place}, is set twice (first in line {met[key.value]}); allowed: once"
            )
        met[key.value] = key.start_mark.line + 1
        if not isinstance(value, yaml.ScalarNode):
            raise ConfigurationError(f"{whose}{place}, is a list or a mapping; allowed: a single value")
        if not _is_null(value):
            entries[key.value] = _Entry(place, value.value.strip())
    return entries


def _checked_id(text: str, place: str) -> str:
    if not _ID.fullmatch(text):
        allowed = "1 to 255 letters, digits, '-' and '_'"
        raise ConfigurationError(
            f"readside {text!r} ({place}) is a not valid read side id; allowed: {allowed}"
        )
    return text


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and (not node.value.strip() or is_null(node))
