"""The service as a whole: health, capabilities, errors of the framework, who may talk to it, what is logged."""

import asyncio
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from spinepaint.app import bundle
from spinepaint.app.gateway import create_app
from spinepaint.app.health import Readiness, broker_answers
from spinepaint.imaging.vocabulary import SEVERITIES, Fsu
from spinepaint.settings import Settings
from tests.app.conftest import Files, HandWorker, problem_type

ABSENT = "00000000-0000-4000-8000-000000000000"


def test_live(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "live"}


def test_not_ready_names_what_is_missing(settings: Settings, worker: HandWorker, tmp_path: Path) -> None:
    without = settings.model_copy(update={"bundle": tmp_path})
    with TestClient(create_app(without), base_url="http://127.0.0.1:8000") as client:
        response = client.get("/health/ready")
    assert (response.status_code, problem_type(response)) == (503, "not-ready")
    assert response.json()["failing"] == ["broker", "bundle"]


def test_each_part_is_asked(settings: Settings, worker: HandWorker, tmp_path: Path) -> None:
    def failing(settings: Settings) -> list[str]:
        return list(asyncio.run(Readiness(settings, worker.ledger, worker.artifacts).failing()))

    without = settings.model_copy(update={"bundle": tmp_path / "none", "broker_url": "redis://127.0.0.1:1/0"})
    assert failing(without) == ["broker", "bundle"]
    (tmp_path / "config.json").write_text(json.dumps({"name": "tiny"}))
    (tmp_path / "SHA256SUMS").write_text("")
    whole = without.model_copy(update={"bundle": tmp_path})
    assert failing(whole) == ["broker"]


def test_no_broker() -> None:
    assert not broker_answers("")
    assert not broker_answers("nonsense")
    assert not broker_answers("redis+socket:///nowhere.sock")


def test_capabilities(client: TestClient) -> None:
    found = client.get("/v1/capabilities").json()
    assert {item["pathology"]: item["severities"] for item in found["pathologies"]} == {
        p.value: [s.value for s in severities] for p, severities in SEVERITIES.items()
    }
    assert found["fsus"] == [fsu.value for fsu in Fsu]
    assert found["limits"]["upload_files"] == 50


def test_the_shipped_bundle_is_the_workers() -> None:
    from spinepaint.worker.bundles import DEFAULT_BUNDLE

    assert bundle.SHIPPED == DEFAULT_BUNDLE


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/v1/jobs/", 404, "not-found"),
        ("PUT", "/v1/jobs", 405, "method-not-allowed"),
        ("DELETE", "/health/live", 405, "method-not-allowed"),
    ],
)
def test_errors_of_the_framework_are_problems(client: TestClient, method: str, path: str, status: int, slug: str) -> None:
    response = client.request(method, path)
    assert (response.status_code, problem_type(response)) == (status, slug)
    assert (status != 405) or response.headers["allow"]


def test_what_can_be_done_with_a_path(client: TestClient) -> None:
    paths = {
        "/health/live": "GET, HEAD, OPTIONS",
        "/v1/jobs": "GET, HEAD, OPTIONS, POST",
        "/v1/inpaint": "OPTIONS, POST",
        f"/v1/jobs/{ABSENT}": "DELETE, GET, HEAD, OPTIONS",
        f"/v1/series/{ABSENT}": "DELETE, GET, HEAD, OPTIONS",
        f"/v1/jobs/{ABSENT}/cancel": "OPTIONS, POST",
        "/dicom-web/studies": "GET, HEAD, OPTIONS, POST",
        "/dicom-web/studies/1.2": "GET, HEAD, OPTIONS, POST",
        "/dicom-web/series": "GET, HEAD, OPTIONS",
        "/openapi.json": "GET, HEAD, OPTIONS",
    }
    for path, allowed in paths.items():
        options = client.options(path)
        assert (options.status_code, options.headers["allow"], options.content) == (204, allowed, b"")
        refused = client.patch(path)
        assert (refused.status_code, problem_type(refused), refused.headers["allow"]) == (405, "method-not-allowed", allowed)
    assert client.options("/nowhere").status_code == 404


