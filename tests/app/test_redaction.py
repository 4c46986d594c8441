"""Nothing that identifies a patient leaves the service by a log, a metric, an event, a webhook or a problem document.

The whole service as processes, with a pipeline that says what it read wherever it can.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from tests.app.conftest import EDIT
from tests.app.leaky import KEYWORDS
from tests.app.test_serve import Service, until
from tests.imaging.series_factory import make_series
from tests.worker.receivers import WebReceiver, web_receiver

PATIENT = {
    "PatientName": "Quillfeather^Ottoline",
    "PatientID": "QF-7734021",
    "PatientBirthDate": "19310417",
    "StudyDate": "20191123",
    "AccessionNumber": "ACC5550199",
    "ReferringPhysicianName": "Brambleworth^Ignatius",
    "InstitutionName": "Saint Elsewhere Infirmary",
}


def name_patient(dataset: Dataset, _index: int) -> None:
    for keyword, value in PATIENT.items():
        setattr(dataset, keyword, value)


@pytest.fixture
def web() -> Iterator[WebReceiver]:
    with web_receiver() as receiver:
        receiver.answers = [(200, b"")]
        yield receiver


def traces(files: list[Path]) -> list[str]:
    """What must be found nowhere: each value, the parts of names, and dates as people write them."""
    dataset = dcmread(files[0])
    found = [str(dataset.get(keyword)) for keyword in KEYWORDS]
    assert all(value in found for value in PATIENT.values())
    parts = [part for value in found if "^" in value for part in value.split("^")]
    return [text.casefold() for text in [*found, *parts, "1931-04-17", "2019-11-23", "elsewhere"]]


def finished(service: Service, job: str) -> dict[str, Any]:
    view: dict[str, Any] = until(lambda: (seen := service.client.get(f"/v1/jobs/{job}").json())["finished_at"] and seen)
    return view


def test_nothing_that_identifies_a_patient_leaves_by_the_side(
    tmp_path: Path, web: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    size: dict[str, Any] = {"slices": 7, "rows": 64, "columns": 64, "spacing_mm": (4.4, 2.0, 2.0)}
    files = make_series(tmp_path / "series", **size, mutate=name_patient)
    axial = make_series(tmp_path / "axial", **size, plane="axial", mutate=name_patient)
    hook = {
        "secret": "whsec_" + base64.b64encode(bytes(32)).decode(),
        "allow_http": True,
        "private_hosts": ["127.0.0.1"],
    }
    monkeypatch.setenv("SPINEPAINT_WEBHOOK", json.dumps(hook))
    monkeypatch.setenv("SPINEPAINT_MAX_ATTEMPTS", "1")
    service = Service(tmp_path / "data", pipeline="tests.app.leaky:paint")
    said: dict[str, str] = {}
    try:
        upload = [("files", (f"{number}.dcm", path.read_bytes())) for number, path in enumerate(files)]
        series_id = service.client.post("/v1/series", files=upload).raise_for_status().json()["id"]
        refused = service.client.post("/v1/series", files=[("files", ("1.dcm", axial[0].read_bytes()))])
        assert refused.status_code == 422
        said["refusal"] = json.dumps({**refused.json(), "instances": []})  # names the instances that the caller sent, by contract
        jobs = {}
        for steps, state in ((1, "succeeded"), (2, "failed")):
            order = {"series_id": series_id, **EDIT, "steps": steps, "callback_url": f"{web.url}/hook"}
            job = service.client.post("/v1/jobs", json=order).raise_for_status().json()["id"]
            jobs[state] = finished(service, job)
            assert jobs[state]["state"] == state
            said[f"events of what {state}"] = service.client.get(f"/v1/jobs/{job}/events").text
            said[f"view of what {state}"] = json.dumps(jobs[state])
        assert jobs["failed"]["problem"]["type"].endswith("/internal-error")
        until(lambda: len(web.bodies) == 2)
        said["problems"] = service.client.get(f"/v1/jobs/{jobs['failed']['id']}/result").text
        said["webhooks"] = str(web.bodies) + str(web.headers)
        said["metrics"] = service.client.get("/metrics").text
        report = service.client.get(f"/v1/jobs/{jobs['succeeded']['id']}/report").text
    finally:
        service.close()
    said["log"] = service.log.read_text()

    # It was there to be leaked, and was leaked at: the report has it, and the log tells of each attempt to say it.
    assert all(value in report for value in PATIENT.values())
    plain = {line for line in said["log"].splitlines() if not line.startswith("{")}
    assert plain <= {"", "worker: Warm shutdown (MainProcess)"}  # which Celery writes past all loggers
    lines = [json.loads(line) for line in said["log"].splitlines() if line not in plain]
    assert sum("withheld" in line["event"] for line in lines) >= 20
    assert any(line.get("error") == "RuntimeError" and "leaky.py:" in line["at"] for line in lines)
    assert any(line.get("job") == jobs["failed"]["id"] for line in lines)
    assert 'spinepaint_job_failures_total{problem="internal-error"} 1.0' in said["metrics"]
    assert "spinepaint_workers 1.0" in said["metrics"]
    for place, text in said.items():
        assert text, place
        for trace in traces(files):
            # A refusal tells the uploader which of the series that came it means, and has nothing but UIDs to say that by.
            if place == "refusal" and trace.startswith("1.2."):
                continue
            assert trace not in text.casefold(), (place, trace)
