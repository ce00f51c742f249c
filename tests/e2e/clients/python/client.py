"""
A client with grpcio: python client.py ADDRESS ENTITY SECONDS [FOLDER]

Does what test_clients.py lists, on one channel, and prints what it saw as one JSON object.
FOLDER has ca.pem, client.pem and client.key, for TLS with a certificate of its own.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any as Anything

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import (
    ProcessCommandRequest,
    ProcessCommandResponse,
    SubscribeRequest,
)
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub

PATIENCE = 20.0


class Client:
    """All that it does, on one channel."""

    def __init__(self, address: str, folder: Path | None) -> None:
        if folder is None:
            self._channel = grpc.insecure_channel(address)
        else:
            names = ("ca.pem", "client.key", "client.pem")
            credentials = grpc.ssl_channel_credentials(*((folder / name).read_bytes() for name in names))
            self._channel = grpc.secure_channel(address, credentials)
        self._service = ChiefOfStateServiceStub(self._channel)

    def command(
        self,
        entity: str,
        timeout: float = PATIENCE,
        metadata: Sequence[tuple[str, str]] = (),
        **script: Anything,
    ) -> Anything:
        """One under way."""
        command = Any(type_url="type.test/Script", value=json.dumps(script).encode())
        request = ProcessCommandRequest(entity_id=entity, command=command)
        return self._service.ProcessCommand.future(request, timeout, metadata)

    def first(self, entity: str) -> list[Anything]:
        """The revision and the state."""
        reply: ProcessCommandResponse = self.command(entity, events=["a", "b"]).result()
        return [reply.meta.revision_number, reply.state.value.decode()]

    def refusal(self, entity: str) -> list[Anything]:
        """Its code, text and the reason among its details."""
        refused = self.command(entity, refuse=[9, "no"], details=True)
        code = code_of(refused)
        status = Status.FromString(dict(refused.trailing_metadata())["grpc-status-details-bin"])
        info = ErrorInfo()
        status.details[0].Unpack(info)
        return [code, refused.details(), info.reason]

    def cancel(self, entity: str) -> int:
        """The code of a call that is given up."""
        call = self.command(entity, sleep=10)
        time.sleep(0.3)
        call.cancel()
        try:
            call.result()
        except grpc.FutureCancelledError:
            return code_of(call)
        raise AssertionError("it was to be cancelled")

    def with_metadata(self, entity: str, size: int) -> int:
        """The code of a command with so many bytes of them."""
        return code_of(self.command(entity, metadata=[("x-large", "m" * size)], events=["m"]))

    def stream(self, entity: str, first: int, count: int) -> list[int]:
        """The revisions of `count` messages from one revision on, and how the cancelled stream ended."""
        metadata = [("x-cos-from-revision", str(first))]
        call = self._service.Subscribe(SubscribeRequest(entity_id=entity), PATIENCE, metadata)
        subscription = dict(call.initial_metadata())["x-cos-subscription-id"]
        seen = []
        for _ in range(count):
            message = next(call)
            assert message.subscription_id == subscription
            seen.append(message.meta.revision_number)
        call.cancel()
        return [*seen, code_of(call)]

    def health(self) -> list[str]:
        """What is said once, and what is said to a watcher."""
        service = HealthStub(self._channel)
        request = HealthCheckRequest()
        watch = service.Watch(request, PATIENCE)
        statuses = (service.Check(request, PATIENCE).status, next(watch).status)
        watch.cancel()
        return [HealthCheckResponse.ServingStatus.Name(status) for status in statuses]

    def services(self) -> list[str]:
        """What reflection lists."""
        return sorted(ProtoReflectionDescriptorDatabase(self._channel).get_services())

    def load(self, entity: str, seconds: float) -> dict[str, Anything]:
        """Four callers for some seconds: how many calls there were, and how those that failed did."""
        calls: list[str] = []
        failed: list[str] = []
        end = time.monotonic() + seconds

        def caller(number: int) -> None:
            while time.monotonic() < end:
                call = self.command(f"{entity}-{number}", events=["l"])
                calls.append("")
                if code_of(call):
                    failed.append(f"{call.code()} {call.details()}")

        callers = [threading.Thread(target=caller, args=(number,)) for number in range(4)]
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join()
        return {"calls": len(calls), "failed": failed}

    def close(self) -> None:
        """Hang up."""
        self._channel.close()


def code_of(call: Anything) -> int:
    """The number of a call's code, once it has ended."""
    number: int = call.code().value[0]
    return number


def main() -> None:
    """All of it."""
    address, entity, seconds, *folder = sys.argv[1:]
    client = Client(address, Path(folder[0]) if folder else None)
    seen = {
        "command": client.first(entity),
        "refusal": client.refusal(entity),
        "deadline": code_of(client.command(f"{entity}-late", 0.3, sleep=10)),
        "cancel": client.cancel(f"{entity}-cancelled"),
        "metadata": [client.with_metadata(entity, 15_000), client.with_metadata(entity, 18_000)],
        "subscribe": client.stream(entity, 1, 2),
        "resume": client.stream(entity, 3, 1),
        "health": client.health(),
        "services": client.services(),
        "load": client.load(entity, float(seconds)),
    }
    client.close()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
