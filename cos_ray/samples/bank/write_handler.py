"""
The write handler: the bank's rules, where the service can call them.

It keeps nothing. The service sends the state along with every call, so any number of these may
run, and any of them may be restarted at any time.
"""

from __future__ import annotations

import grpc
import grpc.aio
from google.protobuf.any import pack
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty

from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import (
    HandleCommandRequest,
    HandleCommandResponse,
    HandleEventRequest,
    HandleEventResponse,
)
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2_grpc import (
    WriteSideHandlerServiceServicer,
    add_WriteSideHandlerServiceServicer_to_server,
)
from cos_ray.protocol.write_stream import add_write_stream_to_server
from cos_ray.samples.bank.accounts import COMMANDS, EVENTS, Refusal, handle_command, handle_event
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account
from cos_ray.samples.bank.serving import serve
from cos_ray.samples.bank.unpacking import NotUnderstood, unpack


class BankWriteHandler(WriteSideHandlerServiceServicer):
    """Unpacks, asks the rules, packs. A refusal becomes the status the client sees."""

    async def HandleCommand(
        self,
        request: HandleCommandRequest,
        context: grpc.aio.ServicerContext[HandleCommandRequest, HandleCommandResponse],
    ) -> HandleCommandResponse:
        """Which events does this command lead to?"""
        try:
            command = unpack(request.command, COMMANDS)
            events = handle_command(command, account_in(request.prior_state))
        except NotUnderstood as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Refusal as refusal:
            await context.abort(refusal.code, refusal.reason)
        return HandleCommandResponse(events=[pack(event) for event in events])

    async def HandleEvent(
        self,
        request: HandleEventRequest,
        context: grpc.aio.ServicerContext[HandleEventRequest, HandleEventResponse],
    ) -> HandleEventResponse:
        """Which state does this event lead to?"""
        try:
            event = unpack(request.event, EVENTS)
            account = handle_event(event, account_in(request.prior_state))
        except NotUnderstood as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return HandleEventResponse(resulting_state=pack(account))


async def serve_write_handler(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError when the port cannot be had."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler = BankWriteHandler()
    add_WriteSideHandlerServiceServicer_to_server(handler, server)
    # Not needed, but it makes many calls at once less than half as dear.
    streams = add_write_stream_to_server(handler, server)
    await serve(server, "bank write handler", host, port, before_stop=streams.close)


def account_in(state: Any) -> Account | None:
    """The account that a prior state holds."""
    # Before its first event, the state of everything is google.protobuf.Empty.
    return None if state.Is(Empty.DESCRIPTOR) else unpack(state, [Account])
