"""Tenants: every route there is, asked with a foreign key for what is another's, answers as if it had never been."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from pydicom import dcmread
from starlette.routing import Route

from spinepaint.app.credentials import OPEN
from spinepaint.imaging.caps import Caps
from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore
from spinepaint.store.layout import new_id
from tests.app.access_tools import Site, opened
from tests.app.conftest import EDIT, Files, HandWorker, problem_type

UID = "1.2.826.0.1.3680043.99.{}"
TENANTLESS = {*OPEN, "/metrics", "/v1/capabilities", "/openapi.json"}
CHECKS = {"/v1/series:check"}


@dataclass
class Owned:
    """What a tenant has, by the name that paths give it, and with the same names what nobody has."""

    mine: dict[str, str]
    absent: dict[str, str]
    patient: str


@dataclass
class Scene:
    """Two tenants at one gateway, of whom the first has something of everything."""

    site: Site
    owner: TestClient
    foreign: TestClient
    has: Owned


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, upload: Files) -> Iterator[Scene]:
    data = tmp_path_factory.mktemp("tenants")
    # Every operation is asked without a key below, from one address.
    settings = Settings(data_dir=data, caps=Caps(upload_bytes=1_000_000), webhook={}, denials_burst=1000)
    with opened(settings) as site:
        owner, foreign = (site.client(site.key(tenant)[1]) for tenant in ("owner", "foreign"))
        series_id = owner.post("/v1/series", files=upload).raise_for_status().json()["id"]
        job = owner.post("/v1/jobs", json={"series_id": series_id, **EDIT}, headers={"Idempotency-Key": "same"})
        job_id = job.raise_for_status().json()["id"]
        HandWorker(site.ledger, ArtifactStore(settings.artifacts_url)).deliver(job_id)
        batch = owner.post("/v1/batches", json={"series_ids": [series_id], "specs": [EDIT]}).raise_for_status().json()
        yield Scene(site, owner, foreign, owned(upload, series_id, job_id, batch["id"]))


def owned(upload: Files, series_id: str, job_id: str, batch_id: str) -> Owned:
    import io

    first = dcmread(io.BytesIO(upload[0][1][1]))
    mine = {
        "series_id": series_id,
        "job_id": job_id,
        "batch_id": batch_id,
        "study": str(first.StudyInstanceUID),
        "series": str(first.SeriesInstanceUID),
        "instance": str(first.SOPInstanceUID),
    }
    either = {"destination": "archive", "frames": "1", "tag": "7FE00010"}
    absent = {name: new_id() if name.endswith("_id") else UID.format(len(name)) for name in mine}
    return Owned(mine | either, absent | either, str(first.PatientName))


def operations(scene: Scene) -> list[tuple[str, str]]:
    """Method and path of everything in the OpenAPI document, and of the routes that it leaves out."""
    document = scene.owner.get("/openapi.json").json()
    found = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    hidden = {
        (method, route.path) for route in scene.site.app.routes if isinstance(route, Route) for method in route.methods or ()
    }
    return sorted(operation for operation in found | hidden if operation[0] != "HEAD" and operation[1] not in TENANTLESS)


def told(answer: Response, ids: dict[str, str]) -> tuple[int, str, str]:
    """What an answer tells, without the ids that were asked for and the time that waits take."""
    text = answer.text
    for value in ids.values():
        text = text.replace(value, "ID")
    return answer.status_code, re.sub(r"\d{4}-\d\d-\d\dT[^\"]*", "TIME", text), answer.headers.get("content-type", "")


def filled(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)(?::\w+)?}", lambda name: ids[name[1]], path)


def body_for(path: str, ids: dict[str, str]) -> dict[str, Any]:
    """What is sent with a request, where the id lies in the body."""
    match path:
        case "/v1/jobs":
            return {"json": {"series_id": ids["series_id"], **EDIT}}
        case "/v1/batches":
            return {"json": {"series_ids": [ids["series_id"]], "specs": [EDIT]}}
    return {}


def test_a_foreign_id_is_as_one_that_never_was_on_every_route(scene: Scene) -> None:
    walked, found = operations(scene), []
    for method, path in walked:
        if "{" not in path and method != "POST":
            continue
        answers = []
        for ids in (scene.has.mine, scene.has.absent):
            answer = scene.foreign.request(method, filled(path, ids), **body_for(path, ids))
            answers.append(told(answer, ids))
        assert answers[0] == answers[1], (method, path)
        if "{" in path and not path.endswith(("/rendered", "/thumbnail")):
            nothing = path.startswith("/dicom-web") and answers[0][0] == 204  # a search finds nothing
            assert answers[0][0] == 404 or nothing or (method, path) == ("POST", "/dicom-web/studies/{study}"), (
                method,
                path,
                answers,
            )
            found.append(path)
    assert {"/v1/jobs/{job_id}/events", "/v1/batches/{batch_id}/result", "/v1/series/{series_id}"} <= set(found)
    assert sum(path.startswith("/dicom-web") for path in found) >= 11
    assert len(found) >= 26


def test_the_same_ids_lead_their_owner_somewhere(scene: Scene) -> None:
    """Or the test above would show nothing."""
    for method, path in operations(scene):
        if method != "GET" or "{" not in path or path.endswith(("/rendered", "/thumbnail")):
            continue
        status = scene.owner.get(filled(path, scene.has.mine)).status_code
        assert status in (200, 204) or (status, path) == (409, "/v1/batches/{batch_id}/result"), (path, status)


def test_lists_and_searches_name_nothing_of_others(scene: Scene) -> None:
    secrets = [value for name, value in scene.has.mine.items() if name not in ("destination", "frames", "tag")]
    secrets += [scene.has.patient]
    for method, path in operations(scene):
        if method != "GET" or "{" in path:
            continue
        answer, own = scene.foreign.get(path), scene.owner.get(path)
        assert not [secret for secret in secrets if secret in answer.text], path
        assert answer.status_code in (200, 204)
        assert any(secret in own.text for secret in secrets) or path == "/v1/audit", path
    series_uid = scene.has.mine["series"]
    assert scene.foreign.get("/v1/jobs", params={"series_uid": series_uid}).json()["jobs"] == []
    assert scene.foreign.get("/dicom-web/series", params={"SeriesInstanceUID": series_uid}).status_code == 204
    assert scene.foreign.get("/dicom-web/studies", params={"PatientName": "*"}).status_code == 204
    cursor = scene.owner.get("/v1/jobs", params={"limit": 1}).json()["next"]
    assert cursor is not None
    assert scene.foreign.get("/v1/jobs", params={"cursor": cursor}).json()["jobs"] == []


def test_what_is_anothers_can_neither_be_edited_nor_be_guessed_by_key(scene: Scene) -> None:
    for body in ({"series_id": scene.has.mine["series_id"]}, {"series_uid": scene.has.mine["series"]}):
        for headers in ({}, {"Idempotency-Key": "same"}):
            answer = scene.foreign.post("/v1/jobs", json={**body, **EDIT}, headers=headers)
            assert (answer.status_code, problem_type(answer)) == (404, "unknown-series")
    lines = json.dumps({"series_id": scene.has.mine["series_id"], "spec": EDIT})
    refused = scene.foreign.post("/v1/batches", content=lines, headers={"Content-Type": "application/jsonl"})
    assert refused.status_code == 422
    assert scene.owner.get(f"/v1/jobs/{scene.has.mine['job_id']}").json()["state"] == "succeeded"


def test_the_same_series_may_be_kept_by_both_and_goes_by_itself(scene: Scene, series_files: list[Path]) -> None:
    boundary = "b0und"
    parts = [b"--b0und\r\nContent-Type: application/dicom\r\n\r\n" + path.read_bytes() + b"\r\n" for path in series_files]
    kind = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}'}
    stored = scene.foreign.post("/dicom-web/studies", content=b"".join(parts) + b"--b0und--\r\n", headers=kind)
    assert stored.status_code == 200, stored.text
    (own_id,) = re.findall(r"/v1/series/([0-9a-f-]{36})", stored.headers["link"])
    assert own_id != scene.has.mine["series_id"]
    study = f"/dicom-web/studies/{scene.has.mine['study']}"
    assert scene.foreign.get(study).status_code == 200
    body = {"series_uid": scene.has.mine["series"], **EDIT}
    job = scene.foreign.post("/v1/jobs", json=body, headers={"Idempotency-Key": "same"})
    assert job.status_code == 202 and job.json()["id"] != scene.has.mine["job_id"]
    assert job.json()["links"]["series"] == f"/v1/series/{own_id}"
    assert scene.foreign.post(f"/v1/jobs/{job.json()['id']}/cancel").status_code == 200
    assert scene.foreign.delete(f"/v1/series/{own_id}?results=delete").status_code == 204
    assert scene.foreign.get(study).status_code == 404
    assert scene.owner.get(study).status_code == 200


def test_without_a_key_no_route_of_them_all_answers(scene: Scene) -> None:
    for method, path in operations(scene):
        for key in (None, "Bearer sp_0123456789abcdef_none"):
            headers = {"Authorization": key} if key else {}
            answer = scene.site.nobody.request(method, filled(path, scene.has.mine), headers=headers)
            assert (answer.status_code, problem_type(answer)) == (401, "unknown-key" if key else "no-key"), (method, path)


def test_without_a_scope_no_route_of_them_all_answers(scene: Scene) -> None:
    nothing = scene.site.client(scene.site.key("owner", scopes=[])[1])
    for method, path in operations(scene):
        answer = nothing.request(method, filled(path, scene.has.mine))
        assert (answer.status_code, problem_type(answer)) == (403, "missing-scope"), (method, path)
