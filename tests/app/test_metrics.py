"""What Prometheus reads: the ledger's figures, the same at every gateway, and this gateway's own."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from spinepaint.app import metrics, scrapers
from spinepaint.app.gateway import create_app
from spinepaint.settings import Settings
from spinepaint.store.database import utc_now
from spinepaint.store.figures import Memory
from spinepaint.store.keys import Scope
from tests.app.access_tools import opened
from tests.app.conftest import EDIT, HandWorker

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(client: TestClient) -> Samples:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"spinepaint_{name}", frozenset(labels.items())]


def submit(client: TestClient, series_id: str) -> str:
    return str(client.post("/v1/jobs", json={"series_id": series_id, **EDIT}).json()["id"])


def test_jobs_by_state_their_stages_and_their_failures(client: TestClient, series_id: str, worker: HandWorker) -> None:
    done, failed, _waiting = (submit(client, series_id) for _ in range(3))
    token = worker.start(done)
    worker.ledger.succeed(done, token, {"timings_s": {"read": 0.3, "sample": 45.0}}, "results/x/")
    worker.fail(failed)
    found = read(client)
    assert value(found, "ledger_up") == 1
    states = {state: value(found, "jobs", state=state) for state in ("queued", "running", "succeeded", "failed", "cancelled")}
    assert states == {"queued": 1, "running": 0, "succeeded": 1, "failed": 1, "cancelled": 0}
    assert value(found, "oldest_queued_seconds") > 0
    assert value(found, "job_transitions_total", to="running") == 2
    assert value(found, "job_failures_total", problem="no-disc") == 1
    assert value(found, "stage_duration_seconds_sum", stage="sample") == 45.0
    assert [value(found, "stage_duration_seconds_bucket", stage="read", le=le) for le in ("0.25", "0.5", "+Inf")] == [0, 1, 1]
    assert value(found, "stage_duration_seconds_count", stage="read") == 1
    assert value(found, "job_duration_seconds_count", state="failed") == 1
    assert value(found, "job_wait_seconds_count") == 2
    assert value(found, "job_attempts_bucket", state="succeeded", le="1.0") == 1
    client.delete(f"/v1/jobs/{done}")
    again = read(client)
    assert value(again, "jobs", state="succeeded") == 0
    assert value(again, "job_transitions_total", to="succeeded") == 1


def test_workers_and_their_memory(client: TestClient, worker: HandWorker) -> None:
    assert value(read(client), "workers") == 0
    worker.ledger.attend("host:1:a", Memory(1000))
    worker.ledger.attend("host:2:b", Memory(2000, 2**37, 2**36))
    found = read(client)
    assert value(found, "workers") == 2
    assert value(found, "worker_memory_bytes", worker="host:1:a") == 1000
    assert value(found, "worker_gpu_memory_used_bytes", worker="host:2:b") == 2**36
    assert ("spinepaint_worker_gpu_memory_bytes", frozenset({("worker", "host:1:a")})) not in found


def test_webhooks_owed(client: TestClient, series_id: str, worker: HandWorker) -> None:
    assert value(read(client), "webhooks", state="owed") == 0
    job = worker.ledger.submit_job(series_id, {}, callback_url="https://example.org/t0ken")
    worker.ledger.cancel(job.id)
    assert value(read(client), "webhooks", state="owed") == 1
    (due,) = worker.ledger.due_webhooks(utc_now())
    taken = worker.ledger.take_webhook(due, timedelta(minutes=1))
    assert taken is not None
    worker.ledger.fail_webhook(taken, {}, None)
    found = read(client)
    assert (value(found, "webhooks", state="owed"), value(found, "webhooks", state="given_up")) == (0, 1)
    assert "t0ken" not in client.get("/metrics").text


def test_requests_by_template_never_by_path(client: TestClient, job_id: str) -> None:
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}?name=Doe", "/v1/jobs/Doe^Jane", "/Doe^Jane"):
        client.get(path)
    found = read(client)
    assert value(found, "http_requests_total", method="GET", route="/v1/jobs/{job_id}", status="200") == 2
    assert value(found, "http_requests_total", method="GET", route="/v1/jobs/{job_id}", status="422") == 1
    assert value(found, "http_requests_total", method="GET", route="-", status="404") == 1
    assert value(found, "http_request_duration_seconds_count", method="POST", route="/v1/jobs") == 1
    assert found["process_resident_memory_bytes", frozenset()] > 0
    text = client.get("/metrics").text
    assert "Doe" not in text
    assert job_id not in text


def test_two_gateways_tell_the_same_of_jobs(client: TestClient, job_id: str, worker: HandWorker, settings: Settings) -> None:
    worker.deliver(job_id)
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as another:
        first, second = read(client), read(another)
    about_jobs = [key for key in first if key[0].startswith(("spinepaint_job", "spinepaint_stage", "spinepaint_worker"))]
    assert len(about_jobs) > 20
    assert {key: first[key] for key in about_jobs} == {key: second[key] for key in about_jobs}
    posted = frozenset({("method", "POST"), ("route", "/v1/jobs"), ("status", "202")})
    assert [("spinepaint_http_requests_total", posted) in found for found in (first, second)] == [True, False]


def test_open_metrics(client: TestClient, job_id: str, worker: HandWorker) -> None:
    worker.deliver(job_id)
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert "spinepaint_job_transitions" in {family.name for family in openmetrics(answer.text)}


def test_a_ledger_that_hangs_or_fails_takes_no_figures_but_its_own(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(metrics, "LEDGER_TIMEOUT_S", 0.1)
    released = threading.Event()
    calls: list[int] = []

    def hang(*_arguments: Any) -> None:
        calls.append(1)
        released.wait(60)
        raise RuntimeError("Doe^Jane")

    monkeypatch.setattr("spinepaint.store.ledger.Ledger.figures", hang)
    for _ in range(3):
        found = read(client)
        assert value(found, "ledger_up") == 0
        assert found["process_resident_memory_bytes", frozenset()] > 0
    assert calls == [1]  # those who ask meanwhile wait for the one that hangs
    released.set()


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the database answer nothing any more."""

    def fail(*_arguments: object) -> None:
        raise OperationalError("select", {}, Exception("down"))

    monkeypatch.setattr("spinepaint.store.database.Database.read", fail)


