"""Slices that are missing, doubled, uneven, oblique, or not of one stack."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    generate_uid,
)

from spinepaint.imaging.reading import check
from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.refusals import assign, refused
from tests.imaging.series_factory import make_series


def test_a_missing_slice_names_its_neighbours(tmp_path: Path) -> None:
    paths = make_series(tmp_path)
    paths[4].unlink()
    refusal = refused(tmp_path)
    assert refusal.type == "missing-slice"
    assert "1 slice is missing" in refusal.title
    assert "4.400" in refusal.detail
    assert [entry.file for entry in refusal.instances] == [paths[3].name, paths[5].name]
    assert "8.800" in refusal.instances[0].reason


def part_of_a_series(folder: Path, kept: list[int]) -> list[Path]:
    """Some slices of nine, 4.4 mm apart from x 17.6 to -17.6 mm."""
    paths = make_series(folder, rows=32, columns=32)
    for index, path in enumerate(paths):
        if index not in kept:
            path.unlink()
    return [paths[index] for index in kept]


def test_slices_that_are_missing_are_counted_and_placed(tmp_path: Path) -> None:
    part_of_a_series(tmp_path / "one gap", [0, 1, 2, 5, 6, 7, 8])
    refusal = refused(tmp_path / "one gap")
    assert refusal.title == "2 slices are missing."
    assert refusal.detail.startswith("7 were found, 4.400 mm apart but for the gap. Missing: those at x 4.4, 0.0 mm.")
    # As many gaps of two steps as of one: what lies between the two is the spacing of no slices.
    part_of_a_series(tmp_path / "gaps", [0, 2, 4, 5, 6])
    refusal = refused(tmp_path / "gaps")
    assert (refusal.type, refusal.title) == ("missing-slice", "2 slices are missing.")
    assert "5 were found, 4.400 mm apart but for the gaps. Missing: those at x 13.2, 4.4 mm." in refusal.detail


def test_a_part_of_a_series_is_told_what_it_is(tmp_path: Path) -> None:
    (path,) = part_of_a_series(tmp_path / "one", [4])
    refusal = refused(tmp_path / "one")
    assert (refusal.type, refusal.title) == ("too-few-slices", "One slice is no volume.")
    assert "Only the slice at x 0.0 mm was found; at least 5 slices" in refusal.detail
    assert [(entry.file, entry.reason) for entry in refusal.instances] == [(path.name, "one of 1, at x 0.0 mm")]
    part_of_a_series(tmp_path / "three", [0, 3, 4])
    refusal = refused(tmp_path / "three")
    assert refusal.type == "too-few-slices"
    assert "3 were found, at x 17.6, 4.4, 0.0 mm" in refusal.detail
    assert "Missing between them: those at x 13.2, 8.8 mm." in refusal.detail


def test_few_slices_at_one_place_or_far_apart_are_counted(tmp_path: Path) -> None:
    make_series(tmp_path / "one place", slices=3, rows=32, columns=32, spacing_mm=(1e-7, 0.9, 0.9))
    make_series(tmp_path / "far", slices=3, rows=32, columns=32, mutate=place(0, (1e9, 0, 0)))
    for folder in tmp_path.iterdir():
        refusal = refused(folder)
        assert refusal.type == "too-few-slices"
        assert "Missing" not in refusal.detail


def place(index: int, millimetres: tuple[float, float, float]) -> Callable[[Dataset, int], None]:
    """A mutation that shifts one slice."""

    def mutate(ds: Dataset, at: int) -> None:
        if at == index:
            ds.ImagePositionPatient = [float(p) + d for p, d in zip(ds.ImagePositionPatient, millimetres, strict=True)]

    return mutate


@pytest.mark.parametrize(
    ("slug", "shift_mm"),
    [("duplicate-position", (-4.4, 0, 0)), ("irregular-spacing", (-0.6, 0, 0)), ("irregular-spacing", (0.06, 0, 0))],
)
def test_uneven_positions_are_refused(tmp_path: Path, slug: str, shift_mm: tuple[float, float, float]) -> None:
    paths = make_series(tmp_path, mutate=place(4, shift_mm))
    refusal = refused(tmp_path)
    assert refusal.type == slug
    assert paths[4].name in [entry.file for entry in refusal.instances]


def test_rounded_positions_are_no_fault(tmp_path: Path) -> None:
    make_series(tmp_path, mutate=place(4, (0.01, 0, 0)))
    assert check(tmp_path).accepted


def test_slices_kilometres_apart_are_refused(tmp_path: Path) -> None:
    make_series(tmp_path, slices=6, rows=32, columns=32, spacing_mm=(1e6, 0.9, 0.9))
    assert refused(tmp_path).type == "bad-geometry"


def test_slices_shifted_in_plane_are_refused(tmp_path: Path) -> None:
    def shear(ds: Dataset, index: int) -> None:
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y + 0.5 * index, z]

    make_series(tmp_path, mutate=shear)
    assert refused(tmp_path).type == "sheared"


def test_an_orientation_that_is_no_rotation_is_refused(tmp_path: Path) -> None:
    make_series(tmp_path, mutate=lambda ds, _: assign(ImageOrientationPatient=[0, 1, 0, 0, 0.5, -0.9])(ds))
    assert refused(tmp_path).type == "bad-geometry"


@pytest.mark.parametrize(("slices", "slug"), [(4, "too-few-slices"), (5, None)])
def test_five_slices_are_needed(tmp_path: Path, slices: int, slug: str | None) -> None:
    make_series(tmp_path, slices=slices)
    refusal = check(tmp_path).refusal
    assert (refusal and refusal.type) == slug


@pytest.mark.parametrize(("oblique_deg", "slug"), [(29.0, None), (-29.0, None), (31.0, "too-oblique"), (60.0, "no-sagittal-t2")])
def test_obliquity_is_limited(tmp_path: Path, oblique_deg: float, slug: str | None) -> None:
    make_series(tmp_path, oblique_deg=oblique_deg, slices=5)
    refusal = check(tmp_path).refusal
    assert (refusal and refusal.type) == slug


def test_several_matrices_are_refused(tmp_path: Path) -> None:
    make_series(tmp_path, slices=7, rows=32, columns=32)
    other = make_series(tmp_path / "other", slices=7, rows=48, columns=32)
    for path in other[:2]:
        ds = dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.save_as(path)
    for path in other[2:]:
        path.unlink()
    refusal = refused(tmp_path)
    assert refusal.type == "mixed-matrix"
    assert {entry.file for entry in refusal.instances} == {path.name for path in other[:2]}


@pytest.mark.parametrize(
    ("slug", "second"),
    [
        ("multi-echo", {"EchoTime": "30", "EchoNumbers": 2}),
        ("multi-temporal", {"TemporalPositionIdentifier": 2}),
        ("duplicate-position", {}),
    ],
)
def test_a_second_stack_in_the_series_is_refused(tmp_path: Path, slug: str, second: dict[str, object]) -> None:
    def repeat(ds: Dataset, index: int) -> None:
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["repeat", str(index)])
        assign(**second)(ds)

    make_series(tmp_path / "1", slices=5)
    make_series(tmp_path / "2", slices=5, mutate=repeat)
    refusal = refused(tmp_path)
    assert refusal.type == slug
    assert len(refusal.instances) == 10


def test_enhanced_echoes_and_missing_frames_are_refused(tmp_path: Path) -> None:
    path = make_enhanced(tmp_path / "echoes.dcm", slices=5, rows=32, columns=32, echo_times_ms=(30.0, 102.0))
    assert refused(path).type == "multi-echo"
    path = make_enhanced(tmp_path / "gap.dcm", slices=7, rows=32, columns=32, frame_order=[0, 1, 2, 4, 5, 6])
    refusal = refused(path)
    assert refusal.type == "missing-slice"
    assert refusal.instances[0].reason.startswith("frame 3: ")
    path = make_enhanced(tmp_path / "count.dcm", slices=5, rows=32, columns=32, mutate=assign(NumberOfFrames=4000))
    assert refused(path).type == "unsupported-pixels"


def test_several_enhanced_instances_of_a_series_are_refused(tmp_path: Path) -> None:
    def rename(ds: Dataset) -> None:
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()

    make_enhanced(tmp_path / "1.dcm", slices=5, rows=32, columns=32)
    make_enhanced(tmp_path / "2.dcm", slices=5, rows=32, columns=32, mutate=rename)
    assert refused(tmp_path).type == "several-multiframe"
