"""The token that commands send: where it comes from, and what is said of one that cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cos_ray.cli.app import app
from cos_ray.cli.token import LONGEST, find_token

COMMANDS = [
    ["status"],
    ["resize", "2"],
    ["readside", "offset", "--id", "r"],
    ["readside", "pause", "--id", "r"],
    ["readside", "resume", "--id", "r"],
    ["readside", "restart", "--id", "r"],
    ["readside", "skip", "--id", "r"],
    ["readside", "status"],
    ["readside", "replay", "--id", "r", "--after", "0"],
    ["readside", "dead-letters", "list", "--id", "r"],
    ["readside", "dead-letters", "retry", "--id", "r"],
    ["readside", "dead-letters", "drop", "--id", "r", "--entity", "e"],
]


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name in os.environ:
        if name.startswith("COS_"):
            monkeypatch.delenv(name)
    return CliRunner()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_that_asks_a_service_reads_the_file_and_says_when_it_cannot(
    runner: CliRunner, tmp_path: Path, command: list[str]
) -> None:
    path = tmp_path / "nowhere"
    told = f"{str(path)!r}: cannot be read (no such file or directory)\n"
    done = runner.invoke(app, [*command, "--token-file", str(path)])
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"--token-file {told}")
    done = runner.invoke(app, command, env={"COS_TOKEN_FILE": str(path)})
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"COS_TOKEN_FILE {told}")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_takes_the_token_itself_and_its_help_says_why(
    runner: CliRunner, command: list[str]
) -> None:
    assert "No such option: --token" in runner.invoke(app, [*command, "--token", "t"]).stderr
    text = " ".join(runner.invoke(app, [*command, "--help"]).stdout.split())
    assert "never an option: all users of a machine can see its command lines" in text
    assert {"COS_TOKEN_FILE", "COS_TOKEN"} <= set(text.replace(",", "").split())


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b" \r\n\t", "is empty"),
        (b"secret-one\nsecret-two\n", "one line of plain ASCII"),
        (b"secret\x00", "one line of plain ASCII"),
        ("sécret".encode(), "one line of plain ASCII"),
        (b"\xef\xbb\xbfsecret", "one line of plain ASCII"),
        (b"\xff\xfesecret", "one line of plain ASCII"),
        (b"secret" * LONGEST, "larger than"),
    ],
    ids=["nothing", "blanks", "two lines", "a zero", "an accent", "a mark of UTF-8", "bytes", "too much"],
)
def test_a_file_without_a_token_is_named_in_one_line_that_shows_nothing_of_it(
    runner: CliRunner, tmp_path: Path, content: bytes, text: str
) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    done = runner.invoke(app, ["status", "--token-file", str(path)])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"--token-file {str(path)!r}: ")
    assert text in done.stderr
    assert "cret" not in done.stderr


def test_a_folder_is_no_token(runner: CliRunner, tmp_path: Path) -> None:
    done = runner.invoke(app, ["status"], env={"COS_TOKEN_FILE": str(tmp_path)})
    told = f"COS_TOKEN_FILE {str(tmp_path)!r}: cannot be read (is a directory)\n"
    assert (done.exit_code, done.stderr) == (2, told)


def test_a_variable_that_is_no_token_is_named_and_not_shown(runner: CliRunner) -> None:
    done = runner.invoke(app, ["status"], env={"COS_TOKEN": "secret\nsecret"})
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("COS_TOKEN: ")
    assert "secret" not in done.stderr


def test_a_token_and_a_file_in_the_environment_are_one_too_many(runner: CliRunner) -> None:
    done = runner.invoke(app, ["status"], env={"COS_TOKEN": "secret", "COS_TOKEN_FILE": "/nowhere"})
    told = "COS_TOKEN_FILE and COS_TOKEN are both set; leave one of them out\n"
    assert (done.exit_code, done.stderr) == (2, told)


def test_the_option_wins_over_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("  from the option\r\n")
    for environment in ({"COS_TOKEN": "t"}, {"COS_TOKEN_FILE": "/nowhere"}):
        token = find_token(path, environment)
        assert token is not None
        assert token.value == "from the option"


def test_empty_variables_are_no_token_and_no_fault() -> None:
    assert find_token(None, {"COS_TOKEN": " ", "COS_TOKEN_FILE": ""}) is None


def test_a_token_does_not_show_itself() -> None:
    assert "secret" not in repr(find_token(None, {"COS_TOKEN": "secret"}))


def test_the_variables_of_commands_are_at_home_beside_those_of_the_service(runner: CliRunner) -> None:
    told = {"COS_WRITE_SIDE_HOST": "h", "COS_WRITE_SIDE_PORT": "1", "COS_TOKEN": "secret"}
    done = runner.invoke(app, ["config", "check"], env=told)
    assert (done.exit_code, done.stderr) == (0, "")
