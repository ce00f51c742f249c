"""Ports that two services on one machine do not share."""

from __future__ import annotations

from contextlib import ExitStack

from cos_ray.bootstrap.port_block import SIZE, reserved_block


def test_blocks_in_use_at_the_same_time_have_no_port_in_common() -> None:
    with ExitStack() as running:
        blocks = [running.enter_context(reserved_block()) for _ in range(20)]
        assert all(len(block) == SIZE for block in blocks)
        assert len({port for block in blocks for port in block}) == 20 * SIZE


def test_a_block_is_free_again_after_use() -> None:
    for _ in range(200):
        with reserved_block():
            pass
