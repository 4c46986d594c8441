"""Every error of the gateway as a problem document (RFC 9457), the framework's own included."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from spinepaint.app.admission import Busy
from spinepaint.app.waiting import retry_after_s
from spinepaint.imaging.errors import Refusal, disk_full, is_disk_full
from spinepaint.store.artifacts import StoreError
from spinepaint.store.errors import (
    AlreadyFinished,
    BadCursor,
    BatchActive,
    BatchFinished,
    IdempotencyConflict,
    JobActive,
    LedgerError,
    NamesJobs,
    NothingToRetry,
    PriorityNotAllowed,
    QueueFull,
    SeriesHasResults,
    SeriesInUse,
    UnknownBatch,
    UnknownJob,
    UnknownSeries,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = "10"
MAX_NAMED = 200


class ProblemResponse(JSONResponse):
    """A problem document with its own media type."""

    media_type = MEDIA_TYPE


def problem_response(refusal: Refusal, headers: Mapping[str, str] | None = None, **members: Any) -> ProblemResponse:
    """The response for a refusal; `members` are extension members of the document (RFC 9457 3.2)."""
    return ProblemResponse(refusal.as_problem() | members, status_code=refusal.status, headers=headers)


def database_away() -> ProblemResponse:
    """503 where the database does not answer, or cannot be written to."""
    return _answer(Refusal("database-unavailable", "The database does not answer.", "Try again.", status=503))


def refusal_in(problem: Mapping[str, Any]) -> Refusal:
    """The refusal that a problem document tells of, such as the one a failed job keeps."""
    return Refusal(
        str(problem.get("type", "job-failed")).rsplit("/", 1)[-1],
        str(problem.get("title", "The job failed.")),
        str(problem.get("detail", "")),
        status=int(problem.get("status", 500)),
    )


def refusal_of(error: LedgerError) -> Refusal:
    """What the ledger's refusals are over HTTP."""
    match error:
        case UnknownSeries():
            return Refusal("unknown-series", "There is no such series.", "It may have been deleted.", status=404)
        case UnknownJob():
            return Refusal("unknown-job", "There is no such job.", status=404)
        case UnknownBatch():
            return Refusal("unknown-batch", "There is no such batch.", status=404)
        case BatchFinished():
            return Refusal("already-finished", "Every item of the batch has ended.", "There is nothing to cancel.", status=409)
        case NothingToRetry():
            detail = "No item has failed or was cancelled whose series is still there."
            return Refusal("nothing-to-retry", "There is nothing to try again.", detail, status=409)
        case SeriesInUse():
            return Refusal("series-in-use", "A job still reads this series.", "Cancel the job, or wait for it.", status=409)
        case SeriesHasResults():
            detail = (
                f"{len(error.jobs)} jobs, named in `jobs`, have results that may name the patient as the series does. "
                "Say ?results=delete to delete them with it, or ?results=keep."
            )
            return Refusal("series-has-results", "Results were made of this series.", detail, status=409)
        case BatchActive():
            detail = "Cancel the batch, or wait until all of its items have ended."
            return Refusal("batch-active", "Items of the batch have not ended.", detail, status=409)
        case JobActive():
            return Refusal("job-active", "The job has not ended.", "Cancel it first, or wait for it.", status=409)
        case AlreadyFinished():
            return Refusal("already-finished", "The job has ended.", "It cannot be cancelled any more.", status=409)
        case IdempotencyConflict():
            detail = "Send another key, or the same request again."
            return Refusal("idempotency-conflict", "This Idempotency-Key came before with another request.", detail)
        case QueueFull():
            detail = f"max_queued_jobs is {error.cap} here. Wait for some to end."
            return Refusal("over-cap-max-queued-jobs", "Too many jobs are waiting.", detail, status=429)
        case PriorityNotAllowed():
            detail = f"The highest that it may ask for is {error.most}."
            return Refusal("priority-not-allowed", "This API key may not ask for that priority.", detail, status=403)
        case BadCursor():
            return Refusal("bad-cursor", "The cursor is not one of this list.", "Take it from `next` of a page.")
    return Refusal("conflict", "The ledger refused.", status=409)


def install(app: FastAPI) -> None:
    """Make the app answer every error, expected or not, with a problem document."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(LedgerError, _ledger)
    for away in (OperationalError, InterfaceError, InternalError, NoConnection):  # what is asked wrongly is a defect: 500
        app.add_exception_handler(away, _database)
    app.add_exception_handler(StoreError, _artifacts)
    app.add_exception_handler(OSError, _system)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _refused(_request: Request, error: Exception) -> ProblemResponse:
    return _answer(cast(Refusal, error))


async def _ledger(request: Request, error: Exception) -> ProblemResponse:
    refusal = refusal_of(cast(LedgerError, error))
    if isinstance(error, QueueFull):
        seconds = await run_in_threadpool(retry_after_s, request.state.ledger, request.app.state.settings)
        return problem_response(refusal, {"Retry-After": str(seconds)})
    return _answer(refusal, jobs=error.jobs[:MAX_NAMED]) if isinstance(error, NamesJobs) else _answer(refusal)


async def _database(_request: Request, _error: Exception) -> ProblemResponse:
    return database_away()


async def _artifacts(_request: Request, _error: Exception) -> ProblemResponse:
    return _answer(Refusal("artifacts-unavailable", "The artifact store does not do as it is told.", "Try again.", status=503))


async def _system(_request: Request, error: Exception) -> ProblemResponse:
    if not is_disk_full(error):
        raise error
    return _answer(disk_full())


def _answer(refusal: Refusal, **members: Any) -> ProblemResponse:
    again_s = str(refusal.retry_after_s) if isinstance(refusal, Busy) else RETRY_AFTER_S
    return problem_response(refusal, {"Retry-After": again_s} if refusal.status in (429, 503) else None, **members)


async def _framework(request: Request, error: Exception) -> Response:
    known = cast(HTTPException, error)
    if known.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _other_methods(request)
    phrase = HTTPStatus(known.status_code).phrase
    slug = phrase.lower().replace(" ", "-")
    return problem_response(Refusal(slug, f"{phrase}.", status=known.status_code), known.headers)


def _other_methods(request: Request) -> Response:
    """What a path has instead of the method that it was asked for; OPTIONS asks for nothing else (RFC 9110 9.3.7).

    The router names the methods of the first route of the path only.
    """
    plain = {name: request.scope[name] for name in ("type", "path", "root_path", "headers")}
    routes = request.app.router.routes
    methods = {
        method
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
        if any(route.matches(plain | {"method": method})[0] is Match.FULL for route in routes)
    }
    methods |= {"OPTIONS", "HEAD"} if "GET" in methods else {"OPTIONS"}  # the edge answers HEAD as GET
    headers = {"Allow": ", ".join(sorted(methods))}
    if request.method == "OPTIONS":
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    return problem_response(Refusal("method-not-allowed", "Method Not Allowed.", status=405), headers)


async def _invalid(_request: Request, error: Exception) -> ProblemResponse:
    return validation_response(cast(RequestValidationError, error).errors())


def validation_response(errors: Any) -> ProblemResponse:
    """422 for pydantic's `errors`: where and why, never the value that was sent, which may name a patient."""
    if any(error["type"] == "json_invalid" for error in errors):
        return problem_response(Refusal("malformed-json", "The body is not valid JSON.", status=400))
    items = [{"at": "/".join(str(part) for part in error["loc"]), "reason": error["msg"]} for error in errors]
    detail = "; ".join(f"{item['at']}: {item['reason']}" for item in items[:5])
    return problem_response(Refusal("invalid-request", "The request does not fit the schema.", detail), errors=items)
