"""What has to hold in a set of manifests around a RayService, whatever its schema: no loose ends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from cos_ray.bootstrap.ingress_settings import ingress_settings_of
from cos_ray.config.settings import Settings
from tests.support.kustomize import Manifest

Pod = dict[str, Any]


def findings(manifests: list[Manifest], secrets: Mapping[str, set[str]]) -> set[str]:
    """
    A line for each loose end.

    `secrets`: the keys of each Secret that whoever applies the manifests is told to make.
    """
    return {
        *_ports(ray_service(manifests)),
        *_nodes(ray_service(manifests)),
        *_secrets(manifests, secrets),
        *_selectors(manifests),
        *_ways_in(manifests),
        *_safety(manifests),
        *_fault_tolerance(manifests),
    }


def ray_service(manifests: list[Manifest]) -> Manifest:
    """The one RayService."""
    [found] = of_kind(manifests, "RayService")
    return found


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def serve_config(service: Manifest) -> dict[str, Any]:
    """What is deployed on Serve."""
    config: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    return config


def ray_pods(service: Manifest) -> list[Pod]:
    """The pod templates of a cluster, the head's first."""
    cluster = service["spec"]["rayClusterConfig"]
    return [cluster["headGroupSpec"]["template"], *(g["template"] for g in cluster["workerGroupSpecs"])]


SPARE_AT_END = 20
"""Seconds that Ray's processes have at the end of a pod."""

LISTEN = ("COS_ADDRESS", "COS_HTTP_ADDRESS", "COS_PORT", "COS_HTTP_PORT")
"""Settings of where replicas listen."""


def pods(manifests: list[Manifest]) -> Iterator[Pod]:
    """All pod templates."""
    for manifest in manifests:
        if manifest["kind"] == "RayService":
            yield from ray_pods(manifest)
        elif manifest["kind"] in ("Deployment", "StatefulSet"):
            yield manifest["spec"]["template"]


