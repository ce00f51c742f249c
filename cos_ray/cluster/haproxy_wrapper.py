"""
HAProxy as Serve is to start it: it ends with its actor, closes what it has taken leave of, and does not
say that something does not exist while it knows of nothing.

Its actor killed, HAProxy would otherwise stay, hold the ports and answer for nobody.

At every reload, and so whenever a replica comes or goes, a new HAProxy takes the place of the old one,
which sends a GOAWAY on each connection that it has, and waits for the client to close it. gRPC clients
from 1.83 on (seen up to 1.85.1; not in 1.82) are lost when a GOAWAY comes along with the first frames of
a new connection: they neither send their calls on it nor make another, and take processor and memory
(more than 100 MB a second) until the calls' deadlines, if they have any. When the connection ends, they make
another and send the calls there.

While it has not heard of any application yet, it would answer NOT_FOUND, which is our word for an entity
without events, and last for clients; UNAVAILABLE they ask again.

A script of its own for a fresh interpreter; standard library only.

    haproxy_wrapper.py PROGRAM ARGUMENT... -f CONFIGURATION ...
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

# How long after its GOAWAY a connection ends on which no call is in progress. A client that has not read it
# yet may begin one meanwhile, and one that is too late is told that its call was not begun.
_SETTING = "    timeout client-fin 200ms\n"

# Serve has no variable for these.
_BEFORE = "\ndefaults\n"
_NOT_FOUND = re.compile('grpc-status 5 hdr grpc-message "Application metadata not set[^"]*"')
_NOT_UP = 'grpc-status 14 hdr grpc-message "the service is not up; nothing was done"'


def wrapped(program: str, directory: Path) -> Path:
    """Make an executable in `directory` that runs `program`, an HAProxy, so."""
    dies_with_parent = Path(__file__).with_name("dies_with_parent.py")
    python = [sys.executable, "-I", "-S"]
    command = shlex.join([*python, __file__, *python, str(dies_with_parent), program])
    wrapper = directory / f"{Path(program).name}-wrapper"
    wrapper.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    wrapper.chmod(0o700)
    return wrapper


def main(command: list[str]) -> None:
    """Amend the configuration, then become that program; does not return."""
    # Serve writes the file anew each time, just before.
    configuration = Path(command[command.index("-f") + 1])
    amended = configuration.read_text().replace(_BEFORE, _BEFORE + _SETTING, 1)
    configuration.write_text(_NOT_FOUND.sub(_NOT_UP, amended))
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
