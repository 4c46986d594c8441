"""Retry-After: the same number wherever it is told, and it follows the queue."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from spinepaint.settings import Settings
from spinepaint.store import Job
from spinepaint.store.figures import Memory
from tests.app.conftest import EDIT, Files, HandWorker


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", max_queued_jobs=3)


def lasted(worker: HandWorker, job_id: str, seconds: float) -> None:
    """Have it that a job that succeeded took so long."""
    with worker.ledger.write() as session:
        job = session.get(Job, job_id)
        assert job is not None
        assert job.started_at is not None
        session.execute(update(Job).where(Job.id == job_id).values(finished_at=job.started_at + timedelta(seconds=seconds)))


def test_it_follows_depth_duration_and_workers(client: TestClient, series_id: str, worker: HandWorker, upload: Files) -> None:
    def submit() -> tuple[str, str]:
        answer = client.post("/v1/jobs", json={"series_id": series_id, **EDIT})
        return str(answer.json().get("id")), answer.headers["retry-after"]

    first, unknown = submit()
    assert unknown == "5"
    worker.deliver(first)
    lasted(worker, first, 40.0)
    ended = client.get(f"/v1/jobs/{first}")
    assert "retry-after" not in ended.headers
    second, one = submit()
    assert one == client.get(f"/v1/jobs/{second}").headers["retry-after"] == "40"
    for name in ("a", "b"):
        worker.ledger.attend(name, Memory(1))
    third, two = submit()
    assert two == client.get(f"/v1/jobs/{second}").headers["retry-after"] == "40"
    spec = {"data": {"spec": json.dumps(EDIT)}, "headers": {"Prefer": "wait=0"}}
    posted = client.post("/v1/inpaint", files=upload, **spec)  # type: ignore[arg-type]
    assert posted.headers["retry-after"] == client.get(f"/v1/jobs/{third}").headers["retry-after"] == "60"
    full = client.post("/v1/jobs", json={"series_id": series_id, **EDIT})
    assert (full.status_code, full.headers["retry-after"]) == (429, "60")
    worker.start(second)
    assert "retry-after" not in client.get(f"/v1/jobs/{second}").headers
