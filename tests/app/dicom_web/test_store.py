"""STOW-RS, by the client of the field and by hand."""

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import Dataset, dcmread
from requests.exceptions import HTTPError

from spinepaint.app.dicom_web.store import shortened
from tests.app.conftest import EDIT
from tests.app.dicom_web.conftest import Gateway
from tests.imaging.series_factory import make_series

Parts = list[tuple[str, bytes]]


def post(gateway: Gateway, parts: Parts, path: str = "/studies", **headers: str) -> httpx.Response:
    """A store request with parts of (media type, content)."""
    body = b"".join(b"--b\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + content + b"\r\n" for kind, content in parts)
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'} | headers
    return httpx.post(f"{gateway.url}/dicom-web{path}", content=body + b"--b--\r\n", headers=headers, timeout=60)


def instances(paths: list[Path]) -> Parts:
    return [("application/dicom", path.read_bytes()) for path in paths]


def test_a_stored_series_can_be_named_in_a_job(gateway: Gateway, source: list[Dataset], series_files: list[Path]) -> None:
    answer = gateway.web.store_instances(source)
    assert sorted(item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence) == sorted(
        ds.SOPInstanceUID for ds in source
    )
    assert "FailedSOPSequence" not in answer
    assert answer.RetrieveURL.endswith(f"/dicom-web/studies/{source[0].StudyInstanceUID}")
    response = post(gateway, instances(series_files))
    link = response.headers["link"]
    assert f'title="{source[0].SeriesInstanceUID}"' in link
    where = link.partition(">")[0].lstrip("<")
    series = httpx.get(gateway.url + where).raise_for_status().json()
    assert series["series_uid"] == source[0].SeriesInstanceUID
    job = httpx.post(f"{gateway.url}/v1/jobs", json={"series_uid": series["series_uid"], **EDIT})
    assert job.status_code == 202
    assert job.json()["links"]["series"] == where


def test_a_repeated_request_keeps_one_copy(gateway: Gateway, series_files: list[Path]) -> None:
    first, second = (post(gateway, instances(series_files)) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.headers["link"] == second.headers["link"]
    assert len(gateway.artifacts.list("sources/")) == len(series_files)


def test_a_job_by_series_uid_takes_what_was_stored_last(gateway: Gateway, series_files: list[Path]) -> None:
    uid = str(dcmread(series_files[0]).SeriesInstanceUID)

    def store(paths: list[Path]) -> str:
        return post(gateway, instances(paths)).headers["link"].partition(">")[0].lstrip("<")

    def taken() -> str:
        view = httpx.post(f"{gateway.url}/v1/jobs", json={"series_uid": uid, **EDIT}).json()
        return str(view["links"]["series"])

    whole, part = store(series_files), store(series_files[:6])
    assert whole != part
    assert taken() == part
    assert store(series_files) == whole
    assert taken() == whole


def test_two_series_in_one_request_are_both_kept(gateway: Gateway, series_files: list[Path], other_files: list[Path]) -> None:
    response = post(gateway, instances([*series_files, *other_files]))
    assert response.status_code == 200
    assert response.headers["link"].count("/v1/series/") == 2
    assert len(response.json()["00081199"]["Value"]) == len(series_files) + len(other_files)


def test_a_second_copy_has_not_failed(gateway: Gateway, series_files: list[Path]) -> None:
    response = post(gateway, instances([*series_files, series_files[0]]))
    assert response.status_code == 200
    assert len(response.json()["00081199"]["Value"]) == len(series_files)


def test_what_is_not_a_sagittal_t2_series_is_named_beside_what_is(
    gateway: Gateway, series_files: list[Path], tmp_path: Path
) -> None:
    axial = make_series(tmp_path, slices=5, rows=64, columns=64, spacing_mm=(4.4, 2.0, 2.0), seed=2, plane="axial")
    response = post(gateway, instances([*series_files, *axial]))
    assert response.status_code == 202
    failed = Dataset.from_json(response.json()).FailedSOPSequence
    assert {item.ReferencedSOPInstanceUID for item in failed} == {dcmread(path).SOPInstanceUID for path in axial}
    assert {item.FailureReason for item in failed} == {0xA900}
    assert all(item["00000902"].value for item in failed)
    assert len(response.json()["00081199"]["Value"]) == len(series_files)


def test_of_two_series_the_one_with_spoilt_pixels_is_named(gateway: Gateway, series_files: list[Path], tmp_path: Path) -> None:
    def spoil(ds: Any, index: int) -> None:
        if index == 1:
            ds.PixelData = b"\xff" * len(ds.PixelData)  # more than the 12 bits that are stored

    size: dict[str, Any] = {"slices": 5, "rows": 64, "columns": 64, "spacing_mm": (4.4, 2.0, 2.0)}
    spoilt = make_series(tmp_path, **size, seed=1, mutate=spoil)
    response = post(gateway, instances([*series_files, *spoilt]))
    assert response.status_code == 202
    comments = {i["00081155"]["Value"][0]: i["00000902"]["Value"][0] for i in response.json()["00081198"]["Value"]}
    assert set(comments) == {dcmread(path).SOPInstanceUID for path in spoilt}
    assert "bits" in comments[dcmread(spoilt[1]).SOPInstanceUID]
    assert all("series" in comments[dcmread(path).SOPInstanceUID] for path in (spoilt[0], *spoilt[2:]))


def test_another_study_than_the_requests(gateway: Gateway, series_files: list[Path], source: list[Dataset]) -> None:
    right = f"/studies/{source[0].StudyInstanceUID}"
    assert post(gateway, instances(series_files), right).status_code == 200
    wrong = post(gateway, instances(series_files), "/studies/1.2.3")
    assert wrong.status_code == 409
    assert {item["00081197"]["Value"][0] for item in wrong.json()["00081198"]["Value"]} == {0xA901}
    assert "link" not in wrong.headers


@pytest.mark.parametrize("study", ["not-a-uid", "1.2.x", "1" * 65, "1.2%20", "1..2", ".1", "1."])
def test_a_path_without_a_uid_is_a_bad_request(gateway: Gateway, series_files: list[Path], study: str) -> None:
    response = post(gateway, instances(series_files), f"/studies/{study}")
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
    assert gateway.artifacts.list("sources/") == []


def test_nothing_is_kept_of_a_series_with_a_broken_instance(gateway: Gateway, series_files: list[Path]) -> None:
    parts = instances(series_files)
    parts[2] = (parts[2][0], parts[2][1][:-3000])
    response = post(gateway, parts)
    assert response.status_code == 409
    assert len(response.json()["00081198"]["Value"]) == len(series_files)
    assert gateway.artifacts.list("sources/") == []
    assert gateway.ledger.locate(str(dcmread(series_files[0]).StudyInstanceUID)) == []


def test_a_missing_slice_is_refused(gateway: Gateway, source: list[Dataset]) -> None:
    with pytest.raises(HTTPError, match="409"):
        gateway.web.store_instances([*source[:2], *source[3:]])


def comments(response: httpx.Response) -> list[tuple[str, str]]:
    """Error Comment, and the whole text, of each failed item."""
    items = Dataset.from_json(response.json()).FailedSOPSequence
    assert {item[0x00090010].value for item in items} == {"SPINEPAINT"}
    return [(str(item[0x00000902].value), str(item[0x00091001].value)) for item in items]


def test_of_a_part_of_a_series_it_is_said_what_is_missing(gateway: Gateway, series_files: list[Path]) -> None:
    few = comments(post(gateway, instances(series_files[:3])))
    assert len(few) == 3
    for comment, whole in few:
        assert comment.startswith("The series has too few slices: one of 3, at x ")
        assert "at least 5 slices of a series are needed. Send the whole series." in whole
    for comment, whole in comments(post(gateway, instances([*series_files[:2], *series_files[3:]]))):
        assert "1 slice is missing" in comment
        assert "Missing: those at x 4.4 mm. Send the whole series." in whole


def test_a_comment_ends_with_a_sentence_or_a_word(gateway: Gateway, series_files: list[Path]) -> None:
    assert shortened("Short.") == "Short."
    assert shortened("One sentence. Another one that is longer than fits.", 20) == "One sentence."
    assert shortened("A first sentence that is longer than fits. Two.", 20) == "A first sentence…"
    assert len(shortened("x" * 30 + " " + "y" * 40)) <= 64
    for comment, whole in comments(post(gateway, instances([*series_files[:2], *series_files[3:]]))):
        assert len(comment) <= 64 < len(whole)
        assert comment.endswith((".", "…"))


def test_a_synthetic_series_is_stored_where_that_is_asked_for(gateway: Gateway, tmp_path: Path) -> None:
    def synthetic(ds: Any, _index: int) -> None:
        ds.SyntheticData = "YES"

    made = make_series(tmp_path, slices=5, rows=64, columns=64, spacing_mm=(4.4, 2.0, 2.0), seed=7, mutate=synthetic)
    refused = post(gateway, instances(made))
    assert refused.status_code == 409
    assert all("allow_synthetic" in whole for _, whole in comments(refused))
    assert post(gateway, instances(made), "/studies?allow_synthetic=true").status_code == 200


def test_what_has_no_uid_is_among_the_other_failures(gateway: Gateway, series_files: list[Path]) -> None:
    response = post(gateway, [*instances(series_files), ("application/dicom", b"not an instance")])
    assert response.status_code == 202
    (other,) = response.json()["0008119A"]["Value"]
    assert other["00081197"]["Value"] == [0xC000]


def test_a_preamble_is_passed_over(gateway: Gateway, series_files: list[Path]) -> None:
    parts = b"".join(b"--b\r\n\r\n" + path.read_bytes() + b"\r\n" for path in series_files)
    preamble = b"This is a message in MIME format.\r\n--bother\r\n not --b\r\n\r\n"
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    body = preamble + parts + b"--b--\r\nepilogue"
    answer = httpx.post(f"{gateway.url}/dicom-web/studies", content=body, headers=headers, timeout=60)
    assert answer.status_code == 200
    assert len(answer.json()["00081199"]["Value"]) == len(series_files)


SMALL: dict[str, Any] = {"slices": 5, "rows": 64, "columns": 64, "spacing_mm": (4.4, 2.0, 2.0)}


def test_uids_that_are_kept_as_those_of_something_else(gateway: Gateway, tmp_path: Path) -> None:
    def other_series(ds: Any, _index: int) -> None:
        ds.SeriesInstanceUID = "1.2.3.4"

    def other_study(ds: Any, index: int) -> None:
        ds.StudyInstanceUID = "1.2.3.5"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.6.{index}"

    kept = make_series(tmp_path / "kept", **SMALL)
    assert post(gateway, instances(kept)).status_code == 200
    files = gateway.artifacts.list("sources/")
    again = post(gateway, instances(make_series(tmp_path / "series", **SMALL, mutate=other_series)))
    moved = post(gateway, instances(make_series(tmp_path / "study", **SMALL, mutate=other_study)))
    for answer, code, reason in ((again, 0xA902, "in another series"), (moved, 0xA901, "in another study")):
        assert answer.status_code == 409
        assert {item["00081197"]["Value"][0] for item in answer.json()["00081198"]["Value"]} == {code}
        assert all(reason in whole for _, whole in comments(answer))
    assert gateway.artifacts.list("sources/") == files
    assert post(gateway, instances(kept)).status_code == 200


def test_beside_one_that_contradicts_what_is_kept_another_series_is_stored(gateway: Gateway, tmp_path: Path) -> None:
    def one_of_it(ds: Any, index: int) -> None:
        if index == 0:
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid

    kept = make_series(tmp_path / "kept", **SMALL)
    uid = dcmread(kept[0]).SOPInstanceUID
    assert post(gateway, instances(kept)).status_code == 200
    clash = make_series(tmp_path / "clash", **SMALL, seed=5, mutate=one_of_it)
    answer = post(gateway, instances([*clash, *make_series(tmp_path / "fine", **SMALL, seed=6)]))
    assert answer.status_code == 202
    assert len(answer.json()["00081199"]["Value"]) == 5
    assert sorted(whole.partition(" ")[0] for _, whole in comments(answer)) == ["its", *["others"] * 4]


@pytest.mark.parametrize(
    ("content_type", "part", "status"),
    [
        ("multipart/form-data; boundary=b", "application/dicom", 415),
        ('multipart/related; type="application/dicom+json"; boundary=b', "application/dicom", 415),
        ('multipart/related; type="application/dicom"', "application/dicom", 415),
        ('multipart/related; type="application/dicom"; boundary=b', "application/dicom+json", 415),
        ('multipart/related; type="application/dicom"; boundary=other', "application/dicom", 400),
    ],
)
def test_requests_of_another_kind(gateway: Gateway, content_type: str, part: str, status: int) -> None:
    assert post(gateway, [(part, b"x")], **{"Content-Type": content_type}).status_code == status


def test_caps_hold_as_for_any_upload(gateway: Gateway) -> None:
    assert post(gateway, [("application/dicom", b"x" * 4_100_000)]).status_code == 413
    assert post(gateway, [("application/dicom", b"x")] * 51).status_code == 413
    assert list((gateway.settings.data_dir / "incoming").iterdir()) == []


def test_only_json_is_answered(gateway: Gateway, series_files: list[Path]) -> None:
    assert post(gateway, instances(series_files), Accept="application/dicom+xml").status_code == 406
    assert gateway.artifacts.list("sources/") == []


def test_nothing_of_the_patient_is_logged(gateway: Gateway, series_files: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="spinepaint"):
        post(gateway, instances(series_files))
        for path in ("/studies?PatientID=INVENTED-1", "/series?PatientName=Invented*", "/instances?00100020=INVENTED-1"):
            assert httpx.get(f"{gateway.url}/dicom-web{path}").status_code == 200
        assert httpx.get(f"{gateway.url}/dicom-web/studies?Patient=INVENTED-1").status_code == 400
    assert "GET /dicom-web/studies 200" in caplog.text
    assert "nvented" not in caplog.text.lower().replace("\n", " ")
