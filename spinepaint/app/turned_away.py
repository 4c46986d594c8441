"""Uploads that are refused because others are under way: answered at once, and only then is what they still send read."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import cast

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from spinepaint.app.admission import Admission, Busy, admission_of, waits_to_send
from spinepaint.app.arriving import declared_bytes
from spinepaint.app.problems import ProblemResponse, problem_response
from spinepaint.app.uploads import DRAIN_BYTES, drain
from spinepaint.imaging.errors import Refusal

IN_TURN_S = 60.0
DRAIN_S = 30.0
"""As long as all that, since the client is as slow as everything; but one that sends nothing for two seconds is left."""


async def turn_away(request: Request, error: Exception) -> ProblemResponse:
    """The handler of Busy: 429, when to come again, and what is left of the body in its turn."""
    busy = cast(Busy, error)
    headers = {"Retry-After": str(busy.retry_after_s)}
    if waits_to_send(request) or request._stream_consumed:  # nothing is left to be read, or has to be
        return problem_response(busy, headers)
    if 0 < declared_bytes(request) <= DRAIN_BYTES:
        # Whoever has sent all may take this for the end, and send another request: it would wait for this body to be read.
        headers["Connection"] = "close"
    return Early(busy, headers, admission_of(request))


class Early(ProblemResponse):
    """A response that is out before the body of its request is in, and ends when that was read and thrown away.

    Many clients look at no answer before they have sent everything: were the connection closed meanwhile, they would see
    that in place of the answer. Others see it at once, whoever keeps the turns.
    """

    def __init__(self, refusal: Refusal, headers: Mapping[str, str], admission: Admission) -> None:
        """Tell of a refusal; `admission` has the turns."""
        super().__init__(refusal.as_problem(), status_code=refusal.status, headers=headers)
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""

        async def held(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
                return
            await send({**message, "more_body": True})
            await self._read(Request(scope, receive))
            await send({"type": "http.response.body", "body": b""})

        await super().__call__(scope, receive, held)

    async def _read(self, request: Request) -> None:
        """Of many at once those let in would get no more, so it is done in turns; but nobody waits for one without end."""
        turns = self._admission.draining
        with suppress(TimeoutError):
            async with asyncio.timeout(IN_TURN_S):
                await turns.acquire()
            try:
                await drain(request, DRAIN_S)
            finally:
                turns.release()
            return
        await drain(request, DRAIN_S)
