"""The other replicas of the ingress, which Serve knows."""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from cos_ray.domain.errors import ReplicasSilent
from cos_ray.ray_internals.serve_handles import handle_without_loop

ANSWER_WITHIN = 3.0
"""Seconds for all of them to confirm."""


class ServeReplicas:
    """`Replicas` of a Serve application, called through Serve's own handle."""

    def __init__(self, application: str) -> None:
        self._application = application
        self._handle: Any = None

    async def end_subscription(self, kind: str, subscription_id: str) -> None:
        """Have all of them end the subscriptions of this id. Raises ReplicasSilent."""
        try:
            if self._handle is None:
                # Asks Serve's controller and blocks meanwhile: not in this loop.
                self._handle = await asyncio.to_thread(serve.get_app_handle, self._application)
            answers = self._handle.broadcast("end_subscription", kind, subscription_id)
            await answers.results_async(timeout_s=ANSWER_WITHIN)
        except (RayError, RayServeException, TimeoutError, RuntimeError) as error:
            raise ReplicasSilent(str(error)) from error


def drain(application: str) -> None:
    """Have all replicas end their streams: they would be waited for."""
    handle_without_loop(application).broadcast("drain").results(
        timeout_s=ANSWER_WITHIN, return_exceptions=True
    )
