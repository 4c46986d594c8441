"""A span for each request, named by its route."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spinepaint.app.credentials import OPEN
from spinepaint.app.edge import METHODS
from spinepaint.traces import span


class Tracing:
    """Wraps each request but the probes' in a span, which goes on with a caller's trace: method, route and status, no path."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`, which leaves in the scope which route it was."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "?"
        parent = Headers(scope=scope).get("traceparent")
        with span(method, parent, "SERVER", {"http.request.method": method}) as traced:

            async def told(message: Message) -> None:
                if message["type"] == "http.response.start":
                    route = getattr(scope.get("route"), "path", None)
                    if route is not None:
                        traced.rename(f"{method} {route}")
                    traced.tell({"http.route": route, "http.response.status_code": message["status"]})
                await send(message)

            await self.app(scope, receive, told)
