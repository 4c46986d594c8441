"""A gateway over a fresh ledger, and a worker played by hand."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from spinepaint.app.gateway import create_app
from spinepaint.imaging.caps import Caps
from spinepaint.settings import Settings
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.database import migrate
from spinepaint.store.layout import result_prefix
from spinepaint.store.ledger import Ledger
from tests.imaging.series_factory import make_series

EDIT: dict[str, Any] = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small"}
Files = list[tuple[str, tuple[str, bytes]]]


@pytest.fixture(scope="session")
def series_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_series(tmp_path_factory.mktemp("series"), slices=7, rows=64, columns=64, spacing_mm=(4.4, 2.0, 2.0))


@pytest.fixture(scope="session")
def upload(series_files: list[Path]) -> Files:
    return [("files", (path.name, path.read_bytes())) for path in series_files]


@pytest.fixture(scope="session")
def zipped(series_files: list[Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in series_files:
            archive.write(path, path.name)
    return buffer.getvalue()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", caps=Caps(upload_bytes=1_000_000, upload_files=50), max_queued_jobs=3)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    migrate(settings.database_url)
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


@dataclass
class HandWorker:
    """Does to jobs what a worker does, when a test says so."""

    ledger: Ledger
    artifacts: ArtifactStore

    def start(self, job_id: str) -> str:
        claim = self.ledger.claim(job_id, "by hand")
        assert claim is not None
        return claim.token

    def deliver(self, job_id: str) -> dict[str, bytes]:
        token = self.start(job_id)
        self.ledger.progress(job_id, token, "sample", 0.5)
        prefix = result_prefix(job_id, token)
        files = {
            "sample-01/series/1.dcm": b"\0" * 128 + b"DICM one",
            "sample-01/labels/edit.dcm": b"\0" * 128 + b"DICM two",
            "sample-01/preview.png": b"\x89PNG\r\n\x1a\n",
            "sample-01/report.json": b"{}",
        }
        for name, content in files.items():
            self.artifacts.put_bytes(prefix + name, content)
        assert self.ledger.succeed(job_id, token, {"spec": EDIT}, prefix)
        return files

    def fail(self, job_id: str) -> None:
        problem = {"type": "https://spinepaint.invalid/problems/no-disc", "title": "No disc.", "status": 422, "detail": "d"}
        self.ledger.fail(job_id, self.start(job_id), problem, retry=False)


@pytest.fixture
def worker(settings: Settings, client: TestClient) -> Iterator[HandWorker]:
    ledger = Ledger(settings.database_url)
    yield HandWorker(ledger, ArtifactStore(settings.artifacts_url))
    ledger.close()


@pytest.fixture
def series_id(client: TestClient, upload: Files) -> str:
    return str(client.post("/v1/series", files=upload).json()["id"])


@pytest.fixture
def job_id(client: TestClient, series_id: str) -> str:
    return str(client.post("/v1/jobs", json={"series_id": series_id, **EDIT}).json()["id"])


def problem_type(response: Any) -> str:
    """The slug of a problem document, after checking that it is one."""
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == response.status_code
    assert document["title"]
    return str(document["type"].removeprefix("https://spinepaint.invalid/problems/"))
