"""
Whether every node of the cluster has this very package, and the certificates that are asked for.

What one process pickles another one opens, so a node with other code would misread it, or fail at
some later moment; it is better refused at the start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import cos_ray
from cos_ray.domain.errors import StartFailed
from cos_ray.system.certificates import Certificates, TlsFiles

ANSWER_WITHIN = 60.0
"""Seconds for all nodes to start a process and say what they have."""

_SOURCES = ("*.py", "*.sql")


@cache
def own_build() -> str:
    """The version of this process's package, and a digest of its files: two builds may share a version."""
    root = Path(cos_ray.__file__).parent
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for path in sorted(root.rglob(pattern)):
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return f"{cos_ray.__version__} (build {digest.hexdigest()[:10]})"


@ray.remote(num_cpus=0, max_retries=0)
def _build_there() -> str:
    return own_build()


@ray.remote(num_cpus=0, max_retries=0)
def _certificates_there(files: TlsFiles) -> str:
    try:
        Certificates(files)
    except (OSError, ValueError) as error:
        return f"cannot use them: {error}"
    return _USABLE


_USABLE = "usable"


def ensure_same_everywhere(tls: TlsFiles | None = None) -> None:
    """
    Raises StartFailed, naming the nodes and what they have, unless all have what this process has.

    `tls`: the files of COS_INTERNAL_TLS_*, which all have to be able to use.
    """
    _ensure_same_build()
    if tls is not None:
        _ensure_usable(tls)


def _ensure_usable(files: TlsFiles) -> None:
    nodes = _alive()
    answers = _answers(
        nodes, lambda where: _certificates_there.options(scheduling_strategy=where).remote(files)
    )
    alive = _alive()
    faults = [
        f"node {nodes[node]} ({node[:6]}) {answers[node]}"
        for node in nodes
        if node in alive and answers[node] != _USABLE
    ]
    if faults:
        raise StartFailed(
            f"all nodes need the files of COS_INTERNAL_TLS_* ({', '.join(files.paths)}), "
            f"but {', '.join(faults)}"
        )


def _ensure_same_build() -> None:
    nodes = _alive()
    answers = _answers(nodes, lambda where: _build_there.options(scheduling_strategy=where).remote())
    # One that died meanwhile has no build: what it failed to say is no reason to refuse the others.
    alive = _alive()
    there = {f"{nodes[node]} ({node[:6]})": answers[node] for node in nodes if node in alive}
    refuse_others(own_build(), there)


def _alive() -> dict[str, str]:
    """The address of each node, by the node's id."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


def _answers(
    nodes: Iterable[str], ask: Callable[[NodeAffinitySchedulingStrategy], ray.ObjectRef[str]]
) -> dict[str, str]:
    """What each of these nodes says."""
    asked = {node: ask(NodeAffinitySchedulingStrategy(node, soft=False)) for node in nodes}
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_WITHIN)
    return {node: _answer(answer) for node, answer in asked.items()}


def refuse_others(here: str, there: Mapping[str, str]) -> None:
    """Raises StartFailed if any of these nodes has something else than what is here."""
    others = [f"node {node} has {build}" for node, build in there.items() if build != here]
    if others:
        raise StartFailed(
            f"all nodes need the same cos_ray; here it is {here}, but {', '.join(others)}: "
            "bring all nodes to one version"
        )


def _answer(answer: ray.ObjectRef[str]) -> str:
    get: Callable[..., str] = ray.get
    try:
        return get(answer, timeout=0.1)
    except GetTimeoutError:
        return "not answered"
    except RayError as error:
        if "ModuleNotFoundError" in str(error) or "No module named" in str(error):
            return "none that can be imported"
        return f"failed to say ({type(error).__name__})"
