"""Handles of Serve's deployments, made to work where there is no event loop."""

from __future__ import annotations

from typing import Any

from ray import serve


def handle_without_loop(application: str) -> Any:
    """The application's handle, whose router gets a loop and a thread of its own."""
    handle: Any = serve.get_app_handle(application)
    handle._init(_run_router_in_separate_loop=True)
    return handle
