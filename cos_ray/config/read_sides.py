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
from cos_ray.config.values import is_host
from cos_ray.domain.errors import ConfigurationError
from cos_ray.domain.failure_policy import Backoff, DeliveryPolicy, LastResort
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
    PARK = "PARK"
    """Ours: set it aside, and what follows it of its entity."""


RETRIES, DELAY = 5, timedelta(seconds=5)
"""How often and at what distance an event is tried again before REPLAY_STOP, REPLAY_SKIP and PARK act."""

_AT_ONCE = (FailurePolicy.STOP, FailurePolicy.SKIP)
_LAST_RESORTS = {
    FailurePolicy.STOP: LastResort.STOP,
    FailurePolicy.SKIP: LastResort.SKIP,
    FailurePolicy.REPLAY_STOP: LastResort.STOP,
    FailurePolicy.REPLAY_SKIP: LastResort.SKIP,
    FailurePolicy.PARK: LastResort.PARK,
}


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
    failure_retries: int | None = None
    """How often an event is delivered again before the policy acts; None: as usual for the policy."""
    failure_delay: timedelta | None = None
    """The wait before it is (without a policy the first one, after which waits grow); None: as usual."""
    concurrency: int | None = None
    """How many deliveries may be under way at once; None: as usual for the kind of handler."""
    handler: str | None = None
    """A Python class that runs inside the read side's process, instead of host and port."""

    @property
    def policy(self) -> DeliveryPolicy:
        """What follows when an event is not confirmed."""
        if self.failure_policy is FailurePolicy.NONE:
            first = self.failure_delay or Backoff().first
            return DeliveryPolicy(waits=Backoff(first, max(first, Backoff().longest)))
        delay = self.failure_delay or DELAY
        retries = RETRIES if self.failure_retries is None else self.failure_retries
        last_resort = _LAST_RESORTS[self.failure_policy]
        return DeliveryPolicy(
            0 if self.failure_policy in _AT_ONCE else retries, Backoff(delay, delay), last_resort
        )


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
    handler = draft.get("HANDLER", _handler, None)
    policy = draft.get("FAILURE_POLICY", _failure_policy, FailurePolicy.NONE)
    _refuse_needless(draft, handler, policy)
    return ReadSideConfig(
        read_side_id=ReadSideId(draft.read_side_id),
        protocol=draft.get("PROTOCOL", _protocol, Protocol.GRPC),
        host=draft.require("HOST", _host) if handler is None else "",
        port=draft.require("PORT", _port) if handler is None else 0,
        use_tls=draft.get("USE_TLS", _truth, default=False),
        timeout=draft.get("TIMEOUT", _timeout, timedelta(seconds=30)),
        auto_start=draft.get("AUTO_START", _truth, default=True),
        enabled=draft.get("ENABLED", _truth, default=True),
        failure_policy=policy,
        failure_retries=draft.get("FAILURE_RETRIES", _retries, None),
        failure_delay=draft.get("FAILURE_DELAY", _timeout, None),
        concurrency=draft.get("CONCURRENCY", _concurrency, None),
        handler=handler,
    )


def _refuse_needless(draft: Draft, handler: str | None, policy: FailurePolicy) -> None:
    """Raises ConfigurationError for a setting that another one leaves without a meaning."""
    needless: list[tuple[str, str]] = []
    if handler is not None:
        why = "leaving it out, for the handler runs inside the service"
        needless += [(setting, why) for setting in ("PROTOCOL", "HOST", "PORT", "USE_TLS")]
    if policy in _AT_ONCE:
        why = f"leaving it out, for {policy.value} acts at the first failure"
        needless += [("FAILURE_RETRIES", why), ("FAILURE_DELAY", why)]
    if policy is FailurePolicy.NONE:
        needless.append(("FAILURE_RETRIES", "leaving it out, for without a failure policy there is no end"))
    for setting, allowed in needless:
        if place := draft.place_of(setting):
            raise ConfigurationError(f"readside {draft.read_side_id}: {place} is set; allowed: {allowed}")


# Each takes a text and raises ValueError with what is allowed.


def _protocol(text: str) -> Protocol:
    try:
        return Protocol(text.lower())
    except ValueError:
        raise ValueError("grpc, http") from None


def _host(text: str) -> str:
    if not is_host(text):
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


def _retries(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,4}", text):
        return int(text)
    raise ValueError("a whole number from 0 to 9999")


def _concurrency(text: str) -> int:
    return _whole_number(text, 10_000)


def _handler(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", text):
        raise ValueError("package.module:Class")
    return text
