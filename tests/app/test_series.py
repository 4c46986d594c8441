"""Uploads over HTTP: accepted whole or refused whole."""

import io
import json
import uuid
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydicom import dcmread

from spinepaint.settings import Settings
from spinepaint.store.artifacts import ArtifactStore, StoreError
from spinepaint.store.database import utc_now
from tests.app.conftest import EDIT, Files, HandWorker, problem_type
from tests.imaging.series_factory import make_series
from tests.store.discards import due_discards


def stored(settings: Settings) -> list[str]:
    return [artifact.key for artifact in ArtifactStore(settings.artifacts_url).list("sources/")]


def test_many_files(client: TestClient, settings: Settings, upload: Files, series_files: list[Path]) -> None:
    response = client.post("/v1/series", files=[*upload, ("files", ("notes.txt", b"not an image"))])
    assert response.status_code == 201
    view = response.json()
    assert response.headers["location"] == f"/v1/series/{view['id']}"
    assert view["series_uid"] == dcmread(series_files[0]).SeriesInstanceUID
    assert view["instances"] == 7
    assert view["geometry"]["shape"] == [7, 64, 64]
    assert [round(mm, 3) for mm in view["geometry"]["spacing_mm"]] == [4.4, 2.0, 2.0]
    assert client.get(response.headers["location"]).json() == view
    assert len(stored(settings)) == 7  # the note is no part of the series
    assert list((settings.data_dir / "incoming").iterdir()) == []


def test_a_zip(client: TestClient, settings: Settings, zipped: bytes) -> None:
    response = client.post("/v1/series", files={"files": ("all.zip", zipped)})
    assert response.status_code == 201
    assert response.json()["instances"] == 7
    assert len(stored(settings)) == 7  # as the files that were in it, so that each instance can be found


