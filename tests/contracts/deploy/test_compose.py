"""compose.yaml: valid, of one piece, and with settings that the service accepts."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cos_ray.config.read_sides import read_sides_from
from cos_ray.config.serving import missing
from cos_ray.config.settings import Settings
from tests.support.deploy import DEPLOY, DOCKERFILE, documents, instructions

FILE = DEPLOY / "compose.yaml"
OBSERVABILITY = DEPLOY / "observability"

Compose = dict[str, Any]


@pytest.fixture
def compose() -> Compose:
    [content] = documents(FILE)
    return copy.deepcopy(content)


def _complaints(compose: Compose) -> list[str]:
    """What the Compose specification's own schema has against it."""
    text = (
        resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text()
    )
    schema = json.loads(text)
    validator = jsonschema.validators.validator_for(schema)(schema)
    return [error.message for error in validator.iter_errors(compose)]


def _loose_ends(compose: Compose) -> set[str]:
    """Names that are used and not defined: of services, volumes, secrets, hosts and files."""
    loose = set()
    services = compose["services"]
    for name, service in services.items():
        loose |= {
            f"{name} waits for {other}" for other in service.get("depends_on", ()) if other not in services
        }
        loose |= {
            f"{name} reads {secret}"
            for secret in service.get("secrets", ())
            if secret not in compose.get("secrets", {})
        }
        loose |= _files_without_secret(name, service)
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if not source.startswith(".") and source not in compose["volumes"]:
                loose.add(f"{name} mounts {source}")
        for variable, value in service.get("environment", {}).items():
            if (host := _host_in(variable, str(value))) is not None and host not in services:
                loose.add(f"{name} calls {host}")
    return loose


def _files_without_secret(name: str, service: dict[str, Any]) -> set[str]:
    paths = {f"/run/secrets/{secret}" for secret in service.get("secrets", ())}
    values = map(str, service.get("environment", {}).values())
    return {f"{name} reads {value}" for value in values if value.startswith("/run/") and value not in paths}


def _host_in(variable: str, value: str) -> str | None:
    if variable.endswith("_HOST") or "__HOST__" in variable:
        return value
    if found := re.fullmatch(r"https?://([^:/]+).*", value):
        return found[1]
    return None


def test_it_is_valid(compose: Compose) -> None:
    assert _complaints(compose) == []


def test_nothing_is_used_that_is_not_there(compose: Compose) -> None:
    assert _loose_ends(compose) == set()


def _misspell_ports(compose: Compose) -> None:
    compose["services"]["grafana"]["port"] = compose["services"]["grafana"].pop("ports")


def _make_depends_on_a_number(compose: Compose) -> None:
    compose["services"]["grafana"]["depends_on"] = 3


@pytest.mark.parametrize("spoil", [_misspell_ports, _make_depends_on_a_number])
def test_what_is_not_valid_is_found(compose: Compose, spoil: Callable[[Compose], None]) -> None:
    spoil(compose)
    assert _complaints(compose)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda compose: compose["services"].pop("postgres"),
        lambda compose: compose["services"].pop("otel-collector"),
        lambda compose: compose["services"].pop("read-handler"),
        lambda compose: compose["secrets"].pop("db-password"),
        lambda compose: compose["services"]["cos-ray"].pop("secrets"),
        lambda compose: compose["volumes"].pop("prometheus"),
    ],
)
def test_what_is_used_and_not_there_is_found(compose: Compose, spoil: Callable[[Compose], None]) -> None:
    spoil(compose)
    assert _loose_ends(compose)


def test_the_service_would_accept_its_settings(compose: Compose, tmp_path: Path) -> None:
    told = {**compose["services"]["cos-ray"]["environment"], "RAY_ADDRESS": "auto"}
    password = tmp_path / "password"
    password.write_text("secret\n")
    told["COS_DB_PASSWORD_FILE"] = str(password)

    settings = Settings.from_environment(told)

    assert missing(told) == []
    assert settings.database.password.get_secret_value() == "secret"
    [balances] = read_sides_from(told)
    [handler] = [compose["services"][name]["command"] for name in (balances.host,)]
    assert handler[handler.index("--port") + 1] == str(balances.port)
    handler = compose["services"][settings.write_side.host]["command"]
    assert handler[handler.index("--port") + 1] == str(settings.write_side.port)