def test_head_is_get_without_the_body(
    client: TestClient, job_id: str, worker: HandWorker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.deliver(job_id)
    job = f"/v1/jobs/{job_id}"
    paths = ["/health/live", "/health/ready", "/v1/jobs", "/v1/capabilities", job, f"{job}/result", f"{job}/preview.png"]
    paths += ["/dicom-web/studies", "/openapi.json", f"/v1/jobs/{ABSENT}", "/nowhere", "/v1/jobs?state=x", "/dicom-web/studies/1"]
    with caplog.at_level(logging.DEBUG, logger="spinepaint"):
        for path in paths:
            full, head = client.get(path), client.head(path)
            assert (head.status_code, head.content) == (full.status_code, b""), path
            for name in ("content-type", "content-length", "content-disposition"):
                assert head.headers.get(name) == full.headers.get(name), path
    assert "HEAD /v1/jobs/{job_id} 200" in caplog.text
    events = client.head(f"{job}/events")
    assert (events.status_code, events.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert client.head("/v1/inpaint").status_code == 405


def test_head_of_a_job_that_runs_does_not_wait_for_its_events(client: TestClient, job_id: str) -> None:
    assert client.head(f"/v1/jobs/{job_id}/events").status_code == 200


def test_the_unforeseen_is_a_problem_and_its_message_is_not_logged(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("Doe^Jane")

    monkeypatch.setattr("spinepaint.store.ledger.Ledger.list_jobs", fail)
    with caplog.at_level(logging.DEBUG):
        response = client.get("/v1/jobs")
    assert (response.status_code, problem_type(response)) == (500, "internal-error")
    assert "Doe" not in response.text + caplog.text
    assert client.head("/v1/jobs").status_code == 500
    assert "unhandled RuntimeError in fail" in caplog.text


def test_a_database_that_does_not_answer(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    def fail(*args: object, **options: object) -> None:
        raise OperationalError("select", {}, Exception("down"))

    monkeypatch.setattr("spinepaint.store.ledger.Ledger.list_jobs", fail)
    response = client.get("/v1/jobs")
    assert (response.status_code, problem_type(response)) == (503, "database-unavailable")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[", ""])
def test_other_host_names_are_refused(client: TestClient, host: str) -> None:
    response = client.get("/health/live", headers={"Host": host})
    assert (response.status_code, problem_type(response)) == (421, "foreign-host")


def test_other_origins_are_refused(client: TestClient) -> None:
    response = client.post("/v1/jobs", json={}, headers={"Origin": "https://evil.example"})
    assert (response.status_code, problem_type(response)) == (403, "foreign-origin")
    assert client.get("/health/live", headers={"Origin": "http://127.0.0.1:8000"}).status_code == 200


def test_the_log_has_templates_and_no_names(client: TestClient, upload: Files, caplog: pytest.LogCaptureFixture) -> None:
    named = [("files", (f"Doe^Jane-{name}", content)) for _, (name, content) in upload]
    with caplog.at_level(logging.DEBUG):
        made = client.post("/v1/series", files=named)
        client.get(f"/v1/series/{made.json()['id']}?name=Doe")
        client.get("/Doe^Jane")
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith(("spinepaint", "uvicorn")))
    assert "GET /v1/series/{series_id} 200" in ours
    assert "Doe" not in ours
    assert "Invented" not in caplog.text


ROUTES = [
    ("POST", "/v1/series"),
    ("POST", "/v1/series:check"),
    ("GET", "/v1/series/x"),
    ("DELETE", "/v1/series/x"),
    ("GET", f"/v1/series/{ABSENT}"),
    ("DELETE", f"/v1/series/{ABSENT}"),
    ("POST", "/v1/jobs"),
    ("POST", "/v1/inpaint"),
    ("GET", "/v1/jobs?limit=0"),
    ("GET", "/v1/jobs/x"),
    ("DELETE", "/v1/jobs/x"),
    ("POST", "/v1/jobs/x/cancel"),
    ("GET", f"/v1/jobs/{ABSENT}/events"),
    ("GET", f"/v1/jobs/{ABSENT}/result"),
    ("GET", f"/v1/jobs/{ABSENT}/report"),
    ("GET", f"/v1/jobs/{ABSENT}/preview.png?sample=0"),
    ("POST", f"/v1/jobs/{ABSENT}/deliveries/x/retry"),
    ("POST", "/dicom-web/studies"),
    ("POST", "/dicom-web/studies/1.2"),
    ("GET", "/dicom-web/studies?x=y"),
    ("GET", "/dicom-web/studies/%00"),
    ("GET", "/dicom-web/studies/x/series"),
    ("GET", "/dicom-web/studies/1/metadata"),
    ("GET", "/dicom-web/studies/1/rendered"),
    ("GET", "/dicom-web/studies/1/series/1/instances/1/frames/x"),
    ("GET", "/dicom-web/studies/1/series/1/instances/1/bulkdata/x"),
]


def test_every_error_is_a_problem(client: TestClient) -> None:
    for method, path in ROUTES:
        response = client.request(method, path)
        assert 400 <= response.status_code < 500, path
        assert problem_type(response)


def test_a_body_of_another_kind_is_not_taken(client: TestClient) -> None:
    for path in ("/v1/jobs", "/v1/series", "/v1/inpaint", "/v1/series:check", "/dicom-web/studies"):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", ""):
            response = client.post(path, content=b"{}", headers={"Content-Type": kind} if kind else {})
            takes_forms = path.startswith(("/v1/series", "/v1/inpaint")) and kind.startswith("multipart/form-data")
            assert response.status_code == (400 if takes_forms else 415), (path, kind)
            assert problem_type(response)


def test_openapi_describes_forms_and_problems(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    form = document["paths"]["/v1/inpaint"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"files", "spec"}
    for operations in document["paths"].values():
        for operation in operations.values():
            for status in ("400", "403", "422", "500", "503"):
                assert "application/problem+json" in operation["responses"][status]["content"]
            assert not {"4XX", "5XX", "default"} & set(operation["responses"])  # each that there is has its number


def test_the_app_never_imports_what_is_heavy() -> None:
    program = "import sys, spinepaint.app.serve, spinepaint.app.cli, spinepaint.app.demo\n"
    program += "assert not {'torch', 'numpy', 'pydicom', 'celery', 'alembic'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
