"""What a client may ask for one command by metadata."""

from __future__ import annotations

import pytest

from cos_ray.domain.errors import Code, Status
from cos_ray.ingress.command_options import CommandOptions, command_options_of

KEY, REVISION = "x-cos-idempotency-key", "x-cos-expected-revision"


def refused(*metadata: tuple[str, str]) -> str:
    status = command_options_of(metadata)
    assert isinstance(status, Status)
    assert status.code is Code.INVALID_ARGUMENT
    return status.message


def test_nothing_asked_is_no_demand() -> None:
    assert command_options_of([("user-agent", "x")]) == CommandOptions()


def test_key_and_revision_are_read() -> None:
    assert command_options_of([("X-Cos-Idempotency-Key", "k"), (REVISION, "3")]) == CommandOptions("k", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["k", "k" * 128, " ", "a b/c"])
def test_a_key_has_1_to_128_characters(key: str) -> None:
    assert command_options_of([(KEY, key)]) == CommandOptions(key)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["", "k" * 129])
def test_another_key_is_an_invalid_argument(key: str) -> None:
    assert refused((KEY, key)) == f"idempotency key has {len(key)} characters; allowed: 1 to 128"


@pytest.mark.parametrize(("text", "revision"), [("0", 0), ("007", 7), ("9" * 19, 10**19 - 1)])
def test_an_expected_revision_is_a_whole_number_from_0(text: str, revision: int) -> None:
    assert command_options_of([(REVISION, text)]) == CommandOptions(None, revision)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", " 1", "1_0", "one", "٣", "²", "9" * 5000])
def test_anything_else_is_an_invalid_argument(text: str) -> None:
    assert "whole number from 0" in refused((REVISION, text))


@pytest.mark.parametrize("name", [KEY, REVISION])
def test_one_of_each_is_enough(name: str) -> None:
    assert refused((name, "1"), (name, "1")) == f"{name} is given more than once"
