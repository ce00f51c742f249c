"""Ports that two services on one machine do not share."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from cos_ray.bootstrap import port_block
from cos_ray.bootstrap.port_block import SIZE, reserved_block
from cos_ray.cluster.environment import ray_environment


def test_blocks_in_use_at_the_same_time_have_no_port_in_common() -> None:
    with ExitStack() as running:
        blocks = [running.enter_context(reserved_block()) for _ in range(20)]
        assert all(len(block) == SIZE for block in blocks)
        assert len({port for block in blocks for port in block}) == 20 * SIZE


def test_a_block_is_free_again_after_use(monkeypatch: pytest.MonkeyPatch) -> None:
    # Looking through all connections of the machine takes 50 ms.
    monkeypatch.setattr(port_block, "_listening", set)
    # More often than there are blocks.
    for _ in range(200):
        with reserved_block():
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="HAProxy is for Linux")
def test_what_ray_is_told_of_ports_lies_in_the_block_and_is_all_that_serve_would_share(
    tmp_path: Path,
) -> None:
    told = ray_environment({}, tmp_path, range(20_000, 20_100), "cos_ray.handlers.grpc_write")
    ports = {name: int(value) for name, value in told.items() if name.endswith("_PORT")}
    assert set(ports.values()) <= set(range(20_000, 20_100))
    single = [port for name, port in ports.items() if "DIRECT_INGRESS" not in name]
    assert len(single) == len(set(single)) == 4
    assert max(single) < ports["RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT"]
    assert ports["RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"] < ports["RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT"]


def test_a_block_is_reserved_for_services_with_other_folders_for_temporary_files_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(port_block, "_listening", set)
    monkeypatch.setattr(port_block, "_FIRST", 20_000)
    monkeypatch.setattr(port_block, "_LAST", 20_000 + SIZE * 1_000)
    blocks = []
    with ExitStack() as running:
        for number in range(300):
            monkeypatch.setattr("tempfile.tempdir", str(tmp_path / str(number % 2)))
            (tmp_path / str(number % 2)).mkdir(exist_ok=True)
            blocks.append(running.enter_context(reserved_block()))
    assert len({block.start for block in blocks}) == 300
