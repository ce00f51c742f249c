"""What is used of Ray and Serve beyond their public API, held to the real thing that is installed."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import requires, version
from pathlib import Path

import pytest
import ray
from packaging.requirements import Requirement
from ray._private import ray_logging, state, worker
from ray._private.grpc_utils import init_grpc_channel
from ray.actor import ActorHandle
from ray.core.generated.common_pb2 import Language
from ray.core.generated.gcs_pb2 import ActorTableData
from ray.core.generated.node_manager_pb2 import PrestartWorkersRequest
from ray.core.generated.node_manager_pb2_grpc import NodeManagerServiceStub
from ray.experimental import internal_kv
from ray.serve.handle import DeploymentHandle
from ray.util.metrics import Counter

from cos_ray.ray_internals.environment import closed_cluster, ray_environment

HOME = Path(ray.__file__).parent

READ_BY_RAYS_BINARIES = re.compile(rb"RAY_[A-Za-z0-9_]+|[a-z][a-z0-9_]{6,}")


def takes(function: object, *names: str) -> bool:
    """Whether it can be called with parameters of these names."""
    return set(names) <= set(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_installed_ray_is_the_one_that_is_named() -> None:
    (wanted,) = [
        each for each in map(Requirement, requires("cos_ray") or ()) if each.name == "ray" and not each.marker
    ]
    assert wanted.specifier.contains(version("ray"))
    assert str(wanted.specifier).startswith("=="), "another release may lack what is used here"


def test_the_key_value_table_is_called_as_it_is_made() -> None:
    assert takes(internal_kv._internal_kv_put, "key", "value", "overwrite", "namespace")
    assert takes(internal_kv._internal_kv_get, "key", "namespace")
    assert takes(internal_kv._internal_kv_del, "key", "namespace")


def test_actors_are_found_as_the_head_knows_them() -> None:
    assert takes(state.state.get_actor_info, "actor_id")
    accessor = inspect.getsource(state.GlobalState._connect_and_get_accessor)
    assert "GlobalStateAccessor" in accessor
    assert hasattr(ray._raylet.GlobalStateAccessor, "get_actor_table")
    assert "_actor_id" in inspect.getsource(ActorHandle.__init__)
    assert {"state", "ray_namespace", "name", "address"} <= {
        field.name for field in ActorTableData.DESCRIPTOR.fields
    }
    assert "node_id" in {field.name for field in ActorTableData().address.DESCRIPTOR.fields}


def test_workers_are_prestarted_by_a_call_that_raylets_answer() -> None:
    assert {"language", "num_workers", "keep_alive_duration_secs"} <= {
        field.name for field in PrestartWorkersRequest.DESCRIPTOR.fields
    }
    assert Language.PYTHON == 0
    assert "PrestartWorkers" in inspect.getsource(NodeManagerServiceStub)
    assert takes(init_grpc_channel, "address")


def test_log_lines_come_by_a_dispatcher_whose_printer_can_be_replaced() -> None:
    dispatcher = ray_logging.global_worker_stdstream_dispatcher
    assert takes(dispatcher.add_handler, "name", "handler")
    assert takes(dispatcher.remove_handler, "name")
    assert '"ray_print_logs"' in inspect.getsource(worker)
    assert takes(worker.filter_autoscaler_events, "lines")


def test_serves_handles_and_counters_have_what_is_called() -> None:
    assert "_run_router_in_separate_loop" in (HOME / "serve/_private/handle_options.py").read_text()
    assert callable(DeploymentHandle._init)
    assert takes(Counter("tests_of_internals", "none")._record, "value", "tags")


def variables() -> list[str]:
    """All that is set for Ray and Serve, but what belongs to others."""
    given = {**ray_environment({}, "json"), **closed_cluster({})}
    return sorted(name for name in given if name.startswith("RAY_"))


@pytest.fixture(scope="module")
def words() -> set[bytes]:
    """Every word of Ray's Python code and of its binaries that could be the name of a setting."""
    found: set[bytes] = set()
    binaries = [
        HOME / "_raylet.so",
        HOME / "core/src/ray/raylet/raylet",
        HOME / "core/src/ray/gcs/gcs_server",
    ]
    for file in [*HOME.rglob("*.py"), *HOME.rglob("*.pyx"), *HOME.rglob("*.pxi"), *binaries]:
        found.update(READ_BY_RAYS_BINARIES.findall(file.read_bytes()))
    return found


@pytest.mark.parametrize("name", variables())
def test_each_variable_that_is_set_for_ray_is_still_read_by_it(name: str, words: set[bytes]) -> None:
    setting = name.removeprefix("RAY_")
    # Ray's own settings are read by their names in lower case, with RAY_ before them.
    assert name.encode() in words or (setting.islower() and setting.encode() in words)
