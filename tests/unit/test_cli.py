"""The command line: helpful when asked, brief when the configuration is wrong."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from typer.testing import CliRunner

from cos_ray import __version__
from cos_ray.cli.app import app
from cos_ray.cli.progress import Progress

TARGET = {"COS_WRITE_SIDE_HOST": "localhost", "COS_WRITE_SIDE_PORT": "50051"}


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name in os.environ:
        if name.startswith(("COS_", "LOG_", "RAY_", "OTEL_")):
            monkeypatch.delenv(name)
    return CliRunner()


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["serve"],
        ["demo"],
        ["config"],
        ["config", "show"],
        ["config", "check"],
        ["journal"],
        ["journal", "check"],
        ["journal", "migrate"],
        ["protoset"],
    ],
)
def test_every_command_explains_itself(command: list[str], runner: CliRunner) -> None:
    result = runner.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage: " in result.stdout
    assert len(result.stdout.splitlines()) > 5


def test_the_help_of_serve_names_what_it_needs_and_where_there_is_more(runner: CliRunner) -> None:
    text = runner.invoke(app, ["serve", "--help"]).stdout
    for word in ("COS_WRITE_SIDE_HOST", "COS_WRITE_SIDE_PORT", "COS_DB_HOST", "cos-ray config show"):
        assert word in text
    # A table, and not a paragraph.
    assert any(line.strip().startswith("COS_PORT") for line in text.splitlines())


def test_the_version_is_the_package_s(runner: CliRunner) -> None:
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"cos-ray {__version__}\n")


class TestConfigShow:
    def test_lists_every_variable_with_its_source(self, runner: CliRunner) -> None:
        result = runner.invoke(app, ["config", "show"], env={"COS_PORT": "9100"})
        assert result.exit_code == 0
        (port,) = (line for line in result.stdout.splitlines() if "COS_PORT " in line)
        assert port.split()[:4] == ["COS_PORT", "9100", "environment", "9000"]
        assert "COS_IDEMPOTENCY_TTL" in result.stdout

    def test_masks_secrets(self, runner: CliRunner) -> None:
        result = runner.invoke(app, ["config", "show"], env={"COS_DB_PASSWORD": "hidden"})
        assert "hidden" not in result.stdout
        assert "******" in result.stdout

    def test_says_what_does_not_parse(self, runner: CliRunner) -> None:
        result = runner.invoke(app, ["config", "show"], env={"COS_PORT": "x"})
        assert result.exit_code == 2
        assert result.stderr == "COS_PORT is 'x'; allowed: a whole number from 1 to 65535\n"


class TestConfigCheck:
    def test_of_a_good_configuration_exits_0(self, runner: CliRunner) -> None:
        result = runner.invoke(app, ["config", "check"], env={**TARGET, "COS_PRT": "1"})
        assert (result.exit_code, result.stdout) == (0, "the configuration is good\n")
        assert result.stderr == "unknown variable COS_PRT; did you mean COS_PORT?\n"

    def test_of_a_wrong_one_names_all_that_is_missing_wrong_or_unavailable(self, runner: CliRunner) -> None:
        wrong = {"COS_PORT": "0", "COS_READ_SIDE_ENABLED": "perhaps"}
        result = runner.invoke(app, ["config", "check"], env=wrong)
        assert result.exit_code == 1
        named = [line.split()[0] for line in result.stderr.splitlines()]
        assert sorted(named) == [
            "COS_PORT",
            "COS_READ_SIDE_ENABLED",
            "COS_WRITE_SIDE_HOST",
            "COS_WRITE_SIDE_PORT",
        ]

    def test_names_what_this_release_cannot_do(self, runner: CliRunner) -> None:
        result = runner.invoke(app, ["config", "check"], env={**TARGET, "COS_ENCRYPTION_CLASS": "a.B"})
        assert result.exit_code == 1
        assert result.stderr == (
            "COS_ENCRYPTION_CLASS is 'a.B', which is not available in this release; allowed: leaving it out\n"
        )


@pytest.mark.parametrize("command", ["check", "migrate"])
def test_what_works_on_a_journal_has_to_be_told_where_it_is(command: str, runner: CliRunner) -> None:
    result = runner.invoke(app, ["journal", command])
    assert result.exit_code == 2
    assert result.stderr == "COS_DB_HOST is not set, but needed: the host of the database\n"


class TestServe:
    """As a process of its own, as users run it."""

    def serve(self, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from cos_ray.cli import main; main()", "serve"]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), **variables}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=20, check=False
        )

    def test_with_a_wrong_variable_exits_2_with_one_line(self) -> None:
        ended = self.serve(**TARGET, COS_PASSIVATION_IDLE_AFTER="soon")
        assert ended.returncode == 2
        assert ended.stdout == ""
        assert ended.stderr == (
            "COS_PASSIVATION_IDLE_AFTER is 'soon'; allowed: a duration such as 500ms, 10s, 1m or 1h\n"
        )

    def test_without_a_write_handler_says_so(self) -> None:
        ended = self.serve()
        assert ended.returncode == 2
        assert [line.split()[0] for line in ended.stderr.splitlines()] == [
            "COS_WRITE_SIDE_HOST",
            "COS_WRITE_SIDE_PORT",
        ]


def test_checking_the_configuration_does_not_import_ray() -> None:
    program = "import sys, cos_ray.cli.app, cos_ray.cli.configuration; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_help_imports_no_configuration() -> None:
    program = "import sys, cos_ray.cli.app; assert not {'pydantic', 'yaml', 'structlog'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


class TestProgress:
    def test_away_from_a_terminal_a_finished_step_is_a_plain_line(self) -> None:
        output = io.StringIO()
        progress = Progress(output)
        with progress.step("Starting Ray [all of it]"):
            progress.note("still there")
        progress.ready(["gRPC 0.0.0.0:9000"])
        step, _, rest = output.getvalue().partition(")\n")
        assert output.getvalue().startswith("  still there\n✓ Starting Ray [all of it] (")
        assert step.endswith(" s")
        assert rest == "gRPC 0.0.0.0:9000\n"

    def test_a_step_that_fails_is_marked_and_its_error_goes_on(self) -> None:
        output = io.StringIO()
        with pytest.raises(ValueError, match="no"), Progress(output).step("Starting"):
            raise ValueError("no")
        assert output.getvalue().startswith("✗ Starting (")

    def test_lines_are_not_wrapped(self) -> None:
        output = io.StringIO()
        with Progress(output).step("word " * 100):
            pass
        assert len(output.getvalue().splitlines()) == 1

    def test_an_output_without_the_signs_gets_words(self) -> None:
        raw = io.BytesIO()
        output = io.TextIOWrapper(raw, encoding="ascii")
        with Progress(output).step("Starting"):
            pass
        output.flush()
        assert raw.getvalue().startswith(b"ok Starting (")


def test_files_that_the_ingress_cannot_use_are_named(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "auth.yaml").write_text("tokens: []")
    told = {**TARGET, "COS_AUTH_FILE": str(tmp_path / "auth.yaml"), "COS_DESCRIPTOR_SETS": "nowhere.binpb"}
    result = runner.invoke(app, ["config", "check"], env=told)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert [line.split(" ")[0] for line in lines] == ["COS_DESCRIPTOR_SETS", "COS_AUTH_FILE"]


def test_the_protos_are_written_to_a_file(runner: CliRunner, tmp_path: Path) -> None:
    result = runner.invoke(app, ["protoset", "-o", str(tmp_path / "cos_ray.binpb")])
    assert result.exit_code == 0
    names = {
        file.name for file in FileDescriptorSet.FromString((tmp_path / "cos_ray.binpb").read_bytes()).file
    }
    assert {"chief_of_state/v1/service.proto", "cos_ray/v1/history.proto"} <= names
    result = runner.invoke(app, ["protoset", "-o", str(tmp_path / "nowhere" / "x")])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
