"""Every error of the gateway as a problem document (RFC 9457), the framework's own included."""

import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spinepaint.imaging.errors import Refusal

MEDIA_TYPE = "application/problem+json"

_log = logging.getLogger(__name__)


class ProblemResponse(JSONResponse):
    """A problem document with its own media type."""

    media_type = MEDIA_TYPE


def problem_response(refusal: Refusal, headers: Mapping[str, str] | None = None, **members: Any) -> ProblemResponse:
    """The response for a refusal; `members` are extension members of the document (RFC 9457 3.2)."""
    return ProblemResponse(refusal.as_problem() | members, status_code=refusal.status, headers=headers)


def unknown(kind: str) -> Refusal:
    """404 for an id that names nothing: `kind` is `series` or `job`."""
    return Refusal(f"unknown-{kind}", f"There is no such {kind}.", "It may have been deleted.", status=404)


def install(app: FastAPI) -> None:
    """Make the app answer every error, expected or not, with a problem document."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(LastResort)


async def _refused(_request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, Refusal)
    return problem_response(error, {"Retry-After": "10"} if error.status in (429, 503) else None)


async def _framework(_request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    slug = phrase.lower().replace(" ", "-")
    return problem_response(Refusal(slug, f"{phrase}.", status=error.status_code), error.headers)


async def _invalid(_request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RequestValidationError)
    return validation_response(error.errors())


def validation_response(errors: Any) -> ProblemResponse:
    """422 for pydantic's `errors`: where and why, never the value that was sent, which may name a patient."""
    if any(error["type"] == "json_invalid" for error in errors):
        return problem_response(Refusal("malformed-json", "The body is not valid JSON.", status=400))
    items = [{"at": "/".join(str(part) for part in error["loc"]), "reason": error["msg"]} for error in errors]
    detail = "; ".join(f"{item['at']}: {item['reason']}" for item in items[:5])
    return problem_response(Refusal("invalid-request", "The request does not fit the schema.", detail), errors=items)


class LastResort:
    """Answers 500 for whatever nobody caught, and logs where it happened but not its message.

    The framework's own handler logs the message of the exception, which may hold an attribute of the
    data set that caused it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as error:  # noqa: BLE001 - the last resort is for anything
            frames = traceback.extract_tb(error.__traceback__)[-3:]
            where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
            _log.error("unhandled %s in %s", type(error).__name__, where)
            if started:
                raise ConnectionAbortedError("the response was cut short") from None
            refusal = Refusal("internal-error", "The service failed.", "It was not your request's fault.", status=500)
            await problem_response(refusal)(scope, receive, send)
