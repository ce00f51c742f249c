"""Sections 2 and 3 of the contract, sentence by sentence, as a client of the real service sees them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any as Untyped

import grpc
import pytest
from google.rpc.status_pb2 import Status as RichStatus

from cos_ray.protocol.pb.chief_of_state.v1.common_pb2 import Header
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import (
    GetStateRequest,
    GetStateResponse,
    ProcessCommandRequest,
    ProcessCommandResponse,
)
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.protocol.pb.cos_ray.v1.operations_pb2 import GetServiceStatusRequest
from cos_ray.protocol.pb.cos_ray.v1.operations_pb2_grpc import OperationsServiceStub
from tests.e2e.scripted_handler import Script, ScriptedHandler, details_of
from tests.support.any_service import any_service
from tests.support.running_deployment import DeployedService
from tests.support.running_ray import live_actors
from tests.support.running_service import RunningService, eventually

EMPTY = "type.googleapis.com/google.protobuf.Empty"
ERASED = "type.googleapis.com/cos_ray.v1.EntityErased"
COMMAND_TIMEOUT = 3

_names = count(1)


class House:
    """The service, its handler, and a client."""

    def __init__(self, handler: ScriptedHandler, service: RunningService | DeployedService) -> None:
        self.handler, self.service = handler, service
        self.channel = grpc.insecure_channel(service.address, [("grpc.max_receive_message_length", -1)])
        self.client = ChiefOfStateServiceStub(self.channel)

    def process(
        self, entity: str, script: Script | None = None, *metadata: tuple[str, str | bytes], padding: int = 0
    ) -> ProcessCommandResponse:
        command = script.packed(padding) if script else None
        request = ProcessCommandRequest(entity_id=entity, command=command)
        return self.client.ProcessCommand(request, timeout=30, metadata=metadata)

    def process_in_the_end(
        self, entity: str, script: Script, *metadata: tuple[str, str | bytes]
    ) -> ProcessCommandResponse:
        """The reply; asked for anew when the command's time was too short for its entity to come back."""
        replies = []

        def is_answered() -> bool:
            try:
                replies.append(self.process(entity, script, *metadata))
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                    raise
            return bool(replies)

        eventually(is_answered)
        return replies[0]

    def refused(self, entity: str, script: Script, *metadata: tuple[str, str | bytes]) -> Untyped:
        with pytest.raises(grpc.RpcError) as refused:
            self.process(entity, script, *metadata)
        return refused.value

    def awake(self) -> int:
        """How many entities are."""
        with grpc.insecure_channel(self.service.address) as channel:
            status = OperationsServiceStub(channel).GetServiceStatus(GetServiceStatusRequest(), timeout=30)
            assert status.shard_hosts
            return status.live_entities

    def state(self, entity: str) -> GetStateResponse:
        return self.client.GetState(GetStateRequest(entity_id=entity), timeout=30)

    def goes_on(self, entity: str) -> bool:
        """Whether nothing was stored so far, and the next command works."""
        with pytest.raises(grpc.RpcError) as unborn:
            self.state(entity)
        assert unborn.value.code() is grpc.StatusCode.NOT_FOUND
        return self.process(entity, Script(["next"])).meta.revision_number == 1


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    handler = ScriptedHandler()
    settings = {
        "COS_WRITE_SIDE_HOST": "127.0.0.1",
        "COS_WRITE_SIDE_PORT": str(handler.port),
        "COS_COMMAND_HANDLER_TIMEOUT": str(COMMAND_TIMEOUT),
        "COS_WRITE_SIDE_PROPAGATED_HEADERS": " x-trace, x-raw-bin,,X-Mixed,x-trace, x-absent",
        "COS_WRITE_PERSISTED_HEADERS": "X-User, x-raw-bin",
        "COS_WRITE_SIDE_PROTO_VALIDATION": "true",
        "COS_WRITE_SIDE_EVENT_PROTOS": "Event",
        "COS_WRITE_SIDE_STATE_PROTOS": "State",
        "COS_MAX_WAITING_COMMANDS": "5",
        # Each test has entities of its own: without a process for each, that is quick.
        "COS_ENTITY_PLACEMENT": "sharded",
    }
    service = any_service(tmp_path_factory.mktemp("data") / "postgres", settings)
    try:
        service.start()
        yield House(handler, service)
    finally:
        service.end()
        handler.stop()


