"""Hostile DICOM at both doors of a running gateway: POST /v1/series, and STOW-RS."""

from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread

from tests.attacks.instances import SPOILT
from tests.attacks.serving import Serving, problem, unharmed
from tests.imaging.series_factory import make_series

POLYGLOTS = {
    "a program for Windows": b"MZ\x90\0\x03\0\0\0",
    "a program for Linux": b"\x7fELF\x02\x01\x01",
    "a script": b"#!/bin/sh\ntouch /tmp/planted\n",
    "a page": b"<html><script>alert(1)</script>",
    "a zip": b"PK\x03\x04\x14\0\0\0",
    "a PDF": b"%PDF-1.7\n",
}
RELATED = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}


def send(gateway: Serving, files: Mapping[str, bytes]) -> httpx.Response:
    """By POST /v1/series."""
    return gateway.client.post("/v1/series", files=[("files", (name, content)) for name, content in files.items()])


def store(gateway: Serving, files: Mapping[str, bytes]) -> httpx.Response:
    """By STOW-RS."""
    parts = [b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n" for content in files.values()]
    return gateway.client.post("/dicom-web/studies", content=b"".join(parts) + b"--b--\r\n", headers=RELATED)


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_series_is_refused_by_its_name(gateway: Serving, sound: list[Path], name: str) -> None:
    spoil, status, slug = SPOILT[name]
    files = spoil(sound)
    with unharmed(gateway):
        answer = send(gateway, files)
        assert problem(answer) == (status, slug)
        assert {instance["file"] for instance in answer.json()["instances"]} <= set(files)
        assert answer.json()["instances"]


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_series_is_stored_by_no_store_request(gateway: Serving, sound: list[Path], name: str) -> None:
    files = SPOILT[name][0](sound)
    with unharmed(gateway):
        answer = store(gateway, files)
        assert (answer.status_code, answer.headers["content-type"]) == (409, "application/dicom+json")
        document = answer.json()
        assert "00081199" not in document
        failed = [item for tag in ("00081198", "0008119A") for item in document.get(tag, {"Value": []})["Value"]]
        assert len(failed) == len(files)
        assert all(item["00081197"]["Value"][0] in (0x0122, 0xA900, 0xC000) for item in failed)
        assert all(item["00091001"]["Value"][0] for item in failed)


@pytest.mark.parametrize("name", POLYGLOTS)
def test_a_preamble_that_is_something_else_is_no_reason_to_read_it_as_that(gateway: Serving, tmp_path: Path, name: str) -> None:
    """PS3.10 7.1 leaves 128 bytes to whoever writes a file. It is read as DICOM, and given out as nothing else."""
    seed = 100 + list(POLYGLOTS).index(name)
    paths = make_series(tmp_path, slices=5, rows=32, columns=32, spacing_mm=(4.4, 4.0, 4.0), seed=seed)
    start = POLYGLOTS[name]
    files = {path.name: start + path.read_bytes()[len(start) :] for path in paths}
    answer = store(gateway, files)
    assert answer.status_code == 200, answer.text
    ds = dcmread(paths[0], stop_before_pixels=True)
    of_it = f"/dicom-web/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    given = gateway.client.get(of_it, headers={"Accept": "application/dicom; transfer-syntax=*"}).raise_for_status()
    assert given.headers["content-type"] == "application/dicom"
    assert given.headers["x-content-type-options"] == "nosniff"
    assert given.headers["content-security-policy"].startswith("default-src 'none'")
    assert given.content[128:132] == b"DICM"
    assert not Path("/tmp/planted").exists()
