"""The trail that requests leave."""

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from spinepaint.app.recording import Recorder, is_recorded
from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, Series
from spinepaint.store.audit import AuditEntry
from spinepaint.store.callers import Touched
from spinepaint.store.keys import Scope
from tests.app.access_tools import Site, opened
from tests.app.conftest import EDIT, Files, HandWorker, problem_type


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    with opened(settings) as site:
        yield site


def trail(site: Site) -> list[tuple[Any, ...]]:
    entries = reversed(site.ledger.list_audit(limit=1000))
    return [(entry.key_id, entry.status, entry.action, entry.series_sha256, entry.job_id) for entry in entries]


def test_a_series_and_its_job_from_upload_to_deletion(site: Site, upload: Files) -> None:
    key_id, key = site.key()
    client = site.client(key)
    named = [("files", (f"Doe^Jane-{name}", content)) for _, (name, content) in upload]
    series_id = client.post("/v1/series", files=named).raise_for_status().json()["id"]
    with site.ledger.read() as session:
        sha256 = session.scalar(select(Series.sha256))
    job_id = client.post("/v1/jobs", json={"series_id": series_id, **EDIT}).raise_for_status().json()["id"]
    for _ in range(3):
        client.get(f"/v1/jobs/{job_id}")
        client.get("/v1/jobs")
    HandWorker(site.ledger, ArtifactStore(site.settings.artifacts_url)).deliver(job_id)
    client.get(f"/v1/jobs/{job_id}/result")
    client.get(f"/v1/jobs/{job_id}/preview.png")
    client.get(f"/v1/jobs/{job_id}/preview.png")
    (found,) = client.get("/dicom-web/studies").json()
    study = found["0020000D"]["Value"][0]
    client.get(f"/dicom-web/studies/{study}/metadata")
    client.delete(f"/v1/series/{series_id}?results=delete")
    assert trail(site) == [
        (key_id, 201, "POST /v1/series", sha256, None),
        (key_id, 202, "POST /v1/jobs", sha256, job_id),
        (key_id, 200, "GET /v1/jobs/{job_id}/result", sha256, job_id),
        (key_id, 200, "GET /v1/jobs/{job_id}/preview.png", sha256, job_id),
        (key_id, 200, "GET /dicom-web/studies", None, None),
        (key_id, 200, "GET /dicom-web/studies/{study}/metadata", sha256, None),
        (key_id, 204, "DELETE /v1/series/{series_id}", sha256, job_id),
    ]
    with site.ledger.read() as session:
        written = str(session.execute(select(AuditEntry.__table__)).all())
    for identifying in ("Doe", "Invented", study, "IM0"):
        assert identifying not in written


def test_what_was_refused_is_told_with_its_key(site: Site) -> None:
    key_id, key = site.key(scopes=[Scope.READ])
    client = site.client(key)
    client.post("/v1/jobs", json={})
    site.ledger.revoke_key(key_id)
    client.get("/v1/jobs")
    site.nobody.get("/v1/jobs")
    assert [entry[:3] for entry in trail(site)] == [(key_id, 403, "POST -"), (key_id, 401, "GET -")]