@pytest.fixture
def entity() -> str:
    return f"entity-{next(_names)}"


def test_events_are_folded_in_order_and_the_reply_carries_the_last_state(house: House, entity: str) -> None:
    reply = house.process(entity, Script(["a", "b", "c"]))
    assert (reply.state.value, reply.meta.revision_number) == (b"/a/b/c", 3)
    assert reply.meta.entity_id == entity
    assert abs(reply.meta.revision_date.seconds - time.time()) < 60
    state = house.state(entity)
    assert (state.state, state.meta) == (reply.state, reply.meta)


def test_the_older_field_for_one_event_still_works_and_default_events_are_dropped(
    house: House, entity: str
) -> None:
    assert house.process(entity, Script(["old"], single=True)).state.value == b"/old"
    assert house.process(entity, Script(["", "x", ""])).meta.revision_number == 2


def test_a_no_op_answers_prior_state_and_a_new_entity_stays_not_found(house: House, entity: str) -> None:
    reply = house.process(entity, Script())
    assert (reply.state.type_url, reply.state.value) == (EMPTY, b"")
    assert (reply.meta.entity_id, reply.meta.revision_number) == (entity, 0)
    assert not reply.meta.HasField("revision_date")
    assert house.goes_on(entity)


def test_a_missing_command_is_passed_on_as_an_empty_any(house: House, entity: str) -> None:
    assert house.process(entity).meta.revision_number == 0
    assert (entity, "") in house.handler.commands


def test_what_a_handler_answers_is_what_the_client_sees(house: House, entity: str) -> None:
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            number, message = code.value[0], f"no: {code.name}"
            error = house.refused(entity, Script(refuse=[number, message], details=True))
            assert (error.code(), error.details()) == (code, message)
            trailers = dict(error.trailing_metadata())
            assert trailers["grpc-status-details-bin"] == details_of(number, message)
            assert "x-other" not in trailers
    assert house.goes_on(entity)


def bare_details(error: Untyped) -> bytes:
    """Code and message as Chief of State puts them into the trailers."""
    code = error.code().value[0]
    return RichStatus(code=code, message=error.details()).SerializeToString()


def test_every_error_of_an_entity_has_its_code_and_message_for_details(house: House, entity: str) -> None:
    scripts = (
        Script(refuse=[9, "no"]),
        Script(refuse=[5, ""]),
        Script(["a", "stateless"]),
        Script(["a"], state_type="type.test/Other"),
        Script(crash=True),
    )
    for script in scripts:
        error = house.refused(entity, script)
        assert dict(error.trailing_metadata())["grpc-status-details-bin"] == bare_details(error)
    with pytest.raises(grpc.RpcError) as unborn:
        house.client.GetState(GetStateRequest(entity_id=entity), timeout=30)
    assert dict(unborn.value.trailing_metadata())["grpc-status-details-bin"] == b"\x08\x05"
    kept = house.refused(entity, Script(refuse=[9, "no"], details=True))
    assert dict(kept.trailing_metadata())["grpc-status-details-bin"] == details_of(9, "no")
    long = house.refused(entity, Script(refuse=[9, "x" * 4_000]))
    assert (long.code(), len(long.details())) == (grpc.StatusCode.FAILED_PRECONDITION, 4_000)


