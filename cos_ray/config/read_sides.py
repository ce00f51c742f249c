"""
Which read sides there are: from YAML files, or from variables, as CoS reads them.

Whatever is wrong is one line that names where it stands, the read side, the setting, its value
and what is allowed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from cos_ray.config.read_side_drafts import LOCATION, PREFIX, Draft, drafts_in_files, drafts_in_variables
from cos_ray.domain.errors import ConfigurationError
from cos_ray.domain.ids import ReadSideId

logger = logging.getLogger(__name__)

SWITCH = "COS_READ_SIDE_ENABLED"
_LONGEST_TIMEOUT = 24 * 60 * 60 * 1000


class Protocol(Enum):
    """How a read handler is reached."""

    GRPC = "grpc"
    HTTP = "http"


class FailurePolicy(Enum):
    """What follows when an event is not confirmed."""

    NONE = "none"
    """Try again for ever."""
    STOP = "STOP"
    SKIP = "SKIP"
    REPLAY_STOP = "REPLAY_STOP"
    REPLAY_SKIP = "REPLAY_SKIP"


@dataclass(frozen=True, slots=True)
class ReadSideConfig:
    """One read side as configured."""

    read_side_id: ReadSideId
    protocol: Protocol
    host: str
    port: int
    use_tls: bool = False
    timeout: timedelta = timedelta(seconds=30)
    """How long the handler may take for one event."""
    auto_start: bool = True
    """Whether it runs, rather than waits to be resumed, when it is seen for the first time."""
    enabled: bool = True
    """Whether it takes part at all."""
    failure_policy: FailurePolicy = FailurePolicy.NONE


def read_sides_from(environment: Mapping[str, str]) -> tuple[ReadSideConfig, ...]:
    """
    The read sides these variables, or the files they name, configure; none when switched off.

    Those with `enabled` false are among them. Raises ConfigurationError.
    """
    if not _is_switched_on(environment):
        return ()
    location = environment.get(LOCATION, "").strip()
    variables = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    if location and variables:
        logger.warning("read side variables are ignored: files count", extra={LOCATION: location})
    drafts = drafts_in_files(location) if location else drafts_in_variables(variables)
    read_sides = tuple(_configs_from(drafts))
    if not read_sides:
        logger.warning("read sides are enabled but none are configured")
    return read_sides


def unsupported(config: ReadSideConfig) -> str | None:
    """What of this configuration is valid but cannot be run by this release; None when all can."""
    if config.protocol is not Protocol.GRPC:
        fault = f"protocol '{config.protocol.value}' is not supported in this release"
        return f"readside {config.read_side_id}: {fault}; allowed: grpc"
    if config.failure_policy is not FailurePolicy.NONE:
        fault = f"failure policy '{config.failure_policy.value}' is not supported in this release"
        return f"readside {config.read_side_id}: {fault}; allowed: none (try again for ever)"
    return None


def _is_switched_on(environment: Mapping[str, str]) -> bool:
    text = environment.get(SWITCH, "").strip() or "false"
    try:
        return _truth(text)
    except ValueError as allowed:
        raise ConfigurationError(f"{SWITCH} is {text!r}; allowed: {allowed}") from None


def _configs_from(drafts: Iterable[Draft]) -> Iterator[ReadSideConfig]:
    places: dict[str, str] = {}
    for draft in drafts:
        if draft.read_side_id in places:
            both = f"{places[draft.read_side_id]} and {draft.place}"
            raise ConfigurationError(
                f"readside {draft.read_side_id} is configured twice: {both}; allowed: once"
            )
        places[draft.read_side_id] = draft.place
        yield _config_from(draft)


def _config_from(draft: Draft) -> ReadSideConfig:
    return ReadSideConfig(
        read_side_id=ReadSideId(draft.read_side_id),
        protocol=draft.get("PROTOCOL", _protocol, Protocol.GRPC),
        host=draft.require("HOST", _host),
        port=draft.require("PORT", _port),
        use_tls=draft.get("USE_TLS", _truth, default=False),
        timeout=draft.get("TIMEOUT", _timeout, timedelta(seconds=30)),
        auto_start=draft.get("AUTO_START", _truth, default=True),
        enabled=draft.get("ENABLED", _truth, default=True),
        failure_policy=draft.get("FAILURE_POLICY", _failure_policy, FailurePolicy.NONE),
    )


# Each takes a text and raises ValueError with what is allowed.


def _protocol(text: str) -> Protocol:
    try:
        return Protocol(text.lower())
    except ValueError:
        raise ValueError("grpc, http") from None


def _host(text: str) -> str:
    if re.search(r"[\s/]", text) or text.count(":") == 1:
        raise ValueError("a host name or address, without scheme and port")
    return text


def _port(text: str) -> int:
    return _whole_number(text, 65_535)


def _timeout(text: str) -> timedelta:
    return timedelta(milliseconds=_whole_number(text, _LONGEST_TIMEOUT, unit=" (milliseconds)"))


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true, false")
    return text.lower() == "true"


def _failure_policy(text: str) -> FailurePolicy:
    name = text.upper().replace("-", "_")
    if name not in FailurePolicy.__members__:
        raise ValueError(", ".join(policy.value for policy in FailurePolicy))
    return FailurePolicy[name]


def _whole_number(text: str, largest: int, unit: str = "") -> int:
    # Not int() alone: it takes "1_000" and other scripts' digits.
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= largest:
        raise ValueError(f"a whole number from 1 to {largest}{unit}")
    return int(text)
