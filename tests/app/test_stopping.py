"""Answers that are under way when the service stops."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.responses import StreamingResponse

from spinepaint.app.gateway import create_app
from spinepaint.app.serve import _Gateway
from spinepaint.app.submission import answer_when_ready
from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, Ledger, migrate
from tests.app.conftest import EDIT
from tests.worker.workplaces import add_source, open_stores, wait_until


@contextmanager
def service(folder: Path, grace_s: float) -> Iterator[tuple[_Gateway, str, str]]:
    """A gateway on a port, where it is, and a job that nobody works on."""
    settings = Settings(data_dir=folder)
    migrate(settings.database_url)
    ledger = Ledger(settings.database_url)
    job = ledger.submit_job(add_source(ledger, ArtifactStore(settings.artifacts_url)).id, EDIT)
    app = create_app(settings)

    async def endless() -> StreamingResponse:
        stop = threading.Event()
        return StreamingResponse(b"x" for _ in iter(lambda: stop.wait(0.05), True))

    app.add_api_route("/endless", endless)
    gateway = _Gateway(app, port=0, log_config=None, timeout_graceful_shutdown=grace_s)
    thread = threading.Thread(target=gateway.run)
    thread.start()
    try:
        wait_until(lambda: gateway.started)
        yield gateway, f"http://127.0.0.1:{gateway.servers[0].sockets[0].getsockname()[1]}", job.id
    finally:
        gateway.should_exit = True
        thread.join()
        ledger.close()


def test_streams_of_events_end_by_themselves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with service(tmp_path, 30) as (gateway, url, job_id), httpx.stream("GET", f"{url}/v1/jobs/{job_id}/events") as events:
        lines = events.iter_lines()
        assert next(lines) == "id: 1"
        gateway.should_exit = True
        assert list(lines)[-1] == ""
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_who_waits_for_a_result_is_told_where_it_will_be(tmp_path: Path) -> None:
    ledger, artifacts = open_stores(tmp_path)
    job = ledger.submit_job(add_source(ledger, artifacts).id, EDIT)
    stopping = threading.Event()
    stopping.set()
    answer = asyncio.run(
        answer_when_ready(ledger, artifacts, Settings(data_dir=tmp_path), job, wait_s=100, accept="*/*", stopping=stopping)
    )
    assert answer.status_code == 202
    assert answer.headers["location"].endswith(job.id)
    ledger.close()


def test_what_does_not_end_is_cut_without_a_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with service(tmp_path, 0.1) as (gateway, url, _job_id), httpx.stream("GET", f"{url}/endless") as endless:
        received = endless.iter_raw()
        next(received)
        gateway.should_exit = True
        with pytest.raises(httpx.RemoteProtocolError):
            list(received)
    assert "the service stopped before an answer was complete" in caplog.text
    assert all(record.exc_info is None for record in caplog.records)
