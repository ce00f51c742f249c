"""Who may call what, for which entities. What nobody allowed is not allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

ALL_ENTITIES = ""
"""The prefix that every entity id has."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that is allowed."""

    methods: tuple[str, ...]
    """Names of methods, `*` standing for anything."""
    entities: tuple[str, ...] = (ALL_ENTITIES,)
    """What the ids of the entities begin with."""

    def allows(self, method: str, prefix: str | None) -> bool:
        """Whether it allows this method, for entities that begin so; None: it is about no entity."""
        return any(fnmatchcase(method, wanted) for wanted in self.methods) and (
            prefix is None or any(prefix.startswith(allowed) for allowed in self.entities)
        )


@dataclass(frozen=True, slots=True)
class Caller:
    """Someone who has shown who he is."""

    name: str
    rules: tuple[Rule, ...]

    def may(self, method: str, prefixes: Sequence[str] | None) -> bool:
        """Whether he may call this for all these entities, or prefixes of them; None: for none at all."""
        touched: Sequence[str | None] = [None] if prefixes is None else prefixes or [None]
        return all(any(rule.allows(method, prefix) for rule in self.rules) for prefix in touched)


@dataclass(frozen=True, slots=True)
class JwtPolicy:
    """Which JSON Web Tokens are believed."""

    key: str = field(repr=False)
    """The public key (PEM), or the shared secret."""
    algorithms: tuple[str, ...]
    audience: str | None = None
    issuer: str | None = None
    leeway: float = 30.0
    """Seconds by which clocks may differ."""
    rules: tuple[Rule, ...] = ()
    """For everybody with such a token."""
    roles_claim: str = "roles"
    roles: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    """For those whose token names the role in that claim."""


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """How callers show who they are."""

    tokens: Mapping[str, Caller] = field(default_factory=dict, repr=False)
    """By the SHA-256 of the token, in hexadecimal."""
    jwt: JwtPolicy | None = None
