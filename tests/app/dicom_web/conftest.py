"""A running gateway, the DICOMweb client of the field, and a finished job whose result DICOMweb knows."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset, dcmread

from spinepaint.app.gateway import create_app
from spinepaint.imaging.caps import Caps
from spinepaint.imaging.dicom_index import index_instance
from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, Ledger, StoredInstance, by_series, migrate, result_prefix
from tests.app.conftest import EDIT
from tests.imaging.series_factory import make_series


@dataclass
class Gateway:
    """A gateway on a port, and what is behind it."""

    url: str
    settings: Settings
    ledger: Ledger
    artifacts: ArtifactStore

    @property
    def web(self) -> DICOMwebClient:
        return DICOMwebClient(url=f"{self.url}/dicom-web", timeout=300)

    def finish_job(self, series_id: str, result: list[Path]) -> str:
        """Submit a job for a series, and let these files be its result."""
        job = self.ledger.submit_job(series_id, EDIT)
        claim = self.ledger.claim(job.id, "by hand")
        assert claim is not None
        prefix = result_prefix(job.id, claim.token)
        kept = []
        for number, path in enumerate(result):
            key = f"{prefix}sample-01/series/{number}.dcm"
            self.artifacts.put_file(key, path)
            with path.open("rb") as stream:
                indexed = index_instance(stream)
            assert indexed is not None
            kept.append(StoredInstance(key, indexed.as_dict()))
        assert self.ledger.succeed(job.id, claim.token, {}, prefix, by_series(kept))
        return job.id


@contextmanager
def running_gateway(folder: Path) -> Iterator[Gateway]:
    """A gateway of its own on a free port, with everything it keeps in a folder."""
    settings = Settings(data_dir=folder, caps=Caps(upload_bytes=4_000_000, upload_files=50))
    migrate(settings.database_url)
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    ledger = Ledger(settings.database_url)
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Gateway(f"http://127.0.0.1:{port}", settings, ledger, ArtifactStore(settings.artifacts_url))
    finally:
        server.should_exit = True
        thread.join()
        ledger.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(tmp_path / "data") as gateway:
        yield gateway


@pytest.fixture(scope="session")
def source(series_files: list[Path]) -> list[Dataset]:
    return [dcmread(path) for path in series_files]


@pytest.fixture(scope="session")
def other_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Another series of the same study."""
    return make_series(tmp_path_factory.mktemp("other"), slices=5, rows=64, columns=64, spacing_mm=(4.4, 2.0, 2.0), seed=1)
