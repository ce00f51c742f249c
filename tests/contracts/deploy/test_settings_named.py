"""Every variable that deploy/ speaks of is one that the service knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.deploy import DEPLOY, texts, unknown_settings


@pytest.mark.parametrize("path", texts(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_all_settings_named_exist(path: Path) -> None:
    assert unknown_settings(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    "wrong", ["COS_DB_PASWORD", "COS_PORTS", "COS_SHARD_ACTOR", "COS_DB_HOST_", "COS_BD_*"]
)
def test_a_setting_that_does_not_exist_is_found(wrong: str) -> None:
    assert unknown_settings(f"set {wrong}=1 and COS_PORT=2, and the other COS_DB_* as they are") == {
        wrong.rstrip("*")
    }


def test_settings_of_one_read_side_are_known() -> None:
    assert unknown_settings("COS_READ_SIDE_CONFIG__HOST__BALANCES=localhost") == set()
