"""Priorities over HTTP: asked for, told, part of what an idempotency key stands for, and capped by a key."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from spinepaint.settings import Settings
from spinepaint.store import Ledger, Priority
from tests.app.access_tools import Site, opened
from tests.app.commands import spinepaint
from tests.app.conftest import EDIT, problem_type


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    with opened(settings) as site:
        yield site


def _job(client: TestClient, series_id: str, key: str | None = None, **more: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post("/v1/jobs", json={"series_id": series_id, **EDIT, **more}, headers=headers)


def test_a_job_says_how_urgent_it_is(client: TestClient, series_id: str) -> None:
    assert _job(client, series_id).json()["priority"] == "normal"
    accepted = _job(client, series_id, priority="high").json()
    assert accepted["priority"] == "high"
    assert client.get(f"/v1/jobs/{accepted['id']}").json()["priority"] == "high"
    assert problem_type(_job(client, series_id, priority="urgent")) == "invalid-request"


def test_the_pipeline_is_not_told(client: TestClient, series_id: str, settings: Settings) -> None:
    accepted = _job(client, series_id, priority="low").json()
    ledger = Ledger(settings.database_url)
    job = ledger.get_job(accepted["id"])
    ledger.close()
    assert job is not None and "priority" not in job.spec


def test_another_priority_is_another_request(client: TestClient, series_id: str) -> None:
    assert _job(client, series_id, "one", priority="high").status_code == 202
    assert _job(client, series_id, "one", priority="high").status_code == 202
    assert problem_type(_job(client, series_id, "one")) == "idempotency-conflict"


def _added_series(site: Site, tenant: str) -> str:
    geometry = {"series_uid": "1.2", "instances": 1, "shape": [1, 1, 1], "spacing_mm": [1, 1, 1], "affine": []}
    ledger = site.ledger
    return ledger.add_series(sha256="0" * 64, geometry=geometry, warnings=[], artifact_key="sources/x/", tenant=tenant).id


def test_a_capped_key_is_refused_what_is_above_it(site: Site) -> None:
    _, key = site.key(max_priority=Priority.NORMAL)
    client, series_id = site.client(key), _added_series(site, "ours")
    assert _job(client, series_id, priority="low").status_code == 202
    refused = _job(client, series_id, priority="high")
    assert (problem_type(refused), refused.status_code) == ("priority-not-allowed", 403)
    items = {"series_ids": [series_id], "specs": [EDIT, {**EDIT, "priority": "high"}]}
    assert problem_type(client.post("/v1/batches", json=items)) == "priority-not-allowed"
    assert client.get("/v1/batches").json()["batches"] == []
    assert _job(site.client(site.key()[1]), series_id, priority="high").status_code == 202


def test_keys_are_capped_when_they_are_made(settings: Settings) -> None:
    data = ("--data", str(settings.data_dir), "--json")
    done = spinepaint("keys", "create", "--name", "n", "--max-priority", "low", *data)
    assert json.loads(done.stdout)["max_priority"] == "low"
    assert spinepaint("keys", "create", "--name", "n", "--max-priority", "urgent", *data).returncode == 2