def _container_ports(pod: Pod) -> dict[str, int]:
    return {p["name"]: p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports", ())}


def _listening(service: Manifest) -> Iterator[str]:
    config = serve_config(service)
    if config["proxy_location"] != "Disabled":
        yield "Serve's proxies take the replicas' ports"
    told = Settings.from_environment(
        {name: str(value) for name, value in config["applications"][0]["args"].items() if name in LISTEN}
    ).service
    if {"serve": told.http_port, "serve-grpc": told.port} != usual_ports():
        yield "the replicas listen elsewhere"
    if {told.address, told.http_address or told.address} != {"0.0.0.0"}:
        yield "the ports are for their own node only"


def usual_ports() -> dict[str, int]:
    """The ports of a replica, by the names that KubeRay knows them by."""
    defaults = Settings.from_environment({}).service
    return {"serve": defaults.http_port, "serve-grpc": defaults.port}


def _ports(service: Manifest) -> Iterator[str]:
    wanted = usual_ports()
    yield from _listening(service)
    for pod in ray_pods(service):
        ports = _container_ports(pod)
        if {name: ports.get(name) for name in wanted} != wanted:
            yield "a node does not name the ports that its replica listens on"
        if ports.get("metrics") != 8080:
            yield "a node does not name its port of metrics"
    exposed = {port["name"]: port for port in service["spec"]["serveService"]["spec"]["ports"]}
    if {name: port["port"] for name, port in exposed.items()} != wanted:
        yield "the serve service has other ports"
    elif exposed["serve-grpc"].get("appProtocol") != "kubernetes.io/h2c":
        yield "gRPC is not told to be HTTP/2 in plain text"


def _nodes(service: Manifest) -> Iterator[str]:
    containers = [pod["spec"]["containers"][0] for pod in ray_pods(service)]
    if len({json.dumps(container.get("env"), sort_keys=True) for container in containers}) != 1:
        yield "the nodes' environments differ"
    if len({container["image"] for container in containers}) != 1:
        yield "the nodes' images differ"
    if service["spec"]["rayClusterConfig"].get("authOptions", {}).get("mode") != "token":
        yield "Ray's nodes need no token"
    for pod in ray_pods(service)[1:]:
        probe = pod["spec"]["containers"][0].get("readinessProbe", {}).get("httpGet")
        if probe is None or probe["port"] not in _container_ports(pod):
            yield "a worker is not asked whether it is ready, or at a port that it does not name"
        elif probe != {"path": "/-/healthz", "port": "serve"}:
            yield "a worker is ready for other reasons than that its replica serves"
    yield from _ends(service)


def _ends(service: Manifest) -> Iterator[str]:
    """Clients of a pod, or of a cluster, that is to go have the time to leave."""
    told = {name: str(value) for name, value in serve_config(service)["applications"][0]["args"].items()}
    listeners = ingress_settings_of(Settings.from_environment(told), is_deployed=True).listeners
    assert listeners is not None
    if service["spec"].get("rayClusterDeletionDelaySeconds", 60) < listeners.leave_seconds:
        yield "a cluster is deleted before its clients have left"
    for pod in ray_pods(service)[1:]:
        hook = pod["spec"]["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {})
        waits = float(hook.get("command", ["sleep", "0"])[1])
        if waits < listeners.ends_within:
            yield "a worker is ended before its clients have left"
        if pod["spec"]["terminationGracePeriodSeconds"] < waits + SPARE_AT_END:
            yield "a worker is killed before it has ended"


def _references(content: Any) -> Iterator[tuple[str, str]]:
    """Names and keys of the Secrets that are spoken of anywhere."""
    if isinstance(content, dict):
        if "secretKeyRef" in content:
            yield content["secretKeyRef"]["name"], content["secretKeyRef"]["key"]
        for reference in content.get("certificateRefs", ()):
            yield reference["name"], "tls.crt"
        for value in content.values():
            yield from _references(value)
    elif isinstance(content, list):
        for value in content:
            yield from _references(value)


def _secrets(manifests: list[Manifest], secrets: Mapping[str, set[str]]) -> Iterator[str]:
    for name, key in _references(manifests):
        if key not in secrets.get(name, ()):
            yield f"there is no {key} in a Secret {name}"
    if of_kind(manifests, "Secret"):
        yield "a Secret lies among the manifests"


def _matches(selector: Mapping[str, str], pod: Pod) -> bool:
    return selector.items() <= pod["metadata"].get("labels", {}).items()


def _selectors(manifests: list[Manifest]) -> Iterator[str]:
    everything = list(pods(manifests))
    for manifest in manifests:
        name, spec = f"{manifest['kind']} {manifest['metadata']['name']}", manifest["spec"]
        match manifest["kind"]:
            case "Service":
                meant = [pod for pod in everything if _matches(spec["selector"], pod)]
                ports = {port["targetPort"] for port in spec["ports"]}
                if any(not ports <= {*_container_ports(pod)} for pod in meant):
                    yield f"{name} leads to a port that nobody names"
            case "NetworkPolicy":
                meant = [pod for pod in everything if _matches(spec["podSelector"]["matchLabels"], pod)]
            case "PodDisruptionBudget":
                meant = [pod for pod in everything if _matches(spec["selector"]["matchLabels"], pod)]
            case "Deployment" | "StatefulSet":
                meant = (
                    [spec["template"]] if _matches(spec["selector"]["matchLabels"], spec["template"]) else []
                )
            case _:
                continue
        if not meant:
            yield f"{name} selects nobody"


def _ways_in(manifests: list[Manifest]) -> Iterator[str]:
    serve = ray_service(manifests)["spec"]["serveService"]
    offered = {(serve["metadata"]["name"], port["port"]) for port in serve["spec"]["ports"]}
    gateways = {each["metadata"]["name"]: each["spec"]["listeners"] for each in of_kind(manifests, "Gateway")}
    for route in of_kind(manifests, "GRPCRoute"):
        yield from _parents(route["spec"], gateways)
        backends = [backend for rule in route["spec"]["rules"] for backend in rule["backendRefs"]]
        if not {(backend["name"], backend["port"]) for backend in backends} <= offered:
            yield "a route leads nowhere"


def _parents(route: Mapping[str, Any], gateways: Mapping[str, list[dict[str, Any]]]) -> Iterator[str]:
    for parent in route["parentRefs"]:
        listeners = {each["name"]: each for each in gateways.get(parent["name"], ())}
        listener = listeners.get(parent["sectionName"])
        if listener is None:
            yield "a route hangs on no listener"
        elif listener["hostname"] not in route["hostnames"]:
            yield "a route is for another host than its listener"
        elif listener["protocol"] != "HTTPS" or listener["tls"]["mode"] != "Terminate":
            yield "a route is open without TLS"


def _safety(manifests: list[Manifest]) -> Iterator[str]:
    for pod in pods(manifests):
        spec = pod["spec"]
        if not spec.get("securityContext", {}).get("runAsNonRoot"):
            yield "a pod may run as root"
        for container in spec["containers"]:
            context = container.get("securityContext", {})
            if context.get("allowPrivilegeEscalation") is not False:
                yield f"{container['name']} may gain rights"
            if context.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{container['name']} has capabilities"
            if "memory" not in container.get("resources", {}).get("limits", {}):
                yield f"{container['name']} takes what memory it likes"
            volumes = {volume["name"] for volume in spec.get("volumes", ())} | {"data"}
            if {mount["name"] for mount in container.get("volumeMounts", ())} - volumes:
                yield f"{container['name']} mounts what is not there"


def _fault_tolerance(manifests: list[Manifest]) -> Iterator[str]:
    options = ray_service(manifests)["spec"]["rayClusterConfig"].get("gcsFaultToleranceOptions")
    services = {
        f"{each['metadata']['name']}:{port['port']}"
        for each in of_kind(manifests, "Service")
        for port in each["spec"]["ports"]
    }
    match (options or {}).get("backend"):
        case "redis" if options["redisAddress"] not in services:
            yield "Redis is not where Ray looks for it"
        case "rocksdb" if "storage" not in options:
            yield "the embedded store has no volume"
