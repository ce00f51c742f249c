"""As much of kustomize as deploy/kuberay uses: resources, components, patches of JSON, the namespace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonpatch

from tests.support.deploy import documents

Manifest = dict[str, Any]

_UNDERSTOOD = {"apiVersion", "kind", "resources", "components", "patches", "namespace"}


def build(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a folder. Raises ValueError for what is not understood."""
    return _built(folder, [])


def _built(folder: Path, found: list[Manifest]) -> list[Manifest]:
    [kustomization] = documents(folder / "kustomization.yaml")
    if unknown := kustomization.keys() - _UNDERSTOOD:
        raise ValueError(f"{folder}: {', '.join(sorted(unknown))}")
    for name in kustomization.get("resources", ()):
        path = folder / name
        # By way of JSON: what YAML's anchors share becomes each one's own.
        found += _built(path, []) if path.is_dir() else json.loads(json.dumps(documents(path)))
    for name in kustomization.get("components", ()):
        found = _built(folder / name, found)
    for patch in kustomization.get("patches", ()):
        found = _patched(found, folder / patch["path"], patch["target"])
    for manifest in found:
        if "namespace" in kustomization:
            manifest["metadata"]["namespace"] = kustomization["namespace"]
    return found


def _patched(manifests: list[Manifest], path: Path, target: dict[str, str]) -> list[Manifest]:
    [operations] = documents(path)
    hit = [_fits(manifest, target) for manifest in manifests]
    if not any(hit):
        raise ValueError(f"{path} is for {target}, which is not there")
    return [
        jsonpatch.apply_patch(manifest, operations) if is_hit else manifest
        for manifest, is_hit in zip(manifests, hit, strict=True)
    ]


def _fits(manifest: Manifest, target: dict[str, str]) -> bool:
    return manifest["kind"] == target["kind"] and manifest["metadata"]["name"] == target["name"]
