"""Submitting, listing and cancelling jobs."""

import json
import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient

from spinepaint.settings import Settings
from spinepaint.store.artifacts import ArtifactStore
from tests.app.conftest import EDIT, Files, HandWorker, problem_type


def test_submit(client: TestClient, series_id: str, worker: HandWorker) -> None:
    response = client.post("/v1/jobs", json={"series_id": series_id, **EDIT, "seed": 5, "landmark_lps_mm": [1, 2, 3.5]})
    assert response.status_code == 202
    assert int(response.headers["retry-after"]) > 0
    view = response.json()
    assert response.headers["location"] == view["links"]["self"] == f"/v1/jobs/{view['id']}"
    assert (view["state"], view["progress"], view["attempts"]) == ("queued", 0.0, 0)
    assert client.get(view["links"]["self"]).json() == view
    job = worker.ledger.get_job(view["id"])
    assert job is not None
    uid = job.spec.pop("series_uid")
    assert uid == client.get(f"/v1/series/{series_id}").json()["series_uid"]
    defaults = {"samples": 1, "method": "weighted", "deidentify": False, "new_study": False}
    assert job.spec == {**EDIT, **defaults, "seed": 5, "landmark_lps_mm": [1.0, 2.0, 3.5]}


def test_a_synthetic_source_can_be_asked_for(client: TestClient, series_id: str, worker: HandWorker) -> None:
    view = client.post("/v1/jobs", json={"series_id": series_id, **EDIT, "allow_synthetic": True}).json()
    job = worker.ledger.get_job(view["id"])
    assert job is not None
    assert job.spec["allow_synthetic"] is True


@pytest.mark.parametrize(
    "change",
    [
        {"patholgy": "disc_herniation"},
        {"callback_url": 7},
        {"pathology": "scoliosis"},
        {"fsu": "T1-T2"},
        {"severity": "severe"},
        {"severity": None},
        {"seed": -1},
        {"seed": 1.5},
        {"samples": 0},
        {"samples": 65},
        {"steps": 0},
        {"method": "magic"},
        {"solver": "euler"},
        {"landmark_lps_mm": [1, 2]},
        {"landmark_lps_mm": [1, 2, 1e9]},
        {"sigma_mm": 0},
        {"series_id": "1"},
    ],
)
def test_a_spec_that_does_not_fit(client: TestClient, series_id: str, change: dict[str, Any]) -> None:
    response = client.post("/v1/jobs", json={"series_id": series_id, **EDIT, **change})
    assert response.status_code == 422
    assert problem_type(response) == "invalid-request"
    (name,) = change
    assert any(name in item["at"] or "severity" in item["reason"] for item in response.json()["errors"])
    assert client.get("/v1/jobs").json()["jobs"] == []


def test_the_sent_value_is_not_repeated(client: TestClient, series_id: str) -> None:
    response = client.post("/v1/jobs", json={"series_id": series_id, **EDIT, "fsu": "Doe^Jane"})
    assert "Doe" not in response.text


