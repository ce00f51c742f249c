"""The manifests for KubeRay: valid by the schemas there are, and without loose ends by our own rules."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.deploy import DEPLOY, ROOT, documents, locked_version
from tests.support.kuberay import findings, of_kind, ray_pods, ray_service, serve_config
from tests.support.kustomize import Manifest, build

KUBERAY = DEPLOY / "kuberay"
OVERLAYS = sorted(path.name for path in (KUBERAY / "overlays").iterdir())
SCHEMAS = Path(os.environ.get("COS_RAY_KUBERAY_CRDS", ROOT.parent / "shared/kuberay"))
WITHOUT_SCHEMA = {"RayService", "Gateway", "GRPCRoute"}
"""Kinds that are not Kubernetes' own."""

Spoil = Callable[[list[Manifest]], object]


@functools.cache
def _built(overlay: str) -> str:
    return json.dumps(build(KUBERAY / "overlays" / overlay))


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    built: list[Manifest] = json.loads(_built(request.param))
    return built


@pytest.fixture
def production() -> list[Manifest]:
    built: list[Manifest] = json.loads(_built("production"))
    return built


@pytest.fixture(scope="module")
def secrets() -> dict[str, set[str]]:
    """What the example tells to make."""
    examples = documents(KUBERAY / "secrets.example.yaml")
    return {secret["metadata"]["name"]: {*secret["stringData"]} for secret in examples}


def test_there_are_no_loose_ends(manifests: list[Manifest], secrets: dict[str, set[str]]) -> None:
    assert findings(manifests, secrets) == set()


def _container(manifests: list[Manifest], pod: int) -> dict[str, Any]:
    container: dict[str, Any] = ray_pods(ray_service(manifests))[pod]["spec"]["containers"][0]
    return container


def _spec(manifests: list[Manifest], kind: str) -> dict[str, Any]:
    spec: dict[str, Any] = of_kind(manifests, kind)[0]["spec"]
    return spec


def _serve_port(manifests: list[Manifest], number: int) -> dict[str, Any]:
    port: dict[str, Any] = _spec(manifests, "RayService")["serveService"]["spec"]["ports"][number]
    return port


def _replace_in_serve_config(manifests: list[Manifest], old: str, new: str) -> None:
    spec = _spec(manifests, "RayService")
    assert old in spec["serveConfigV2"]
    spec["serveConfigV2"] = spec["serveConfigV2"].replace(old, new)


