"""A real Orthanc with its DICOMweb plugin, on loopback, with a storage and ports of its own."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from dicomweb_client.api import DICOMwebClient

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
AE_TITLE = "ORTHANC"


@dataclass
class Orthanc:
    """Where it listens."""

    http_port: int
    dicom_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def web(self) -> DICOMwebClient:
        return DICOMwebClient(url=f"{self.url}/dicom-web", timeout=300)

    def empty(self) -> None:
        """Delete every patient."""
        for patient in httpx.get(f"{self.url}/patients").json():
            httpx.delete(f"{self.url}/patients/{patient}").raise_for_status()

    def instances(self) -> int:
        return int(httpx.get(f"{self.url}/statistics").json()["CountInstances"])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def program() -> str:
    found = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
    assert found is not None and PLUGIN.exists(), "Orthanc or its DICOMweb plugin is missing: make test-e2e installs them"
    return found


@contextmanager
def running_orthanc(folder: Path) -> Iterator[Orthanc]:
    """An empty Orthanc that keeps everything in a folder."""
    orthanc = Orthanc(free_port(), free_port())
    configuration = {
        "Name": "under test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "HttpPort": orthanc.http_port,
        "DicomPort": orthanc.dicom_port,
        "DicomAet": AE_TITLE,
        "DicomCheckCalledAet": True,
        # Only who is named here may store, and only from this machine.
        "DicomAlwaysAllowStore": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": {"us": ["SPINEPAINT", "127.0.0.1", 104], "dcmtk": ["STORESCU", "127.0.0.1", 104]},
        # A series is judged as a whole, so it has to come in one request: no splitting of what Orthanc stores elsewhere.
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StowMaxInstances": 0, "StowMaxSize": 0},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program(), str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder)
    try:
        _wait(orthanc, process, folder / "orthanc.log")
        yield orthanc
    finally:
        process.terminate()
        process.wait(30)


def _wait(orthanc: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        try:
            httpx.get(f"{orthanc.url}/system").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.1)
