"""One running service for all tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.any_service import any_service
from tests.support.running_deployment import DeployedService
from tests.support.running_service import BankHandlers, RunningService


@pytest.fixture(scope="session")
def handlers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BankHandlers]:
    """The bank's handlers."""
    handlers = BankHandlers(tmp_path_factory.mktemp("handlers"))
    yield handlers
    handlers.stop()


@pytest.fixture(scope="session")
def service(
    handlers: BankHandlers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService | DeployedService]:
    """The service with the bank's handlers; tests use accounts of their own."""
    service = any_service(tmp_path_factory.mktemp("data") / "postgres", handlers.settings)
    try:
        service.start()
        yield service
    finally:
        service.end()


@pytest.fixture
def own_service(handlers: BankHandlers, tmp_path: Path) -> Iterator[RunningService]:
    """A service for one test alone, not started yet."""
    service = RunningService(tmp_path / "data", handlers.settings)
    try:
        yield service
    finally:
        service.end()
