"""From the settings to where handlers are, and what the check says of files and classes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from cos_ray.bootstrap.configuration import checked
from cos_ray.bootstrap.endpoints import breaker_policy, faults_of_tls, read_target, write_target
from cos_ray.config.read_sides import Protocol, ReadSideConfig
from cos_ray.config.settings import Settings
from cos_ray.domain.circuit_breaker import BreakerPolicy
from cos_ray.domain.errors import ConfigurationError
from cos_ray.domain.ids import ReadSideId
from cos_ray.handlers.endpoints import GrpcEndpoint, HttpEndpoint, Keepalive, PythonEndpoint, Tls
from tests.support.authority import Authority

TARGET = {"COS_WRITE_SIDE_HOST": "bank", "COS_WRITE_SIDE_PORT": "50051"}
BANK = "cos_ray.samples.bank.python_handler:BankAccounts"


def settings(**told: str) -> Settings:
    return Settings.from_environment({**TARGET, **told})


def test_a_write_handler_is_reached_in_plain_grpc_unless_told_otherwise() -> None:
    assert write_target(settings()) == GrpcEndpoint("bank", 50051)


def test_all_that_is_said_about_channels_gets_there() -> None:
    told = {
        "COS_WRITE_SIDE_USE_TLS": "true",
        "COS_WRITE_SIDE_TLS_CA_FILE": "/tls/ca.pem",
        "COS_WRITE_SIDE_TLS_CERT_FILE": "/tls/cert.pem",
        "COS_WRITE_SIDE_TLS_KEY_FILE": "/tls/key.pem",
        "COS_WRITE_SIDE_TLS_SERVER_NAME": "bank.internal",
        "COS_GRPC_KEEPALIVE_ENABLED": "true",
        "COS_GRPC_KEEPALIVE_TIME": "20s",
        "COS_GRPC_KEEPALIVE_TIMEOUT": "500ms",
        "COS_GRPC_KEEPALIVE_WITHOUT_CALLS": "false",
        "COS_GRPC_CLIENT_POOL_SIZE": "3",
        "COS_HANDLER_MAX_MESSAGE_BYTES": "4096",
    }
    tls = Tls("/tls/ca.pem", "/tls/cert.pem", "/tls/key.pem", "bank.internal")
    keepalive = Keepalive(20_000, 500, without_calls=False)
    assert write_target(settings(**told)) == GrpcEndpoint("bank", 50051, tls, keepalive, 3, 4096)
    assert write_target(settings(**told, COS_WRITE_SIDE_PROTOCOL="http")) == HttpEndpoint(
        "bank", 50051, tls, 4096
    )


def test_a_class_inside_the_service_is_looked_for_in_the_current_folder_too() -> None:
    told = Settings.from_environment({"COS_WRITE_SIDE_HANDLER": BANK})
    assert write_target(told) == PythonEndpoint(BANK, str(Path.cwd()))


def test_read_sides_share_what_is_said_about_channels() -> None:
    config = ReadSideConfig(ReadSideId("r"), Protocol.GRPC, "reader", 1)
    told = settings(COS_READ_SIDE_TLS_CA_FILE="/tls/ca.pem", COS_GRPC_CLIENT_POOL_SIZE="2")
    assert read_target(told, config) == GrpcEndpoint("reader", 1, pool_size=2, sends_anything=True)
    secured = ReadSideConfig(ReadSideId("r"), Protocol.GRPC, "reader", 1, use_tls=True)
    tls = Tls("/tls/ca.pem")
    assert read_target(told, secured) == GrpcEndpoint("reader", 1, tls, pool_size=2, sends_anything=True)


def test_a_breaker_is_there_when_asked_for() -> None:
    assert breaker_policy(settings().write_side) is None
    told = settings(
        COS_READ_SIDE_BREAKER_ENABLED="true",
        COS_READ_SIDE_BREAKER_MAX_FAILURES="2",
        COS_READ_SIDE_BREAKER_RESET_TIMEOUT="5s",
    )
    assert breaker_policy(told.read_sides) == BreakerPolicy(2, timedelta(seconds=10), timedelta(seconds=5))


class TestTheCheck:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        return Authority(tmp_path)

    def faults(self, told: Mapping[str, str]) -> list[str]:
        return faults_of_tls(Settings.from_environment(told).write_side)

    def test_finds_files_that_fit_good(self, authority: Authority) -> None:
        certificate, key = authority.issue("client")
        told = {
            "COS_WRITE_SIDE_TLS_CA_FILE": authority.ca_file,
            "COS_WRITE_SIDE_TLS_CERT_FILE": certificate,
            "COS_WRITE_SIDE_TLS_KEY_FILE": key,
        }
        assert self.faults(told) == []

    def test_names_the_variable_of_a_file_that_is_gone_or_holds_something_else(
        self, authority: Authority
    ) -> None:
        gone, other = str(authority.folder / "none.pem"), authority.folder / "other.pem"
        other.write_text("no certificate")
        assert self.faults({"COS_WRITE_SIDE_TLS_CA_FILE": gone}) == [
            f"COS_WRITE_SIDE_TLS_CA_FILE is {gone!r}; allowed: a file of certificates in PEM "
            "(no such file or directory)"
        ]
        (line,) = self.faults({"COS_WRITE_SIDE_TLS_CA_FILE": str(other)})
        assert line.startswith(f"COS_WRITE_SIDE_TLS_CA_FILE is {str(other)!r}; allowed: a file of")

    def test_tells_of_a_key_that_is_another_certificate_s(self, authority: Authority) -> None:
        certificate, _ = authority.issue("one")
        _, key = authority.issue("other")
        told = {"COS_WRITE_SIDE_TLS_CERT_FILE": certificate, "COS_WRITE_SIDE_TLS_KEY_FILE": key}
        (line,) = self.faults(told)
        assert line.startswith(f"COS_WRITE_SIDE_TLS_CERT_FILE is {certificate!r}; allowed: a certificate")

    def test_takes_a_class_that_fits_and_names_what_one_lacks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "app.py").write_text("class Handler: ...")
        path = {"PATH": os.environ["PATH"]}
        assert checked({**path, "COS_WRITE_SIDE_HANDLER": BANK}).settings.write_side.handler == BANK
        with pytest.raises(ConfigurationError, match=r"app:Handler has no method handle_command$"):
            checked({**path, "COS_WRITE_SIDE_HANDLER": "app:Handler"})
