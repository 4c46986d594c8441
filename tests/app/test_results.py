"""Results, reports, previews and events."""

import io
import json
import threading
import time
import zipfile
from email.parser import BytesParser

import pytest
from fastapi.testclient import TestClient

from spinepaint.app.results import chosen_media_type
from spinepaint.imaging.errors import Refusal
from tests.app.conftest import EDIT, HandWorker, problem_type


def test_nothing_until_it_is_ready(client: TestClient, job_id: str) -> None:
    for name in ("result", "report", "preview.png"):
        response = client.get(f"/v1/jobs/{job_id}/{name}")
        assert (response.status_code, problem_type(response)) == (409, "not-ready")
        assert name.partition(".")[0] not in client.get(f"/v1/jobs/{job_id}").json()["links"]


def test_zip(client: TestClient, job_id: str, worker: HandWorker) -> None:
    files = worker.deliver(job_id)
    response = client.get(client.get(f"/v1/jobs/{job_id}").json()["links"]["result"])
    assert response.headers["content-type"] == "application/zip"
    assert int(response.headers["content-length"]) == len(response.content)
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files


def test_dicom_parts(client: TestClient, job_id: str, worker: HandWorker) -> None:
    files = worker.deliver(job_id)
    accept = 'multipart/related; type="application/dicom"'
    response = client.get(f"/v1/jobs/{job_id}/result", headers={"Accept": accept})
    content_type = response.headers["content-type"]
    assert content_type.startswith('multipart/related; type="application/dicom"; boundary=')
    message = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + response.content)
    parts = message.get_payload()
    assert isinstance(parts, list)
    assert [part.get_content_type() for part in parts] == ["application/dicom"] * 2  # type: ignore[union-attr]
    expected = sorted(content for name, content in files.items() if name.endswith(".dcm"))
    assert sorted(part.get_payload(decode=True) for part in parts) == expected  # type: ignore[union-attr, type-var]


def test_not_acceptable(client: TestClient, job_id: str, worker: HandWorker) -> None:
    worker.deliver(job_id)
    response = client.get(f"/v1/jobs/{job_id}/result", headers={"Accept": "text/html"})
    assert (response.status_code, problem_type(response)) == (406, "not-acceptable")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/zip;q=0", None),
        ("*/*;q=0", None),
        ('multipart/related; type="image/png"', None),
        ('multipart/related; type="image/png", application/zip;q=0.1', "application/zip"),
        ("application/zip;q=0, */*", "multipart/related"),
        ("multipart/related;q=0, */*", "application/zip"),
        ("application/zip;q=0.4, multipart/*;q=0.5", "multipart/related"),
        ("multipart/related, application/zip", "multipart/related"),
        ("application/*", "application/zip"),
        ("", "application/zip"),
    ],
)
def test_the_best_of_what_is_accepted(accept: str, kind: str | None) -> None:
    if kind is not None:
        assert chosen_media_type(accept) == kind
        return
    with pytest.raises(Refusal, match="Accept") as refusal:
        chosen_media_type(accept)
    assert (refusal.value.status, refusal.value.type) == (406, "not-acceptable")


def test_report_and_preview(client: TestClient, job_id: str, worker: HandWorker) -> None:
    files = worker.deliver(job_id)
    assert client.get(f"/v1/jobs/{job_id}/report").json() == {"spec": EDIT}
    preview = client.get(f"/v1/jobs/{job_id}/preview.png")
    assert preview.headers["content-type"] == "image/png"
    assert preview.content == files["sample-01/preview.png"]


def test_report_and_preview_of_each_sample(client: TestClient, job_id: str, worker: HandWorker) -> None:
    worker.deliver(job_id)
    job = worker.ledger.get_job(job_id)
    assert job is not None
    worker.artifacts.put_bytes(f"{job.result_key}sample-02/report.json", b'{"second": true}')
    worker.artifacts.put_bytes(f"{job.result_key}sample-02/preview.png", b"second")
    assert client.get(f"/v1/jobs/{job_id}/report?sample=1").json() == {"spec": EDIT}
    assert client.get(f"/v1/jobs/{job_id}/report?sample=2").json() == {"second": True}
    assert client.get(f"/v1/jobs/{job_id}/preview.png?sample=2").content == b"second"
    for name in ("report", "preview"):
        path = f"/v1/jobs/{job_id}/{name}{'.png' if name == 'preview' else ''}"
        absent = client.get(f"{path}?sample=3")
        assert (absent.status_code, problem_type(absent)) == (404, f"no-{name}")
        for sample in ("0", "65", "../1", ""):
            assert client.get(path, params={"sample": sample}).status_code == 422


def frames(text: str) -> list[dict[str, str]]:
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]  # type: ignore[misc]


def test_events_of_a_finished_job(client: TestClient, job_id: str, worker: HandWorker) -> None:
    worker.deliver(job_id)
    response = client.get(f"/v1/jobs/{job_id}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    found = frames(response.text)
    assert [frame["id"] for frame in found] == ["1", "2", "3", "4"]
    assert [frame["event"] for frame in found] == ["state", "state", "progress", "state"]
    assert json.loads(found[2]["data"])["stage"] == "sample"
    assert json.loads(found[-1]["data"])["state"] == "succeeded"


def test_events_are_replayed_from_the_last_one_seen(client: TestClient, job_id: str, worker: HandWorker) -> None:
    worker.deliver(job_id)
    tail = client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "2"})
    assert [frame["id"] for frame in frames(tail.text)] == ["3", "4"]
    assert client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "4"}).status_code == 204


@pytest.mark.parametrize("last", ["x", "-1", "99999999999999999999"])
def test_a_malformed_last_event_id(client: TestClient, job_id: str, last: str) -> None:
    response = client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last})
    assert (response.status_code, problem_type(response)) == (422, "invalid-request")


def test_events_of_a_running_job_arrive_until_its_end(client: TestClient, job_id: str, worker: HandWorker) -> None:
    def work() -> None:
        time.sleep(0.3)
        worker.deliver(job_id)

    thread = threading.Thread(target=work)
    thread.start()
    response = client.get(f"/v1/jobs/{job_id}/events")
    thread.join()
    assert [frame["id"] for frame in frames(response.text)] == ["1", "2", "3", "4"]