def test_what_was_stored_of_an_upload_goes_also_where_the_store_fails_and_the_service_dies_of_it(
    client: TestClient, settings: Settings, upload: Files, worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ArtifactStore.put_file

    def put_one(store: ArtifactStore, key: str, path: Path) -> None:
        if stored(settings):
            raise StoreError("away")
        real(store, key, path)

    def delete(store: ArtifactStore, prefix: str) -> int:
        raise StoreError("away")

    monkeypatch.setattr(ArtifactStore, "put_file", put_one)
    monkeypatch.setattr(ArtifactStore, "delete_prefix", delete)
    assert client.post("/v1/series", files=upload).status_code >= 500
    (left,) = stored(settings)
    limit = timedelta(seconds=settings.storing_limit_s)
    assert due_discards(worker.ledger, utc_now() + limit) == []
    (due,) = due_discards(worker.ledger, utc_now() + 2 * limit)
    assert left.startswith(due)


def test_what_a_series_names_is_not_to_be_deleted(client: TestClient, series_id: str, worker: HandWorker) -> None:
    assert due_discards(worker.ledger, utc_now() + timedelta(days=1)) == []


def test_a_refused_upload_leaves_nothing_and_names_the_instance(
    client: TestClient, settings: Settings, upload: Files, tmp_path: Path
) -> None:
    def truncate(dataset: object, index: int) -> None:
        if index == 3:
            dataset.PixelData = dataset.PixelData[:100]  # type: ignore[attr-defined]

    files = make_series(tmp_path / "bad", slices=7, rows=64, columns=64, spacing_mm=(4.4, 2.0, 2.0), mutate=truncate)
    response = client.post("/v1/series", files=[("files", (path.name, path.read_bytes())) for path in files])
    problem_type(response)
    assert response.status_code == 422
    (instance,) = response.json()["instances"]
    assert instance["file"] == files[3].name
    assert instance["sop_instance_uid"] == dcmread(files[3]).SOPInstanceUID
    assert instance["reason"]
    assert "Invented" not in response.text
    assert stored(settings) == []
    assert list((settings.data_dir / "incoming").iterdir()) == []


def test_what_is_not_dicom(client: TestClient) -> None:
    response = client.post("/v1/series", files={"files": ("a.txt", b"hello")})
    assert response.status_code == 422
    assert problem_type(response)


def zip_of(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "contents",
    [
        {"notes.txt": b"hello"},
        {"a.zip": zip_of(**{"inner.zip": zip_of(x=b"hello")})},
        {"a.zip": zip_of(x=b"hello"), "b.zip": zip_of(y=b"hello")},
        {"a.zip": zip_of(**{"../../out.dcm": b"hello", "/etc/passwd": b"hello"})},
    ],
    ids=["text", "zip in zip", "two zips", "climbing out"],
)
def test_each_file_of_an_upload_without_dicom_has_the_reason_of_the_dry_run(
    client: TestClient, settings: Settings, contents: dict[str, bytes]
) -> None:
    files = [("files", item) for item in contents.items()]
    told = {(item["file"], item["reason"]) for item in client.post("/v1/series:check", files=files).json()["files"]}
    response = client.post("/v1/series", files=files)
    assert response.status_code == 422
    assert {(item["file"], item["reason"]) for item in response.json()["instances"]} == told
    assert all(reason for _, reason in told)
    assert stored(settings) == []


def test_several_series_need_a_choice(client: TestClient, upload: Files, tmp_path: Path, series_files: list[Path]) -> None:
    second = make_series(tmp_path / "second", slices=7, rows=64, columns=64, spacing_mm=(4.4, 2.0, 2.0), seed=1)
    both = [*upload, *(("files", (path.name, path.read_bytes())) for path in second)]
    refused = client.post("/v1/series", files=both)
    assert refused.status_code == 422
    uid = str(dcmread(second[0]).SeriesInstanceUID)
    accepted = client.post("/v1/series", files=both, data={"series_uid": uid})
    assert accepted.status_code == 201
    assert accepted.json()["series_uid"] == uid


def test_too_large(client: TestClient, settings: Settings) -> None:
    response = client.post("/v1/series", files={"files": ("big.dcm", b"\0" * 1_100_000)})
    assert response.status_code == 413
    assert problem_type(response) == "over-cap-upload-bytes"
    assert stored(settings) == []


def test_too_many_files(client: TestClient) -> None:
    response = client.post("/v1/series", files=[("files", (f"{i}", b"x")) for i in range(51)])
    assert response.status_code == 413
    assert problem_type(response) == "over-cap-upload-files"


def test_the_dry_run_keeps_nothing(client: TestClient, settings: Settings, upload: Files) -> None:
    response = client.post("/v1/series:check", files=[*upload, ("files", ("notes.txt", b"not an image"))])
    report = response.json()
    assert response.status_code == 200
    assert set(report) == {"accepted", "chosen_series_uid", "series", "files", "warnings"}
    assert report["accepted"]
    verdicts = {item["file"]: item["verdict"] for item in report["files"]}
    assert verdicts["notes.txt"] == "ignored"
    assert verdicts[upload[0][1][0]] == "accepted"
    assert stored(settings) == []
    refused = client.post("/v1/series:check", files={"files": ("notes.txt", b"x")})
    assert refused.status_code == 200
    assert refused.json()["accepted"] is False


def test_unknown_and_malformed_ids(client: TestClient) -> None:
    absent = uuid.uuid4()
    assert problem_type(client.get(f"/v1/series/{absent}")) == "unknown-series"
    assert problem_type(client.delete(f"/v1/series/{absent}")) == "unknown-series"
    malformed = client.get("/v1/series/1")
    assert malformed.status_code == 422
    assert problem_type(malformed) == "invalid-request"


def test_delete(client: TestClient, series_id: str) -> None:
    assert client.delete(f"/v1/series/{series_id}").status_code == 204
    assert client.get(f"/v1/series/{series_id}").status_code == 404
    assert client.post("/v1/jobs", json={"series_id": series_id, **EDIT}).status_code == 404


def test_a_series_in_use_stays(client: TestClient, series_id: str, job_id: str, worker: HandWorker) -> None:
    response = client.delete(f"/v1/series/{series_id}")
    assert response.status_code == 409
    assert problem_type(response) == "series-in-use"
    assert response.json()["jobs"] == [job_id]
    worker.deliver(job_id)
    undecided = client.delete(f"/v1/series/{series_id}")
    assert (undecided.status_code, problem_type(undecided)) == (409, "series-has-results")
    assert undecided.json()["jobs"] == [job_id]
    assert client.get(f"/v1/series/{series_id}").status_code == 200
    assert client.delete(f"/v1/series/{series_id}?results=keep").status_code == 204
    assert client.get(f"/v1/jobs/{job_id}/result").status_code == 200


def test_a_series_goes_with_its_results_where_that_is_said(
    client: TestClient, series_id: str, job_id: str, worker: HandWorker
) -> None:
    assert client.delete(f"/v1/series/{series_id}?results=delete").status_code == 409
    worker.deliver(job_id)
    assert client.delete(f"/v1/series/{series_id}?results=perhaps").status_code == 422
    assert client.delete(f"/v1/series/{series_id}?results=delete").status_code == 204
    assert problem_type(client.get(f"/v1/jobs/{job_id}/result")) == "unknown-job"
    assert sorted(due_discards(worker.ledger, utc_now())) == [f"results/{job_id}/", f"sources/{series_id}/"]


def test_a_synthetic_series_is_taken_where_that_is_asked_for(client: TestClient, tmp_path: Path) -> None:
    def synthetic(dataset: Any, _index: int) -> None:
        dataset.SyntheticData = "YES"

    made = make_series(tmp_path, slices=7, rows=64, columns=64, spacing_mm=(4.4, 2.0, 2.0), mutate=synthetic)
    files = [("files", (path.name, path.read_bytes())) for path in made]
    refused = client.post("/v1/series", files=files)
    assert (refused.status_code, problem_type(refused)) == (422, "already-synthetic")
    assert "allow_synthetic" in refused.json()["detail"]
    assert client.post("/v1/series:check", files=files).json()["accepted"] is False
    assert client.post("/v1/series:check?allow_synthetic=true", files=files).json()["accepted"] is True
    taken = client.post("/v1/series?allow_synthetic=true", files=files)
    assert taken.status_code == 201
    assert any("synthetic" in warning for warning in taken.json()["warnings"])
    for named in ({"series_id": taken.json()["id"]}, {"series_uid": taken.json()["series_uid"]}):
        unasked = client.post("/v1/jobs", json={**EDIT, **named}, headers={"Idempotency-Key": "once"})
        assert (unasked.status_code, problem_type(unasked)) == (422, "already-synthetic")
        assert "instances" not in unasked.json()
    assert client.get("/v1/jobs").json()["jobs"] == []
    named = {"series_id": taken.json()["id"], "allow_synthetic": True}
    assert client.post("/v1/jobs", json={**EDIT, **named}, headers={"Idempotency-Key": "once"}).status_code == 202
    assert client.post("/v1/inpaint", files=files, data={"spec": json.dumps(EDIT)}).status_code == 422
    asked = {"spec": json.dumps({**EDIT, "allow_synthetic": True})}
    assert client.post("/v1/inpaint", files=files, data=asked).status_code == 202
