"""Bodies of JSON are read whole, so they are capped before a route sees them; uploads and batches have caps of their own."""

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spinepaint.app.arriving import DEFAULT_PATIENCE, Patience, arriving, declared_bytes, require_uncompressed
from spinepaint.app.problems import problem_response
from spinepaint.app.uploads import drain
from spinepaint.imaging.errors import Refusal

_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_STREAMED = frozenset({"/v1/batches"})
"""Paths whose routes read JSON piece by piece, under a cap of their own."""


class BodyCap:
    """Refuses a JSON body over `max_body_bytes` (413), a compressed one (415), and one that comes too slowly (408)."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, patience: Patience = DEFAULT_PATIENCE) -> None:
        """Wrap `app`, which gets no JSON body of more than `max_body_bytes`."""
        self.app = app
        self._cap = max_body_bytes
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY or scope["path"] in _STREAMED:
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and "json" not in kind:  # the route takes it as a stream, or not at all
            await self.app(scope, receive, send)
            return
        try:
            body = await self._read(request)
        except Refusal as refusal:
            await drain(request)
            await problem_response(refusal)(scope, receive, send)
            return
        except ClientDisconnect:
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, again, send)

    async def _read(self, request: Request) -> bytes:
        require_uncompressed(request)
        self._enforce(declared_bytes(request))
        body = bytearray()
        async for chunk in arriving(request, self._patience):
            body += chunk
            self._enforce(len(body))
        return bytes(body)

    def _enforce(self, amount: int) -> None:
        if amount > self._cap:
            detail = f"max_body_bytes is {self._cap} here. Send less."
            raise Refusal("over-cap-max-body-bytes", "The body is over the cap max_body_bytes.", detail, status=413)
