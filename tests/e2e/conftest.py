"""Tests that need Debian packages: `make test-e2e` installs those and runs these; other runs pass them over."""

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import httpx
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset, dcmread

from spinepaint.app.serve import READY
from spinepaint.training.phantom import make_phantom, write_series
from tests.e2e.orthanc import AE_TITLE, Orthanc, running_orthanc

collect_ignore_glob = [] if os.environ.get("SPINEPAINT_E2E") else ["test_*.py"]
JOB_TIMEOUT_S = 600.0


@dataclass
class Service:
    """`spinepaint serve` with the real pipeline, and Orthanc twice among its destinations."""

    url: str
    log: Path

    @property
    def web(self) -> DICOMwebClient:
        return DICOMwebClient(url=f"{self.url}/dicom-web", timeout=300)

    def finished(self, job_id: str) -> dict[str, Any]:
        """The job once it has ended, and its deliveries too."""
        deadline = time.monotonic() + JOB_TIMEOUT_S
        while True:
            job: dict[str, Any] = httpx.get(f"{self.url}/v1/jobs/{job_id}").raise_for_status().json()
            if job["finished_at"] and all(delivery["state"] != "pending" for delivery in job["deliveries"]):
                return job
            assert time.monotonic() < deadline, job
            time.sleep(0.5)


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as orthanc:
        yield orthanc


@pytest.fixture(scope="session")
def service(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    destinations = {
        "web": {"type": "stow", "url": f"{orthanc.url}/dicom-web"},
        "node": {"type": "c-store", "host": "127.0.0.1", "port": orthanc.dicom_port, "ae_title": AE_TITLE},
        "stranger": {
            "type": "c-store", "host": "127.0.0.1", "port": orthanc.dicom_port, "ae_title": AE_TITLE,
            "calling_ae_title": "STRANGER",
        },
    }  # fmt: skip
    argv = [sys.executable, "-m", "spinepaint.app.cli", "serve", "--port", "0", "--data", str(folder / "data")]
    env = {**os.environ, "SPINEPAINT_DESTINATIONS": json.dumps(destinations)}
    env |= {"SPINEPAINT_DELIVERY_ATTEMPTS": "2", "SPINEPAINT_DELIVERY_RETRY_S": "0.5"}
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
    line = cast(IO[str], process.stdout).readline().strip()
    assert line.startswith(READY), (folder / "service.log").read_text()
    yield Service(line.removeprefix(READY), folder / "service.log")
    process.terminate()
    process.wait(60)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    """A phantom's series."""
    folder = tmp_path_factory.mktemp("phantom")
    write_series(make_phantom(11, slices=15, matrix=320), folder, seed=11)
    return [dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


@pytest.fixture(scope="session")
def result(service: Service, source: list[Dataset], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The DICOM files of a finished job: a synthetic series with its labels."""
    service.web.store_instances(source)
    asked = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "moderate_large", "steps": 2, "seed": 5}
    body = {"series_uid": source[0].SeriesInstanceUID, **asked}
    job = service.finished(httpx.post(f"{service.url}/v1/jobs", json=body).raise_for_status().json()["id"])
    assert job["state"] == "succeeded", job["problem"]
    folder = tmp_path_factory.mktemp("result")
    (folder / "result.zip").write_bytes(httpx.get(f"{service.url}/v1/jobs/{job['id']}/result").content)
    with zipfile.ZipFile(folder / "result.zip") as archive:
        archive.extractall(folder)
    return sorted(folder.rglob("*.dcm"))
