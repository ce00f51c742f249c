"""What deploy/ holds, read for tests: the Dockerfile's instructions, YAML documents, names of settings."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cos_ray.config.environment import CONFIG
from cos_ray.config.serving import READ_SIDE_SETTING, known_variables

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"

SETTING = re.compile(r"\b(COS_[A-Z0-9_]+)(\*?)")
"""A variable's name, or with a star the beginning of several."""


NO_SETTINGS = {CONFIG, "COS_RELEASE"}
"""Named like settings: the file of settings, and what makes Serve deploy the same configuration anew."""


@dataclass(frozen=True)
class Instruction:
    """One of a Dockerfile's, its lines joined."""

    stage: int
    """From 0, in the order of FROM."""
    name: str
    rest: str


def instructions(text: str) -> list[Instruction]:
    """A Dockerfile's instructions, without comments."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = "\n".join(lines).replace("\\\n", " ")
    found, stage = [], -1
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, rest = line.partition(" ")
        stage += name == "FROM"
        found.append(Instruction(stage, name, rest.strip()))
    return found


def image_environment(text: str) -> dict[str, str]:
    """What the last stage sets by ENV."""
    found = instructions(text)
    last = found[-1].stage
    pairs = [p for i in found if i.stage == last and i.name == "ENV" for p in shlex.split(i.rest)]
    return dict(pair.split("=", 1) for pair in pairs)


def documents(path: Path) -> list[dict[str, Any]]:
    """The YAML documents of a file."""
    return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each is not None]


def texts() -> list[Path]:
    """Every text file of deploy/; pictures and bytecode are none."""
    others = {".png", ".jpg", ".svg", ".pyc"}
    return [path for path in sorted(DEPLOY.rglob("*")) if path.is_file() and path.suffix not in others]


def unknown_settings(text: str) -> set[str]:
    """The COS_* variables named in a text that the service does not know."""
    known = known_variables() | NO_SETTINGS
    named = {(name, star) for name, star in SETTING.findall(text) if not name.startswith(READ_SIDE_SETTING)}
    return {
        name
        for name, star in named
        if not (any(each.startswith(name) for each in known) if star else name in known)
    }


def locked_version(package: str) -> str:
    """A package's version in uv.lock."""
    lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
    found = re.search(rf'\[\[package\]\]\nname = "{package}"\nversion = "([^"]+)"', lock)
    assert found, package
    return found[1]
