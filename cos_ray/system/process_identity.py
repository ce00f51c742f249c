"""
Processes, by names from which another one of the same machine can tell that one is gone.

A process that is killed leaves no word. From afar it cannot be told from one that is cut off and goes on;
on the same machine the kernel knows. Not by the number alone, which is given out again.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

_PROC = Path("/proc")

# In a process's `stat`, counted from behind its command.
_STATE, _THREADS, _STARTED = 0, 17, 19


def own_name() -> str:
    """A name for this process that was never given before, and says where it runs if that can be told."""
    unique = uuid.uuid4().hex
    machine, stat = _machine(), _stat(os.getpid())
    return f"{machine}/{os.getpid()}/{stat[_STARTED]}/{unique}" if machine and stat else unique


def is_surely_gone(name: str) -> bool:
    """Whether the process of this name has ended; False also when that cannot be told from here."""
    machine, _, rest = name.partition("/")
    pid, _, rest = rest.partition("/")
    started, _, _ = rest.partition("/")
    if not (pid.isdecimal() and int(pid) and started and machine == _machine()):
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    stat = _stat(int(pid))
    if not stat:
        return False
    is_dead = stat[_STATE] in ("Z", "X") and int(stat[_THREADS]) <= 1
    return is_dead or stat[_STARTED] != started


def _machine() -> str | None:
    """This boot of this machine, and whose numbers of processes on it are ours; None if that is not known."""
    try:
        if str((_PROC / "self").readlink()) != str(os.getpid()):
            return None  # mounted for others, who have other numbers
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}.{os.uname().nodename}.{(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def _stat(pid: int) -> list[str] | None:
    """What the kernel says of a process; None if it cannot be read."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command stands in brackets, and may hold some.
    return text.rpartition(")")[2].split()
