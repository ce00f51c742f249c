"""Texts from outside, made such that they can be sent and stored."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as some

from cos_ray.domain.errors import LONGEST_TEXT, Code, DeliveryFailed, Status
from cos_ray.domain.ids import fault_of_entity_id, fault_of_idempotency_key
from cos_ray.domain.texts import cut, encodable, is_encodable, said_by

any_text = some.text(some.characters(exclude_categories=()))


class Own(str):
    """A class of its own."""

    __slots__ = ()


@given(any_text)
def test_every_text_can_be_encoded_afterwards_and_what_could_before_is_untouched(text: str) -> None:
    clean = encodable(text)
    clean.encode()
    assert type(clean) is str
    assert clean == text or not is_encodable(text)


@pytest.mark.parametrize(
    ("text", "clean"),
    [("hi \ud83d", "hi \ufffd"), ("\ud83d\ude00", "😀"), ("\ude00\ud83d", "\ufffd\ufffd"), (Own("a"), "a")],
)
def test_half_a_character_is_replaced_and_two_halves_are_joined(text: str, clean: str) -> None:
    assert encodable(text) == clean


@given(some.text())
def test_a_text_is_cut_to_so_many_characters(text: str) -> None:
    assert len(cut(text, 5)) <= 5
    assert cut(text, 5) == text or cut(text, 5) == text[:4] + "…"


def test_what_cannot_be_said_raises_nothing() -> None:
    class Ended(Exception):
        def __str__(self) -> str:
            raise SystemExit

    assert said_by(Ended()) == "<Ended: SystemExit while it was written>"
    assert said_by(5) == "5"


@given(any_text)
def test_a_status_and_a_failed_delivery_hold_nothing_but_text(text: str) -> None:
    status = Status(Code.ABORTED, text)
    status.message.encode()
    assert pickle.loads(pickle.dumps(status)) == status
    failed = DeliveryFailed(text)
    failed.reason.encode()
    assert "\0" not in failed.reason
    assert pickle.loads(pickle.dumps(failed)).reason == failed.reason


def test_they_are_bounded() -> None:
    assert len(Status(Code.ABORTED, "a" * 50_000).message) == LONGEST_TEXT
    assert len(DeliveryFailed("a" * 50_000).reason) == LONGEST_TEXT


def test_what_holds_half_a_character_names_no_entity_and_no_command() -> None:
    assert (
        fault_of_entity_id("a\ud83d") == "entity ID contains half of a surrogate pair, which is no character"
    )
    assert fault_of_idempotency_key("a\ud83d") is not None
    assert fault_of_entity_id("日本") is fault_of_idempotency_key("日本") is None
