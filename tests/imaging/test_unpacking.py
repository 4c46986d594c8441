"""What an attacker may put into a folder or a zip, and that none of it is followed, extracted or inflated without end."""

import os
import stat
import struct
import zipfile
from dataclasses import fields
from io import DEFAULT_BUFFER_SIZE
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import pytest

from spinepaint.imaging.caps import DEFAULT_CAPS, Caps
from spinepaint.imaging.errors import DiskFull, Refusal, is_disk_full
from spinepaint.imaging.read_bounded import BoundedFile
from spinepaint.imaging.read_names import shown_name
from spinepaint.imaging.reading import check, read_series
from spinepaint.imaging.unpacking import unpacked
from tests.imaging.refusals import full_disk
from tests.imaging.series_factory import make_series

SMALL = Caps(
    upload_bytes=200_000, upload_files=20, file_bytes=50_000, inflated_bytes=200_000, inflation_ratio=20.0,
    inflation_ratio_from_bytes=10_000,
)  # fmt: skip


def make_zip(path: Path, entries: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def series_entries(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in make_series(folder, slices=5, rows=32, columns=32)}


def refusal_of(source: Path | list[Path], caps: Caps = DEFAULT_CAPS) -> Refusal:
    with pytest.raises(Refusal) as raised:
        read_series(source, caps=caps)
    assert not check(source, caps=caps).accepted
    return raised.value


def reasons(source: Path) -> dict[str, str]:
    with unpacked(source, DEFAULT_CAPS) as listing:
        return {entry.file: entry.reason for entry in [*listing.ignored, *listing.unopened]}


def test_names_that_climb_are_passed_over_and_nothing_is_written(tmp_path: Path) -> None:
    climbing = {"../../climbed.dcm": b"x", "/absolute.dcm": b"x", "C:/drive.dcm": b"x", "a\\..\\..\\back.dcm": b"x"}
    (tmp_path / "in" / "side").mkdir(parents=True)
    archive = make_zip(tmp_path / "in" / "side" / "x.zip", climbing | series_entries(tmp_path / "series"))
    before = sorted(tmp_path.rglob("*"))
    said = reasons(archive)
    assert set(said) == {"climbed.dcm", "absolute.dcm", "drive.dcm", "back.dcm"}
    assert set(said.values()) == {"its name climbs out of the archive"}
    assert read_series(archive).volume.stored.shape[0] == 5
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("rows", [32, 128], ids=["in a buffer", "past it"])
def test_a_full_disk_is_no_fault_of_the_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    files = make_series(tmp_path / "series", slices=5, rows=rows, columns=rows)
    assert (files[0].stat().st_size > DEFAULT_BUFFER_SIZE) == (rows == 128)
    archive = make_zip(tmp_path / "x.zip", {path.name: path.read_bytes() for path in files})
    monkeypatch.setattr("spinepaint.imaging.read_zip._LARGE", 0)
    assert check(archive).series[0].verdict == "accepted"
    monkeypatch.setattr("spinepaint.imaging.read_zip.TemporaryFile", full_disk)
    for read in (read_series, check):
        with pytest.raises(DiskFull) as raised:
            read(archive)
        assert is_disk_full(raised.value)


def test_what_is_too_large_for_memory_goes_beside_the_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path | None] = []

    def recorded(dir: Path | None) -> IO[bytes]:
        asked.append(dir)
        return TemporaryFile(dir=dir)

    archive = make_zip(tmp_path / "x.zip", series_entries(tmp_path / "series"))
    monkeypatch.setattr("spinepaint.imaging.read_zip._LARGE", 0)
    monkeypatch.setattr("spinepaint.imaging.read_zip.TemporaryFile", recorded)
    before = sorted(tmp_path.rglob("*"))
    assert read_series(archive).volume.stored.shape[0] == 5
    assert set(asked) == {tmp_path}
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.setattr("spinepaint.imaging.read_zip.os.access", lambda folder, mode: folder != tmp_path)
    asked.clear()
    read_series(archive)
    assert set(asked) == {None}  # a folder that is not to be written to, say one on a DVD


