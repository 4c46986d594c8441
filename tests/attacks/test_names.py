"""What a patient, a file or an address is called is nothing but text: no header, no path, no line of a log."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.attacks.serving import Serving, problem, serving, unharmed
from tests.attacks.test_instances import send, store
from tests.attacks.wire import head, say
from tests.imaging.series_factory import make_series
from tests.test_callbacks import REFUSED

INJECTED = "Doe^Jane\r\nX-Injected: yes\r\n\r\n<script>alert(1)</script>"
SIZE: dict[str, Any] = {"slices": 5, "rows": 32, "columns": 32, "spacing_mm": (4.4, 4.0, 4.0)}
EDIT = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small"}


def injected(folder: Path, seed: int) -> dict[str, bytes]:
    """A series whose texts would each be a header, if one were made of it."""

    def mutate(ds: Any, _index: int) -> None:
        ds.PatientName, ds.PatientID, ds.StudyDescription = INJECTED, "1\r\nX-Injected: yes", INJECTED
        ds.SeriesDescription = "t2_tse_sag\r\nX-Injected: yes"

    paths = make_series(folder, **SIZE, seed=seed, mutate=mutate)
    return {f"{path.name}\r\nX-Injected: yes": path.read_bytes() for path in paths}


def clean(answer: httpx.Response) -> httpx.Response:
    """An answer of which no header was made by a patient."""
    assert "x-injected" not in answer.headers
    assert "jane" not in str(answer.headers).lower()
    assert not any(character in value for value in answer.headers.values() for character in "\r\n\0")
    return answer


def test_no_header_is_made_of_a_patients_name(gateway: Serving, tmp_path: Path) -> None:
    taken = clean(send(gateway, injected(tmp_path / "a", 200)))
    assert taken.status_code == 201, taken.text
    stored = clean(store(gateway, injected(tmp_path / "b", 201)))
    assert stored.status_code == 200
    study = next(iter(stored.json()["00081190"]["Value"])).rpartition("/")[2]
    get = gateway.client.get
    for path in ("/dicom-web/studies?PatientName=*", f"/dicom-web/studies/{study}/metadata", f"/dicom-web/studies/{study}"):
        assert clean(get(path)).status_code == 200
    found = get("/dicom-web/studies?includefield=all").json()
    assert any("Injected" in json.dumps(study) for study in found)  # it is told, as a value
    clean(get("/v1/jobs"))
    log = gateway.log.read_text()
    assert "jane" not in log.lower() and "injected" not in log.lower()
    assert all(json.loads(line) for line in log.splitlines() if line)


@pytest.mark.parametrize("uid", ['1.2"; rel="evil', "1.2\r\nX-Injected: yes", "../../../etc", "1.2/../3", "1.2\\3"])
def test_a_uid_that_is_none_is_no_address_and_no_header(gateway: Serving, tmp_path: Path, uid: str) -> None:
    def mutate(ds: Any, _index: int) -> None:
        ds.SeriesInstanceUID = uid

    files = {path.name: path.read_bytes() for path in make_series(tmp_path, **SIZE, seed=300, mutate=mutate)}
    rows = gateway.rows()
    answer = clean(store(gateway, files))
    assert answer.status_code == 409
    assert gateway.rows() == rows


ODD = (
    "\x7f",
    "a" * 8000,
    "\xff\xfe",
    "wait=" + "9" * 4000,
    "q=" + ";" * 4000,
    '"' * 4000,
    "",
    "\xd9\xa3",
    "a\x00b",
    "\r\n\r\nGET / HTTP/1.1",
)


@pytest.mark.parametrize(
    "name", ["Idempotency_Key", "Prefer", "Last_Event_ID", "Accept", "Authorization", "Origin", "Content_Type"]
)
def test_header_fields_with_anything_in_them_are_answered(gateway: Serving, name: str) -> None:
    with unharmed(gateway):
        for value in ODD:
            for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/inpaint"), ("GET", "/dicom-web/studies")):
                answer = say(gateway, head(gateway, method, path, Content_Length="0", **{name: value}))
                assert 200 <= answer.status < 500
                assert len(value) < 5 or value.encode("latin-1") not in answer.body
                assert "x-injected" not in answer.headers


def test_no_callback_url_that_leads_inside_is_taken(broker: str, tmp_path: Path) -> None:
    """Where webhooks are on, and the series is one that could be painted."""
    with serving(tmp_path, broker, webhook__secret="whsec_" + "A" * 32) as gateway:
        paths = make_series(tmp_path / "series", **SIZE)
        series_id = send(gateway, {each.name: each.read_bytes() for each in paths}).json()["id"]
        with unharmed(gateway):
            for url in REFUSED:
                answer = gateway.client.post("/v1/jobs", json={"series_id": series_id, **EDIT, "callback_url": url})
                assert problem(answer) in ((422, "bad-callback-url"), (422, "invalid-request")), url
            short = [url for url in REFUSED if len(url) <= 2048]
            body = {"series_ids": [series_id], "specs": [{**EDIT, "callback_url": url} for url in short]}
            answer = gateway.client.post("/v1/batches", json=body)
            assert problem(answer) == (422, "refused-items")
            assert [item["index"] for item in answer.json()["items"]] == list(range(len(short)))


def test_ids_that_are_paths_lead_nowhere(gateway: Serving) -> None:
    climbing = (
        "..",
        "..%2f..%2fledger.sqlite3",
        "%2e%2e/%2e%2e/etc/passwd",
        "....//....//etc/passwd",
        "%00",
        "a%0d%0aX-Injected:%20yes",
    )
    with unharmed(gateway):
        for what in climbing:
            for pattern in ("/v1/series/{}", "/v1/jobs/{}/result", "/v1/jobs/{}/preview.png", "/dicom-web/studies/{}/series/1.2"):
                answer = clean(gateway.client.get(pattern.format(what)))
                assert problem(answer)[0] in (404, 422)
        zero = "00000000-0000-4000-8000-000000000000"
        for sample in ("-1", "0", "../1", "1/../..", "9" * 400):
            assert problem(gateway.client.get(f"/v1/jobs/{zero}/report", params={"sample": sample}))[0] in (404, 422)


def test_a_name_of_a_destination_is_looked_up_and_no_path(gateway: Serving, sound: list[Path]) -> None:
    series_id = send(gateway, {path.name: path.read_bytes() for path in sound}).json()["id"]
    with unharmed(gateway):
        for name in ("../../x", "a/b", "x" * 65, "http://10.0.0.1/", "", "\r\nX-Injected: yes"):
            answer = clean(gateway.client.post("/v1/jobs", json={"series_id": series_id, **EDIT, "destination": name}))
            assert problem(answer) == (422, "invalid-request")
