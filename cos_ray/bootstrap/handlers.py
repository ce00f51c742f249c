"""
Handlers, in the processes that call them.

Each kind's library is imported for that kind only: an entity's process must start fast.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from typing_extensions import assert_never

from cos_ray.domain.circuit_breaker import BreakerPolicy
from cos_ray.handlers.endpoints import GrpcEndpoint, HttpEndpoint, PythonEndpoint, WriteTarget
from cos_ray.handlers.foreseen import ForeseenWriteHandler
from cos_ray.handlers.trace_headers import Outgoing
from cos_ray.ports import WriteHandler
from cos_ray.system.clock import SystemClock
from cos_ray.telemetry.meters import Meters
from cos_ray.telemetry.recorders import breaker_gauge

if TYPE_CHECKING:
    from cos_ray.telemetry.otel import Tracing


def build_write_handler(
    target: WriteTarget,
    call_timeout: timedelta,
    breaker: BreakerPolicy | None,
    meters: Meters,
    tracing: Tracing | None = None,
) -> WriteHandler:
    """The write handler at the target, behind a breaker if there is to be one; None: traces are off."""
    outgoing = None if tracing is None else tracing.outgoing
    handler: WriteHandler = ForeseenWriteHandler(_write_handler(target, call_timeout, outgoing))
    # Also without a breaker, for then it is never open.
    changed = breaker_gauge(meters, "write side")
    if breaker is not None:
        from cos_ray.handlers.breaker import Breaker, GuardedWriteHandler

        handler = GuardedWriteHandler(handler, Breaker(str(target), breaker, SystemClock(), changed))
    if tracing is not None:
        from cos_ray.bootstrap.tracing import calls_shown
        from cos_ray.telemetry.traced_commands import TracedWriteHandler

        handler = TracedWriteHandler(handler, tracing, calls_shown(target))
    return handler


def module_of(target: WriteTarget) -> str:
    """The module that calls such a handler, for workers to import before they are needed."""
    match target:
        case GrpcEndpoint():
            return "cos_ray.handlers.grpc_write"
        case HttpEndpoint():
            return "cos_ray.handlers.http_write"
        case PythonEndpoint():
            return "cos_ray.handlers.python_write"
        case unreachable:
            assert_never(unreachable)


def _write_handler(target: WriteTarget, call_timeout: timedelta, outgoing: Outgoing | None) -> WriteHandler:
    match target:
        case GrpcEndpoint():
            from cos_ray.handlers.grpc_write import GrpcWriteHandler

            return GrpcWriteHandler(target, call_timeout, outgoing)
        case HttpEndpoint():
            from cos_ray.handlers.http_write import HttpWriteHandler

            return HttpWriteHandler(target, call_timeout, outgoing)
        case PythonEndpoint():
            from cos_ray.handlers.python_write import python_write_handler

            return python_write_handler(target, call_timeout)
        case unreachable:
            assert_never(unreachable)
