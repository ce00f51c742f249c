"""The circuit breaker as values: what opens it, what closes it, and who is let through."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from cos_ray.domain.circuit_breaker import (
    COUNTED,
    BreakerPolicy,
    Circuit,
    Closed,
    HalfOpen,
    Open,
    admit,
    after_abandonment,
    after_answer,
    after_failure,
)
from cos_ray.domain.errors import Code

POLICY = BreakerPolicy(max_failures=3, reset_timeout=timedelta(seconds=10))


def failed(circuit: Circuit, times: int = 1, now: float = 0.0) -> Circuit:
    for _ in range(times):
        circuit = after_failure(circuit, False, POLICY, now)
    return circuit


def test_only_the_codes_of_a_handler_in_trouble_are_counted() -> None:
    assert {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNKNOWN} == COUNTED


def test_so_many_failures_in_a_row_open_it() -> None:
    assert failed(Closed(), 2) == Closed(2)
    assert failed(Closed(), 3, now=5.0) == Open(until=15.0)


def test_an_answer_in_between_begins_the_count_anew() -> None:
    assert after_answer(failed(Closed(), 2), is_trial=False) == Closed(0)


def test_while_it_is_open_nobody_goes_through() -> None:
    admission = admit(Open(until=10.0), now=9.9)
    assert (admission.is_admitted, admission.circuit) == (False, Open(until=10.0))


def test_after_the_reset_timeout_exactly_one_goes_through() -> None:
    first = admit(Open(until=10.0), now=10.0)
    assert (first.is_admitted, first.is_trial, first.circuit) == (True, True, HalfOpen())
    assert not admit(first.circuit, now=99.0).is_admitted


def test_a_trial_that_is_answered_closes_it() -> None:
    assert after_answer(HalfOpen(), is_trial=True) == Closed(0)


def test_a_trial_that_fails_opens_it_for_another_while() -> None:
    assert after_failure(HalfOpen(), True, POLICY, now=20.0) == Open(until=30.0)


def test_a_trial_that_nobody_waited_for_leaves_the_trial_to_the_next() -> None:
    circuit = after_abandonment(HalfOpen(), is_trial=True, now=20.0)
    assert admit(circuit, now=20.0).is_trial


@pytest.mark.parametrize("circuit", [Open(until=10.0), HalfOpen()])
def test_calls_from_before_it_opened_change_nothing(circuit: Circuit) -> None:
    assert after_answer(circuit, is_trial=False) == circuit
    assert failed(circuit, 5, now=99.0) == circuit
    assert after_abandonment(circuit, is_trial=False, now=99.0) == circuit


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_there_is_at_most_one_trial_and_always_a_way_back(seed: int) -> None:
    chance = random.Random(seed)
    circuit: Circuit = Closed()
    now, under_way = 0.0, list[bool]()
    for _ in range(500):
        now += chance.random() * 3
        admission = admit(circuit, now)
        circuit = admission.circuit
        if admission.is_admitted:
            under_way.append(admission.is_trial)
        assert sum(under_way) == isinstance(circuit, HalfOpen)
        if under_way and chance.random() < 0.7:
            is_trial = under_way.pop(chance.randrange(len(under_way)))
            circuit = chance.choice(
                [
                    after_answer(circuit, is_trial),
                    after_failure(circuit, is_trial, POLICY, now),
                    after_abandonment(circuit, is_trial, now),
                ]
            )
    assert isinstance(circuit, HalfOpen) or admit(circuit, now + 100).is_admitted
