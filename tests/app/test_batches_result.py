"""The zip of a batch: what it holds, what its manifest says, and what it costs."""

import io
import json
import tracemalloc
import uuid
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from spinepaint.app.batch_manifest import split_of
from spinepaint.app.batch_result import _zipped
from spinepaint.settings import Settings
from spinepaint.store import StoredInstance, by_series, result_prefix
from spinepaint.store.dicom_entries import enter_dicom
from spinepaint.training.datasets.manifest import split_of as training_split_of
from tests.app.conftest import EDIT, HandWorker, problem_type
from tests.imaging.series_factory import make_series

SMALL: dict[str, Any] = {"slices": 7, "rows": 64, "columns": 64, "spacing_mm": (4.4, 2.0, 2.0)}
SOURCE, OUTPUT = "1.2.3.4", "2.25.7"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_queued_jobs": 100})


def upload_of(client: TestClient, folder: Path, patient: str) -> str:
    """A series of its own study, of a patient."""
    study = f"2.25.{uuid.uuid4().int}"

    def mutate(dataset: Any, _: int) -> None:
        dataset.PatientID = patient
        dataset.PatientName = f"Doe^{patient}"
        dataset.StudyInstanceUID = study

    files = [("files", (path.name, path.read_bytes())) for path in make_series(folder, **SMALL, mutate=mutate)]
    return str(client.post("/v1/series", files=files).json()["id"])


def report_of(spec: dict[str, Any], sample: int) -> dict[str, Any]:
    return {
        "spec": spec | {"sample": sample, "seed": spec["seed"] + 1000 * (sample - 1)},
        "source": {"series_uid": SOURCE},
        "output": {"series_uid": f"{OUTPUT}.{sample}"},
        "landmark_lps_mm": [1.0, 2.5, -3.0],
        "quality": {"verified": sample == 1},
    }


def deliver(worker: HandWorker, job_id: str, *, filler: int = 10) -> dict[str, bytes]:
    """Do a job as the pipeline would, with as many samples as it asks for."""
    claim = worker.ledger.claim(job_id, "by hand")
    assert claim is not None
    files: dict[str, bytes] = {}
    for sample in range(1, claim.spec["samples"] + 1):
        folder = f"sample-{sample:02d}/"
        files |= {f"{folder}{name}": name.encode() * filler for name in ("series/0001.dcm", "series/0002.dcm", "preview.png")}
        files |= {f"{folder}labels/{name}.dcm": name.encode() for name in ("edit", "report")}
        files[f"{folder}report.json"] = json.dumps(report_of(claim.spec, sample)).encode()
    prefix = result_prefix(job_id, claim.token)
    for name, content in files.items():
        worker.artifacts.put_bytes(prefix + name, content)
    assert worker.ledger.succeed(job_id, claim.token, report_of(claim.spec, 1), prefix)
    return files


