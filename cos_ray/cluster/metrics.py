"""Metrics, as Ray exports them to Prometheus. Their labels are few, and never name an entity."""

from __future__ import annotations

from collections.abc import Callable

from ray.util.metrics import Gauge

from cos_ray.domain.circuit import Circuit, Open


def breaker_gauge(handler: str) -> Callable[[Circuit], None]:
    """
    Shows a circuit breaker of this process: `ray_cos_breaker_open`, 1 while it lets no call through.

    The result is told of each change; before the first one the circuit is closed.
    """
    gauge = Gauge(
        "cos_breaker_open", description="Whether a handler is left alone for a while.", tag_keys=("handler",)
    )

    def show(circuit: Circuit | None) -> None:
        gauge.set(1 if isinstance(circuit, Open) else 0, tags={"handler": handler})

    show(None)
    return show
