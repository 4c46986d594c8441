"""Orthanc takes what we make and gives it back unchanged, whoever sends it; and sends to us."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import Dataset, dcmread

from tests.e2e.conftest import Service
from tests.e2e.orthanc import AE_TITLE, Orthanc

EDIT = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "moderate_large", "steps": 2}
MODALITIES = {"MR", "SEG", "SR"}


@pytest.fixture(autouse=True)
def _empty(orthanc: Orthanc) -> None:
    orthanc.empty()


def assert_given_back(orthanc: Orthanc, sent: Iterable[Dataset]) -> None:
    """QIDO finds each series, and WADO returns the same elements and pixels."""
    expected = {ds.SOPInstanceUID: ds for ds in sent}
    study = next(iter(expected.values())).StudyInstanceUID
    found = [Dataset.from_json(item) for item in orthanc.web.search_for_series(study)]
    assert {(ds.SeriesInstanceUID, ds.Modality) for ds in found} == {
        (ds.SeriesInstanceUID, ds.Modality) for ds in expected.values()
    }
    returned = {ds.SOPInstanceUID: ds for ds in orthanc.web.retrieve_study(study)}
    assert set(returned) == set(expected)
    for uid, ds in expected.items():
        assert returned[uid] == ds
        assert returned[uid].get("PixelData") == ds.get("PixelData")
    synthetic = [ds for ds in returned.values() if ds.Modality == "MR"]
    assert {ds.SyntheticData for ds in synthetic} == {"YES"}


def test_a_synthetic_series_by_stow(orthanc: Orthanc, result: list[Path]) -> None:
    sent = [dcmread(path) for path in result]
    assert {ds.Modality for ds in sent} == MODALITIES
    answer = orthanc.web.store_instances(sent)
    assert len(answer.ReferencedSOPSequence) == len(sent)
    assert not answer.get("FailedSOPSequence")
    assert_given_back(orthanc, sent)


def test_a_synthetic_series_by_dcmtk(orthanc: Orthanc, result: list[Path]) -> None:
    storescu, dcmdump = shutil.which("storescu"), shutil.which("dcmdump")
    assert storescu is not None and dcmdump is not None, "dcmtk is missing: make test-e2e installs it"
    send = [storescu, "-R", "-aec", AE_TITLE, "127.0.0.1", str(orthanc.dicom_port), *map(str, result)]
    done = subprocess.run(send, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_given_back(orthanc, map(dcmread, result))
    for path in result:
        dumped = subprocess.run([dcmdump, "+P", "0008,001c", str(path)], capture_output=True, text=True, check=True)
        assert "[YES]" in dumped.stdout
        assert dumped.stderr == ""


@pytest.mark.parametrize(("destination", "seed"), [("web", 6), ("node", 7)])
def test_a_finished_job_is_delivered(
    orthanc: Orthanc, service: Service, source: list[Dataset], destination: str, seed: int
) -> None:
    service.web.store_instances(source)
    body = {"series_uid": source[0].SeriesInstanceUID, **EDIT, "seed": seed, "destination": destination}
    submitted = httpx.post(f"{service.url}/v1/jobs", json=body).raise_for_status().json()
    assert [(d["destination"], d["state"]) for d in submitted["deliveries"]] == [(destination, "pending")]
    job = service.finished(submitted["id"])
    assert job["state"] == "succeeded", job["problem"]
    (delivery,) = job["deliveries"]
    assert (delivery["state"], delivery["attempts"], delivery["problem"]) == ("delivered", 1, None)
    assert_given_back(orthanc, results_of(service, job, source))


def results_of(service: Service, job: dict[str, Any], source: list[Dataset]) -> list[Dataset]:
    """What our own WADO-RS gives of a job: its synthetic series and what refers to that."""
    report = httpx.get(f"{service.url}{job['links']['report']}").json()
    study, synthetic = source[0].StudyInstanceUID, report["output"]["series_uid"]
    series = service.web.retrieve_series(study, synthetic)
    assert len(series) == len(source)
    others = [item for item in service.web.search_for_series(study) if item["00080060"]["Value"][0] in ("SEG", "SR")]
    labels = [ds for item in others for ds in service.web.retrieve_series(study, item["0020000E"]["Value"][0])]
    return [*series, *(ds for ds in labels if synthetic in ds.to_json())]


def test_a_node_that_does_not_know_us(orthanc: Orthanc, service: Service, source: list[Dataset]) -> None:
    service.web.store_instances(source)
    body = {"series_uid": source[0].SeriesInstanceUID, **EDIT, "seed": 8, "destination": "stranger"}
    job = service.finished(httpx.post(f"{service.url}/v1/jobs", json=body).raise_for_status().json()["id"])
    assert job["state"] == "succeeded", job["problem"]
    (delivery,) = job["deliveries"]
    assert (delivery["state"], delivery["attempts"]) == ("failed", 2)
    assert "STRANGER" in delivery["problem"]["detail"]
    assert orthanc.instances() == 0
    assert "PHANTOM" not in service.log.read_text()


def test_orthanc_stores_a_series_with_us(orthanc: Orthanc, service: Service, source: list[Dataset]) -> None:
    orthanc.web.store_instances(source)
    httpx.put(f"{orthanc.url}/dicom-web/servers/us", json={"Url": f"{service.url}/dicom-web/"}).raise_for_status()
    (series,) = httpx.get(f"{orthanc.url}/series").json()
    stow = {"Resources": [series], "Synchronous": True}
    answer = httpx.post(f"{orthanc.url}/dicom-web/servers/us/stow", json=stow, timeout=120)
    assert answer.status_code == 200, answer.text
    study = source[0].StudyInstanceUID
    found = {ds.SOPInstanceUID: ds for ds in service.web.retrieve_series(study, source[0].SeriesInstanceUID)}
    assert all(found[ds.SOPInstanceUID] == ds for ds in source)
    searched = httpx.post(
        f"{orthanc.url}/dicom-web/servers/us/qido", json={"Uri": "/studies", "Arguments": {"StudyInstanceUID": study}}
    )
    assert study in searched.text
