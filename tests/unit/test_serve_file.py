"""The configuration for `serve deploy`, as Serve will read it, without a cluster."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError
from ray.serve.schema import ServeDeploySchema

from cos_ray.bootstrap import serve_build
from cos_ray.bootstrap.serve_build import RELEASE, configuration_of
from cos_ray.config.serving import known_variables
from cos_ray.domain.errors import ConfigurationError

FILE = Path(__file__).parents[2] / "deploy/serve/cos_ray.yaml"
NEEDED = {"COS_DB_HOST": "db", "COS_WRITE_SIDE_HOST": "handler", "COS_WRITE_SIDE_PORT": 50051}


@pytest.fixture
def content() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def unknown_keys(model: type[BaseModel], content: dict[str, Any], path: str = "") -> Iterator[str]:
    """Keys that Serve would pass over in silence: its schema allows more than it knows."""
    known = {field.alias or name: field for name, field in model.model_fields.items()}
    for key, value in content.items():
        if key not in known:
            yield f"{path}{key}"
            continue
        for inner in models_in(known[key].annotation):
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    yield from unknown_keys(inner, item, f"{path}{key}.")


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The models that a field's value may be, or be a list of."""
    if inspect.isclass(annotation) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def test_serve_takes_it_and_knows_every_key_of_it(content: dict[str, Any]) -> None:
    ServeDeploySchema.model_validate(content)
    assert list(unknown_keys(ServeDeploySchema, content)) == []


@pytest.mark.parametrize("path", ["typo", "logging_config.typo", "applications.typo"])
def test_a_key_that_serve_does_not_know_is_found(content: dict[str, Any], path: str) -> None:
    *parents, key = path.split(".")
    place: Any = content
    for parent in parents:
        place = place[parent]
        place = place[0] if isinstance(place, list) else place
    place[key] = 1
    assert list(unknown_keys(ServeDeploySchema, content)) == [path]


def test_what_serve_does_not_take_is_found(content: dict[str, Any]) -> None:
    content["logging_config"]["enable_access_log"] = "now and then"
    with pytest.raises(ValidationError):
        ServeDeploySchema.model_validate(content)


def test_the_replicas_listen_and_it_builds_by_our_builder(content: dict[str, Any]) -> None:
    assert content["proxy_location"] == "Disabled"
    assert not content.keys() & {"grpc_options", "http_options"}
    (application,) = content["applications"]
    assert application["import_path"] == f"{serve_build.__name__}:{serve_build.build.__name__}"


def test_its_settings_are_known_and_enough_with_the_password_from_elsewhere(content: dict[str, Any]) -> None:
    args = content["applications"][0]["args"]
    assert set(args) <= known_variables() | {RELEASE}
    settings = configuration_of(args, {"COS_DB_PASSWORD": "of the node"}).settings
    assert settings.database.password.get_secret_value() == "of the node"
    assert settings.service.replicas >= 2


def test_arguments_are_understood_as_variables_are_and_win_over_the_environment() -> None:
    args = {**NEEDED, "COS_READ_SIDE_ENABLED": True, "COS_WRITE_PERSISTED_HEADERS": ["a", "b"]}
    settings = configuration_of(args, {"COS_DB_HOST": "another", "COS_DB_PORT": "5433"}).settings
    assert (settings.database.host, settings.database.port) == ("db", 5433)
    assert settings.write_side.persisted_headers == ("a", "b")
    assert settings.write_side.target.port == 50051


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ({"COS_DB_HOST": None}, "COS_DB_HOST is 'None'; allowed: a text, a number, true, false or a list"),
        ({"DB_HOST": "db"}, "DB_HOST among the arguments of the Serve application is no setting of cos_ray"),
        ({"COS_DB_PASSWORD": "open"}, "COS_DB_PASSWORD is a secret, and not for the arguments"),
        ({"COS_DB_PASSWORD_FILE": "/none"}, "COS_DB_PASSWORD_FILE is '/none'; allowed: a text file"),
        ({"COS_AUTH_FILE": "/none"}, "COS_AUTH_FILE '/none': cannot be read"),
        ({"COS_PORT": "many"}, "COS_PORT is 'many'; allowed: "),
    ],
)
def test_a_wrong_argument_is_told_in_a_line(args: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        configuration_of({**NEEDED, **args}, {})
    (told,) = str(wrong.value).splitlines()
    assert told.startswith(line)
    assert "open" not in told


def test_without_a_database_for_all_nodes_nothing_is_built() -> None:
    handler = {name: value for name, value in NEEDED.items() if name != "COS_DB_HOST"}
    with pytest.raises(ConfigurationError) as wrong:
        configuration_of(handler, {})
    assert str(wrong.value) == (
        "COS_DB_HOST is not set, but needed: the host of the database, for all nodes to reach"
    )
