"""Callbacks over HTTP: refused where none can go, owed and seen where one can."""

import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from spinepaint.settings import Settings
from spinepaint.store.database import utc_now
from tests.app.conftest import EDIT, HandWorker, problem_type

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
HOOK = "https://hooks.example.org/told?token=t0ken"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"data_dir": tmp_path / "data", "webhook": {"secret": SECRET}})


def post(client: TestClient, series_id: str, url: str, **headers: str) -> Any:
    return client.post("/v1/jobs", json={"series_id": series_id, **EDIT, "callback_url": url}, headers=headers)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "http://hooks.example.org/",
        "https://u:p@hooks.example.org/",
        "https://127.0.0.1/",
        "https://[::ffff:a00:1]/",
    ],
)
def test_a_bad_callback_is_refused_and_nothing_is_queued(client: TestClient, series_id: str, url: str) -> None:
    answer = post(client, series_id, url)
    assert (answer.status_code, problem_type(answer)) == (422, "bad-callback-url")
    assert answer.json()["detail"]
    assert not url or url not in answer.text
    assert client.get("/v1/jobs").json()["jobs"] == []


def test_the_webhook_of_a_job_is_seen_once_it_is_owed(client: TestClient, series_id: str, worker: HandWorker) -> None:
    view = post(client, series_id, HOOK).json()
    assert view["webhook"] is None
    job = worker.ledger.get_job(view["id"])
    assert job is not None
    assert (job.callback_url, "callback_url" in job.spec) == (HOOK, False)
    worker.deliver(view["id"])
    seen = client.get(f"/v1/jobs/{view['id']}").json()["webhook"]
    assert (seen["state"], seen["attempts"], seen["problem"]) == ("owed", 0, None)
    (due,) = worker.ledger.due_webhooks(utc_now())
    taken = worker.ledger.take_webhook(due, timedelta(minutes=1))
    assert taken is not None
    worker.ledger.fail_webhook(taken, {"type": "x", "title": "It did not.", "status": 502}, None)
    answer = client.get("/v1/jobs")
    seen = answer.json()["jobs"][0]["webhook"]
    assert (seen["state"], seen["attempts"], seen["problem"]["title"]) == ("given_up", 1, "It did not.")
    assert "t0ken" not in answer.text


def test_the_same_key_with_another_callback_is_another_request(client: TestClient, series_id: str) -> None:
    urls = (HOOK, HOOK, HOOK + "2")
    assert [post(client, series_id, url, **{"Idempotency-Key": "k"}).status_code for url in urls] == [202, 202, 422]


def test_without_a_secret_no_callback_is_taken(tmp_path: Path) -> None:
    from spinepaint.app.schemas import EditSpec
    from spinepaint.app.submission import require_allowed
    from spinepaint.imaging.errors import Refusal
    from spinepaint.store import Series

    spec = EditSpec.model_validate({**EDIT, "callback_url": HOOK})
    with pytest.raises(Refusal) as refusal:
        require_allowed(Settings(data_dir=tmp_path), Series(warnings=[]), spec)
    assert (refusal.value.type, "SPINEPAINT_WEBHOOK__SECRET" in str(refusal.value)) == ("no-webhooks", True)
