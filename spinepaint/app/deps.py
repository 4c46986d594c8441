"""What the routes are given: the settings, the ledger, the artifact store."""

import threading
from typing import Annotated, cast

from fastapi import Depends, Query, Request

from spinepaint.app.intake import Intake
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.ledger import Ledger


def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


def _ledger(request: Request) -> Ledger:
    # As the caller may see it. There is none on a path that needs no key, and no route of those asks for one.
    return cast(Ledger, request.state.ledger)


def _artifacts(request: Request) -> ArtifactStore:
    return cast(ArtifactStore, request.app.state.artifacts)


def _intake(request: Request) -> Intake:
    return cast(Intake, request.app.state.intake).into(_ledger(request))


def _stopping(request: Request) -> threading.Event:
    return cast(threading.Event, request.app.state.stopping)


def require_json_body(request: Request) -> None:
    """Raise Refusal 415 where the body does not say that it is JSON (RFC 9110 15.5.16)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Refusal("unsupported-media-type", "Send application/json.", "Say so in Content-Type.", status=415)


SettingsDep = Annotated[Settings, Depends(_settings)]
LedgerDep = Annotated[Ledger, Depends(_ledger)]
ArtifactsDep = Annotated[ArtifactStore, Depends(_artifacts)]
IntakeDep = Annotated[Intake, Depends(_intake)]
StoppingDep = Annotated[threading.Event, Depends(_stopping)]
AllowSynthetic = Annotated[bool, Query(description="Take a series that says it is synthetic; otherwise it is refused")]
