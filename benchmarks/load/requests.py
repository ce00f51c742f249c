"""The bank's commands as requests: for the service's gRPC, for the empty ingress, for Restate's HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum

from google.protobuf.any import pack
from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckRequest

from benchmarks.load.frames import literal_block
from benchmarks.load.http2 import Request
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import ProcessCommandRequest
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Deposit, OpenAccount

_PROCESS = "/chief_of_state.v1.ChiefOfStateService/ProcessCommand"


class Style(Enum):
    """How a contestant is spoken to."""

    SERVICE = "service"
    """Chief of State's gRPC."""
    HEALTH = "health"
    """A gRPC call that says nothing and stores nothing."""
    RESTATE = "restate"
    """Restate's HTTP ingress; the account is the key of a virtual object."""

    @property
    def is_grpc(self) -> bool:
        """Whether replies end with a grpc-status."""
        return self is not Style.RESTATE


class Requests:
    """Makes requests of one style to one address."""

    def __init__(self, style: Style, authority: str) -> None:
        self._style = style
        self._authority = authority
        self._grpc_headers = self._headers(
            _PROCESS if style is Style.SERVICE else "/grpc.health.v1.Health/Check",
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        )

    def open(self, account: str, owner_bytes: int) -> Request:
        """Open an account; the size of its state is that of its owner's name, and a little."""
        owner = "o" * owner_bytes
        if self._style is Style.SERVICE:
            return self._command(account, OpenAccount(owner=owner))
        if self._style is Style.HEALTH:
            return self._check()
        return self._restate(account, "open", {"owner": owner})

    def deposit(self, account: str) -> Request:
        """Pay in a cent."""
        if self._style is Style.SERVICE:
            return self._command(account, Deposit(amount=1))
        if self._style is Style.HEALTH:
            return self._check()
        return self._restate(account, "deposit", {"amount": 1})

    def _command(self, account: str, command: Message) -> Request:
        return self._grpc(ProcessCommandRequest(entity_id=account, command=pack(command)))

    def _check(self) -> Request:
        return self._grpc(HealthCheckRequest())

    def _grpc(self, message: Message) -> Request:
        body = message.SerializeToString()
        return Request(self._grpc_headers, b"\0" + len(body).to_bytes(4, "big") + body)

    def _restate(self, account: str, handler: str, argument: dict[str, object]) -> Request:
        headers = self._headers(f"/Bank/{account}/{handler}", ("content-type", "application/json"))
        return Request(headers, json.dumps(argument).encode())

    def _headers(self, path: str, *more: tuple[str, str]) -> bytes:
        fixed = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", self._authority)]
        return literal_block([*fixed, *more])


def in_turn(requests: list[Request]) -> Callable[[], Request]:
    """One after the other, again and again."""
    at = 0

    def next_request() -> Request:
        nonlocal at
        request = requests[at]
        at = (at + 1) % len(requests)
        return request

    return next_request
