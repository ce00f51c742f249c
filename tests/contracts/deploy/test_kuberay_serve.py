"""What a RayService deploys on Serve: valid, our one application, and settings that the service accepts."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from cos_ray.config.read_sides import read_sides_from
from cos_ray.config.serving import missing, notices
from cos_ray.config.settings import Placement, Settings
from cos_ray.ingress.service import SERVICER_FUNCTIONS
from tests.support.deploy import DEPLOY, documents
from tests.support.kuberay import of_kind, ray_pods, ray_service, serve_config
from tests.support.kustomize import build

MANIFESTS = build(DEPLOY / "kuberay/overlays/production")
FOR_SERVE_DEPLOY = DEPLOY / "serve/cos_ray.yaml"

Config = dict[str, Any]


@pytest.fixture
def config() -> Config:
    return serve_config(ray_service(MANIFESTS))


@pytest.fixture(scope="module")
def schema() -> type[BaseModel]:
    with warnings.catch_warnings():
        # Of Ray's own classes, while they are made.
        warnings.simplefilter("ignore")
        from ray.serve.schema import ServeDeploySchema
    model: type[BaseModel] = ServeDeploySchema
    return model


def _unknown(model: type[BaseModel], content: Any, path: str = "") -> set[str]:
    """Keys that Serve would pass over in silence."""
    unknown = set()
    for key, value in content.items():
        if (field := model.model_fields.get(key)) is None:
            unknown.add(f"{path}{key}")
            continue
        inner = [each for each in _models_in(field.annotation) if isinstance(value, dict | list)]
        for part in value if isinstance(value, list) else [value]:
            if inner and isinstance(part, dict):
                unknown |= _unknown(inner[0], part, f"{path}{key}.")
    return unknown


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def test_serve_accepts_it(config: Config, schema: type[BaseModel]) -> None:
    schema.model_validate(config)
    assert _unknown(schema, config) == set()


@pytest.mark.parametrize(
    ("spoil", "key"),
    [
        (lambda config: config.update(grpc_option={}), "grpc_option"),
        (lambda config: config["logging_config"].update(level=1), "logging_config.level"),
        (lambda config: config["applications"][0].update(arg={}), "applications.arg"),
    ],
)
def test_a_key_that_serve_does_not_know_is_found(
    config: Config, schema: type[BaseModel], spoil: Callable[[Config], object], key: str
) -> None:
    spoil(config)
    assert _unknown(schema, config) == {key}


def test_it_has_our_one_application_and_all_of_its_services(config: Config) -> None:
    [application] = config["applications"]
    assert application["import_path"] == "cos_ray.bootstrap.serve_build:build"
    assert application["route_prefix"] == "/"
    # The replicas listen themselves.
    assert config["proxy_location"] == "Disabled"
    assert not config.keys() & {"grpc_options", "http_options"}


@pytest.mark.skipif(not FOR_SERVE_DEPLOY.exists(), reason="there is no configuration for `serve deploy`")
def test_it_is_deployed_as_serve_deploy_would(config: Config) -> None:
    [other] = documents(FOR_SERVE_DEPLOY)
    for both in (config, other):
        both["applications"][0].pop("args")
    assert config == other


def _told(config: Config) -> dict[str, str]:
    """What the builder is told by its arguments and by the environment of a node."""
    arguments = config["applications"][0]["args"]
    texts = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in arguments.items()
    }
    environment = ray_pods(ray_service(MANIFESTS))[0]["spec"]["containers"][0]["env"]
    return {**{variable["name"]: "from-a-secret" for variable in environment}, **texts}


def test_the_service_would_accept_its_settings(config: Config) -> None:
    told = _told(config)
    settings = Settings.from_environment(told)
    assert (missing(told), notices(told), read_sides_from(told)) == ([], [], ())
    assert settings.database.password.get_secret_value() == "from-a-secret"
    assert settings.entities.placement is Placement.SHARDED


def test_arguments_hold_no_secret_and_no_port_that_serve_decides(config: Config) -> None:
    arguments = config["applications"][0]["args"]
    assert not [name for name in arguments if "PASSWORD" in name or "TOKEN" in name]
    assert not arguments.keys() & {"COS_PORT", "COS_HTTP_PORT", "COS_ADDRESS", "RAY_ADDRESS"}


def test_there_is_a_replica_for_each_node(config: Config) -> None:
    cluster = ray_service(MANIFESTS)["spec"]["rayClusterConfig"]
    nodes = 1 + sum(group["replicas"] for group in cluster["workerGroupSpecs"])
    assert config["applications"][0]["args"]["COS_INGRESS_REPLICAS"] == nodes


def test_the_gateway_passes_on_services_that_exist() -> None:
    [route] = of_kind(MANIFESTS, "GRPCRoute")
    passed = {m["method"]["service"] for rule in route["spec"]["rules"] for m in rule["matches"]}
    offered = set()
    for path in SERVICER_FUNCTIONS:
        module = path.rpartition(".")[0].removesuffix("_grpc")
        services = importlib.import_module(module).DESCRIPTOR.services_by_name.values()
        offered |= {service.full_name for service in services}
    assert passed <= offered