def test_links_and_archives_in_a_zip_are_not_opened(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.dcm")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    inner = make_zip(tmp_path / "inner.zip", {"a.dcm": b"x"}).read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("nested.zip", inner)
        archive.writestr("__MACOSX/._a.dcm", b"x")
    assert reasons(tmp_path / "x.zip") == {
        "link.dcm": "a symbolic link, not followed",
        "nested.zip": "an archive inside the upload, not opened",
        "._a.dcm": "a macOS resource file",
    }


def test_links_pipes_and_archives_in_a_folder_are_not_opened(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    make_series(outside, slices=5, rows=32, columns=32)
    folder.mkdir()
    (folder / "linked_folder").symlink_to(outside)
    (folder / "linked.dcm").symlink_to(next(outside.iterdir()))
    os.mkfifo(folder / "pipe.dcm")
    make_zip(folder / "study.zip", {"a.dcm": b"x"})
    assert reasons(folder) == {
        "linked_folder": "a symbolic link, not followed",
        "linked.dcm": "a symbolic link, not followed",
        "pipe.dcm": "not a regular file",
        "study.zip": "an archive inside the upload, not opened",
    }
    assert refusal_of(folder).type == "no-dicom"


def test_what_was_not_opened_is_warned_of(tmp_path: Path) -> None:
    paths = make_series(tmp_path / "s", slices=5, rows=32, columns=32)
    (tmp_path / "s" / "linked.dcm").symlink_to(paths[0])
    (tmp_path / "s" / "thumbs.db").write_bytes(b"x")
    (warning,) = read_series(tmp_path / "s").warnings
    assert warning.startswith("linked.dcm was not opened")
    assert read_series([*paths[1:], tmp_path / "s" / "linked.dcm"]).volume.stored.shape[0] == 5


def test_a_dicom_file_that_pretends_to_be_a_zip_is_read_as_dicom(tmp_path: Path) -> None:
    path = make_series(tmp_path, slices=5, rows=32, columns=32)[4]
    path.write_bytes(b"PK\x03\x04" + path.read_bytes()[4:])
    series = read_series(tmp_path)
    assert series.volume.stored.shape[0] == 5
    assert series.warnings == ()


def test_encrypted_and_foreign_methods_are_passed_over(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.dcm": b"x" * 100})
    content = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + at] |= 1
    path.write_bytes(content)
    assert reasons(path) == {"a.dcm": "encrypted"}
    assert reasons(make_zip(tmp_path / "y.zip", {"a.dcm": b"x"}, method=zipfile.ZIP_BZIP2)) == {
        "a.dcm": "compressed by a method other than deflate"
    }


@pytest.mark.parametrize(
    ("cap", "caps"),
    [
        ("inflation_ratio", SMALL),
        ("inflated_bytes", Caps(inflated_bytes=100_000)),
        ("file_bytes", Caps(file_bytes=40_000)),
        ("upload_files", Caps(upload_files=2)),
        ("upload_bytes", Caps(upload_bytes=100)),
    ],
)
def test_a_bomb_is_refused_by_the_cap_that_it_breaks(tmp_path: Path, cap: str, caps: Caps) -> None:
    bomb = make_zip(tmp_path / "bomb.zip", {f"{k}.dcm": b"\0" * 128 + b"DICM" + b"\0" * 45_000 for k in range(4)})
    refusal = refusal_of(bomb, caps)
    assert refusal.type == f"over-cap-{cap.replace('_', '-')}"
    assert refusal.status == 413
    assert cap in refusal.title
    assert cap in refusal.detail


def test_a_forged_size_does_not_inflate_further_than_it_says(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "forged.zip", {"a.dcm": b"\0" * 128 + b"DICM" + b"\0" * 10_000_000})
    content = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(signature) + at, 2000)
    path.write_bytes(content)
    refusal = refusal_of(path, SMALL)
    assert refusal.type == "bad-zip"
    assert refusal.instances[0].file == "a.dcm"


def test_entries_that_share_their_bytes_are_counted_each(tmp_path: Path) -> None:
    """A zip whose directory lists one entry many times inflates to far more than it holds."""
    path = make_zip(tmp_path / "overlap.zip", {"a.dcm": b"\0" * 128 + b"DICM" + os.urandom(20_000)})
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    directory = content[start:end] * 15
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 15, 15, len(directory), start, 0)
    path.write_bytes(content[:start] + directory + tail)
    assert refusal_of(path, SMALL).type in ("over-cap-inflated-bytes", "over-cap-inflation-ratio", "bad-zip")


