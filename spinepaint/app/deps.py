"""What the routes are given: the settings, the ledger, the artifact store."""

from typing import Annotated, cast

from fastapi import Depends, Query, Request

from spinepaint.app.intake import Intake
from spinepaint.settings import Settings
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.ledger import Ledger


def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


def _ledger(request: Request) -> Ledger:
    return cast(Ledger, request.app.state.ledger)


def _artifacts(request: Request) -> ArtifactStore:
    return cast(ArtifactStore, request.app.state.artifacts)


def _intake(request: Request) -> Intake:
    return cast(Intake, request.app.state.intake)


SettingsDep = Annotated[Settings, Depends(_settings)]
LedgerDep = Annotated[Ledger, Depends(_ledger)]
ArtifactsDep = Annotated[ArtifactStore, Depends(_artifacts)]
IntakeDep = Annotated[Intake, Depends(_intake)]
AllowSynthetic = Annotated[bool, Query(description="Take a series that says it is synthetic; otherwise it is refused")]
