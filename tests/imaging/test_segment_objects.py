"""A segmentation on disk: valid, in place, named, and the same each time."""

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from spinepaint.imaging.nifti import write_nifti
from spinepaint.imaging.orient import as_stored, orient
from spinepaint.imaging.reading import read_series
from spinepaint.imaging.segment_names import CODES, VALUES, name_structures
from spinepaint.imaging.segment_objects import MOST_UNCERTAIN, SegmentationOrigin, write_segmentation, write_uncertainty
from spinepaint.imaging.segment_picture import colour_table, write_overlay
from spinepaint.imaging.volume import Volume
from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.painted import dciodvfy, entity_complaints
from tests.imaging.series_factory import make_series

ORIGIN = SegmentationOrigin("0.1.0", "tiny", "ab" * 32, "cd" * 32, {"seed": 0})


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classic")
    make_series(folder, slices=5, rows=48, columns=40, oblique_deg=12.0)
    return folder


@pytest.fixture(scope="module")
def enhanced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("enhanced")
    make_enhanced(folder / "in.dcm", slices=5, rows=48, columns=40, frame_order=(2, 0, 1, 4, 3))
    return folder


def found_in(volume: Volume) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    labels = np.zeros(volume.stored.shape, np.uint8)
    labels[1:4, 5:20, 5:20], labels[2, 20:25, 5:20], labels[3, 5:30, 22:26] = VALUES["L2"], VALUES["L2-L3"], VALUES["canal"]
    labels[0, 30:33, 3:9] = VALUES["other discs"]
    doubt = np.random.default_rng(0).uniform(0, MOST_UNCERTAIN, labels.shape).astype(np.float32)
    return labels, doubt


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_both_objects_are_valid_and_lie_where_they_should(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    folder: Path = request.getfixturevalue(kind)
    volume = read_series(folder).volume
    labels, doubt = found_in(volume)
    seg, doubt_map = tmp_path / "seg.dcm", tmp_path / "map.dcm"
    names = write_segmentation(seg, volume, labels, ORIGIN)
    write_uncertainty(doubt_map, volume, doubt, ORIGIN)
    assert dciodvfy(seg) == [] and dciodvfy(doubt_map) == []
    assert entity_complaints(*folder.iterdir(), seg, doubt_map) == []

    read = hd.seg.segread(seg)
    assert [item.SegmentLabel for item in read.SegmentSequence] == names == ["other discs", "canal", "L2", "L2-L3"]
    numbered = read.get_volume(combine_segments=True)
    for number, name in enumerate(names, start=1):
        places = np.argwhere(numbered.array == number).astype(float)
        index = np.rint(volume.to_index(numbered.map_indices_to_reference(places))).astype(int)
        assert (labels[tuple(index.T)] == VALUES[name]).all() and len(index) == (labels == VALUES[name]).sum()

    values = hd.imread(doubt_map).get_volume(apply_real_world_transform=True)
    points = volume.to_patient(np.argwhere(np.ones(labels.shape)).astype(float))
    index = np.rint(values.map_reference_to_indices(points)).astype(int)
    np.testing.assert_allclose(values.array[tuple(index.T)], doubt.ravel(), atol=1e-6)


def test_a_repeat_gives_the_same_bytes_and_another_origin_other_uids(tmp_path: Path, classic: Path) -> None:
    volume = read_series(classic).volume
    labels, doubt = found_in(volume)
    for name in ("a", "b"):
        write_segmentation(tmp_path / f"{name}-seg.dcm", volume, labels, ORIGIN)
        write_uncertainty(tmp_path / f"{name}-map.dcm", volume, doubt, ORIGIN)
    for kind in ("seg", "map"):
        assert (tmp_path / f"a-{kind}.dcm").read_bytes() == (tmp_path / f"b-{kind}.dcm").read_bytes()
    assert ORIGIN.uid("x") != SegmentationOrigin("0.1.0", "tiny", "ab" * 32, "cd" * 32, {"seed": 1}).uid("x")


def test_nothing_wrong_is_written(tmp_path: Path, classic: Path) -> None:
    volume = read_series(classic).volume
    labels, doubt = found_in(volume)
    with pytest.raises(ValueError, match="no structure"):
        write_segmentation(tmp_path / "x.dcm", volume, np.zeros_like(labels), ORIGIN)
    with pytest.raises(ValueError, match="shape"):
        write_segmentation(tmp_path / "x.dcm", volume, labels[1:], ORIGIN)
    with pytest.raises(ValueError, match="finite"):
        write_uncertainty(tmp_path / "x.dcm", volume, np.full_like(doubt, np.nan), ORIGIN)
    with pytest.raises(ValueError, match=r"nii\.gz"):
        write_nifti(tmp_path / "x.nii", labels, volume.affine)
    with pytest.raises(ValueError, match="shapes differ"):
        write_overlay(tmp_path / "x.png", volume, labels[1:], doubt)
    assert list(tmp_path.iterdir()) == []


def test_nifti_has_the_series_place(tmp_path: Path, classic: Path) -> None:
    volume = read_series(classic).volume
    labels, _ = found_in(volume)
    write_nifti(tmp_path / "labels.nii.gz", labels, volume.affine)
    image = sitk.ReadImage(str(tmp_path / "labels.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), labels)
    at = image.TransformContinuousIndexToPhysicalPoint((7.0, 9.0, 2.0))  # column, row, slice
    np.testing.assert_allclose(at, volume.to_patient(np.array([2.0, 9.0, 7.0])), atol=1e-3)


def test_the_picture_shows_structures_and_doubt(tmp_path: Path, classic: Path) -> None:
    volume = read_series(classic).volume
    labels, _ = found_in(volume)
    doubt = np.where(labels == VALUES["canal"], MOST_UNCERTAIN, 0).astype(np.float32)
    write_overlay(tmp_path / "overlay.png", volume, labels, doubt, title="a title")
    sheet = np.asarray(Image.open(tmp_path / "overlay.png").convert("RGB"), int)
    thirds = np.array_split(sheet[80:], 3, axis=1)
    colourful = [(panel.max(axis=2) - panel.min(axis=2) > 60).sum() for panel in thirds]
    assert colourful[0] == 0 and colourful[1] > 1000 and colourful[2] > 100
    assert (colour_table()[list(VALUES.values())].max(axis=1) > 0).all()


def test_every_structure_has_a_value_and_a_code() -> None:
    assert set(VALUES) == set(CODES)
    assert len(set(VALUES.values())) == len(VALUES) and max(VALUES.values()) < 256


@pytest.mark.parametrize("storage", [(0, 1, 2), (2, 0, 1)])
def test_what_was_found_goes_back_to_the_axes_of_the_series(storage: tuple[int, int, int]) -> None:
    stored = np.random.default_rng(1).random((4, 5, 6)).astype(np.float32)
    axes = np.array([[-4.0, 0, 0], [0, 0, 1.0], [0, -1.5, 0]])[:, list(storage)]
    affine = np.eye(4)
    affine[:3, :3] = axes
    volume = Volume(stored, stored.astype(np.int16), affine, np.ones(4), np.zeros(4), ())
    np.testing.assert_array_equal(as_stored(volume, orient(volume).voxels), stored)


def column() -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_], dict[str, tuple[float, float, float]]]:
    """A straight spine at 1 mm: bodies of 26 rows and discs of 8 from row 0 on; the fourth disc is L1-L2."""
    vertebrae, discs, canal = np.zeros((3, 3, 340, 60), bool)
    centres = {}
    for k in range(10):
        vertebrae[:, 34 * k : 34 * k + 26, 10:40] = True
        discs[:, 34 * k + 26 : 34 * k + 34, 10:40] = True
        if 3 <= k < 8:
            centres[list(VALUES)[-5:][k - 3]] = (1.0, 34 * k + 29.5, 25.0)
    canal[:, :, 42:52] = True
    return vertebrae, discs, canal, centres


def test_structures_are_named_from_the_discs() -> None:
    vertebrae, discs, canal, centres = column()
    labels = name_structures(vertebrae, discs, canal, centres, (4.0, 1.0, 1.0))
    expected = ["other vertebrae"] * 3 + ["L1", "L2", "L3", "L4", "L5", "sacrum", "sacrum"]
    for k, name in enumerate(expected):
        assert set(np.unique(labels[:, 34 * k + 2 : 34 * k + 24, 12:38])) == {VALUES[name]}
    for fsu, (_, row, _) in centres.items():
        assert (labels[:, round(row), 12:38] == VALUES[fsu]).all()
    assert (labels[:, 34 * 2 + 28, 12:38] == VALUES["other discs"]).all()
    assert (labels[canal] == VALUES["canal"]).all()


def test_what_lies_past_a_gap_or_has_no_disc_is_not_named() -> None:
    vertebrae, discs, canal, centres = column()
    gap = {fsu: centre for fsu, centre in centres.items() if fsu in ("L1-L2", "L4-L5")}
    labels = name_structures(vertebrae, discs, canal, gap, (4.0, 1.0, 1.0))
    between = labels[:, 34 * 5 + 4 : 34 * 5 + 22, 12:38]  # L3, two discs from either
    assert set(np.unique(between)) == {VALUES["other vertebrae"]}
    astray = {fsu: (1.0, row, 55.0) for fsu, (_, row, _) in centres.items()}
    labels = name_structures(vertebrae, discs, canal, astray, (4.0, 1.0, 1.0))
    assert set(np.unique(labels)) == {0, VALUES["other vertebrae"], VALUES["other discs"], VALUES["canal"]}
