"""Destinations over HTTP: asked for by name, seen in the job, tried again on request."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from spinepaint.imaging.caps import Caps
from spinepaint.settings import Settings
from spinepaint.store.database import utc_now
from tests.app.conftest import EDIT, Files, HandWorker, problem_type

DESTINATIONS = {
    "archive": {"type": "c-store", "host": "127.0.0.1", "port": 104, "ae_title": "ARCHIVE"},
    "web": {"type": "stow", "url": "http://127.0.0.1/dicom-web", "authorization": "Bearer secret"},
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"data_dir": tmp_path / "data", "caps": Caps(), "destinations": DESTINATIONS})


def test_a_destination_is_named_and_seen(client: TestClient, series_id: str, upload: Files, worker: HandWorker) -> None:
    answer = client.post("/v1/jobs", json={"series_id": series_id, **EDIT, "destination": "archive"})
    assert answer.status_code == 202
    (delivery,) = answer.json()["deliveries"]
    pending = {"destination": "archive", "state": "pending", "attempts": 0, "next_attempt_at": None}
    assert delivery == pending | {"delivered_at": None, "problem": None}
    job_id = answer.json()["id"]
    assert "destination" not in str(worker.ledger.get_job(job_id).spec)  # type: ignore[union-attr]
    worker.deliver(job_id)
    assert client.get(f"/v1/jobs/{job_id}").json()["deliveries"][0]["next_attempt_at"] is not None
    assert client.get("/v1/jobs").json()["jobs"][0]["deliveries"][0]["state"] == "pending"
    spec = '{"pathology":"disc_herniation","fsu":"L4-L5","severity":"small","destination":"web"}'
    both = client.post("/v1/inpaint", files=upload, data={"spec": spec})
    assert both.json()["deliveries"][0]["destination"] == "web"
    assert client.post("/v1/jobs", json={"series_id": series_id, **EDIT}).json()["deliveries"] == []


def test_a_destination_that_is_not_known(client: TestClient, series_id: str) -> None:
    answer = client.post("/v1/jobs", json={"series_id": series_id, **EDIT, "destination": "elsewhere"})
    assert (answer.status_code, problem_type(answer)) == (422, "unknown-destination")
    assert "archive, web" in answer.json()["detail"]
    assert "secret" not in answer.text
    assert client.get("/v1/jobs").json()["jobs"] == []


def test_an_unknown_destination_leaves_no_series_behind(client: TestClient, settings: Settings, upload: Files) -> None:
    spec = json.dumps({**EDIT, "destination": "nowhere"})
    assert client.post("/v1/inpaint", files=upload, data={"spec": spec}).status_code == 422
    assert client.get("/dicom-web/studies").status_code == 204


def test_the_same_key_with_another_destination_is_another_request(client: TestClient, series_id: str) -> None:
    def post(destination: str) -> int:
        body = {"series_id": series_id, **EDIT, "destination": destination}
        return client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"}).status_code

    assert [post("archive"), post("archive"), post("web")] == [202, 202, 422]


def test_a_delivery_that_failed_is_tried_again_on_request(client: TestClient, series_id: str, worker: HandWorker) -> None:
    body = {"series_id": series_id, **EDIT, "destination": "web"}
    job_id = client.post("/v1/jobs", json=body).json()["id"]
    worker.deliver(job_id)
    retry = f"/v1/jobs/{job_id}/deliveries/web/retry"
    assert problem_type(client.post(retry)) == "not-failed"
    (due,) = worker.ledger.due_dicom_deliveries(utc_now())
    taken = worker.ledger.take_dicom_delivery(due, timedelta(minutes=1))
    assert taken is not None
    worker.ledger.fail_dicom_delivery(taken, {"type": "x", "title": "It did not.", "status": 502}, None)
    seen = client.get(f"/v1/jobs/{job_id}").json()["deliveries"][0]
    assert (seen["state"], seen["problem"]["title"]) == ("failed", "It did not.")
    again = client.post(retry)
    assert (again.status_code, again.json()["deliveries"][0]["state"]) == (202, "pending")
    assert problem_type(client.post(f"/v1/jobs/{job_id}/deliveries/archive/retry")) == "unknown-delivery"


def test_one_series_is_named_one_way(client: TestClient, series_id: str) -> None:
    for names in ({}, {"series_id": series_id, "series_uid": "1.2"}):
        assert problem_type(client.post("/v1/jobs", json={**names, **EDIT})) == "invalid-request"
    assert problem_type(client.post("/v1/jobs", json={"series_uid": "1.2", **EDIT})) == "unknown-series"
