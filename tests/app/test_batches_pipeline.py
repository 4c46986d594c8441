"""A batch through the real pipeline, with tiny networks: what the manifest says is what the zip holds."""

import functools
import io
import json
import zipfile
from pathlib import Path

from fastapi.testclient import TestClient
from pydicom import dcmread

from spinepaint.app.gateway import create_app
from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, Ledger, migrate
from spinepaint.training.phantom import make_phantom, write_series
from spinepaint.worker.pipeline import run_pipeline
from spinepaint.worker.runner import Outcome, Workplace, run_job
from tests.training.tiny_bundle import write_tiny_bundle

SPEC = {"pathology": "disc_herniation", "severity": "small", "steps": 2, "allow_synthetic": True}


def test_a_batch_from_the_request_to_the_zip(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    migrate(settings.database_url)
    write_series(make_phantom(11, slices=15, matrix=160), tmp_path / "series", seed=11)
    bundle = write_tiny_bundle(tmp_path / "bundle")
    ledger = Ledger(settings.database_url)
    artifacts = ArtifactStore(settings.artifacts_url)
    place = Workplace(ledger, artifacts, functools.partial(run_pipeline), "w", tmp_path / "scratch", bundle=bundle)
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
        files = [("files", (path.name, path.read_bytes())) for path in sorted((tmp_path / "series").glob("*.dcm"))]
        series = client.post("/v1/series?allow_synthetic=true", files=files).json()
        middle = [float(row[3]) for row in series["geometry"]["affine"][:3]]
        inside = centre(series["geometry"])
        specs = [
            SPEC | {"fsu": "L4-L5", "landmark_lps_mm": inside, "samples": 2},
            SPEC | {"fsu": "L3-L4", "landmark_lps_mm": inside, "deidentify": True},
            SPEC | {"fsu": "L3-L4", "landmark_lps_mm": [value + 5000 for value in middle]},
        ]
        batch = client.post("/v1/batches", json={"series_ids": [series["id"]], "specs": specs}).json()
        here = batch["links"]["self"]
        outcomes = [run_job(item["job_id"], place) for item in client.get(here).json()["items"]]
        assert outcomes == [Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.REFUSED]
        answer = client.get(f"{here}/result")
    ledger.close()
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path / "zip")
    manifest, failed = (
        [json.loads(line) for line in (tmp_path / "zip" / name).read_text().splitlines()]
        for name in ("manifest.jsonl", "failed.jsonl")
    )
    assert [(line["index"], line["sample"]) for line in manifest] == [(0, 1), (0, 2), (1, 1)]
    assert [(line["index"], line["problem"]["type"].rsplit("/", 1)[-1]) for line in failed] == [(2, "landmark-outside")]
    for line in manifest:
        report = json.loads((tmp_path / "zip" / line["report"]).read_text())
        painted = [dcmread(path) for path in (tmp_path / "zip" / line["series"]).glob("*.dcm")]
        assert len(painted) == series["instances"]
        assert {each.SeriesInstanceUID for each in painted} == {line["output_series_uid"]}
        assert line["landmark_lps_mm"] == report["landmark_lps_mm"]
        assert (line["seed"], line["verified"]) == (report["spec"]["seed"], report["quality"]["verified"])
        assert isinstance(line["verified"], bool) and line["split"] in ("train", "val", "test")
        labels = {name: dcmread(tmp_path / "zip" / path).SOPClassUID.name for name, path in line["labels"].items()}
        assert set(labels) == {"edit", "report"} and labels["edit"] == "Segmentation Storage"
        assert (tmp_path / "zip" / line["preview"]).read_bytes().startswith(b"\x89PNG")
    assert len({line["seed"] for line in manifest}) == 3
    assert len({line["split"] for line in manifest}) == 1
    plain, hidden = manifest[0]["source_series_uid"], manifest[2]["source_series_uid"]
    assert plain == series["series_uid"] != hidden
    assert series["series_uid"] not in json.dumps([manifest[2], failed])


def centre(geometry: dict[str, object]) -> list[float]:
    """Patient LPS mm of the middle of the volume."""
    shape, affine = geometry["shape"], geometry["affine"]
    middle = [(size - 1) / 2 for size in shape]  # type: ignore[attr-defined]
    return [sum(row[axis] * middle[axis] for axis in range(3)) + row[3] for row in affine[:3]]  # type: ignore[index]