def test_malformed_json(client: TestClient) -> None:
    response = client.post("/v1/jobs", content=b"{", headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert problem_type(response) == "malformed-json"


@pytest.mark.parametrize("body", [b'{"sigma_mm": NaN}', b"[]", b"null", b'{"a":' * 2000])
def test_odd_json_is_refused_with_a_problem(client: TestClient, body: bytes) -> None:
    response = client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    assert problem_type(response)


def test_unknown_series(client: TestClient) -> None:
    response = client.post("/v1/jobs", json={"series_id": str(uuid.uuid4()), **EDIT})
    assert response.status_code == 404
    assert problem_type(response) == "unknown-series"


def test_unknown_and_malformed_jobs(client: TestClient) -> None:
    for path in ("", "/result", "/report", "/preview.png", "/events"):
        absent = client.get(f"/v1/jobs/{uuid.uuid4()}{path}")
        assert (absent.status_code, problem_type(absent)) == (404, "unknown-job")
        assert client.get(f"/v1/jobs/1{path}").status_code == 422
    assert client.post(f"/v1/jobs/{uuid.uuid4()}/cancel").status_code == 404


def test_idempotency(client: TestClient, series_id: str) -> None:
    body, key = {"series_id": series_id, **EDIT}, {"Idempotency-Key": "k-1"}
    first = client.post("/v1/jobs", json=body, headers=key)
    again = client.post("/v1/jobs", json={**body, "samples": 1}, headers=key)
    assert first.json()["id"] == again.json()["id"]
    assert again.status_code == 202
    other = client.post("/v1/jobs", json={**body, "seed": 1}, headers=key)
    assert other.status_code == 422
    assert problem_type(other) == "idempotency-conflict"
    assert client.post("/v1/jobs", json={**body, "seed": 1}, headers={"Idempotency-Key": "k-2"}).status_code == 202
    assert client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k" * 256}).status_code == 422


def test_a_full_queue(client: TestClient, series_id: str) -> None:
    for _ in range(3):
        assert client.post("/v1/jobs", json={"series_id": series_id, **EDIT}).status_code == 202
    response = client.post("/v1/jobs", json={"series_id": series_id, **EDIT})
    assert response.status_code == 429
    assert problem_type(response) == "over-cap-max-queued-jobs"
    assert int(response.headers["retry-after"]) > 0


def test_pages_and_states(client: TestClient, series_id: str, worker: HandWorker) -> None:
    ids = [client.post("/v1/jobs", json={"series_id": series_id, **EDIT}).json()["id"] for _ in range(3)]
    worker.deliver(ids[0])
    first = client.get("/v1/jobs", params={"limit": 2}).json()
    assert [job["id"] for job in first["jobs"]] == [ids[2], ids[1]]
    second = client.get("/v1/jobs", params={"limit": 2, "cursor": first["next"]}).json()
    assert ([job["id"] for job in second["jobs"]], second["next"]) == ([ids[0]], None)
    done = client.get("/v1/jobs", params={"state": "succeeded"}).json()["jobs"]
    assert [job["id"] for job in done] == [ids[0]]
    uid = client.get(f"/v1/series/{series_id}").json()["series_uid"]
    assert len(client.get("/v1/jobs", params={"series_uid": uid}).json()["jobs"]) == 3
    assert client.get("/v1/jobs", params={"series_uid": "1.2.3"}).json()["jobs"] == []
    assert client.get("/v1/jobs", params={"series_uid": "x"}).status_code == 422
    assert problem_type(client.get("/v1/jobs", params={"cursor": "nonsense"})) == "bad-cursor"
    assert client.get("/v1/jobs", params={"state": "lost"}).status_code == 422


def test_cancel_once(client: TestClient, job_id: str) -> None:
    response = client.post(f"/v1/jobs/{job_id}/cancel")
    assert response.status_code == 200
    assert response.json()["state"] == "cancelled"
    again = client.post(f"/v1/jobs/{job_id}/cancel")
    assert again.status_code == 409
    assert problem_type(again) == "already-finished"
    assert "cancel" not in client.get(f"/v1/jobs/{job_id}").json()["links"]


def test_cancel_while_it_runs(client: TestClient, job_id: str, worker: HandWorker) -> None:
    token = worker.start(job_id)
    assert client.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    assert not worker.ledger.succeed(job_id, token, {}, "results/x/y/")
    assert problem_type(client.get(f"/v1/jobs/{job_id}/result")) == "no-result"


def test_a_job_is_deleted_once_it_has_ended(client: TestClient, job_id: str, worker: HandWorker) -> None:
    early = client.delete(f"/v1/jobs/{job_id}")
    assert (early.status_code, problem_type(early)) == (409, "job-active")
    worker.deliver(job_id)
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    for path in ("", "/result", "/report", "/preview.png", "/events"):
        assert problem_type(client.get(f"/v1/jobs/{job_id}{path}")) == "unknown-job"
    assert client.get("/v1/jobs").json()["jobs"] == []
    assert problem_type(client.delete(f"/v1/jobs/{job_id}")) == "unknown-job"


def test_a_failed_job_says_why(client: TestClient, job_id: str, worker: HandWorker) -> None:
    worker.fail(job_id)
    view = client.get(f"/v1/jobs/{job_id}").json()
    assert view["state"] == "failed"
    assert view["problem"]["type"].endswith("/no-disc")
    assert client.post(f"/v1/jobs/{job_id}/cancel").status_code == 409


def inpaint(client: TestClient, files: Files, spec: object, **headers: str) -> Any:
    text = spec if isinstance(spec, str) else json.dumps(spec)
    return client.post("/v1/inpaint", files=files, data={"spec": text}, headers=headers)


def test_inpaint_uploads_and_submits(client: TestClient, upload: Files) -> None:
    response = inpaint(client, upload, EDIT)
    assert response.status_code == 202
    assert response.headers["location"] == response.json()["links"]["self"]
    assert client.get(response.json()["links"]["series"]).status_code == 200


@pytest.mark.parametrize("spec", ["", "{", "[]", {}, {**EDIT, "severity": "severe"}, {**EDIT, "series_id": str(uuid.uuid4())}])
def test_inpaint_with_a_bad_spec_keeps_nothing(client: TestClient, settings: Settings, upload: Files, spec: object) -> None:
    response = inpaint(client, upload, spec)
    assert response.status_code in (400, 422)
    assert problem_type(response) in ("malformed-json", "invalid-request")
    assert ArtifactStore(settings.artifacts_url).list("sources/") == []


def test_inpaint_without_a_spec(client: TestClient, upload: Files) -> None:
    assert problem_type(client.post("/v1/inpaint", files=upload)) == "invalid-request"


def test_inpaint_is_idempotent_by_content(client: TestClient, upload: Files, zipped: bytes) -> None:
    first = inpaint(client, upload, EDIT, **{"Idempotency-Key": "a"}).json()
    again = inpaint(client, [("files", ("all.zip", zipped))], EDIT, **{"Idempotency-Key": "a"}).json()
    assert again["id"] == first["id"]
    assert len(client.get("/v1/jobs").json()["jobs"]) == 1
    assert inpaint(client, upload, {**EDIT, "seed": 3}, **{"Idempotency-Key": "a"}).status_code == 422


def test_prefer_wait_gives_202_when_it_is_not_ready(client: TestClient, upload: Files) -> None:
    response = inpaint(client, upload, EDIT, Prefer="respond-async, wait=1")
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "wait=1"


def test_prefer_wait_gives_the_result_or_the_problem(
    client: TestClient, upload: Files, worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = iter([worker.deliver, worker.fail])
    submit = worker.ledger.__class__.submit_job

    def submit_and_finish(self: Any, *args: Any, **options: Any) -> Any:
        job = submit(self, *args, **options)
        next(outcomes)(job.id)
        return job

    monkeypatch.setattr(worker.ledger.__class__, "submit_job", submit_and_finish)
    ready = inpaint(client, upload, EDIT, Prefer="wait=20")
    assert (ready.status_code, ready.headers["content-type"]) == (200, "application/zip")
    failed = inpaint(client, upload, EDIT, Prefer="wait=20")
    assert (failed.status_code, problem_type(failed)) == (422, "no-disc")
