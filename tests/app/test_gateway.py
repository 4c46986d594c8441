"""The service as a whole: health, capabilities, errors of the framework, who may talk to it, what is logged."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from spinepaint.app import bundle
from spinepaint.app.health import broker_answers, failing_parts
from spinepaint.imaging.vocabulary import SEVERITIES, Fsu
from spinepaint.settings import Settings
from tests.app.conftest import Files, HandWorker, problem_type


def test_live(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "live"}


def test_not_ready_names_what_is_missing(client: TestClient) -> None:
    response = client.get("/health/ready")
    assert (response.status_code, problem_type(response)) == (503, "not-ready")
    assert "broker" in response.json()["failing"]
    assert "database" not in response.json()["failing"]


def test_each_part_is_asked(settings: Settings, worker: HandWorker, tmp_path: Path) -> None:
    without = settings.model_copy(update={"bundle": tmp_path / "none", "broker_url": "redis://127.0.0.1:1/0"})
    assert failing_parts(without, worker.ledger, worker.artifacts) == ["broker", "bundle"]
    (tmp_path / "config.json").write_text(json.dumps({"name": "tiny"}))
    (tmp_path / "SHA256SUMS").write_text("")
    whole = without.model_copy(update={"bundle": tmp_path})
    assert failing_parts(whole, worker.ledger, worker.artifacts) == ["broker"]


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


def test_openapi_describes_forms_and_problems(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    form = document["paths"]["/v1/inpaint"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"files", "spec"}
    for operations in document["paths"].values():
        for operation in operations.values():
            assert "application/problem+json" in operation["responses"]["4XX"]["content"]
            assert "application/problem+json" in operation["responses"]["422"]["content"]


def test_the_app_never_imports_what_is_heavy() -> None:
    program = "import sys, spinepaint.app.serve, spinepaint.app.cli, spinepaint.app.demo\n"
    program += "assert not {'torch', 'numpy', 'pydicom', 'celery', 'alembic'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