@pytest.mark.parametrize(
    ("finding", "spoil"),
    [
        ("take the replicas' ports", lambda m: _replace_in_serve_config(m, ": Disabled", ": EveryNode")),
        ("listen elsewhere", lambda m: _replace_in_serve_config(m, "args:", "args:\n      COS_PORT: 9002")),
        ("own node", lambda m: _replace_in_serve_config(m, "args:", "args:\n      COS_ADDRESS: 127.0.0.1")),
        ("does not name the ports", lambda m: _container(m, 1)["ports"].pop()),
        ("port of metrics", lambda m: _container(m, 1)["ports"].pop(0)),
        ("other ports", lambda m: _serve_port(m, 1).update(port=9002)),
        ("other ports", lambda m: _serve_port(m, 1).update(name="grpc")),
        ("HTTP/2 in plain text", lambda m: _serve_port(m, 1).pop("appProtocol")),
        ("environments differ", lambda m: _container(m, 1)["env"].pop()),
        ("images differ", lambda m: _container(m, 1).update(image="cos-ray:0.0.9")),
        ("no token", lambda m: _spec(m, "RayService")["rayClusterConfig"].pop("authOptions")),
        ("whether it is ready", lambda m: _container(m, 1).pop("readinessProbe")),
        ("whether it is ready", lambda m: _container(m, 1)["readinessProbe"]["httpGet"].update(port="http")),
        ("other reasons", lambda m: _container(m, 1)["readinessProbe"]["httpGet"].update(path="/ready")),
        ("before its clients have left", lambda m: _container(m, 1).pop("lifecycle")),
        (
            "cluster is deleted before",
            lambda m: _spec(m, "RayService").update(rayClusterDeletionDelaySeconds=60),
        ),
        (
            "killed before",
            lambda m: ray_pods(ray_service(m))[1]["spec"].update(terminationGracePeriodSeconds=100),
        ),
        (
            "ended before",
            lambda m: _replace_in_serve_config(m, "args:", "args:\n      COS_INGRESS_DRAIN_DELAY: 30s"),
        ),
        ("there is no", lambda m: _container(m, 0)["env"][0]["valueFrom"]["secretKeyRef"].update(key="user")),
        (
            "there is no",
            lambda m: _spec(m, "Gateway")["listeners"][0]["tls"]["certificateRefs"][0].update(name="tls"),
        ),
        ("lies among", lambda m: m.append({"kind": "Secret", "metadata": {"name": "s"}, "spec": {}})),
        ("nobody names", lambda m: _spec(m, "Service")["ports"][0].update(targetPort="redi")),
        ("Service cos-ray-redis selects nobody", lambda m: _spec(m, "Service")["selector"].update(a="b")),
        (
            "NetworkPolicy cos-ray selects nobody",
            lambda m: _spec(m, "NetworkPolicy")["podSelector"]["matchLabels"].update(a="b"),
        ),
        (
            "PodDisruptionBudget cos-ray-workers selects nobody",
            lambda m: _spec(m, "PodDisruptionBudget")["selector"]["matchLabels"].update(a="b"),
        ),
        (
            "StatefulSet cos-ray-redis selects nobody",
            lambda m: _spec(m, "StatefulSet")["selector"]["matchLabels"].update(a="b"),
        ),
        ("hangs on no", lambda m: _spec(m, "GRPCRoute")["parentRefs"][0].update(sectionName="http")),
        ("another host", lambda m: _spec(m, "GRPCRoute").update(hostnames=["cos.example.org"])),
        ("without TLS", lambda m: _spec(m, "Gateway")["listeners"][0].update(protocol="HTTP")),
        (
            "leads nowhere",
            lambda m: _spec(m, "GRPCRoute")["rules"][0]["backendRefs"][0].update(port=9001 + 1),
        ),
        ("as root", lambda m: ray_pods(ray_service(m))[0]["spec"].pop("securityContext")),
        ("may gain rights", lambda m: _container(m, 0)["securityContext"].pop("allowPrivilegeEscalation")),
        ("has capabilities", lambda m: _container(m, 0)["securityContext"].pop("capabilities")),
        ("memory it likes", lambda m: _container(m, 1).pop("resources")),
        ("mounts what is not", lambda m: ray_pods(ray_service(m))[1]["spec"].pop("volumes")),
        ("Redis is not where", lambda m: of_kind(m, "Service")[0]["metadata"].update(name="redis")),
    ],
)
def test_a_loose_end_is_found(
    production: list[Manifest], secrets: dict[str, set[str]], finding: str, spoil: Spoil
) -> None:
    spoil(production)
    assert finding in "; ".join(findings(production, secrets))


def test_kubernetes_own_kinds_are_valid(manifests: list[Manifest]) -> None:
    ours = [manifest for manifest in manifests if manifest["kind"] not in WITHOUT_SCHEMA]
    assert ours
    for manifest in ours:
        kubernetes_validate.validate(manifest, "1.33", strict=True)


def test_what_kubernetes_does_not_know_is_found(production: list[Manifest]) -> None:
    policy = of_kind(production, "NetworkPolicy")[0]
    policy["spec"]["policyType"] = policy["spec"].pop("policyTypes")
    with pytest.raises(jsonschema.ValidationError):
        kubernetes_validate.validate(policy, "1.33", strict=True)


