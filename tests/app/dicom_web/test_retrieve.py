"""WADO-RS: instances, frames, metadata and bulk data, stored and decoded."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from requests.exceptions import HTTPError

from spinepaint.app.decoding import DECODING, DecodingFailed
from spinepaint.app.dicom_web import retrieve
from spinepaint.app.dicom_web.media import Representation
from spinepaint.app.dicom_web.retrieve import Archive, instances_response
from spinepaint.imaging.errors import Refusal
from spinepaint.store.dicom_book import Located
from tests.app.conftest import EDIT
from tests.app.dicom_web.conftest import Gateway, running_gateway
from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.series_factory import make_series

SYNTAXES = [
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLosslessSV1, JPEGLSLossless,
    JPEG2000Lossless,
]  # fmt: skip
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def uids(ds: Dataset) -> tuple[str, str, str]:
    return ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID


def url_of(gateway: Gateway, ds: Dataset) -> str:
    return "{}/dicom-web/studies/{}/series/{}/instances/{}".format(gateway.url, *uids(ds))


def parts(answer: httpx.Response) -> list[bytes]:
    """The bodies of a multipart/related answer, with its own boundary."""
    boundary = answer.headers["content-type"].partition("boundary=")[2].encode()
    pieces = answer.content.split(b"--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    return [piece.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for piece in pieces[1:-1]]


@pytest.fixture(scope="module")
def kept_gateway(tmp_path_factory: pytest.TempPathFactory, source: list[Dataset]) -> Iterator[Gateway]:
    """One with a series, for tests that only look."""
    with running_gateway(tmp_path_factory.mktemp("data")) as gateway:
        gateway.web.store_instances(source)
        yield gateway


@pytest.fixture
def web(gateway: Gateway, source: list[Dataset]) -> DICOMwebClient:
    gateway.web.store_instances(source)
    return gateway.web


def test_a_study_a_series_and_an_instance(web: DICOMwebClient, source: list[Dataset]) -> None:
    study, series, instance = uids(source[0])
    expected = {ds.SOPInstanceUID: ds for ds in source}
    for found in (web.retrieve_study(study), web.retrieve_series(study, series)):
        assert {ds.SOPInstanceUID for ds in found} == set(expected)
        assert all(ds == expected[ds.SOPInstanceUID] for ds in found)
    assert web.retrieve_instance(study, series, instance) == source[0]


def test_what_is_stored_comes_back_byte_for_byte(
    web: DICOMwebClient, gateway: Gateway, source: list[Dataset], series_files: list[Path]
) -> None:
    answer = httpx.get(url_of(gateway, source[0]), headers={"Accept": AS_STORED})
    assert parts(answer) == [series_files[0].read_bytes()]
    whole = httpx.get(url_of(gateway, source[0]).rpartition("/instances")[0], headers={"Accept": AS_STORED})
    assert sorted(parts(whole)) == sorted(path.read_bytes() for path in series_files)
    single = httpx.get(url_of(gateway, source[0]), headers={"Accept": "application/dicom"})
    assert single.headers["content-type"] == "application/dicom"
    assert single.content == series_files[0].read_bytes()


def test_metadata(web: DICOMwebClient, source: list[Dataset]) -> None:
    study, series, instance = uids(source[3])
    assert len(web.retrieve_study_metadata(study)) == len(web.retrieve_series_metadata(study, series)) == len(source)
    metadata = web.retrieve_instance_metadata(study, series, instance)
    uri = metadata["7FE00010"]["BulkDataURI"]
    assert web.retrieve_bulkdata(uri) == [source[3].PixelData]
    del metadata["7FE00010"], metadata["00083002"]
    expected = {f"{element.tag:08X}": element for element in source[3] if element.keyword != "PixelData"}
    assert set(metadata) == set(expected)
    found = Dataset.from_json(metadata)
    assert all(found[element.tag].value == element.value for element in expected.values())


def test_frames(web: DICOMwebClient, gateway: Gateway, source: list[Dataset]) -> None:
    for media_types in (None, ("application/octet-stream",)):
        frames = web.retrieve_instance_frames(*uids(source[0]), frame_numbers=[1], media_types=media_types)
        assert frames == [source[0].PixelData]
    for number, status in (("2", 404), ("0", 404), ("x", 400), ("1,2", 404), ("1,", 400), ("\u0661", 400)):
        assert httpx.get(f"{url_of(gateway, source[0])}/frames/{number}").status_code == status


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name[:24])
@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
def test_every_transfer_syntax_stored_and_uncompressed(gateway: Gateway, tmp_path: Path, syntax: Any, enhanced: bool) -> None:
    size: dict[str, Any] = {"slices": 5, "rows": 64, "columns": 64, "spacing_mm": (4.4, 2.0, 2.0), "transfer_syntax": syntax}
    paths = [make_enhanced(tmp_path / "e.dcm", **size)] if enhanced else make_series(tmp_path / "c", **size)
    files = [("files", (path.name, path.read_bytes())) for path in paths]
    httpx.post(f"{gateway.url}/v1/series", files=files, timeout=60).raise_for_status()
    stored = dcmread(paths[0])
    url = url_of(gateway, stored)
    assert parts(httpx.get(url, headers={"Accept": AS_STORED})) == [paths[0].read_bytes()]
    exact = f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
    assert parts(httpx.get(url, headers={"Accept": exact})) == [paths[0].read_bytes()]

    given = gateway.web.retrieve_instance(*uids(stored), media_types=(("application/dicom", ExplicitVRLittleEndian),))
    assert given.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    np.testing.assert_array_equal(given.pixel_array, stored.pixel_array)
    assert {e.tag: e.value for e in given if e.tag != 0x7FE00010} == {e.tag: e.value for e in stored if e.tag != 0x7FE00010}

    count = 5 if enhanced else 1
    plain = gateway.web.retrieve_instance_frames(*uids(stored), frame_numbers=[count], media_types=("application/octet-stream",))
    last = stored.pixel_array[-1] if enhanced else stored.pixel_array
    assert plain == [last.astype("<u2").tobytes()]
    if syntax.is_encapsulated:
        as_stored = list(generate_frames(stored.PixelData, number_of_frames=count))
        numbers = ",".join(str(number + 1) for number in range(count))
        answer = httpx.get(f"{url}/frames/{numbers}", headers={"Accept": 'multipart/related; type="image/*"'})
        assert parts(answer) == as_stored
        assert f"transfer-syntax={syntax}".encode() in answer.content
        wildcard = 'multipart/related; type="{}"; transfer-syntax=*'
        stored_frame = httpx.get(f"{url}/frames/{count}", headers={"Accept": wildcard.format("*/*")})
        assert parts(stored_frame) == as_stored[-1:]
        octets = httpx.get(f"{url}/frames/{count}", headers={"Accept": wildcard.format("application/octet-stream")})
        assert parts(octets) == plain
        assert b"transfer-syntax=1.2.840.10008.1.2.1\r\n" in octets.content
        reference = gateway.web.retrieve_instance_metadata(*uids(stored))["7FE00010"]["BulkDataURI"]
        assert len(parts(httpx.get(reference))) == count
    else:
        assert httpx.get(f"{url}/frames/1", headers={"Accept": 'multipart/related; type="image/jp2"'}).status_code == 406


def test_not_found_and_not_acceptable(web: DICOMwebClient, gateway: Gateway, source: list[Dataset]) -> None:
    study, series, instance = uids(source[0])
    for wrong in (("1.2.3", series, instance), (study, "1.2.3", instance), (study, series, "1.2.3")):
        with pytest.raises(HTTPError, match="404"):
            web.retrieve_instance(*wrong)
        with pytest.raises(HTTPError, match="404"):
            web.retrieve_instance_metadata(*wrong)
    assert httpx.get(f"{gateway.url}/dicom-web/studies/x;y/series/{series}/metadata").status_code == 404
    url = url_of(gateway, source[0])
    for accept in ("image/png", 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90'):
        answer = httpx.get(url, headers={"Accept": accept})
        assert answer.status_code == 406
        assert answer.json()["type"].endswith("/not-acceptable")
    assert httpx.get(f"{url}/metadata", headers={"Accept": "application/dicom+xml"}).status_code == 406
    assert httpx.get(f"{url}/bulkdata/00100010").status_code == 404
    assert httpx.get(url.rpartition("/instances")[0], headers={"Accept": "application/dicom"}).status_code == 406


def test_the_best_of_several_media_types_is_chosen(gateway: Gateway, web: DICOMwebClient, source: list[Dataset]) -> None:
    url = url_of(gateway, source[0])
    accept = f"image/png, {AS_STORED};q=0.2, application/dicom;q=0.8"
    assert httpx.get(url, headers={"Accept": accept}).headers["content-type"] == "application/dicom"
    assert httpx.get(f"{url}?accept=application/dicom").headers["content-type"] == "application/dicom"


def test_long_private_values_are_bulk_data(gateway: Gateway, tmp_path: Path) -> None:
    value = bytes(range(256)) * 8

    def add(ds: Any, _index: int) -> None:
        block = ds.private_block(0x0029, "INVENTED CSA", create=True)
        block.add_new(0x10, "OB", value)
        block.add_new(0x11, "OB", b"short!")

    paths = make_series(tmp_path, slices=5, rows=64, columns=64, spacing_mm=(4.4, 2.0, 2.0), mutate=add)
    gateway.web.store_instances([dcmread(path) for path in paths])
    metadata = gateway.web.retrieve_instance_metadata(*uids(dcmread(paths[0])))
    assert gateway.web.retrieve_bulkdata(metadata["00291010"]["BulkDataURI"]) == [value]
    assert Dataset.from_json({"00291011": metadata["00291011"]})[0x0029, 0x1011].value == b"short!"


def test_a_jobs_result_is_found_and_retrieved_like_a_source(
    gateway: Gateway, web: DICOMwebClient, source: list[Dataset], other_files: list[Path]
) -> None:
    kept = gateway.ledger.source_of(source[0].SeriesInstanceUID)
    assert kept is not None
    gateway.finish_job(kept.id, other_files)
    study = source[0].StudyInstanceUID
    synthetic = dcmread(other_files[0]).SeriesInstanceUID
    assert {item["0020000E"]["Value"][0] for item in web.search_for_series(study)} == {synthetic, source[0].SeriesInstanceUID}
    found = {ds.SOPInstanceUID: ds for ds in web.retrieve_series(study, synthetic)}
    for path in other_files:
        ds = dcmread(path)
        assert found[ds.SOPInstanceUID] == ds
    not_a_source = httpx.post(f"{gateway.url}/v1/jobs", json={"series_uid": synthetic, **EDIT})
    assert not_a_source.status_code == 404
    httpx.delete(f"{gateway.url}/v1/series/{kept.id}?results=keep").raise_for_status()
    assert len(web.retrieve_study(study)) == len(other_files)


def test_a_file_that_went_away_is_not_found(gateway: Gateway, web: DICOMwebClient, source: list[Dataset]) -> None:
    at = gateway.ledger.locate(*uids(source[0]))[0]
    gateway.artifacts.delete_prefix(at.instance.artifact_key)
    assert httpx.get(url_of(gateway, source[0])).status_code == 404
    assert httpx.get(f"{url_of(gateway, source[0])}/frames/1").status_code == 404


@pytest.mark.parametrize(
    ("path", "accept", "status", "kind"),
    [
        ("", "application/dicom", 200, "application/dicom"),
        ("", "application/octet-stream", 406, ""),
        ("", "image/png", 406, ""),
        ("", "application/dicom+json", 406, ""),
        ("", 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90', 406, ""),
        ("/frames/1", "application/octet-stream", 200, "application/octet-stream"),
        ("/frames/1", "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1", 200, "application/octet-stream"),
        ("/frames/1", "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.4.90", 406, ""),
        ("/frames/1", "application/*", 200, "application/octet-stream"),
        ("/frames/1", "*/*", 200, "multipart/related"),
        ("/frames/1", "image/jpeg, multipart/related;type=application/octet-stream;q=0.5", 200, "multipart/related"),
        ("/frames/1", "application/dicom", 406, ""),
        ("/frames/1", "image/png", 406, ""),
        ("/frames/1,1", "application/octet-stream", 406, ""),
        ("/frames/1", "application/octet-stream;q=0", 406, ""),
        ("/metadata", "application/dicom+json", 200, "application/dicom+json"),
        ("/metadata", "application/json", 200, "application/dicom+json"),
        ("/metadata", 'multipart/related; type="application/dicom+xml"', 406, ""),
        ("/metadata", "application/octet-stream", 406, ""),
        ("/bulkdata/7FE00010", "application/octet-stream", 200, "application/octet-stream"),
        ("/bulkdata/7FE00010", "*/*", 200, "multipart/related"),
        ("/bulkdata/7FE00010", "application/dicom+json", 406, ""),
        ("/rendered", "image/png", 404, ""),
        ("/frames/1/rendered", "image/jpeg", 404, ""),
        ("/thumbnail", "*/*", 404, ""),
    ],
)
def test_what_is_accepted_is_given_or_refused(
    kept_gateway: Gateway, source: list[Dataset], path: str, accept: str, status: int, kind: str
) -> None:
    answer = httpx.get(url_of(kept_gateway, source[0]) + path, headers={"Accept": accept})
    assert answer.status_code == status
    assert answer.headers["content-type"].partition(";")[0] == (kind or "application/problem+json")
    if kind == "application/octet-stream":
        assert answer.content == source[0].PixelData
        assert "transfer-syntax=1.2.840.10008.1.2.1" in answer.headers["content-type"]
    if kind == "multipart/related":
        assert parts(answer) == [source[0].PixelData]


def test_a_single_frame_as_stored_and_decoded(gateway: Gateway, tmp_path: Path) -> None:
    size: dict[str, Any] = {"slices": 5, "rows": 64, "columns": 64, "spacing_mm": (4.4, 2.0, 2.0)}
    paths = make_series(tmp_path, **size, transfer_syntax=RLELossless)
    files = [("files", (path.name, path.read_bytes())) for path in paths]
    httpx.post(f"{gateway.url}/v1/series", files=files, timeout=60).raise_for_status()
    stored = dcmread(paths[0])
    url = f"{url_of(gateway, stored)}/frames/1"
    for accept in ("application/octet-stream", "application/octet-stream; transfer-syntax=*"):
        plain = httpx.get(url, headers={"Accept": accept})
        assert plain.headers["content-type"].startswith("application/octet-stream")
        assert plain.content == stored.pixel_array.astype("<u2").tobytes()
    coded_octets = f"application/octet-stream; transfer-syntax={RLELossless}"
    assert httpx.get(url, headers={"Accept": coded_octets}).status_code == 406
    coded = httpx.get(url, headers={"Accept": "image/dicom-rle"})
    assert coded.content == next(generate_frames(stored.PixelData, number_of_frames=1))
    assert coded.headers["content-type"].startswith("image/dicom-rle")
    assert list((gateway.settings.data_dir / "incoming").iterdir()) == []


def test_metadata_say_that_they_are_utf_8(gateway: Gateway, tmp_path: Path) -> None:
    def latin(ds: Any, _index: int) -> None:
        ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 100", "Müller^Änne"
        item = Dataset()
        item.SpecificCharacterSet, item.CodeMeaning = "ISO_IR 100", "Rücken"
        ds.AnatomicRegionSequence = [item]

    size: dict[str, Any] = {"slices": 5, "rows": 64, "columns": 64, "spacing_mm": (4.4, 2.0, 2.0)}
    paths = make_series(tmp_path, **size, seed=5, mutate=latin)
    gateway.web.store_instances([dcmread(path) for path in paths])
    metadata = httpx.get(f"{url_of(gateway, dcmread(paths[0]))}/metadata").json()[0]
    assert metadata["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert metadata["00100010"]["Value"] == [{"Alphabetic": "Müller^Änne"}]
    (item,) = metadata["00082218"]["Value"]
    assert item["00080005"]["Value"] == ["ISO_IR 192"]
    assert item["00080104"]["Value"] == ["Rücken"]


def coded(gateway: Gateway, folder: Path, slices: int = 5) -> tuple[Archive, list[Located]]:
    """A series that has to be decoded for most clients, and what retrieval finds of it."""
    size: dict[str, Any] = {"slices": slices, "rows": 64, "columns": 64, "spacing_mm": (4.4, 2.0, 2.0)}
    paths = make_series(folder, **size, transfer_syntax=RLELossless)
    gateway.web.store_instances([dcmread(path) for path in paths])
    found = gateway.ledger.locate(dcmread(paths[0]).StudyInstanceUID, None, None)
    return Archive(gateway.artifacts, folder / "scratch"), list(found)


DECODED = Representation("application/dicom", ExplicitVRLittleEndian, multipart=True)


def test_nothing_is_decoded_onto_a_disk_that_has_but_its_reserve_left(gateway: Gateway, tmp_path: Path) -> None:
    _, found = coded(gateway, tmp_path)
    archive = Archive(gateway.artifacts, tmp_path / "scratch", reserve_bytes=2**62)

    async def retrieve() -> None:
        async with archive.decoded(found[0]):
            raise AssertionError("it was decoded")

    with pytest.raises(Refusal) as refused:
        asyncio.run(retrieve())
    assert (refused.value.status, refused.value.type) == (503, "disk-full")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_client_that_stops_reading_holds_no_process_and_at_the_end_no_file(gateway: Gateway, tmp_path: Path) -> None:
    archive, found = coded(gateway, tmp_path)

    def decoding() -> list[str]:
        words = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
        return [line for line in words if "spinepaint.app.decoding" in line]

    async def stall() -> None:
        response = instances_response(archive, found, DECODED, gateway.url)
        pieces = response.body_iterator
        head, first = await anext(pieces), await anext(pieces)  # type: ignore[call-overload]
        assert b"application/dicom" in head and b"DICM" in first
        assert decoding() == []
        assert len(list((tmp_path / "scratch").iterdir())) == 1
        await pieces.aclose()  # type: ignore[union-attr]

    asyncio.run(stall())
    assert list((tmp_path / "scratch").iterdir()) == []


def test_only_so_many_are_decoded_at_once(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, found = coded(gateway, tmp_path)
    lock, now, most = threading.Lock(), 0, 0

    def decode(_source: Path, target: Path) -> list[list[tuple[int, int]]]:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.1)
        target.write_bytes(b"decoded")
        with lock:
            now -= 1
        return []

    async def all_at_once() -> None:
        async def read(at: Located) -> None:
            response = instances_response(archive, [at], DECODED, gateway.url)
            assert b"decoded" in b"".join([bytes(piece) async for piece in response.body_iterator])  # type: ignore[arg-type]

        await asyncio.gather(*(read(at) for at in found))

    monkeypatch.setattr(retrieve, "decode_apart", decode)
    asyncio.run(all_at_once())
    assert most == DECODING.most == 2


@pytest.mark.parametrize("path", ["", "/frames/1"])
def test_what_cannot_be_decoded_is_an_error_and_no_answer_cut_short(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def fail(_source: Path, _target: Path) -> Any:
        raise DecodingFailed

    _archive, found = coded(gateway, tmp_path)
    monkeypatch.setattr(retrieve, "decode_apart", fail)
    at = found[0]
    url = f"{gateway.url}/dicom-web/studies/{at.study_uid}/series/{at.series_uid}"
    answer = httpx.get(f"{url}/instances/{at.instance.sop_instance_uid}{path}", headers={"Accept": "*/*"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert list((gateway.settings.data_dir / "incoming").iterdir()) == []
