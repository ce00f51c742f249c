"""
Fewer wake-ups for an actor whose work comes by RPC.

Ray's main thread looks for signals a hundred times a second, in every worker: most of what an idle
entity costs. It is told to rest by just such a signal, whose handler sleeps. Ray calls to the actor
wait that long, and so are for actors only that get few of them; its event loop, in a thread of its
own, goes on, and so do Ray's other threads.

The handler has to be in place before the main thread is Ray's: Ray imports this module then, for
RAY_preload_python_modules names it. Elsewhere it is not, and nothing rests.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time

REST = 0.2
"""Seconds for which the main thread rests, and so the longest wait of a Ray call."""

BETWEEN = 0.02
"""Seconds between two rests in which Ray calls are run."""

_SIGNAL = signal.SIGUSR2


def _rest(signal_number: int, frame: object) -> None:
    time.sleep(REST)


def install() -> None:
    """Make rests possible in this process. To be called in its main thread."""
    signal.signal(_SIGNAL, _rest)


def is_installed() -> bool:
    """Whether this process can be told to rest."""
    return signal.getsignal(_SIGNAL) is _rest


async def keep_quiet() -> None:
    """Let the main thread rest again and again, until cancelled; returns at once if it cannot be told to."""
    main = threading.main_thread().ident
    while is_installed() and main is not None:
        signal.pthread_kill(main, _SIGNAL)
        await asyncio.sleep(REST + BETWEEN)
