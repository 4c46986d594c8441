"""Zips of an attacker at the door of a running gateway: POST /v1/series."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attacks import archives
from tests.attacks.archives import zip_of
from tests.attacks.serving import Serving, problem, unharmed

REFUSED: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "a bomb": (archives.bomb, 413, "over-cap-inflation-ratio"),
    "an entry that is too large": (archives.large_entry, 413, "over-cap-file-bytes"),
    "bombs in zips in a zip": (archives.nested_bomb, 422, "no-dicom"),
    "a size that is too small": (lambda: archives.forged(2000), 422, "bad-zip"),
    "a size that is too large": (lambda: archives.forged(2**31), 413, "over-cap-inflated-bytes"),
    "entries that share their bytes": (archives.overlapping, 413, "over-cap-inflated-bytes"),
    "names that climb": (archives.climbing, 422, "no-dicom"),
    "symbolic links": (archives.linking, 422, "no-dicom"),
    "twenty thousand files": (archives.crowded, 413, "over-cap-upload-files"),
    "Zip64": (archives.zip64, 413, "over-cap-upload-files"),
    "no directory": (lambda: archives.bomb()[:2000], 422, "bad-zip"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("path", ["/v1/series", "/v1/inpaint"])
def test_a_hostile_zip_is_refused_and_nothing_of_it_is_kept(gateway: Serving, name: str, path: str) -> None:
    make, status, slug = REFUSED[name]
    spec = {"spec": '{"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small"}'} if path == "/v1/inpaint" else {}
    with unharmed(gateway):
        answer = gateway.client.post(path, files=[("files", ("a.zip", make()))], data=spec)
        assert problem(answer) == (status, slug)
        if slug.startswith("over-cap-"):
            cap = slug.removeprefix("over-cap-").replace("-", "_")
            assert cap in answer.json()["title"] and f"{cap} is " in answer.json()["detail"]


def test_the_dry_run_refuses_them_too(gateway: Serving) -> None:
    with unharmed(gateway):
        for make, _status, _slug in (REFUSED["a bomb"], REFUSED["symbolic links"], REFUSED["names that climb"]):
            report = gateway.client.post("/v1/series:check", files=[("files", ("a.zip", make()))]).raise_for_status().json()
            assert not report["accepted"]


def test_names_in_a_zip_are_told_without_their_folders_and_nothing_is_written_there(gateway: Serving) -> None:
    data = gateway.settings.data_dir
    outside = [data.parent, *data.parent.parents[:2], Path(tempfile.gettempdir())]
    with unharmed(gateway):
        answer = gateway.client.post("/v1/series", files=[("files", ("../../a.zip", archives.climbing()))])
    reasons = {instance["file"]: instance["reason"] for instance in answer.json()["instances"]}
    assert reasons == {"planted.dcm": "its name climbs out of the archive"}
    assert not any((folder / "planted.dcm").exists() for folder in outside)
    assert not any(data.rglob("planted.dcm"))


def test_what_a_link_points_to_is_never_given(gateway: Serving) -> None:
    with unharmed(gateway):
        answer = gateway.client.post("/v1/series", files=[("files", ("a.zip", archives.linking()))])
    assert {instance["reason"] for instance in answer.json()["instances"]} == {"a symbolic link, not followed"}
    assert "root:" not in answer.text


def test_a_series_beside_a_bomb_is_not_taken_either(gateway: Serving, sound: list[Path]) -> None:
    entries = {path.name: path.read_bytes() for path in sound} | {"z.dcm": archives.DICM + bytes(11_000_000)}
    with unharmed(gateway):
        answer = gateway.client.post("/v1/series", files=[("files", ("a.zip", zip_of(entries)))])
        assert problem(answer) == (413, "over-cap-inflation-ratio")


def test_a_dicomdir_leads_nowhere(gateway: Serving, sound: list[Path]) -> None:
    """CVE-2026-32711: a file-set whose records name files outside it. Records are never followed, only the entries are read."""
    entries = {path.name: path.read_bytes() for path in sound}
    alone = zip_of({"DICOMDIR": dicomdir("..", "..", "..", "etc", "passwd")})
    with unharmed(gateway):
        answer = gateway.client.post("/v1/series", files=[("files", ("a.zip", alone))])
        assert answer.status_code == 422
        assert problem(answer)[1] in ("no-dicom", "no-images", "no-series")
    both = zip_of({"DICOMDIR": dicomdir("..", "..", "ledger.sqlite3"), **entries})
    taken = gateway.client.post("/v1/series", files=[("files", ("a.zip", both))])
    assert taken.status_code == 201
    assert taken.json()["instances"] == len(sound)
    assert len([key for key in gateway.kept()[0] if taken.json()["id"] in key]) == len(sound)


def dicomdir(*file_id: str) -> bytes:
    """A DICOMDIR (PS3.3 F) with one image, at a file ID of the attacker's."""
    import io

    from pydicom import Dataset, FileDataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, MRImageStorage

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    record = Dataset()
    record.OffsetOfTheNextDirectoryRecord = record.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    record.RecordInUseFlag, record.DirectoryRecordType = 0xFFFF, "IMAGE"
    record.ReferencedFileID = list(file_id)
    record.ReferencedSOPClassUIDInFile, record.ReferencedSOPInstanceUIDInFile = MRImageStorage, "1.2.3.4"
    record.ReferencedTransferSyntaxUIDInFile = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    ds.FileSetID = "PLANTED"
    ds.DirectoryRecordSequence = [record]
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
