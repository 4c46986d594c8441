"""The audit trail of the gateway: what changes something, and what gives out something of a patient."""

import time
from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from functools import partial

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spinepaint.app.problems import database_away
from spinepaint.store.callers import Caller
from spinepaint.store.ledger import Ledger

AGAIN_S = 60.0
"""A key that reads the same again within this time is not told again: a viewer asks for each frame by itself."""
_REMEMBERED = 4096
_ROOMS = ("/v1/", "/dicom-web")
_DISCLOSING = ("/result", "/report", "/preview.png", "/series/{series_id}", "/v1/audit")
_SEARCHES = ("/studies", "/series", "/instances")


def action_of(scope: Scope) -> str:
    """Method and route of a request, never its path: that may hold what a client likes. `-` where no route was found (yet)."""
    return f"{scope['method']} {getattr(scope.get('route'), 'path', '-')}"


def is_recorded(method: str, route: str) -> bool:
    """Whether the trail tells of such requests. States and lists of jobs it leaves out: they are polled, and name nobody."""
    if not route.startswith(_ROOMS) or method == "OPTIONS":
        return False
    return method != "GET" or route.startswith("/dicom-web") or route.endswith(_DISCLOSING)


class _Unrecorded(Exception):
    """An answer that could not be written down, and so ends before it has begun."""


class Recorder:
    """Writes a request down before anything of its answer goes out: what cannot be recorded is not given."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`, whose scope says who asks."""
        self.app = app
        self._told: OrderedDict[Hashable, float] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        caller: Caller | None = scope.get("state", {}).get("caller") if scope["type"] == "http" else None
        if caller is None:
            await self.app(scope, receive, send)
            return
        known: Caller = caller
        begun = False

        async def told(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                try:
                    await self._record(scope, known, message["status"])
                except SQLAlchemyError:
                    raise _Unrecorded from None
                begun = True
            await send(message)

        try:
            await self.app(scope, receive, told)
        except _Unrecorded:
            await database_away()(scope, receive, send)
        except Exception:
            if not begun:
                with suppress(SQLAlchemyError):  # it is the first error that is to be told
                    await self._record(scope, known, 500)
            raise

    async def _record(self, scope: Scope, caller: Caller, status: int) -> None:
        method, route = scope["method"], getattr(scope.get("route"), "path", "")
        if not is_recorded(method, route):
            return
        mark = (caller.key_id, route, status, caller.touched.mark()) if method == "GET" else None
        if mark is not None and time.monotonic() - self._told.get(mark, float("-inf")) < AGAIN_S:
            return
        # A search gives a little of very many; that it was made is told, and not what was found.
        searched = method == "GET" and route.startswith("/dicom-web") and route.endswith(_SEARCHES)
        touched = None if searched else caller.touched
        ledger: Ledger = scope["app"].state.ledger
        what = partial(ledger.record_audit, action=action_of(scope), status=status, touched=touched)
        await run_in_threadpool(what, tenant=caller.tenant, key_id=caller.key_id)
        if mark is None:  # what changes something is told each time
            return
        # Only now: what could not be recorded is to be refused the next time too.
        self._told[mark] = time.monotonic()
        self._told.move_to_end(mark)
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
