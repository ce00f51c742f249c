"""Which caller a token belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import jwt

from cos_ray.domain.authorization import AccessPolicy, Caller, JwtPolicy
from cos_ray.domain.errors import Code, Status

_SCHEME = "bearer "
_UNKNOWN = Status(Code.UNAUTHENTICATED, "the token is not valid")
MISSING = Status(Code.UNAUTHENTICATED, "a token is needed: authorization: Bearer <token>")


def caller_of(metadata: Iterable[tuple[str, str | bytes]], policy: AccessPolicy) -> Caller | Status:
    """Who calls, by the token in the request's metadata; a status that tells no more than it must."""
    given = [value for key, value in metadata if key.lower() == "authorization"]
    if not given:
        return MISSING
    if len(given) > 1:
        return Status(Code.UNAUTHENTICATED, "authorization is given more than once")
    text = given[0] if isinstance(given[0], str) else given[0].decode("latin-1")
    if not text.lower().startswith(_SCHEME):
        return MISSING
    token = text[len(_SCHEME) :].strip()
    known = policy.tokens.get(hashlib.sha256(token.encode()).hexdigest())
    if known is not None:
        return known
    return _of_jwt(token, policy.jwt) if policy.jwt is not None else _UNKNOWN


def _of_jwt(token: str, policy: JwtPolicy) -> Caller | Status:
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            policy.key,
            algorithms=list(policy.algorithms),
            audience=policy.audience,
            issuer=policy.issuer,
            leeway=policy.leeway,
            # A token of somebody, for a time. One for an audience is not for us if we are none.
            options={"require": ["exp", "sub"]},
        )
    except jwt.ExpiredSignatureError:
        return Status(Code.UNAUTHENTICATED, "the token has expired")
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return _UNKNOWN
    roles = claims.get(policy.roles_claim, [])
    named = [roles] if isinstance(roles, str) else roles if isinstance(roles, list) else []
    rules = [rule for role in named if isinstance(role, str) for rule in policy.roles.get(role, ())]
    return Caller(f"jwt:{claims['sub']}", (*policy.rules, *rules))
