"""`cos-ray` commands that call a service over TLS, and what they say where the two do not fit together."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cos_ray.cli import status
from cos_ray.cli.app import app
from cos_ray.system.certificates import TlsFiles
from tests.support.authority import Authority
from tests.support.front_door import front_door

COMMANDS = [["status"], ["readside", "status"], ["readside", "pause", "--id", "none"]]


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "BETWEEN_LOOKS", 0.01)
    for name in os.environ:
        if name.startswith("COS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextmanager
def service(tls: TlsFiles | None) -> Iterator[int]:
    """A listening replica in a thread of its own; its gRPC port."""
    ports: list[int] = []
    is_open, end = threading.Event(), threading.Event()

    async def run() -> None:
        async with front_door(tls=tls) as door:
            ports.append(door.settings.grpc_port)
            is_open.set()
            await asyncio.to_thread(end.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert is_open.wait(30)
    try:
        yield ports[0]
    finally:
        end.set()
        thread.join(30)


def cos_ray(port: int, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--port", str(port)], env=environment)


def complaint_of(done: Result) -> str:
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.output
    return done.stderr


def answered(done: Result) -> bool:
    """Whether the service answered, be it that there is no such read side."""
    return done.exit_code == 0 or done.stderr.startswith("NOT_FOUND")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_speak_tls_by_their_options_or_the_environment(
    authority: Authority, command: list[str]
) -> None:
    with service(TlsFiles(*authority.issue("cos.example.com"))) as port:
        by_option = cos_ray(
            port, *command, "--tls-ca", authority.ca_file, "--tls-server-name", "cos.example.com"
        )
        by_environment = cos_ray(
            port, *command, COS_TLS_CA_FILE=authority.ca_file, COS_TLS_SERVER_NAME="cos.example.com"
        )
    for done in (by_option, by_environment):
        assert answered(done), done.output


def test_a_certificate_that_names_the_host_needs_no_other_name(authority: Authority) -> None:
    with service(TlsFiles(*authority.issue("localhost"))) as port:
        done = cos_ray(port, "status", "--host", "localhost", "--tls-ca", authority.ca_file)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_with_a_certificate_comes_in_where_one_is_asked_for(
    authority: Authority, command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").issue("ops")
    certificate, key = authority.issue("ops")
    tls = ["--tls-ca", authority.ca_file, "--tls-server-name", "cos"]
    with service(TlsFiles(*authority.issue("cos"), authority.ca_file)) as port:
        done = cos_ray(port, *command, *tls, "--tls-cert", certificate, "--tls-key", key)
        assert answered(done), done.output
        named = {"COS_TLS_CLIENT_CERT_FILE": certificate, "COS_TLS_CLIENT_KEY_FILE": key}
        assert answered(cos_ray(port, *command, *tls, **named))
        without = complaint_of(cos_ray(port, *command, *tls))
        assert "asks for a certificate" in without
        assert "--tls-cert and --tls-key" in without
        refused = complaint_of(
            cos_ray(port, *command, *tls, "--tls-cert", stranger[0], "--tls-key", stranger[1])
        )
        assert "does not accept the certificate of --tls-cert" in refused
        assert "the service speaks TLS" in complaint_of(cos_ray(port, *command))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_where_one_speaks_tls_and_the_other_does_not_a_line_says_so(
    authority: Authority, command: list[str]
) -> None:
    with service(TlsFiles(*authority.issue("localhost"))) as port:
        line = complaint_of(cos_ray(port, *command))
        assert f"127.0.0.1:{port}: the service speaks TLS, and this command plain text" in line
        assert "--tls-ca" in line
    with service(None) as port:
        line = complaint_of(cos_ray(port, *command, "--tls-ca", authority.ca_file))
        assert "the service speaks plain text, and this command TLS: leave out --tls-ca" in line
    assert "no service answers at" in complaint_of(cos_ray(port, *command, "--tls-ca", authority.ca_file))


def test_a_certificate_of_another_authority_or_another_host_is_told_apart(
    authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    with service(TlsFiles(*authority.issue("cos.example.com"))) as port:
        line = complaint_of(cos_ray(port, "status", "--tls-ca", other.ca_file))
        assert "is not of the authority of --tls-ca" in line
        line = complaint_of(cos_ray(port, "status", "--tls-ca", authority.ca_file))
        assert "names another host" in line
        assert "--tls-server-name" in line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (lambda files: ["--tls-ca", "/nowhere"], "--tls-ca '/nowhere' cannot be used: no such file"),
        (lambda files: ["--tls-ca", files[1]], "cannot be used"),
        (lambda files: ["--tls-cert", files[0], "--tls-key", files[1]], "--tls-cert needs --tls-ca"),
        (lambda files: ["--tls-ca", files[2], "--tls-cert", files[0]], "--tls-cert needs --tls-key"),
        (lambda files: ["--tls-ca", files[2], "--tls-key", files[1]], "--tls-key needs --tls-cert"),
        (
            lambda files: ["--tls-ca", files[2], "--tls-cert", files[0], "--tls-key", files[2]],
            "cannot be used",
        ),
    ],
)
def test_files_that_cannot_be_used_end_the_command_with_one_line(
    authority: Authority, arguments: Callable[[tuple[str, str, str]], list[str]], complaint: str
) -> None:
    certificate, key = authority.issue("ops")
    done = cos_ray(9, "status", *arguments((certificate, key, authority.ca_file)))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert complaint in done.stderr
