"""The service with write handlers of the other two kinds: over HTTP, and in Python inside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest

from cos_ray.cli.child_process import ChildProcess
from cos_ray.samples.bank.client import Bank, BankError, Statement
from cos_ray.samples.bank.read_handler import Balance, read_balances
from tests.handler_kit import BANK_CLASS
from tests.running_service import BANK, RunningService, eventually, plain_environment, serve_and_fail


@pytest.fixture
def http_handler() -> Iterator[dict[str, str]]:
    """The bank's HTTP handler in its process: the settings that lead to it."""
    process = ChildProcess([BANK, "http-write-handler", "--port", "0"], plain_environment())
    line = process.wait_for(lambda line: " listening on " in line, 30)
    yield {
        "COS_WRITE_SIDE_HOST": "127.0.0.1",
        "COS_WRITE_SIDE_PORT": line.rsplit(":", 1)[1],
        "COS_WRITE_SIDE_PROTOCOL": "http",
        "COS_WRITE_SIDE_BREAKER_ENABLED": "true",
    }
    assert process.stop() == 0


@pytest.fixture
def python_handler(tmp_path: Path) -> dict[str, str]:
    """The bank inside the service, its table of balances too, in two processes."""
    return {
        "COS_WRITE_SIDE_HANDLER": BANK_CLASS,
        "COS_READ_SIDE_ENABLED": "true",
        "COS_READ_SIDE_ACTORS": "2",
        "COS_READ_SIDE_CONFIG__HANDLER__balances": f"{BANK}.python_read_handler:Balances",
        "COS_READ_SIDE_CONFIG__FAILURE_POLICY__balances": "PARK",
        "BANK_BALANCES": str(tmp_path / "balances.db"),
    }


@pytest.mark.parametrize("kind", ["http_handler", "python_handler"])
async def test_the_bank_is_served(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    service = RunningService(tmp_path / "data", request.getfixturevalue(kind))
    try:
        service.start()
        async with grpc.aio.insecure_channel(service.address) as channel:
            bank = Bank(channel, timeout=30)
            assert await bank.open("ada", "Ada", 20_00) == Statement("ada", "Ada", 20_00, True, 2)
            assert (await bank.deposit("ada", 1)).balance == 20_01
            with pytest.raises(BankError, match=r"^cannot withdraw 50\.00: the balance is 20\.01$") as no:
                await bank.withdraw("ada", 50_00)
            assert no.value.code is grpc.StatusCode.INVALID_ARGUMENT
            assert (await bank.account("ada")).revision == 3
        if kind == "python_handler":
            ada = Balance("ada", "Ada", 20_01, True, 3)
            eventually(lambda: read_balances(tmp_path / "balances.db") == [ada])
        assert service.stop() == 0
    finally:
        service.end()


def test_a_read_handler_that_does_not_fit_stops_the_start_with_a_line() -> None:
    failed = serve_and_fail(
        {
            "COS_WRITE_SIDE_HANDLER": BANK_CLASS,
            "COS_READ_SIDE_ENABLED": "true",
            "COS_READ_SIDE_CONFIG__HANDLER__x": BANK_CLASS,
        }
    )
    assert failed.returncode == 2
    assert failed.stderr == f"readside x: the handler: {BANK_CLASS} has no method handle\n"


def test_a_class_that_cannot_be_imported_stops_the_start_with_a_line() -> None:
    failed = serve_and_fail({"COS_WRITE_SIDE_HANDLER": "no_such_bank:Bank"})
    assert failed.returncode == 2
    assert failed.stderr == (
        "COS_WRITE_SIDE_HANDLER: no_such_bank:Bank cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_bank'\n"
    )
