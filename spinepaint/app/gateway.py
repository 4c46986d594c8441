"""The HTTP gateway: a FastAPI application over one ledger and one artifact store."""

import shutil
import threading
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from fastapi import FastAPI

from spinepaint import __version__
from spinepaint.app import dicom_web, problems
from spinepaint.app.access import Access
from spinepaint.app.access_openapi import describe_access
from spinepaint.app.addresses import is_loopback
from spinepaint.app.admission import Admission, Busy
from spinepaint.app.arriving import patience_of
from spinepaint.app.body_cap import BodyCap
from spinepaint.app.denials import Denials
from spinepaint.app.disk_room import DiskRoom
from spinepaint.app.edge import LOOPBACK_HOSTS, Edge
from spinepaint.app.feed import Feed
from spinepaint.app.health import Readiness
from spinepaint.app.held import Held
from spinepaint.app.intake import Intake
from spinepaint.app.metrics import HttpMetrics, LedgerMetrics
from spinepaint.app.openapi import PROBLEMS
from spinepaint.app.rate import RateLimits
from spinepaint.app.recording import Recorder
from spinepaint.app.routes import audit, batches, events, jobs, metrics, results, series, service
from spinepaint.app.scrapers import Scrapers
from spinepaint.app.security_headers import SecurityHeaders
from spinepaint.app.tracing import Tracing
from spinepaint.app.turned_away import turn_away
from spinepaint.app.warm_reader import WarmReader
from spinepaint.settings import Settings
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.ledger import Ledger

BATCHES_HELD = 4
"""Bodies of the largest batches that are held at a time; of smaller ones more."""


def create_app(settings: Settings, hosts: Collection[str] | None = LOOPBACK_HOSTS) -> FastAPI:
    """The application for these settings; the database has been migrated before.

    `hosts` are the names under which it answers, None any: without keys, whoever reaches it may use it. It asks for none only
    where it listens on loopback and none was ever made.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # What a killed gateway had begun to receive.
        shutil.rmtree(settings.data_dir / "incoming", ignore_errors=True)
        ledger = Ledger(settings.database_url, attempt_limit_s=settings.attempt_limit_s)
        artifacts = ArtifactStore(settings.artifacts_url)
        app.state.settings, app.state.ledger, app.state.artifacts = settings, ledger, artifacts
        room = DiskRoom(settings.data_dir, settings.max_incoming_bytes, settings.disk_reserve_bytes)
        app.state.admission = Admission(settings.max_uploads, room=room)
        app.state.intake = Intake(settings, ledger, artifacts, app.state.reader)
        app.state.feed = Feed(ledger, app.state.stopping)
        app.state.readiness = Readiness(settings, ledger, artifacts)
        app.state.scrapers = Scrapers(ledger)
        figures = LedgerMetrics(ledger, settings)
        app.state.metrics.registry.register(figures)
        app.state.rates = RateLimits(settings.broker_url)
        yield
        app.state.reader.close()
        app.state.rates.close()
        app.state.metrics.registry.unregister(figures)
        ledger.close()

    app = FastAPI(
        title="Spinepaint",
        version=__version__,
        lifespan=lifespan,
        responses=PROBLEMS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    # Set when the service stops: answers that wait for something then end by themselves.
    app.state.stopping = threading.Event()
    app.state.metrics = HttpMetrics()
    app.state.denials = Denials(settings.denials_per_s, settings.denials_burst)
    app.state.batches_held = Held(BATCHES_HELD * settings.max_batch_bytes)
    app.state.reader = WarmReader()
    for part in (series, jobs, batches, events, results, service, metrics, audit, dicom_web):
        app.include_router(part.router)
    problems.install(app)
    app.add_exception_handler(Busy, turn_away)
    describe_access(app)
    # From the inside out.
    app.add_middleware(BodyCap, max_body_bytes=settings.max_body_bytes, patience=patience_of(settings))
    app.add_middleware(Recorder)
    app.add_middleware(Access, loopback=is_loopback(settings.host))
    if settings.traces_url:
        app.add_middleware(Tracing)
    app.add_middleware(Edge, hosts=hosts)
    app.add_middleware(SecurityHeaders)
    return app
