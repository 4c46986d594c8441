"""Bodies of JSON are read whole, so they are capped before a route sees them; uploads and batches have caps of their own."""

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spinepaint.app.problems import problem_response
from spinepaint.app.uploads import IDLE_TIMEOUT_S, drain
from spinepaint.imaging.errors import Refusal

_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_STREAMED = frozenset({"/v1/batches"})
"""Paths whose routes read JSON piece by piece, under a cap of their own."""


class BodyCap:
    """Refuses a JSON body over `max_body_bytes` (413), a compressed one (415), and one that stalls (408)."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        """Wrap `app`, which gets no JSON body of more than `max_body_bytes`."""
        self.app = app
        self._cap = max_body_bytes

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
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal("unsupported-encoding", "Compressed bodies are not taken.", "Send it as it is.", status=415)
        length = request.headers.get("content-length", "")
        self._enforce(int(length) if length.isdecimal() and len(length) < 20 else 0)
        body = bytearray()
        stream = request.stream()
        try:
            while True:
                async with asyncio.timeout(IDLE_TIMEOUT_S):
                    chunk = await anext(stream, None)
                if chunk is None:
                    return bytes(body)
                body += chunk
                self._enforce(len(body))
        except TimeoutError:
            raise Refusal("upload-timeout", "The body stalled.", "Send it again.", status=408) from None

    def _enforce(self, amount: int) -> None:
        if amount > self._cap:
            detail = f"max_body_bytes is {self._cap} here. Send less."
            raise Refusal("over-cap-max-body-bytes", "The body is over the cap max_body_bytes.", detail, status=413)