def submit(client: TestClient, series_ids: list[str], specs: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """Where the batch is, and its jobs."""
    answer = client.post("/v1/batches", json={"series_ids": series_ids, "specs": specs})
    assert answer.status_code == 202, answer.text
    here = answer.json()["links"]["self"]
    return here, [item["job_id"] for item in client.get(here).json()["items"]]


def fetch(client: TestClient, here: str, query: str = "") -> tuple[dict[str, bytes], list[dict[str, Any]], list[dict[str, Any]]]:
    """The files of the zip without its two lists, the manifest's lines, the others' lines."""
    answer = client.get(f"{here}/result{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest, failed = (
        [json.loads(line) for line in files.pop(name).splitlines()] for name in ("manifest.jsonl", "failed.jsonl")
    )
    return files, manifest, failed


def test_every_file_and_a_line_for_each_sample(client: TestClient, series_id: str, worker: HandWorker) -> None:
    here, jobs = submit(client, [series_id], [EDIT | {"seed": 7, "samples": 2}, EDIT | {"seed": 8, "fsu": "L5-S1"}])
    delivered = [deliver(worker, job_id) for job_id in jobs]
    files, manifest, failed = fetch(client, here)
    assert files == {f"item-{n:05d}/{name}": content for n, own in enumerate(delivered) for name, content in own.items()}
    assert failed == []
    assert [(line["index"], line["sample"], line["seed"], line["verified"], line["fsu"]) for line in manifest] == [
        (0, 1, 7, True, "L4-L5"),
        (0, 2, 1007, False, "L4-L5"),
        (1, 1, 8, True, "L5-S1"),
    ]
    second = manifest[1]
    assert second | {"split": ""} == {
        "index": 0,
        "sample": 2,
        "job_id": jobs[0],
        "series": "item-00000/sample-02/series",
        "labels": {
            "edit": "item-00000/sample-02/labels/edit.dcm",
            "report": "item-00000/sample-02/labels/report.dcm",
        },
        "report": "item-00000/sample-02/report.json",
        "preview": "item-00000/sample-02/preview.png",
        "pathology": "disc_herniation",
        "severity": "small",
        "fsu": "L4-L5",
        "landmark_lps_mm": [1.0, 2.5, -3.0],
        "seed": 1007,
        "source_series_uid": SOURCE,
        "output_series_uid": f"{OUTPUT}.2",
        "verified": False,
        "split": "",
    }
    for line in manifest:
        assert {line["report"], line["preview"], *line["labels"].values()} <= set(files)
        assert any(name.startswith(line["series"] + "/") for name in files)


def test_items_without_a_result_are_listed_with_their_problem(client: TestClient, series_id: str, worker: HandWorker) -> None:
    hidden = EDIT | {"deidentify": True}
    here, jobs = submit(client, [series_id], [EDIT, EDIT, hidden, EDIT])
    deliver(worker, jobs[0])
    worker.fail(jobs[1])
    worker.fail(jobs[2])
    client.post(f"/v1/jobs/{jobs[3]}/cancel")
    _, manifest, failed = fetch(client, here)
    assert [line["index"] for line in manifest] == [0]
    assert [(line["index"], line["state"], line["job_id"]) for line in failed] == [
        (1, "failed", jobs[1]),
        (2, "failed", jobs[2]),
        (3, "cancelled", jobs[3]),
    ]
    problem = {"type": "https://spinepaint.invalid/problems/no-disc", "title": "No disc.", "status": 422}
    assert [line["problem"] for line in failed] == [problem | {"detail": "d"}, problem, None]
    assert all("series_uid" not in line["spec"] and line["spec"]["fsu"] == "L4-L5" for line in failed)


def test_a_result_that_was_deleted_is_said_to_be(client: TestClient, series_id: str, worker: HandWorker) -> None:
    here, jobs = submit(client, [series_id], [EDIT, EDIT])
    for job_id in jobs:
        deliver(worker, job_id)
    job = worker.ledger.get_job(jobs[0])
    assert job is not None and job.result_key is not None
    worker.artifacts.delete_prefix(job.result_key)
    _, manifest, failed = fetch(client, here)
    assert [line["index"] for line in manifest] == [1]
    assert [(line["index"], line["problem"]["title"]) for line in failed] == [(0, "The result was deleted.")]
    assert client.delete(f"/v1/jobs/{jobs[0]}").status_code == 204
    _, manifest, failed = fetch(client, here)
    assert ([line["index"] for line in manifest], failed) == ([1], [])


def test_409_until_all_have_ended_unless_a_part_is_asked_for(client: TestClient, series_id: str, worker: HandWorker) -> None:
    here, jobs = submit(client, [series_id], [EDIT] * 3)
    deliver(worker, jobs[1])
    worker.start(jobs[2])
    early = client.get(f"{here}/result")
    assert (early.status_code, problem_type(early)) == (409, "not-ready")
    assert int(early.headers["retry-after"]) > 0
    assert client.get(f"{here}/result?partial=false").status_code == 409
    assert client.get(f"{here}/result?partial=perhaps").status_code == 422
    links = client.get(here).json()["links"]
    _, manifest, others = fetch(client, here, "?partial=true")
    assert links["partial_result"] == f"{here}/result?partial=true"
    assert [line["index"] for line in manifest] == [1]
    assert [(line["index"], line["state"], line["problem"]) for line in others] == [(0, "queued", None), (2, "running", None)]
    client.post(f"{here}/cancel")
    assert client.get(here).json()["links"]["result"] == f"{here}/result"
    assert len(fetch(client, here)[1]) == 1


def test_only_a_zip(client: TestClient, series_id: str, worker: HandWorker) -> None:
    here, (job_id,) = submit(client, [series_id], [EDIT])
    deliver(worker, job_id)
    for accept in ("text/html", "application/zip;q=0", 'multipart/related; type="application/dicom"'):
        refused = client.get(f"{here}/result", headers={"Accept": accept})
        assert (refused.status_code, problem_type(refused)) == (406, "not-acceptable")
    assert client.get(f"{here}/result", headers={"Accept": "application/*"}).status_code == 200
    head = client.head(f"{here}/result")
    assert (head.status_code, head.headers["content-type"], head.content) == (200, "application/zip", b"")


def test_a_repeat_is_the_same(client: TestClient, series_id: str, worker: HandWorker) -> None:
    here, jobs = submit(client, [series_id], [EDIT] * 2)
    for job_id in jobs:
        deliver(worker, job_id)
    assert client.get(f"{here}/result").content == client.get(f"{here}/result").content


def test_no_patient_is_in_two_splits_and_none_is_named(client: TestClient, worker: HandWorker, tmp_path: Path) -> None:
    patients = ["PATIENT-0", "PATIENT-1", "PATIENT-3"]  # one for each split
    series = {upload_of(client, tmp_path / f"{patient}-{scan}", patient): patient for patient in patients for scan in (1, 2)}
    here, jobs = submit(client, list(series), [EDIT])
    for job_id in jobs:
        deliver(worker, job_id)
    files, manifest, _ = fetch(client, here)
    owners = [series[item["series_id"]] for item in client.get(here).json()["items"]]
    splits: dict[str, set[str]] = {}
    for line in manifest:
        splits.setdefault(owners[line["index"]], set()).add(line["split"])
    assert splits == {patient: {split_of(patient)} for patient in patients}
    assert {split for own in splits.values() for split in own} == {"train", "val", "test"}
    told = json.dumps(manifest) + "".join(files)
    assert "PATIENT" not in told and "Doe" not in told


def test_without_a_patient_id_a_study_stays_together(client: TestClient, worker: HandWorker, tmp_path: Path) -> None:
    bare = upload_of(client, tmp_path, "")
    here, jobs = submit(client, [bare], [EDIT] * 2)
    for job_id in jobs:
        deliver(worker, job_id)
    _, manifest, _ = fetch(client, here)
    (row,) = worker.ledger.search_series((), 10, 0)
    assert [line["split"] for line in manifest] == [split_of(row.study_uid)] * 2


def test_where_nobody_knows_the_patient_any_more_there_is_no_split(
    client: TestClient, worker: HandWorker, tmp_path: Path
) -> None:
    source = upload_of(client, tmp_path, "PATIENT-1")
    here, jobs = submit(client, [source], [EDIT, EDIT | {"deidentify": True}])
    for job_id in jobs:
        deliver(worker, job_id)
    with worker.ledger.write() as session:
        for job_id, patient in zip(jobs, ("PATIENT-1", "SP-0123456789AB"), strict=True):
            enter_dicom(session, by_series([indexed(patient)]), tenant="", job_id=job_id)
    assert client.delete(f"/v1/series/{source}?results=keep").status_code == 204
    _, manifest, _ = fetch(client, here)
    assert [line["split"] for line in manifest] == [split_of("PATIENT-1"), None]


def indexed(patient: str) -> StoredInstance:
    of = {"study_uid": "1.5", "series_uid": "1.6", "sop_instance_uid": "1.7", "sop_class_uid": "1.8", "size": 1, "sha256": "0"}
    of |= {"transfer_syntax_uid": "1.2.840.10008.1.2.1", "instance_number": 1, "bulk": {}, "frames": []}
    return StoredInstance("results/x", of | {"attributes": {"00100020": {"vr": "LO", "Value": [patient]}}})


def test_splits_are_stable_and_hold_out_whom_training_holds_out() -> None:
    patients = [f"patient {number}" for number in range(4000)]
    splits = {patient: split_of(patient) for patient in patients}
    assert {patient for patient in patients if splits[patient] == "test"} == {
        patient for patient in patients if training_split_of(patient) == "held_out"
    }
    shares = [sum(split == name for split in splits.values()) / 4000 for name in ("train", "val", "test")]
    assert shares == pytest.approx([6 / 8, 1 / 8, 1 / 8], abs=0.02)
    assert [split_of(name) for name in ("P1", "P2", "P3", "P4")] == ["test", "train", "val", "train"]


def test_memory_does_not_grow_with_the_batch(client: TestClient, series_id: str, worker: HandWorker) -> None:
    here, jobs = submit(client, [series_id], [EDIT] * 12)
    for job_id in jobs:
        deliver(worker, job_id, filler=200_000)  # some 3 MB a file, 100 MB in all
    tracemalloc.start()
    try:
        size = sum(len(piece) for piece in _zipped(here.rsplit("/", 1)[-1], worker.ledger, worker.artifacts))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 90_000_000
    assert peak < 16_000_000
