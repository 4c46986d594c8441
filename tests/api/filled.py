"""Something of everything in a gateway, so that the operations of the document have what they are about."""

import io
import zipfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydicom import dcmread

from spinepaint.imaging.dicom_index import index_instance
from spinepaint.store import StoredInstance, by_series, result_prefix
from spinepaint.store.database import utc_now
from tests.app.conftest import EDIT
from tests.attacks.serving import Serving

MANY = 40
"""More than are deleted, cancelled and tried again in a run that is not meant to last."""
_PROBLEM = {"type": "https://spinepaint.invalid/problems/no-disc", "title": "No disc.", "status": 422, "detail": "d"}


def fill(gateway: Serving, files: Sequence[Path], headers: dict[str, str]) -> dict[str, Any]:
    """Series, jobs in every state, batches and DICOMweb objects; the ids of all of them by the names that paths give them."""
    packed = zipped(files)
    taken = gateway.client.post("/v1/series", files=[("files", ("a.zip", packed))], headers=headers)
    first_id = taken.raise_for_status().json()["id"]
    series = [_again(gateway, first_id) for _ in range(MANY)]
    jobs = [_job(gateway, first_id, number, files) for number in range(MANY)]
    batches = []
    for _ in range(MANY // 2):
        body = {"series_ids": series[:1], "specs": [EDIT, {**EDIT, "severity": "moderate_large"}]}
        batches.append(gateway.client.post("/v1/batches", json=body, headers=headers).raise_for_status().json()["id"])
    for batch_id in batches[::2]:
        gateway.ledger.cancel_batch(batch_id)
    first = dcmread(files[0], stop_before_pixels=True)
    return {
        "series_id": series,
        "job_id": jobs,
        "batch_id": batches,
        "study": [str(first.StudyInstanceUID)],
        "series": [str(first.SeriesInstanceUID)],
        "instance": [str(first.SOPInstanceUID)],
        "frames": ["1"],
        "tag": ["7FE00010"],
        "destination": ["archive"],
        "zip": packed.hex(),
    }


def zipped(files: Sequence[Path]) -> bytes:
    """The files in one zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.name)
    return buffer.getvalue()


def _again(gateway: Serving, series_id: str) -> str:
    """One more series of the same content, which can be deleted while the first is still there."""
    of = gateway.ledger.get_series(series_id)
    assert of is not None
    given = {"sha256": of.sha256, "geometry": of.geometry, "warnings": of.warnings, "artifact_key": of.artifact_key}
    return gateway.ledger.add_series(**given).id


def _job(gateway: Serving, series_id: str, number: int, files: Sequence[Path]) -> str:
    """A job that is queued, runs, has failed, was cancelled, or has a result; with a delivery and a webhook that are owed."""
    ledger = gateway.ledger
    owed = {"destination": "archive", "callback_url": "https://hooks.example.org/a"}
    job_id = ledger.submit_job(series_id, {**EDIT, "seed": number}, **owed).id
    match number % 5:
        case 0:
            return job_id
        case 1:
            ledger.cancel(job_id)
            return job_id
    claim = ledger.claim(job_id, "by hand")
    assert claim is not None
    ledger.progress(job_id, claim.token, "sample", 0.5)
    match number % 5:
        case 2:
            ledger.fail(job_id, claim.token, _PROBLEM, retry=False)
        case 3:
            prefix = result_prefix(job_id, claim.token)
            for name, content in {"preview.png": b"\x89PNG\r\n\x1a\n", "report.json": b"{}"}.items():
                gateway.artifacts.put_bytes(f"{prefix}sample-01/{name}", content)
            kept = []
            for path in files:
                key = f"{prefix}sample-01/series/{path.name}"
                gateway.artifacts.put_file(key, path)
                with path.open("rb") as stream:
                    indexed = index_instance(stream)
                assert indexed is not None
                kept.append(StoredInstance(key, indexed.as_dict()))
            assert ledger.succeed(job_id, claim.token, {"spec": EDIT}, prefix, by_series(kept) if number == 3 else ())
            given_up = {"type": "https://spinepaint.invalid/problems/no-answer", "title": "No answer.", "status": 502}
            for due in ledger.due_dicom_deliveries(utc_now(), "archive"):
                taken = ledger.take_dicom_delivery(due, timedelta(minutes=1))
                assert taken is not None and ledger.fail_dicom_delivery(taken, given_up, None)
    return job_id
