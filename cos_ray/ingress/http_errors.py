"""How a status looks over HTTP."""

from __future__ import annotations

import base64

from fastapi.responses import JSONResponse

from cos_ray.domain.errors import Code, Status
from cos_ray.ingress.http_context import headers_of

HTTP_STATUS = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 412,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


class HttpError(Exception):
    """A request ends with this status; `http_status` where the code alone would say too little."""

    def __init__(self, status: Status, http_status: int | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.http_status = http_status or HTTP_STATUS[status.code]


def bad_request(message: str) -> HttpError:
    """For what cannot be understood."""
    return HttpError(Status(Code.INVALID_ARGUMENT, message))


def error_body(status: Status) -> dict[str, str]:
    """`{"error": "<CODE>: <message>"}`, with `details` if there are any."""
    body = {"error": f"{status.code.name}: {status.message}"}
    if status.details is not None:
        body["details"] = base64.b64encode(status.details).decode("ascii")
    return body


def error_response(error: HttpError) -> JSONResponse:
    """The response; what gRPC has in its trailers is in the headers."""
    headers = headers_of(error.status.trailers)
    if error.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error_body(error.status), error.http_status, headers)
