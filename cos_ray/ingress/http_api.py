"""What HTTP clients call: whether the service lives, and whether it is ready."""

from __future__ import annotations

from fastapi import FastAPI


def build_http_api() -> FastAPI:
    """The routes, built in the replica that answers them."""
    api = FastAPI(title="cos_ray", docs_url=None, redoc_url=None, openapi_url=None)

    @api.get("/alive")
    async def alive() -> dict[str, str]:
        """Whether this process runs."""
        return {"status": "alive"}

    @api.get("/ready")
    async def ready() -> dict[str, str]:
        """Whether commands are taken."""
        return {"status": "ready"}

    return api
