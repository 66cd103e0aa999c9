"""What goes wrong with a request, told in the shape of OpenAI's API."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import (
    RequestValidationError,
    ValidationException,
    WebSocketRequestValidationError,
)
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as RoutingError

log = logging.getLogger("uvicorn.error")


class ApiError(HTTPException):
    """An answer other than success.

    Args:
        status: HTTP status code.
        message: one line for people.
        param: the field of the request that is to blame.
        code: a name that programs can tell errors apart by.
        headers: to send along.

    Reference: OpenAI, "API reference: Error object".
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.param = param
        self.code = code

    def response(self) -> JSONResponse:
        """Return the answer, which serves WebSockets that are refused, too."""
        return JSONResponse(self.body(), self.status_code, self.headers)

    def body(self) -> dict[str, Any]:
        """Return ``{"error": {"message", "type", "param", "code"}}``."""
        if self.status_code == 429:
            kind = "rate_limit_error"
        else:
            kind = "server_error" if self.status_code >= 500 else "invalid_request_error"
        message = " ".join(str(self.detail).split())
        error = {"message": message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


def stopping() -> ApiError:
    """Return what is answered once the server has been told to stop."""
    return ApiError(503, "the server is stopping; try again later", code="stopping")


def add_error_handlers(app: FastAPI) -> None:
    """Give every error of an application the same shape."""
    app.add_exception_handler(ApiError, _answer)
    app.add_exception_handler(RoutingError, _answer)
    app.add_exception_handler(RequestValidationError, _answer)
    app.add_exception_handler(WebSocketRequestValidationError, _answer)
    app.add_exception_handler(Exception, _answer)


async def _answer(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, ApiError):
        return error.response()
    if isinstance(error, ValidationException):
        return _invalid(error).response()
    if isinstance(error.__cause__, OSError):  # an upload that the disk does not hold
        log.error("cannot keep an upload: %s", error.__cause__)
    elif isinstance(error, RoutingError):
        return ApiError(error.status_code, error.detail, headers=error.headers).response()
    return ApiError(500, "an error inside the server; its log tells more").response()


def _invalid(error: ValidationException) -> ApiError:
    first = error.errors()[0]
    param = str(first["loc"][1]) if len(first["loc"]) > 1 else None
    return ApiError(400, f"{param or 'request'}: {first['msg']}", param=param, code=first["type"])