def test_a_directory_too_large_for_its_files_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_zip(tmp_path / "many.zip", {f"{k:0200d}.dcm": b"" for k in range(200)})
    monkeypatch.setattr("zipfile.ZipFile", lambda *_: pytest.fail("the directory was loaded"))
    assert refusal_of(path, Caps(upload_files=20)).type == "over-cap-upload-files"


def test_zip64_directories_are_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.dcm": b"x"})
    content = path.read_bytes()
    at = content.index(b"PK\x05\x06")
    path.write_bytes(content[:at] + b"PK\x06\x07" + bytes(16) + content[at:])
    assert refusal_of(path).type == "over-cap-upload-files"


@pytest.mark.parametrize("kept", [4, 60, -30])
def test_a_damaged_zip_is_refused(tmp_path: Path, kept: int) -> None:
    path = make_zip(tmp_path / "x.zip", series_entries(tmp_path / "s"))
    path.write_bytes(path.read_bytes()[:kept])
    assert refusal_of(path).type == "bad-zip"


def test_an_entry_that_fails_its_checksum_is_named(tmp_path: Path) -> None:
    entries = series_entries(tmp_path / "s")
    path = make_zip(tmp_path / "x.zip", entries, method=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    name, data = next(iter(entries.items()))
    content[content.index(data) + len(data) - 1] ^= 0xFF
    path.write_bytes(content)
    refusal = refusal_of(path)
    assert refusal.type == "bad-zip"
    assert [entry.file for entry in refusal.instances] == [name]


def test_files_on_disk_are_capped(tmp_path: Path) -> None:
    make_series(tmp_path, slices=5, rows=32, columns=32)
    for cap, amount in (("upload_files", 4), ("file_bytes", 1000), ("upload_bytes", 5000), ("header_bytes", 500)):
        refusal = refusal_of(tmp_path, Caps(**{cap: amount}))
        assert refusal.type == f"over-cap-{cap.replace('_', '-')}"
        assert cap in refusal.title


def test_caps_are_above_zero() -> None:
    for field in fields(Caps):
        with pytest.raises(ValueError, match=field.name):
            Caps(**{field.name: 0})


def test_nothing_under_the_path_is_a_refusal(tmp_path: Path) -> None:
    refusal = refusal_of(tmp_path / "absent.dcm")
    assert refusal.type == "not-found"
    assert refusal.instances[0].file == "absent.dcm"
    assert refusal.status == 404
    assert refusal_of([]).type == "not-found"
    assert refusal_of([tmp_path / ("x" * 5000)]).type == "unreadable-file"
    (tmp_path / "empty").mkdir()
    assert refusal_of(tmp_path / "empty").type == "no-dicom"


def test_names_are_shown_without_control_characters_or_folders() -> None:
    assert shown_name("a/b/c.dcm") == "c.dcm"
    assert shown_name("a\\b\\c.dcm") == "c.dcm"
    assert shown_name("x\r\nSet-Cookie: a\x1b[2J.dcm") == "x??Set-Cookie: a?[2J.dcm"
    assert len(shown_name("x" * 5000)) == 120
    assert shown_name("///") == "unnamed"


def test_a_bounded_file_gives_no_more_than_it_has(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    with BoundedFile(path) as file:
        assert file.read(2**40) == b"0123456789"
        file.seek(8)
        assert file.read() == b"89"
        assert file.read(5) == b""