@pytest.mark.parametrize(
    ("script", "code", "text"),
    [
        (Script(crash=True), grpc.StatusCode.UNKNOWN, "as told"),
        (Script(["a", "refuse:9"]), grpc.StatusCode.FAILED_PRECONDITION, "the event is refused"),
        (
            Script(["a", "stateless"]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "event handler replied with empty state",
        ),
        (Script(reply="ffffffff"), grpc.StatusCode.INTERNAL, "reply is no HandleCommandResponse"),
        (Script(["a", "garbage"]), grpc.StatusCode.INTERNAL, "reply is no HandleEventResponse"),
        (
            Script(["a"], event_type="type.test/Other"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "invalid event: type.test/Other",
        ),
        (
            Script(["a"], state_type="type.test/Other"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "invalid state: type.test/Other",
        ),
        (
            Script(["a"], event_type=ERASED),
            grpc.StatusCode.INVALID_ARGUMENT,
            "invalid event: cos_ray.v1.EntityErased is the service's own",
        ),
        (
            Script(["a"], state_type=ERASED),
            grpc.StatusCode.INVALID_ARGUMENT,
            "invalid state: cos_ray.v1.EntityErased is the service's own",
        ),
        (Script(sleep=8), grpc.StatusCode.DEADLINE_EXCEEDED, ""),
        (Script(["a", "slow:8"]), grpc.StatusCode.DEADLINE_EXCEEDED, ""),
    ],
    ids=lambda value: value.name if isinstance(value, grpc.StatusCode) else None,
)
def test_what_a_handler_breaks_stores_nothing_and_the_entity_goes_on(
    house: House, entity: str, script: Script, code: grpc.StatusCode, text: str
) -> None:
    error = house.refused(entity, script)
    assert error.code() is code
    assert text in error.details()
    assert "Traceback" not in error.details()
    assert house.goes_on(entity)


def test_an_unreachable_handler_is_unavailable_and_found_again(house: House, entity: str) -> None:
    house.handler.stop()
    try:
        assert house.refused(entity, Script(["a"])).code() is grpc.StatusCode.UNAVAILABLE
    finally:
        house.handler.start()

    def works() -> bool:
        try:
            return house.process(entity, Script(["a"])).meta.revision_number == 1
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017
            return False

    eventually(works)


@pytest.mark.parametrize("script", [Script(sleep=60), Script(["a", "slow:60"])], ids=["command", "event"])
def test_the_handler_call_of_a_client_that_goes_is_cancelled(
    house: House, entity: str, script: Script
) -> None:
    request = ProcessCommandRequest(entity_id=entity, command=script.packed())
    seen = len(house.handler.event_metadata) if script.events else 0
    call = house.client.ProcessCommand.future(request, timeout=30)
    if script.events:
        eventually(lambda: len(house.handler.event_metadata) > seen + 1)
    else:
        eventually(lambda: house.handler.seen(entity) == 1)
    call.cancel()
    eventually(lambda: any(each == entity for each, _ in house.handler.given_up))
    ((_, left),) = [each for each in house.handler.given_up if each[0] == entity]
    # It was not that its time had run out.
    assert left > 0.2
    assert house.goes_on(entity)


def test_the_time_of_a_command_includes_its_wait_for_the_one_before(house: House, entity: str) -> None:
    house.process(entity, Script(["warm"]))
    slow = Script(["late"], sleep=2)
    with ThreadPoolExecutor(2) as threads:
        begun = time.monotonic()
        first = threads.submit(house.process, entity, slow)
        eventually(lambda: house.handler.seen(entity) == 2)
        error = house.refused(entity, slow)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert first.result().meta.revision_number == 2
        assert time.monotonic() - begun < 2 * COMMAND_TIMEOUT
    assert house.state(entity).meta.revision_number == 2


def test_when_too_many_commands_wait_for_an_entity_the_next_is_turned_away(house: House, entity: str) -> None:
    house.process(entity, Script(["warm"]))
    with ThreadPoolExecutor(12) as threads:
        first = threads.submit(house.process, entity, Script(["a"], sleep=1))
        eventually(lambda: house.handler.seen(entity) == 2)
        others = [threads.submit(house.process, entity, Script(["b"])) for _ in range(10)]
        errors = [future.exception() for future in others]
    refused = [error for error in errors if isinstance(error, grpc.RpcError)]
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len(refused) == 5
    assert first.result().meta.revision_number == 2
    assert house.state(entity).meta.revision_number == 7


def test_a_command_whose_client_is_gone_before_it_began_is_not_run(house: House, entity: str) -> None:
    house.process(entity, Script(["warm"]))
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(house.process, entity, Script(["a"], sleep=1.5))
        eventually(lambda: house.handler.seen(entity) == 2)
        request = ProcessCommandRequest(entity_id=entity, command=Script(["gone"]).packed())
        gone = house.client.ProcessCommand.future(request, timeout=30)
        time.sleep(0.5)  # for it to get there; nothing tells from outside
        gone.cancel()
        assert first.result().meta.revision_number == 2
    assert house.process(entity, Script(["b"])).state.value == b"/warm/a/b"
    assert house.handler.seen(entity) == 3


def test_a_key_again_gives_the_original_reply_without_running_a_handler(house: House, entity: str) -> None:
    key = ("x-cos-idempotency-key", "k" * 128)
    first = house.process(entity, Script(["a", "b"]), key)
    house.process(entity, Script(["c"]))
    seen = house.handler.seen(entity)
    for script in (Script(["a", "b"]), Script(["something", "else"]), Script(refuse=[9, "no"])):
        assert house.process(entity, script, key) == first
    assert house.handler.seen(entity) == seen
    assert house.state(entity).meta.revision_number == 3


def test_a_key_survives_the_death_of_its_entity(house: House, entity: str) -> None:
    key = ("x-cos-idempotency-key", "survivor")
    no_op = house.process(entity, Script(), ("x-cos-idempotency-key", "no-op"))
    first = house.process(entity, Script(["a"]), key)
    (home,) = live_actors(house.service.dashboard, "shard-host:", house.service.ray_token)
    home.kill()
    # Where the machine is busy, a process takes longer to start than a command may.
    assert house.process_in_the_end(entity, Script(["b"]), key) == first
    assert house.process_in_the_end(entity, Script(["b"]), ("x-cos-idempotency-key", "no-op")) == no_op
    assert no_op.meta.revision_number == 0
    assert house.handler.seen(entity) == 2


def test_of_concurrent_repetitions_one_runs_and_the_others_get_its_reply(house: House, entity: str) -> None:
    key = ("x-cos-idempotency-key", "at once")
    gate = threading.Barrier(5)

    def send(_: int) -> ProcessCommandResponse:
        gate.wait()
        return house.process(entity, Script(["a"], sleep=0.2), key)

    with ThreadPoolExecutor(5) as threads:
        replies = list(threads.map(send, range(5)))
    assert all(reply == replies[0] for reply in replies)
    assert (house.handler.seen(entity), house.state(entity).meta.revision_number) == (1, 1)


def test_a_rejected_command_does_not_use_up_its_key(house: House, entity: str) -> None:
    key = ("x-cos-idempotency-key", "again")
    assert house.refused(entity, Script(refuse=[9, "no"]), key).code() is grpc.StatusCode.FAILED_PRECONDITION
    assert house.process(entity, Script(["a"]), key).meta.revision_number == 1


@pytest.mark.parametrize("key", ["", "k" * 129])
def test_a_key_of_another_length_is_an_invalid_argument(house: House, entity: str, key: str) -> None:
    error = house.refused(entity, Script(["a"]), ("x-cos-idempotency-key", key))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert house.goes_on(entity)


def test_at_another_revision_than_expected_a_command_is_aborted(house: House, entity: str) -> None:
    expecting = "x-cos-expected-revision"
    assert house.process(entity, Script(["a", "b"]), (expecting, "0")).meta.revision_number == 2
    assert house.process(entity, Script(["c", "d", "e"]), (expecting, "2")).meta.revision_number == 5
    error = house.refused(entity, Script(["f"]), (expecting, "3"))
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "expected revision 3, actual 5")
    assert dict(error.trailing_metadata())["x-cos-actual-revision"] == "5"
    error = house.refused(entity, Script(["f"]), (expecting, "0"))
    assert error.details() == "expected revision 0, actual 5"
    assert house.refused(entity, Script(), (expecting, "-1")).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_replay_by_key_comes_before_the_revision_check(house: House, entity: str) -> None:
    demands = (("x-cos-idempotency-key", "k"), ("x-cos-expected-revision", "0"))
    first = house.process(entity, Script(["a"]), *demands)
    assert house.process(entity, Script(["a"]), *demands) == first


def test_configured_headers_are_propagated_to_handle_command_and_persisted_with_events(
    house: House, entity: str
) -> None:
    sent = [
        ("x-trace", "one"),
        ("x-raw-bin", b"\x00\xff"),
        ("x-mixed", "mixed"),
        ("x-user", "ada"),
        ("x-trace", "two"),
        ("x-raw-bin", b"\x01"),
        ("x-user", "bob"),
        ("x-secret", "kept to itself"),
    ]
    reply = house.process(entity, Script(["a", "b"]), *sent)
    persisted = [
        Header(key="X-User", string_value="ada"),
        Header(key="X-User", string_value="bob"),
        Header(key="x-raw-bin", bytes_value=b"\x00\xff"),
        Header(key="x-raw-bin", bytes_value=b"\x01"),
    ]
    assert list(reply.meta.headers) == persisted
    assert list(house.state(entity).meta.headers) == persisted
    seen = house.handler.metadata[-1]
    assert seen["x-trace"] == ["one", "two"]
    assert seen["x-raw-bin"] == [b"\x00\xff", b"\x01"]
    assert seen["x-mixed"] == ["mixed"]
    assert not {"x-user", "x-secret", "x-absent"} & set(seen)
    assert not {"x-trace", "x-user", "x-mixed", "x-raw-bin"} & set(house.handler.event_metadata[-1])


def test_metadata_over_the_limit_is_refused_and_does_no_harm(house: House, entity: str) -> None:
    error = house.refused(entity, Script(["a"]), ("x-trace", "x" * 60_000))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert house.goes_on(entity)


def test_get_state_wakes_nobody_and_asks_no_handler(house: House, entity: str) -> None:
    before = house.awake()
    with pytest.raises(grpc.RpcError) as unknown:
        house.state(entity)
    assert (unknown.value.code(), unknown.value.details()) == (grpc.StatusCode.NOT_FOUND, "")
    # Others may have fallen asleep meanwhile.
    assert house.awake() <= before
    assert house.handler.seen(entity) == 0
    house.process(entity, Script(["a"]))
    house.handler.stop()
    try:
        assert house.state(entity).state.value == b"/a"
    finally:
        house.handler.start()


@pytest.mark.parametrize("id_", ["a/b", "a b", " ", "\N{GRINNING FACE}" * 255, "x" * 255, "%2F?#", "'\"\\"])
def test_an_entity_id_may_be_anything_of_255_characters(house: House, id_: str) -> None:
    reply = house.process(id_, Script(["a"]), ("x-cos-idempotency-key", "k"))
    assert (reply.meta.entity_id, reply.meta.revision_number) == (id_, 1)
    assert house.process(id_, Script(["a"]), ("x-cos-idempotency-key", "k")) == reply


@pytest.mark.parametrize("id_", ["", "x" * 256, "a\0b"])
def test_other_entity_ids_are_invalid_arguments(house: House, id_: str) -> None:
    assert house.refused(id_, Script(["a"])).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_command_of_10_mb_is_taken(house: House, entity: str) -> None:
    assert house.process(entity, Script(["a"]), padding=10_000_000).meta.revision_number == 1


def test_a_state_of_50_mb_is_over_the_limit_and_the_entity_goes_on(house: House, entity: str) -> None:
    error = house.refused(entity, Script(["large:50000000"]))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert house.goes_on(entity)


def test_of_two_services_on_one_machine_neither_answers_for_the_other(
    house: House, service: RunningService, entity: str
) -> None:
    house.process(entity, Script(["here"]))
    with service.client() as there:
        for _ in range(50):
            assert house.state(entity).state.value == b"/here"
            with pytest.raises(grpc.RpcError) as unknown:
                there.GetState(GetStateRequest(entity_id=entity), timeout=30)
            assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