def test_a_lost_database_is_told_under_a_key(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(settings) as site:
        known, stranger = (site.client(site.key(scopes=[Scope.METRICS])[1]) for _ in range(2))
        reader = site.client(site.key(scopes=[Scope.READ])[1])
        assert value(read(known), "ledger_up") == 1
        assert (reader.get("/metrics").status_code, reader.options("/metrics").status_code) == (403, 204)
        with monkeypatch.context() as lost:
            broken(lost)
            found = read(known)
            assert value(found, "ledger_up") == 0
            assert not [name for name, _labels in found if name.startswith("spinepaint_jobs")]
            # Who was not let in before is not now either, nor anybody to anything else.
            assert [client.get("/metrics").status_code for client in (stranger, reader, site.nobody)] == [503] * 3
            assert known.get("/v1/jobs").status_code == 503
        assert value(read(known), "ledger_up") == 1


def test_a_silent_database_is_told_under_a_key(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(settings) as site:
        scraper = site.client(site.key(scopes=[Scope.METRICS])[1])
        read(scraper)
        monkeypatch.setattr(scrapers, "ASKED_S", 0.05)
        monkeypatch.setattr(metrics, "LEDGER_TIMEOUT_S", 0.05)
        silent = threading.Event()
        monkeypatch.setattr("spinepaint.store.database.Database.read", lambda _ledger: silent.wait(60))
        try:
            assert value(read(scraper), "ledger_up") == 0
        finally:
            silent.set()


def test_an_ended_key_reads_no_figures_of_a_lost_database(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(settings) as site:
        ends_at = utc_now() + timedelta(hours=1)
        ending, (revoked_id, revoked), lasting = (
            site.key(scopes=[Scope.METRICS], expires_at=ends_at)[1],
            site.key(scopes=[Scope.METRICS]),
            site.key(scopes=[Scope.METRICS])[1],
        )
        clients = [site.client(key) for key in (ending, revoked, lasting)]
        assert [client.get("/metrics").status_code for client in clients] == [200] * 3
        site.ledger.revoke_key(revoked_id)
        assert clients[1].get("/metrics").status_code == 401
        broken(monkeypatch)
        monkeypatch.setattr("spinepaint.store.keys.utc_now", lambda: ends_at + timedelta(seconds=1))
        assert [client.get("/metrics").status_code for client in clients] == [503, 503, 200]
        monkeypatch.setattr(scrapers, "KNOWN_S", -1.0)
        assert clients[2].get("/metrics").status_code == 503


def test_nothing_is_kept_between_applications(tmp_path: Path) -> None:
    apps = [create_app(Settings(data_dir=tmp_path)) for _ in range(2)]
    apps[0].state.metrics.observe("GET", "/x", 200, 0.1)
    names = [{s.name for family in app.state.metrics.registry.collect() for s in family.samples} for app in apps]
    assert "spinepaint_http_requests_total" in names[0]
    assert "spinepaint_http_requests_total" not in names[1]
