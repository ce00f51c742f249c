"""
A write handler that does what each command says, wrong things included.

    Script(events=["a", "b"])            two events
    Script(refuse=[9, "no"])             FAILED_PRECONDITION "no"
    Script(events=["slow:10"])           the event's HandleEvent takes ten seconds
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any as Untyped

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import (
    HandleCommandRequest,
    HandleCommandResponse,
    HandleEventRequest,
    HandleEventResponse,
)

CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass
class Script:
    """What the handler is to make of this command."""

    events: list[str] = field(default_factory=list)
    refuse: list[Untyped] | None = None
    details: bool = False
    sleep: float = 0.0
    crash: bool = False
    reply: str | None = None
    """Hexadecimal bytes to answer with."""
    event_type: str = "type.test/Event"
    state_type: str = "type.test/State"
    single: bool = False
    """Whether to use the older field for one event."""

    def packed(self, padding: int = 0) -> Any:
        """The command."""
        return Any(type_url="type.test/Script", value=json.dumps(asdict(self)).encode() + b" " * padding)


def details_of(code: int, message: str) -> bytes:
    """A `google.rpc.Status` as handlers attach it."""
    status = Status(code=code, message=message)
    status.details.add().Pack(ErrorInfo(reason="AS_TOLD", domain="test"))
    return status.SerializeToString()


class ScriptedHandler:
    """The handler, in threads of this process."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, str]] = []
        """Entity id and value of each command, in the order of arrival."""
        self.metadata: list[dict[str, list[str | bytes]]] = []
        self.event_metadata: list[dict[str, list[str | bytes]]] = []
        self.given_up: list[tuple[str, float]] = []
        """The entity id of each call whose client went while it slept, and the seconds it had left."""
        self.port = 0
        self.start()

    def start(self) -> None:
        """Listen, where it listened before."""
        self._server = grpc.server(
            ThreadPoolExecutor(32),
            options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
        )
        handlers = {
            "HandleCommand": _method(self._handle_command, HandleCommandRequest),
            "HandleEvent": _method(self._handle_event, HandleEventRequest),
        }
        service = "chief_of_state.v1.WriteSideHandlerService"
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Cut every call and listen no more."""
        self._server.stop(0).wait()

    def seen(self, entity_id: str) -> int:
        """How many commands of this entity came here."""
        return sum(entity == entity_id for entity, _ in self.commands)

    def _handle_command(self, request: HandleCommandRequest, context: grpc.ServicerContext) -> Untyped:
        value = request.command.value.decode().strip()
        self.commands.append((request.prior_event_meta.entity_id, value))
        self.metadata.append(_by_key(context))
        script = Script(**json.loads(value)) if value else Script()
        self._sleep(request.prior_event_meta.entity_id, script.sleep, context)
        if script.refuse is not None:
            code, message = script.refuse
            if script.details:
                context.set_trailing_metadata(
                    [("grpc-status-details-bin", details_of(code, message)), ("x-other", "not passed on")]
                )
            context.abort(CODES[code], message)
        if script.crash:
            raise RuntimeError("as told")
        if script.reply is not None:
            return bytes.fromhex(script.reply)
        events = [
            Any(type_url=script.event_type, value=f"{event}|{script.state_type}".encode()) if event else Any()
            for event in script.events
        ]
        return (
            HandleCommandResponse(event=events[0]) if script.single else HandleCommandResponse(events=events)
        )

    def _handle_event(self, request: HandleEventRequest, context: grpc.ServicerContext) -> Untyped:
        self.event_metadata.append(_by_key(context))
        name, _, state_type = request.event.value.decode().partition("|")
        what, _, argument = name.partition(":")
        if what == "slow":
            self._sleep(request.event_meta.entity_id, float(argument), context)
        if what == "refuse":
            context.abort(CODES[int(argument)], "the event is refused")
        if what == "stateless":
            return HandleEventResponse()
        if what == "garbage":
            return bytes.fromhex("ffffffff")
        prior = request.prior_state.value.decode()
        value = "x" * int(argument) if what == "large" else f"{prior}/{name}"
        return HandleEventResponse(resulting_state=Any(type_url=state_type, value=value.encode()))

    def _sleep(self, entity_id: str, seconds: float, context: grpc.ServicerContext) -> None:
        gone = threading.Event()
        if not context.add_callback(gone.set) or gone.wait(seconds):
            self.given_up.append((entity_id, context.time_remaining()))


def _method(function: Callable[..., Untyped], request: Untyped) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        function,
        request_deserializer=request.FromString,
        response_serializer=lambda reply: reply if isinstance(reply, bytes) else reply.SerializeToString(),
    )


def _by_key(context: grpc.ServicerContext) -> dict[str, list[str | bytes]]:
    found: dict[str, list[str | bytes]] = {}
    for key, value in context.invocation_metadata():
        found.setdefault(key, []).append(value)
    return found
