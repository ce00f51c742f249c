"""The cluster files for `ray up`: accepted by Ray, and with what the nodes of this service need."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from cos_ray.config.settings import Settings
from tests.support.deploy import DEPLOY, ROOT, documents, locked_version

FILES = sorted((DEPLOY / "ray-up").glob("*.yaml"))
SECRETS = "/home/ray/secrets"

Cluster = dict[str, Any]


def _checked(cluster: Cluster) -> Cluster:
    """The cluster as `ray up` would have it before it asks the provider. Raises what Ray does."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: Cluster = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    return prepared


def _environment(cluster: Cluster) -> dict[str, str]:
    options = [option.split(" ", 1) for option in cluster["docker"]["run_options"] if " " in option]
    return dict(value.split("=", 1) for name, value in options if name == "-e")


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def cluster(request: pytest.FixtureRequest) -> Cluster:
    [content] = documents(request.param)
    return content


def test_there_is_one_for_each_provider() -> None:
    assert {documents(path)[0]["provider"]["type"] for path in FILES} == {"aws", "gcp", "local"}


def test_ray_accepts_it(cluster: Cluster) -> None:
    prepared = _checked(cluster)
    types = prepared["available_node_types"]
    # Machines that are there are of one type, the head as well.
    workers = [types[name] for name in types if name != prepared["head_node_type"] or len(types) == 1]
    # None is to come, none to go.
    assert [(each["min_workers"], each["max_workers"]) for each in workers] == [(2, 2)]
    assert prepared["max_workers"] == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda cluster: cluster.update(setup_command=[]),
        lambda cluster: cluster.update(max_workers="two"),
        lambda cluster: cluster["auth"].update(user="ubuntu"),
        lambda cluster: cluster["docker"].update(images="cos-ray"),
        lambda cluster: cluster["provider"].pop("type"),
    ],
)
def test_what_ray_does_not_accept_is_found(cluster: Cluster, spoil: Callable[[Cluster], object]) -> None:
    spoil(cluster)
    with pytest.raises((jsonschema.ValidationError, ValueError, KeyError, TypeError, ImportError)):
        _checked(cluster)


def test_nodes_are_containers_of_the_image(cluster: Cluster) -> None:
    assert cluster["docker"]["image"] == f"cos-ray:{locked_version('cos-ray')}"


def test_nodes_know_each_other_by_a_token_and_find_the_password_where_it_is_put(cluster: Cluster) -> None:
    environment = _environment(cluster)
    assert environment["RAY_AUTH_MODE"] == "token"
    for name in ("RAY_AUTH_TOKEN_PATH", "COS_DB_PASSWORD_FILE"):
        assert environment[name].startswith(f"{SECRETS}/")
    assert SECRETS in cluster["file_mounts"]
    ignored = (DEPLOY / "ray-up/.gitignore").read_text().splitlines()
    assert cluster["file_mounts"][SECRETS] == "./deploy/ray-up/secrets"
    assert "secrets/" in ignored


def test_the_service_is_deployed_from_a_file_that_is_brought_along(cluster: Cluster) -> None:
    [deploy] = [command for command in cluster["head_start_ray_commands"] if "serve deploy" in command]
    source = cluster["file_mounts"][deploy.split()[-1]]
    assert source == "./deploy/serve/cos_ray.yaml"
    if not (ROOT / "deploy/serve").exists():
        pytest.skip("there is no configuration for `serve deploy`")
    assert (ROOT / source).exists()


def test_nodes_start_ray_alike(cluster: Cluster) -> None:
    starts = [
        [command for command in cluster[f"{kind}_start_ray_commands"] if command.startswith("ray start")]
        for kind in ("head", "worker")
    ]
    assert [len(each) for each in starts] == [1, 1]
    for [command] in starts:
        assert "--metrics-export-port=8080" in command
        assert "--object-manager-port=8076" in command
    assert "--head --port=6379" in starts[0][0]
    assert "--address=$RAY_HEAD_IP:6379" in starts[1][0]
    # Who reaches it may run code; `ray dashboard` makes a tunnel.
    assert "--dashboard-host=127.0.0.1" in starts[0][0]


def test_the_file_of_each_provider_names_itself() -> None:
    for path in FILES:
        assert f"ray up deploy/ray-up/{path.name}" in path.read_text()
        assert f"ray dashboard deploy/ray-up/{path.name}" in path.read_text()


def test_settings_in_the_environment_of_nodes_are_accepted(cluster: Cluster, tmp_path: Any) -> None:
    (tmp_path / "db-password").write_text("secret")
    told = {
        name: value.replace(SECRETS, str(tmp_path))
        for name, value in _environment(cluster).items()
        if name.startswith("COS_")
    }
    assert Settings.from_environment(told).database.password.get_secret_value() == "secret"
