"""
How the two ends of a connection know each other: by a secret that is never sent over a network.

On one machine the endpoint tells its secret by a Ray call, which does not leave the machine. Between machines
a Ray call carries public keys only (X25519), of which each side makes the same secret. On the connection
itself both sides show that they have it, by HMAC over numbers that both have drawn: who listens learns
nothing that could be shown again.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from functools import cache
from typing import TYPE_CHECKING

from cos_ray.domain.errors import CosError

if TYPE_CHECKING:  # takes long to import, and is needed between machines only
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

OCTETS = 32
"""Of each secret, name, number and proof."""

OPENING_OCTETS = ANSWER_OCTETS = 2 * OCTETS
PROOF_OCTETS = OCTETS

NEIGHBOUR = bytes(OCTETS)
"""The name of all callers on the endpoint's own machine; elsewhere it is a caller's public key."""

MOST_CALLERS = 10_000
"""Processes of other machines that an endpoint knows; the ones told of longest ago are forgotten."""

_LABEL = b"cos_ray wire 1 "


class NotProven(CosError):
    """The other side of a connection does not have the secret."""


class KeyPair:
    """A process's own keys."""

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    def secret_as_caller(self, endpoint: bytes) -> bytes:
        """The secret shared with an endpoint of this public key. Raises ValueError if it is none."""
        return self._secret(endpoint, caller=self.public, endpoint=endpoint)

    def secret_as_server(self, caller: bytes) -> bytes:
        """What this process, as an endpoint, shares with a caller of this public key. Raises ValueError."""
        return self._secret(caller, caller=caller, endpoint=self.public)

    def _secret(self, other: bytes, *, caller: bytes, endpoint: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        shared = self._private.exchange(X25519PublicKey.from_public_bytes(other))
        return hmac.digest(shared, _LABEL + caller + endpoint, "sha256")


@cache
def own_keys() -> KeyPair:
    """Those of this process, made when they are wanted first."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return KeyPair(X25519PrivateKey.generate())


class KnownCallers:
    """Who may call at an endpoint, each by its name and with a secret of its own."""

    def __init__(self) -> None:
        self._secrets: OrderedDict[bytes, bytes] = OrderedDict()

    def admit(self, name: bytes, secret: bytes) -> None:
        """Let in from now on who has this secret."""
        self._secrets[name] = secret
        self._secrets.move_to_end(name)
        if len(self._secrets) > MOST_CALLERS:
            self._secrets.popitem(last=False)

    def secret_of(self, name: bytes) -> bytes:
        """The caller's secret. Raises NotProven for one that is not known."""
        try:
            return self._secrets[name]
        except KeyError:
            raise NotProven("nobody of this name was told of") from None


class Greeting:
    """The caller's side of a connection's beginning."""

    def __init__(self, name: bytes, secret: bytes) -> None:
        self._secret = secret
        self.opening = name + secrets.token_bytes(OCTETS)
        """What the caller sends first: its name and a number."""

    def proof_for(self, answer: bytes) -> bytes:
        """What the caller sends to the endpoint's answer. Raises NotProven if that is not the endpoint's."""
        number, shown = answer[:OCTETS], answer[OCTETS:]
        if not hmac.compare_digest(shown, _proof(self._secret, b"endpoint", self.opening, number)):
            raise NotProven("the other side does not have the secret")
        return _proof(self._secret, b"caller", self.opening, number)


class Reception:
    """The endpoint's side of it."""

    def __init__(self, callers: KnownCallers, opening: bytes) -> None:
        """Raises NotProven for a caller that is not known."""
        self._opening = opening
        self._secret = callers.secret_of(opening[:OCTETS])
        self._number = secrets.token_bytes(OCTETS)

    @property
    def answer(self) -> bytes:
        """What the endpoint sends: a number of its own, and that it has the secret."""
        return self._number + _proof(self._secret, b"endpoint", self._opening, self._number)

    def check(self, shown: bytes) -> None:
        """Raises NotProven unless this shows that the caller has the secret."""
        if not hmac.compare_digest(shown, _proof(self._secret, b"caller", self._opening, self._number)):
            raise NotProven("the caller does not have the secret")


def _proof(secret: bytes, side: bytes, opening: bytes, number: bytes) -> bytes:
    return hmac.digest(secret, _LABEL + side + opening + number, "sha256")
