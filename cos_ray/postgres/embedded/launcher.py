"""
Becomes a PostgreSQL program: drops root, ties its life to its parent's, executes it.

A script of its own, run by path in a fresh interpreter, so that nothing has to happen between
fork and exec of a process that has threads. Standard library only, Linux only.

    launcher.py PARENT_PID UID GID KEEP_READING PROGRAM ARGUMENT...

UID -1 keeps the user; KEEP_READING 1 keeps CAP_DAC_READ_SEARCH, with which the unprivileged
user gets through folders that are closed to it. PARENT_PID 0 ties the program to no parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522

NOT_PERMITTED = 77
"""Exit status: the capability, or the change of user, is not permitted here."""


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def main(arguments: list[str]) -> None:
    """Do what the module says; does not return."""
    parent, uid, gid, keep_reading = (int(argument) for argument in arguments[:4])
    program = arguments[4:]
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if uid >= 0:
            _become(libc, uid, gid, keep_reading=bool(keep_reading))
    except OSError as error:
        sys.stderr.write(f"changing to user {uid} is not permitted: {error}\n")
        sys.exit(NOT_PERMITTED)
    if parent:
        # After the change of user, which clears it. SIGINT is PostgreSQL's fast shutdown.
        _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            sys.exit("the parent is gone already")
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    os.umask(0o077)
    os.execve(program[0], program, {"PATH": os.defpath, "LC_ALL": "C"})  # noqa: S606 - that is its purpose


def _become(libc: ctypes.CDLL, uid: int, gid: int, *, keep_reading: bool) -> None:
    if keep_reading:
        _prctl(libc, _PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if keep_reading:
        _keep_only(libc, _CAP_DAC_READ_SEARCH)


def _keep_only(libc: ctypes.CDLL, capability: int) -> None:
    """Give up every capability but one, and let that one survive exec."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    bit = 1 << capability
    data = (_CapabilityData * 2)(_CapabilityData(bit, bit, bit), _CapabilityData(0, 0, 0))
    if libc.capset(ctypes.byref(header), data) != 0:
        raise _os_error()
    _prctl(libc, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def _prctl(libc: ctypes.CDLL, option: int, *arguments: int) -> None:
    filled = (*arguments, 0, 0, 0, 0)[:4]
    if libc.prctl(option, *(ctypes.c_ulong(argument) for argument in filled)) != 0:
        raise _os_error()


def _os_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


if __name__ == "__main__":
    main(sys.argv[1:])
