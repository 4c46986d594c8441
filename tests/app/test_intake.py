"""What is kept of an upload when the database breaks off in the middle: all of it, or nothing."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydicom import dcmread
from sqlalchemy.exc import OperationalError

from spinepaint.settings import Settings
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.database import utc_now
from spinepaint.store.ledger import Ledger
from tests.app.conftest import EDIT, Files, HandWorker, problem_type
from tests.app.test_series import stored
from tests.store.discards import due_discards

AWAY = OperationalError("", {}, Exception())


def break_off(monkeypatch: pytest.MonkeyPatch, method: str, *, committed: bool) -> Callable[[], None]:
    """Let the connection die while a method of the ledger commits, before or after that took place; what ends it."""
    real = getattr(Ledger, method)

    def broken(self: Ledger, *args: Any, **options: Any) -> Any:
        if committed:
            real(self, *args, **options)
        raise AWAY

    monkeypatch.setattr(Ledger, method, broken)
    return lambda: monkeypatch.setattr(Ledger, method, real)


def stow(client: TestClient, files: list[Path]) -> Any:
    parts = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + path.read_bytes() + b"\r\n" for path in files)
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    return client.post("/dicom-web/studies", content=parts + b"--b--\r\n", headers=headers)


def test_a_series_that_was_entered_before_the_connection_died_keeps_its_files(
    client: TestClient, settings: Settings, series_files: list[Path], worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    mend = break_off(monkeypatch, "enter_series", committed=True)
    assert problem_type(stow(client, series_files)) == "database-unavailable"
    mend()
    assert stow(client, series_files).status_code == 200
    assert len(worker.ledger.list_series()) == 1 and len(stored(settings)) == len(series_files)
    of = dcmread(series_files[0])
    path = f"/dicom-web/studies/{of.StudyInstanceUID}/series/{of.SeriesInstanceUID}/instances/{of.SOPInstanceUID}"
    assert client.get(path, headers={"Accept": 'multipart/related; type="application/dicom"'}).status_code == 200
    assert due_discards(worker.ledger, utc_now() + timedelta(days=1)) == []


def test_the_files_of_one_that_was_not_entered_go_as_planned(
    client: TestClient, settings: Settings, series_files: list[Path], worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    mend = break_off(monkeypatch, "enter_series", committed=False)
    assert stow(client, series_files).status_code == 503
    mend()
    assert worker.ledger.list_series() == []
    (due,) = due_discards(worker.ledger, utc_now() + timedelta(seconds=2 * settings.storing_limit_s))
    assert all(key.startswith(due) for key in stored(settings))


def test_what_took_too_long_to_store_is_deleted_at_once(
    client: TestClient, settings: Settings, upload: Files, worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Ledger.begin_storing
    monkeypatch.setattr(Ledger, "begin_storing", lambda self, prefix, limit: begin(self, prefix, limit / 2))
    assert problem_type(client.post("/v1/series", files=upload)) == "storing-timeout"
    assert (worker.ledger.list_series(), stored(settings)) == ([], [])


def inpaint(client: TestClient, upload: Files, **headers: str) -> Any:
    return client.post("/v1/inpaint", files=upload, data={"spec": json.dumps(EDIT)}, headers=headers)


@pytest.mark.parametrize("committed", [False, True])
def test_no_series_stays_without_the_job_that_it_was_sent_for(
    client: TestClient,
    settings: Settings,
    upload: Files,
    worker: HandWorker,
    monkeypatch: pytest.MonkeyPatch,
    committed: bool,
) -> None:
    mend = break_off(monkeypatch, "submit_job", committed=committed)
    assert inpaint(client, upload, **{"Idempotency-Key": "k"}).status_code == 503
    mend()
    series, jobs = worker.ledger.list_series(), worker.ledger.list_jobs().jobs
    assert [job.series_id for job in jobs] == [row.id for row in series]
    assert len(series) == int(committed)
    again = inpaint(client, upload, **{"Idempotency-Key": "k"})
    assert again.status_code == 202
    (job,) = worker.ledger.list_jobs().jobs
    assert again.json()["id"] == job.id and (not committed or job.id == jobs[0].id)
    (kept,) = worker.ledger.list_series()
    assert len(ArtifactStore(settings.artifacts_url).list(kept.artifact_key)) == len(upload)
    # Whatever else was stored goes in time.
    due = due_discards(worker.ledger, utc_now() + timedelta(seconds=2 * settings.storing_limit_s))
    assert all(key.startswith((kept.artifact_key, *due)) for key in stored(settings))
    assert kept.artifact_key not in due


def test_a_refused_or_repeated_request_leaves_no_file(
    client: TestClient, settings: Settings, upload: Files, worker: HandWorker
) -> None:
    first = inpaint(client, upload, **{"Idempotency-Key": "k"}).json()
    assert len(stored(settings)) == len(upload)
    assert inpaint(client, upload, **{"Idempotency-Key": "k"}).json()["id"] == first["id"]
    assert len(stored(settings)) == len(upload)
    for _ in range(settings.max_queued_jobs - 1):
        assert inpaint(client, upload).status_code == 202
    assert problem_type(inpaint(client, upload)) == "over-cap-max-queued-jobs"
    assert len(stored(settings)) == settings.max_queued_jobs * len(upload)
    assert len(worker.ledger.list_series()) == settings.max_queued_jobs
