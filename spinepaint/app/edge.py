"""What stands between the socket and the routes: who may talk to it, the access log, the last resort."""

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spinepaint.app.problems import problem_response
from spinepaint.imaging.errors import Refusal

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_log = logging.getLogger(__name__)


class _HeadAnswered(Exception):
    """The head of a response has gone out, and nobody asked for more: what would make its body ends here."""


class Edge:
    """Refuses foreign hosts and origins, logs each request, and answers 500 for whatever nobody caught.

    HEAD is answered as GET would be, up to the body (RFC 9110 9.3.2).

    A service without keys trusts who can reach the loopback address, and any web page that the user
    opens can: by a form sent to it, or by a name of its own that resolves to it. The page cannot hide
    its Origin, nor the name in Host.

    The log has the route's template and never the path or query, which a client may fill with
    anything; and of an exception where it arose but not its message, which may hold an attribute of
    the data set that caused it.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None = LOOPBACK_HOSTS) -> None:
        """Wrap `app`, which answers to the names in `hosts`, or to any (None), since it asks for keys."""
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        status = 0
        method = scope["method"] if scope["method"] in METHODS else "?"
        if method == "HEAD":
            scope = {**scope, "method": "GET"}

        async def watch(message: Message) -> None:
            nonlocal status
            starts = message["type"] == "http.response.start"
            if starts:
                status = message["status"]
            await send(message)
            if starts and method == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                raise _HeadAnswered

        try:
            with suppress(_HeadAnswered):
                await self._answer(scope, receive, watch, lambda: bool(status))
        finally:
            route = getattr(scope.get("route"), "path", "-")
            # Clients poll; what went well and changed nothing is for debugging only.
            level = logging.DEBUG if method in ("GET", "HEAD") and status < 400 else logging.INFO
            took_s = time.monotonic() - began
            fields = {"method": method, "route": route, "status": status, "duration_ms": round(1e3 * took_s)}
            caller = scope.get("state", {}).get("caller")
            if caller is not None and caller.key_id is not None:
                fields["key_id"] = caller.key_id
            _log.log(level, "%s %s %d %.0f ms", method, route, status, 1e3 * took_s, extra=fields)
            scope["app"].state.metrics.observe(method, route, status, took_s)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, begun: Callable[[], bool]) -> None:
        """Hand a request on, and answer for what goes wrong before the response has `begun`."""
        try:
            refusal = self._foreign(Headers(scope=scope))
            await (problem_response(refusal) if refusal else self.app)(scope, receive, send)
        except _HeadAnswered:
            raise
        except asyncio.CancelledError:
            if not scope["app"].state.stopping.is_set():
                raise
            _log.warning("the service stopped before an answer was complete")
        except Exception as error:
            # One that has a handler is wrapped where the answer had begun (starlette).
            arose = error.__cause__ if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception) else error
            _log.error("unhandled %s in %s", type(arose).__name__, _where(arose))
            if begun():
                raise ConnectionAbortedError("the response was cut short") from None
            internal = Refusal("internal-error", "The service failed.", "It was not the fault of your request.", status=500)
            await problem_response(internal)(scope, receive, send)

    def _foreign(self, headers: Headers) -> Refusal | None:
        if self.hosts is not None and _hostname(headers.get("host", "")) not in self.hosts:
            return Refusal("foreign-host", "This service does not answer to that host name.", status=421)
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return Refusal("foreign-origin", "Requests of other web pages are not taken.", status=403)
        return None


def _hostname(host: str) -> str | None:
    try:
        return urlsplit("//" + host).hostname
    except ValueError:
        return None


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