def unwritable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be written to the trail any more."""

    def fail(*_arguments: object, **_options: object) -> None:
        raise OperationalError("insert", {}, Exception("full"))

    monkeypatch.setattr("spinepaint.store.ledger.Ledger.record_audit", fail)


def test_what_cannot_be_recorded_is_not_given(site: Site, upload: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    client = site.client(site.key()[1])
    series_id = client.post("/v1/series", files=upload).raise_for_status().json()["id"]
    unwritable(monkeypatch)
    for _ in range(2):
        answer = client.get(f"/v1/series/{series_id}")
        assert (answer.status_code, problem_type(answer)) == (503, "database-unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert "series_uid" not in answer.text


def test_nothing_is_read_of_a_result_that_cannot_be_recorded(site: Site, upload: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    client = site.client(site.key()[1])
    series_id = client.post("/v1/series", files=upload).raise_for_status().json()["id"]
    job_id = client.post("/v1/jobs", json={"series_id": series_id, **EDIT}).raise_for_status().json()["id"]
    HandWorker(site.ledger, ArtifactStore(site.settings.artifacts_url)).deliver(job_id)
    unwritable(monkeypatch)
    streamed: list[object] = []
    monkeypatch.setattr(ArtifactStore, "stream", lambda _store, key: streamed.append(key) or iter([b"x"]))
    assert client.get(f"/v1/jobs/{job_id}/result").status_code == 503
    assert streamed == []


def test_a_denial_that_cannot_be_recorded_is_no_defect(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    revoked_id, revoked = site.key()
    reader = site.key(scopes=[Scope.READ])[1]
    site.ledger.revoke_key(revoked_id)
    unwritable(monkeypatch)
    for answer in (site.client(revoked).get("/v1/jobs"), site.client(reader).post("/v1/jobs", json={})):
        assert (answer.status_code, problem_type(answer)) == (503, "database-unavailable")
        assert int(answer.headers["retry-after"]) > 0


def recorder_of(site: Site) -> Recorder:
    layer = site.app.middleware_stack
    while not isinstance(layer, Recorder):
        layer = layer.app
    return layer


def test_what_a_gateway_keeps_of_what_it_told_does_not_grow_with_what_was_touched(site: Site, upload: Files) -> None:
    client = site.client(site.key()[1])
    series_id = client.post("/v1/series", files=upload).raise_for_status().json()["id"]
    batches = []
    for items in (1, 3):
        site.app.state.settings = site.settings.model_copy(update={"max_queued_jobs": 10})
        asked = {"series_ids": [series_id], "specs": [EDIT] * items}
        batches.append(client.post("/v1/batches", json=asked).raise_for_status().json()["id"])
    assert recorder_of(site)._told == {}  # what changes something is told each time: nothing of it is kept
    sizes = []
    for batch_id in batches:
        before = len(pickle.dumps(recorder_of(site)._told))
        client.get(f"/v1/batches/{batch_id}/result", params={"partial": True}).raise_for_status()
        sizes.append(len(pickle.dumps(recorder_of(site)._told)) - before)
    assert len(recorder_of(site)._told) == 2
    assert max(sizes) < 300


def test_a_mark_tells_what_was_touched_apart() -> None:
    marks = [Touched(jobs={str(job): None for job in jobs}, dicom_series={1}).mark() for jobs in ([1, 2], [2, 1], [1, 3], [12])]
    assert marks[0] == marks[1] and len(set(marks)) == 3
    assert len(Touched(jobs=dict.fromkeys(map(str, range(5000)))).mark()) == 32


def test_the_trail_of_a_tenant_is_for_its_admins(site: Site) -> None:
    for tenant in ("ours", "theirs"):
        client = site.client(site.key(tenant)[1])
        for _ in range(2):
            client.post("/v1/jobs", json={"wrong": tenant})
    admin = site.client(site.key("ours", [Scope.ADMIN])[1])
    first = admin.get("/v1/audit", params={"limit": 1}).json()
    assert [entry["action"] for entry in first["entries"]] == ["POST /v1/jobs"]
    second = admin.get("/v1/audit", params={"before": first["next"]}).json()
    assert (len(second["entries"]), second["next"]) == (1, None)
    ours = {key.id for key in site.ledger.list_keys("ours")}
    assert {entry["key_id"] for entry in first["entries"] + second["entries"]} <= ours
    assert admin.get("/v1/audit", params={"key_id": "none"}).json()["entries"] == []
    assert admin.get("/v1/audit", params={"since": "2026-01-01"}).status_code == 422
    assert len(admin.get("/v1/audit", params={"since": "0001-01-01T00:00:00+14:00"}).json()["entries"]) > 2
    assert admin.get("/v1/audit", params={"since": "9999-12-31T23:59:59-14:00"}).json()["entries"] == []
    assert admin.get("/v1/audit", params={"key_id": "a\0b"}).status_code == 422
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert site.client(site.key("ours")[1]).request(method, "/v1/audit").status_code == 405


def test_which_requests_are_recorded() -> None:
    recorded = ["/v1/jobs/{job_id}/report", "/v1/batches/{batch_id}/result", "/dicom-web/instances", "/v1/audit"]
    assert all(is_recorded("GET", route) for route in recorded)
    polled = ["/v1/jobs", "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/events", "/v1/capabilities", "/health/live", "/metrics", ""]
    assert not any(is_recorded("GET", route) for route in polled)
    assert is_recorded("POST", "/v1/jobs/{job_id}/cancel") and not is_recorded("OPTIONS", "/v1/jobs")


def test_a_batch_from_submission_to_deletion(site: Site, upload: Files) -> None:
    key_id, key = site.key()
    client = site.client(key)
    series_id = client.post("/v1/series", files=upload).raise_for_status().json()["id"]
    with site.ledger.read() as session:
        sha256 = session.scalar(select(Series.sha256))
    asked = {"series_ids": [series_id], "specs": [EDIT, {**EDIT, "seed": 1}]}
    batch_id = client.post("/v1/batches", json=asked).raise_for_status().json()["id"]
    here = f"/v1/batches/{batch_id}"
    client.get(here)
    client.post(f"{here}/cancel").raise_for_status()
    client.post(f"{here}/retry").raise_for_status()
    assert client.get(f"{here}/result").status_code == 409
    client.post(f"{here}/cancel").raise_for_status()
    client.get(f"{here}/result").raise_for_status()
    client.delete(here).raise_for_status()
    entries = [entry for entry in reversed(site.ledger.list_audit()) if "/batches" in entry.action]
    assert [(entry.key_id, entry.series_sha256, entry.job_id) for entry in entries] == [(key_id, sha256, None)] * len(entries)
    assert {entry.batch_id for entry in entries} == {batch_id}
    assert [(entry.status, entry.action) for entry in entries] == [
        (202, "POST /v1/batches"),
        (200, "POST /v1/batches/{batch_id}/cancel"),
        (202, "POST /v1/batches/{batch_id}/retry"),
        (409, "GET /v1/batches/{batch_id}/result"),
        (200, "POST /v1/batches/{batch_id}/cancel"),
        (200, "GET /v1/batches/{batch_id}/result"),
        (204, "DELETE /v1/batches/{batch_id}"),
    ]
