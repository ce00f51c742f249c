"""What keeps others out of a Ray cluster that is started here, and whose word counts."""

from __future__ import annotations

import pytest

from cos_ray.ray_internals.environment import closed_cluster

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def test_each_start_has_a_token_of_its_own_that_cannot_be_guessed() -> None:
    first, second = closed_cluster({}), closed_cluster({})
    assert first["RAY_AUTH_MODE"] == "token"
    assert len(first["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ({"RAY_AUTH_TOKEN": "mine"}, {**LOOPBACK, "RAY_AUTH_MODE": "token"}),
        ({"RAY_AUTH_TOKEN_PATH": "/a/file"}, {**LOOPBACK, "RAY_AUTH_MODE": "token"}),
        ({"RAY_AUTH_MODE": "disabled"}, LOOPBACK),
        ({"RAY_AUTH_MODE": "token"}, LOOPBACK),
        ({"RAY_AUTH_TOKEN": "mine", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}, {"RAY_AUTH_MODE": "token"}),
    ],
)
def test_what_an_operator_says_holds(given: dict[str, str], added: dict[str, str]) -> None:
    assert closed_cluster(given) == added


def test_an_empty_variable_says_nothing() -> None:
    empty = dict.fromkeys(("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"), "")
    assert closed_cluster(empty).keys() == closed_cluster({}).keys()
