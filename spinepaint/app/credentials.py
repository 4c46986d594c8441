"""From a request's head to the key it comes with, and what that key may do."""

from dataclasses import dataclass, field

from starlette.datastructures import Headers

from spinepaint.imaging.errors import Refusal
from spinepaint.store.callers import Caller
from spinepaint.store.keys import Scope, in_force
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import ApiKey

OPEN = frozenset({"/health/live", "/health/ready"})
"""Paths that need no key: whoever probes a service has none, and they tell of no tenant."""
_ANY_KEY = frozenset({"/openapi.json", "/v1/capabilities"})
_OF_THEIR_OWN = {"/metrics": Scope.METRICS, "/v1/audit": Scope.ADMIN}
_REALM = 'Bearer realm="spinepaint"'


@dataclass
class Denied(Exception):
    """A request that is not taken: what is answered, with which headers, and whose it was where that is known."""

    refusal: Refusal
    headers: dict[str, str] = field(default_factory=dict)
    key: ApiKey | None = None
    scope: Scope | None = None


def required_scope(method: str, path: str) -> Scope | None:
    """What a key must be allowed for a request; None where any key will do. What is not listed is read or written."""
    if path in _ANY_KEY or method == "OPTIONS":
        return None
    return _OF_THEIR_OWN.get(path) or (Scope.READ if method == "GET" else Scope.WRITE)


def reads_figures(method: str, path: str) -> bool:
    """Whether a request is for the figures of the service, which tell that the database is away too."""
    return required_scope(method, path) is Scope.METRICS


def key_of(ledger: Ledger, headers: Headers) -> ApiKey:
    """The key that a request comes with. Raises Denied 401 (RFC 6750 3) where it has none that is in force."""
    given = headers.getlist("authorization")
    if not given:
        detail = "Send `Authorization: Bearer` and a key. Whoever runs the service makes one with `spinepaint keys create`."
        raise Denied(Refusal("no-key", "An API key is needed.", detail, status=401), {"WWW-Authenticate": _REALM})
    scheme, _, text = given[0].partition(" ")
    key = ledger.find_key(text.strip()) if scheme.lower() == "bearer" and len(given) == 1 else None
    if key is None:
        raise _not_in_force("unknown-key", "The API key is not one of this service.")
    require_in_force(key)
    return key


def require_in_force(key: ApiKey) -> None:
    """Raise Denied 401 where a key has ended. Only who has the key itself hears why."""
    if in_force(key):
        return
    if key.revoked_at is not None:
        raise _not_in_force("revoked-key", "The API key was revoked.", key)
    raise _not_in_force("expired-key", "The API key has expired.", key)


def require_scope(key: ApiKey, scope: Scope | None) -> None:
    """Raise Denied 403, naming the scope, where the key has not got it."""
    if scope is None or scope.value in key.scopes:
        return
    detail = f"It has {', '.join(key.scopes) or 'none'}, and this needs {scope.value}."
    refusal = Refusal("missing-scope", f"The API key has not the scope {scope.value}.", detail, status=403)
    challenge = f'{_REALM}, error="insufficient_scope", scope="{scope.value}"'
    raise Denied(refusal, {"WWW-Authenticate": challenge}, key, scope)


def caller_by(key: ApiKey | None) -> Caller:
    """Who asks by a key; None is whoever reaches a service that asks for none."""
    if key is None:
        return Caller("")
    may_read = Scope.READ.value in key.scopes
    return Caller(key.tenant, key.id, key.max_queued_jobs, key.max_priority, may_read=may_read)


def _not_in_force(slug: str, title: str, key: ApiKey | None = None) -> Denied:
    challenge = f'{_REALM}, error="invalid_token", error_description="{title}"'
    return Denied(Refusal(slug, title, "Ask for another.", status=401), {"WWW-Authenticate": challenge}, key)
