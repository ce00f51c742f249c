"""Which part of the service a process is."""

from __future__ import annotations

import psutil

_BEGINNINGS = {
    "ray::ServeReplica": "ingress replica",
    "ray::EntityActor": "entity actors",
    "ray::ShardHost": "shard hosts",
    "ray::JournalActor": "journal actor",
    "ray::NodeJournal": "journal actor",
    "ray::ReadSide": "read sides",
    "postgres": "Postgres",
}


def kind_of(process: psutil.Process) -> str:
    """The part, for a process of the launcher's line; what is none of them is Ray's own, or the launcher."""
    try:
        name = process.name()
    except psutil.NoSuchProcess:
        return "Ray"
    for beginning, kind in _BEGINNINGS.items():
        if name.startswith(beginning):
            return kind
    return "Ray"
