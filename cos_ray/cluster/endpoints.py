"""
Where an actor answers by RPC, and how others dial there: on one machine and between machines.

On one machine the endpoint is on the loopback, and tells its secret. For callers of other machines it is on
the node's address: with TLS of both sides if certificates are set, and with public keys in any case.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import ray
from typing_extensions import assert_never

from cos_ray.system.certificates import Certificates, TlsFiles
from cos_ray.transport.handshake import NEIGHBOUR, OCTETS, own_keys
from cos_ray.transport.rpc import Address, ConnectionLost, RpcConnection
from cos_ray.transport.rpc_server import Listening, Methods, RpcServer

logger = logging.getLogger(__name__)

_Opened = TypeVar("_Opened")

LOOPBACK = "127.0.0.1"

COMPLAIN_EVERY = 60.0
"""Seconds between two lines in the log about machines that cannot be reached over TLS."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks an endpoint where it is."""

    node: str
    """The address of its node."""
    public_key: bytes


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """An endpoint on the caller's own machine; never told to another one."""

    port: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RemoteAddress:
    """An endpoint on another machine."""

    host: str
    port: int
    public_key: bytes


EndpointAddress: TypeAlias = LocalAddress | RemoteAddress


def node_address() -> str:
    """The address of the node this process runs on."""
    address: str = ray.util.get_node_ip_address()
    return address


class Endpoint:
    """Answers calls that come by RPC, many at a time."""

    def __init__(self, methods: Methods, timed: Methods | None = None, tls: TlsFiles | None = None) -> None:
        """
        `timed` methods are told first for how many seconds longer than others their call was under way,
        or lay here while this process was frozen. `tls`: what callers of other machines have to speak.
        """
        self._server = RpcServer(methods, timed)
        self._tls = tls
        self._near: asyncio.Task[LocalAddress] | None = None
        self._far: asyncio.Task[Listening] | None = None

    async def address_for(self, caller: Caller) -> EndpointAddress:
        """Where it is for this caller, who is let in from now on. Raises OSError and ValueError."""
        own_node = node_address()
        return await (self.near() if caller.node == own_node else self.far(caller, own_node))

    async def near(self) -> LocalAddress:
        """For this machine alone; opened with the first question. Raises OSError."""
        self._near = _begun(self._near, self._open_near)
        return await asyncio.shield(self._near)

    async def far(self, caller: Caller, host: str) -> RemoteAddress:
        """For a caller elsewhere, on this address of this machine. Raises OSError and ValueError."""
        self._far = _begun(self._far, lambda: self._open_far(host))
        listening = await asyncio.shield(self._far)
        keys = own_keys()
        listening.callers.admit(caller.public_key, keys.secret_as_server(caller.public_key))
        return RemoteAddress(host, listening.port, keys.public)

    async def close(self, within: float) -> None:
        """Take leave of all callers; return when they have gone, after so many seconds at the latest."""
        await self._server.visitors.see_off(within)

    async def _open_near(self) -> LocalAddress:
        listening = await self._server.listen(LOOPBACK)
        secret = secrets.token_bytes(OCTETS)
        listening.callers.admit(NEIGHBOUR, secret)
        return LocalAddress(listening.port, secret)

    async def _open_far(self, host: str) -> Listening:
        context = None if self._tls is None else Certificates(self._tls).server_context()
        return await self._server.listen(host, context)


class Dialer:
    """Makes connections from this process."""

    def __init__(self, tls: TlsFiles | None = None) -> None:
        """`tls`: what is spoken with other machines; None: plain text."""
        self._tls = tls
        self._certificates: Certificates | None = None
        self._complains_from = 0.0

    def caller(self) -> Caller:
        """What an endpoint has to be asked with."""
        return Caller(node_address(), own_keys().public)

    def allows_ray_calls(self, endpoint: EndpointAddress, why: ConnectionLost) -> bool:
        """Whether Ray calls, which may be plain text, may carry commands where no connection can be made."""
        if self._tls is None or isinstance(endpoint, LocalAddress):
            return True
        now = time.monotonic()
        if now >= self._complains_from:
            self._complains_from = now + COMPLAIN_EVERY
            logger.error(
                "another machine cannot be reached over TLS, so commands do not go there",
                extra={"node": endpoint.host, "reason": str(why)},
            )
        return False

    async def dial(self, endpoint: EndpointAddress) -> RpcConnection:
        """A connection to an endpoint that was told to this process. Raises ConnectionLost."""
        match endpoint:
            case LocalAddress(port, secret):
                return await RpcConnection.to(Address(LOOPBACK, port, secret))
            case RemoteAddress(host, port, public_key):
                keys = own_keys()
                try:
                    secret, context = keys.secret_as_caller(public_key), self._context()
                except (OSError, ValueError) as error:
                    raise ConnectionLost(f"certificates or keys cannot be used: {error}") from error
                return await RpcConnection.to(Address(host, port, secret, keys.public), context)
            case unreachable:
                assert_never(unreachable)

    def _context(self) -> ssl.SSLContext | None:
        if self._tls is None:
            return None
        if self._certificates is None:
            self._certificates = Certificates(self._tls)
        return self._certificates.client_context()


def _begun(
    opening: asyncio.Task[_Opened] | None, open_: Callable[[], Coroutine[Any, Any, _Opened]]
) -> asyncio.Task[_Opened]:
    """The task that is under way, or was successful; else a new one."""
    if opening is None or (opening.done() and (opening.cancelled() or opening.exception() is not None)):
        return asyncio.get_running_loop().create_task(open_())
    return opening
