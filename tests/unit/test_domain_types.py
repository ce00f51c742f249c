"""Which types are accepted: what follows the last slash of the type URL is compared."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any
from hypothesis import given
from hypothesis import strategies as st

from cos_ray.domain.errors import Code, Status
from cos_ray.domain.messages import EMPTY_STATE, NOTHING, Packed
from cos_ray.domain.types import AcceptedTypes, fault_of_event, fault_of_state, type_url_of
from cos_ray.protocol.codec import pack

ACCEPTED = AcceptedTypes(events=frozenset({"shop.v1.ItemAdded"}), states=frozenset({"shop.v1.Cart"}))


def any_of(type_url: str) -> Packed:
    return pack(Any(type_url=type_url, value=b"\x01"))


@pytest.mark.parametrize("prefix", ["type.googleapis.com/", "", "/", "a/b/c/"])
def test_what_follows_the_last_slash_is_compared_with_the_configured_names(prefix: str) -> None:
    assert ACCEPTED.fault_of_event(any_of(prefix + "shop.v1.ItemAdded")) is None
    assert ACCEPTED.fault_of_state(any_of(prefix + "shop.v1.Cart")) is None


@pytest.mark.parametrize("type_url", ["x/shop.v1.Cart", "x/shop.v1.ItemAddedToo", "shop.v1.ItemAdded/", "x/"])
def test_an_event_of_another_type_is_invalid(type_url: str) -> None:
    status = Status(Code.INVALID_ARGUMENT, f"invalid event: {type_url}")
    assert ACCEPTED.fault_of_event(any_of(type_url)) == status


def test_a_state_of_another_type_is_invalid() -> None:
    status = Status(Code.INVALID_ARGUMENT, "invalid state: type.googleapis.com/google.protobuf.Empty")
    assert ACCEPTED.fault_of_state(EMPTY_STATE) == status
    assert ACCEPTED.fault_of_state(NOTHING) == Status(Code.INVALID_ARGUMENT, "invalid state: ")


def test_an_empty_list_rejects_all() -> None:
    nothing = AcceptedTypes(frozenset(), frozenset())
    assert nothing.fault_of_event(any_of("x/shop.v1.ItemAdded")) is not None
    assert nothing.fault_of_state(any_of("x/shop.v1.Cart")) is not None


@pytest.mark.parametrize("prefix", ["type.googleapis.com/", "", "/", "a" * 300 + "/"])
def test_that_an_entity_is_erased_is_not_for_handlers_to_say(prefix: str) -> None:
    erased = any_of(prefix + "cos_ray.v1.EntityErased")
    everything = AcceptedTypes(*[frozenset({"cos_ray.v1.EntityErased"})] * 2)
    for accepted in (None, ACCEPTED, everything):
        for fault in (fault_of_event(erased, accepted), fault_of_state(erased, accepted)):
            assert fault is not None
            assert fault.message.endswith("cos_ray.v1.EntityErased is the service's own")


@pytest.mark.parametrize("type_url", ["", "x", "x/EntityErased", "x/mycos_ray.v1.EntityErased", "x" * 300])
def test_without_a_list_any_other_type_is_accepted(type_url: str) -> None:
    assert fault_of_event(any_of(type_url), None) is None
    assert fault_of_state(any_of(type_url), None) is None
    assert fault_of_event(NOTHING, None) is None


@given(st.text(max_size=400), st.binary(max_size=50))
def test_the_type_url_is_read_as_protobuf_wrote_it(type_url: str, value: bytes) -> None:
    assert type_url_of(pack(Any(type_url=type_url, value=value))) == type_url


@given(st.binary(max_size=20))
def test_from_anything_else_something_is_read_without_an_error(octets: bytes) -> None:
    assert isinstance(type_url_of(Packed(octets)), str)