def test_database_and_service_agree_on_role_database_and_password(compose: Compose) -> None:
    ours = compose["services"]["cos-ray"]["environment"]
    theirs = compose["services"]["postgres"]["environment"]
    for our_name, their_name in (("USER", "USER"), ("NAME", "DB"), ("PASSWORD_FILE", "PASSWORD_FILE")):
        assert ours[f"COS_DB_{our_name}"] == theirs[f"POSTGRES_{their_name}"]


def test_ports_are_published_on_the_loopback_only_and_none_twice(compose: Compose) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published)
    assert len({port.split(":")[1] for port in published}) == len(published)
    settings = Settings.from_environment({})
    for port in (settings.service.port, settings.service.http_port):
        assert f"127.0.0.1:{port}:{port}" in compose["services"]["cos-ray"]["ports"]
    exposed = {i.rest for i in instructions(DOCKERFILE.read_text()) if i.name == "EXPOSE"}
    assert exposed == {f"{settings.service.port} {settings.service.http_port}"}


def test_every_image_has_a_version(compose: Compose) -> None:
    for service in compose["services"].values():
        image = re.sub(r"\$\{[A-Z_]+:-([^}]+)\}", r"\1", service["image"])
        assert re.fullmatch(r"[a-z/-]+:v?\d+[\d.]*", image), image


def test_what_drains_is_given_the_time_to(compose: Compose) -> None:
    assert compose["services"]["cos-ray"]["stop_grace_period"] == "40s"
    assert compose["services"]["cos-ray"]["command"][-1].endswith("exec env RAY_ADDRESS=auto cos-ray serve")


@pytest.mark.skipif(not OBSERVABILITY.exists(), reason="there is nothing under deploy/observability")
def test_every_file_mounted_is_there(compose: Compose) -> None:
    mounted = [v.split(":")[0] for s in compose["services"].values() for v in s.get("volumes", ())]
    files = [path for path in mounted if path.startswith(".")]
    assert len(files) == 5
    assert [path for path in files if not (DEPLOY / path).exists()] == []


@pytest.mark.skipif(not (OBSERVABILITY / "prometheus").exists(), reason="there is no prometheus.yml")
def test_what_prometheus_scrapes_is_there(compose: Compose) -> None:
    [prometheus] = documents(OBSERVABILITY / "prometheus/prometheus.yml")
    targets = set()
    for job in prometheus["scrape_configs"]:
        targets |= {target for each in job.get("static_configs", ()) for target in each["targets"]}
        for each in job.get("dns_sd_configs", ()):
            targets |= {f"{name}:{each['port']}" for name in each["names"]}
    assert {target.split(":")[0] for target in targets} - {"localhost"} <= compose["services"].keys()
    [start] = [
        word for word in compose["services"]["cos-ray"]["command"] if "--metrics-export-port=8080" in word
    ]
    assert "cos-ray:8080" in targets, start


@pytest.mark.skipif(not (OBSERVABILITY / "grafana").exists(), reason="there is no dashboard")
def test_grafana_looks_for_dashboards_where_they_are_mounted(compose: Compose) -> None:
    providers = [
        provider
        for path in (OBSERVABILITY / "grafana/provisioning").rglob("dashboards/*.y*ml")
        for document in documents(path)
        for provider in document["providers"]
    ]
    mounts = [volume.split(":") for volume in compose["services"]["grafana"]["volumes"]]
    targets = [mount[1] for mount in mounts if mount[0].endswith("/dashboards")]
    assert [provider["options"]["path"] for provider in providers] == targets
