"""How refusals are counted and told, and which connections are too many."""

from __future__ import annotations

import logging

import pytest

from cos_ray.domain.refusals import PublicPort, RefusalCause
from cos_ray.ingress.connection_watch import surplus
from cos_ray.ingress.listener_settings import ListenerBounds
from cos_ray.ingress.listeners import fitting
from cos_ray.ingress.own_sockets import Connection, source_of
from cos_ray.ingress.refusals import Refusals
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.meters import ScriptOfMeters


def test_all_are_counted_and_one_line_a_minute_tells_how_many_there_were_since(
    caplog: pytest.LogCaptureFixture,
) -> None:
    meter, clock = ScriptOfMeters(), ManualClock()
    refusals = Refusals(meter, clock)
    for _ in range(1_000):
        refusals.add(PublicPort.GRPC, RefusalCause.NO_TOKEN, "10.0.0.1")
    refusals.add(PublicPort.HTTP, RefusalCause.NO_TOKEN)
    assert len(meter.of("refused: grpc no_token")) == 1_000
    assert [(line.port, line.number) for line in caplog.records] == [("grpc", 1), ("http", 1)]  # type: ignore[attr-defined]
    refusals.tell()
    assert len(caplog.records) == 2
    clock.advance(61)
    refusals.tell()
    last = caplog.records[-1]
    assert (last.number, last.last_from, last.levelno) == (999, "10.0.0.1", logging.WARNING)  # type: ignore[attr-defined]
    clock.advance(61)
    refusals.tell()
    assert len(caplog.records) == 3


def test_the_newest_beyond_the_share_of_an_address_and_beyond_the_port_are_too_many() -> None:
    bounds = ListenerBounds(connections=4, connections_per_address=2)
    there = [
        Connection(number, f"socket:[{number}]", port, source)
        for number, (port, source) in enumerate(
            [(1, "a"), (1, "a"), (1, "a"), (1, "b"), (1, "c"), (1, "d"), (2, "a")]
        )
    ]
    assert [(each.number, cause) for each, cause in surplus(there, bounds)] == [
        (2, RefusalCause.ADDRESS),
        (5, RefusalCause.CONNECTIONS),
    ]


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_one_source_is_an_address_or_64_bits_of_ipv6(address: str, source: str) -> None:
    assert source_of(address) == source


@pytest.mark.parametrize(
    ("files", "connections"), [(None, 10_000), (65_536, 10_000), (20_000, 9_744), (1_024, 256), (100, 25)]
)
def test_there_are_no_more_connections_than_open_files_for_them(
    files: int | None, connections: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert fitting(ListenerBounds(), files).connections == connections
    assert len(caplog.records) == (connections < 10_000)