def _strict(schema: Any) -> Any:
    """The schema as the API server means it, but that what it would drop in silence is an error."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string") is True:
        strict.pop("type", None)
        strict["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        strict.setdefault("additionalProperties", bool(schema.get("x-kubernetes-preserve-unknown-fields")))
    return strict


@pytest.fixture(scope="module")
def ray_service_schema() -> Any:
    path = SCHEMAS / "ray.io_rayservices.yaml"
    if not path.exists():
        pytest.skip("KubeRay's definitions are not here; COS_RAY_KUBERAY_CRDS says where")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition = yaml.load(path.read_text(encoding="utf-8"), loader)
    [version] = [each for each in definition["spec"]["versions"] if each["name"] == "v1"]
    schema = _strict(version["schema"]["openAPIV3Schema"])
    # Left to Kubernetes' own definition, which is not in the file.
    schema["properties"]["metadata"].pop("additionalProperties", None)
    return jsonschema.Draft202012Validator(schema)


def test_the_ray_service_is_valid(manifests: list[Manifest], ray_service_schema: Any) -> None:
    complaints = [error.message for error in ray_service_schema.iter_errors(ray_service(manifests))]
    assert complaints == []


def _misspell_a_port(service: Manifest) -> None:
    port = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"][
        0
    ]
    port["containerport"] = port["containerPort"]


@pytest.mark.parametrize(
    "spoil",
    [
        _misspell_a_port,
        lambda service: service["spec"].update(serveConfig="applications: []"),
        lambda service: service["spec"]["rayClusterConfig"].update(authOptions={"mode": "tokens"}),
        lambda service: service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0].update(replicas="2"),
        lambda service: service["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"].update(redis="x"),
    ],
)
def test_what_kuberay_does_not_know_is_found(
    production: list[Manifest], ray_service_schema: Any, spoil: Callable[[Manifest], object]
) -> None:
    service = ray_service(production)
    spoil(service)
    assert list(ray_service_schema.iter_errors(service))


def test_versions_are_those_of_the_lock_and_of_the_project(manifests: list[Manifest]) -> None:
    service = ray_service(manifests)
    assert service["spec"]["rayClusterConfig"]["rayVersion"] == locked_version("ray")
    images = {pod["spec"]["containers"][0]["image"] for pod in ray_pods(service)}
    assert images == {f"cos-ray:{locked_version('cos-ray')}"}


def test_what_a_trial_speaks_to_is_in_it() -> None:
    manifests = json.loads(_built("trial"))
    arguments = serve_config(ray_service(manifests))["applications"][0]["args"]
    services = {
        (each["metadata"]["name"], port["port"])
        for each in of_kind(manifests, "Service")
        for port in each["spec"]["ports"]
    }
    for side in ("COS_DB", "COS_WRITE_SIDE"):
        assert (arguments[f"{side}_HOST"], arguments[f"{side}_PORT"]) in services


def test_the_network_policy_lets_in_to_ports_that_somebody_listens_on(production: list[Manifest]) -> None:
    ports = {port["containerPort"] for pod in range(2) for port in _container(production, pod)["ports"]}
    let_in = {
        port["port"]
        for rule in _spec(production, "NetworkPolicy")["ingress"]
        for port in rule.get("ports", ())
    }
    assert {9000, 9001} <= let_in <= ports


def test_every_component_is_used_by_an_overlay() -> None:
    used = {
        Path(name).name
        for overlay in OVERLAYS
        for document in documents(KUBERAY / "overlays" / overlay / "kustomization.yaml")
        for name in document.get("components", ())
    }
    assert used == {path.name for path in (KUBERAY / "components").iterdir()}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_makes_the_same_of_it(overlay: str) -> None:
    if (kubectl := shutil.which("kubectl")) is None:
        pytest.skip("kubectl is not in the path")
    made = subprocess.run(
        [kubectl, "kustomize", KUBERAY / "overlays" / overlay], capture_output=True, text=True, timeout=60
    )
    assert made.returncode == 0, made.stderr
    assert _sorted(list(yaml.safe_load_all(made.stdout))) == _sorted(json.loads(_built(overlay)))


def _sorted(manifests: list[Manifest]) -> list[Manifest]:
    return sorted(manifests, key=lambda manifest: (manifest["kind"], manifest["metadata"]["name"]))


def test_a_patch_for_nothing_is_refused(tmp_path: Path) -> None:
    shutil.copytree(KUBERAY, tmp_path / "kuberay")
    path = tmp_path / "kuberay/components/redis/kustomization.yaml"
    path.write_text(path.read_text().replace("name: cos-ray}", "name: cosray}"))
    with pytest.raises(ValueError, match="which is not there"):
        build(tmp_path / "kuberay/overlays/production")


def test_the_example_of_secrets_is_applied_by_nobody() -> None:
    kustomizations = KUBERAY.rglob("kustomization.yaml")
    assert not [path for path in kustomizations if "secrets" in path.read_text()]
    values = [v for s in documents(KUBERAY / "secrets.example.yaml") for v in s["stringData"].values()]
    assert {*values} == {"..."}
