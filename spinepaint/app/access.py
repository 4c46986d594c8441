"""Who may use the service: a key for every path but the probes', and a ledger of its tenant for every route."""

import math
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers, State
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spinepaint.app.credentials import (
    OPEN,
    Denied,
    caller_by,
    key_of,
    reads_figures,
    require_in_force,
    require_scope,
    required_scope,
)
from spinepaint.app.denials import Denials
from spinepaint.app.problems import database_away, problem_response
from spinepaint.app.recording import action_of
from spinepaint.app.threads import ADMITTING
from spinepaint.app.uploads import drain
from spinepaint.imaging.errors import Refusal
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import ApiKey
from spinepaint.store.tenancy import CallerLedger

RECHECK_S = 2.0
"""A request that lasts is asked for its key again this often, so that a revoked one ends what it has begun."""


class KeyEnded(Exception):
    """The key of a request ended while it was answered."""


class Access:
    """Denies by default: what is not in `OPEN` needs a key, be there a route or not.

    A service that listens on loopback only and for which no key was ever made asks for none. Routes find who asks in
    `request.state.caller`, and the ledger as the caller may see it in `request.state.ledger`; the paths in `OPEN` find neither.
    """

    def __init__(self, app: ASGIApp, *, loopback: bool) -> None:
        """`loopback`: whether only this machine can reach the service."""
        self.app = app
        self._may_be_open = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        state: State = scope["app"].state
        authorization = Headers(scope=scope).get("authorization")
        wait_s = state.denials.wait_s(scope, authorization)
        if wait_s > 0:
            await _unheard(state.denials, wait_s)(scope, receive, send)
            return
        figures = reads_figures(scope["method"], scope["path"])
        if figures and await state.scrapers.go_on(authorization):
            await self.app(scope, receive, send)
            return
        try:
            key = await ADMITTING.run(self._admit, state, scope)
        except Denied as denied:
            if denied.refusal.status == HTTPStatus.UNAUTHORIZED:
                state.denials.denied(scope)
                state.scrapers.denied(authorization)
            await self._deny(denied, scope, receive, send)
            return
        except (SQLAlchemyError, TimeoutError):
            await database_away()(scope, receive, send)
            return
        if key is not None:
            state.denials.admitted(authorization)
        if figures:
            state.scrapers.admitted(authorization, key)
        caller = caller_by(key)
        scope.setdefault("state", {}).update(caller=caller, ledger=CallerLedger(state.ledger, caller))
        watch = _Watch(state.ledger, key, scope, receive, send)
        await self.app(scope, watch.receive, watch.send)

    def _admit(self, state: State, scope: Scope) -> ApiKey | None:
        """The key of a request that may go on, None where the service asks for none. Raises Denied."""
        ledger: Ledger = state.ledger
        if self._may_be_open and not ledger.had_keys():
            return None
        key = key_of(ledger, Headers(scope=scope))
        rate_per_s, burst = key.rate_per_s or state.settings.key_rate_per_s, key.burst or state.settings.key_burst
        wait_s = state.rates.take(key.id, rate_per_s, burst)
        if wait_s > 0:
            detail = f"The key has {rate_per_s:g} requests a second, and {burst} at once."
            refusal = Refusal("rate-limited", "There were too many requests under this API key.", detail, status=429)
            raise Denied(refusal, {"Retry-After": str(math.ceil(wait_s))})
        require_scope(key, required_scope(scope["method"], scope["path"]))
        with suppress(SQLAlchemyError):  # a disk that is full is no reason to read nothing
            ledger.note_use(key)
        return key

    async def _deny(self, denied: Denied, scope: Scope, receive: Receive, send: Send) -> None:
        answer = problem_response(denied.refusal, denied.headers, **({"scope": denied.scope.value} if denied.scope else {}))
        if denied.key is not None:
            ledger: Ledger = scope["app"].state.ledger
            what: dict[str, Any] = {"action": action_of(scope), "status": denied.refusal.status}
            try:
                await run_in_threadpool(ledger.record_audit, tenant=denied.key.tenant, key_id=denied.key.id, **what)
            except SQLAlchemyError:  # what cannot be recorded is not said
                answer = database_away()
        # A client that is still sending would not see the answer.
        await drain(Request(scope, receive))
        await answer(scope, receive, send)


def _unheard(denials: Denials, wait_s: float) -> Response:
    """429 for a request that is not looked at."""
    detail = f"denials_per_s is {denials.per_s:g} here and denials_burst {denials.burst}. Send a key that is in force."
    refusal = Refusal("over-cap-denials-per-s", "Too many requests came from here without an API key.", detail, status=429)
    return problem_response(refusal, {"Retry-After": str(math.ceil(wait_s)), "Connection": "close"})


class _Watch:
    """The two ends of a request, between which its key is asked for again now and then."""

    def __init__(self, ledger: Ledger, key: ApiKey | None, scope: Scope, receive: Receive, send: Send) -> None:
        self._ledger, self._key, self._scope = ledger, key, scope
        self._receive, self._send = receive, send
        self._asked = time.monotonic()
        self._begun = self._denied = False

    async def receive(self) -> Message:
        """What comes in, until the key has ended. Raises Refusal then."""
        message = await self._receive()
        if message["type"] == "http.request" and (denied := await self._ended()):
            raise denied.refusal
        return message

    async def send(self, message: Message) -> None:
        """What goes out, until the key has ended: then 401, or where the answer has begun it is cut short (KeyEnded)."""
        if self._denied:
            return
        if denied := await self._ended():
            if self._begun:
                raise KeyEnded
            self._denied = True
            await problem_response(denied.refusal, denied.headers)(self._scope, self._receive, self._send)
            return
        self._begun = True
        await self._send(message)

    async def _ended(self) -> Denied | None:
        if self._key is None or time.monotonic() - self._asked < RECHECK_S:
            return None
        try:
            key = await ADMITTING.run(self._ledger.get_key, self._key.id)
            require_in_force(key or self._key)
        except Denied as denied:
            return denied
        except (SQLAlchemyError, TimeoutError):
            pass  # it was in force a moment ago, and will be asked for again
        self._asked = time.monotonic()
        return None
