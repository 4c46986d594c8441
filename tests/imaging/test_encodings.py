"""Every way that one series can arrive in, through the reader and the writers, judged by tools that are not ours.

{classic, Enhanced} × transfer syntax × {8, 12, 16 bits, signed} × {rescaled or not} × {axis-aligned, 20° oblique}, and 16 bits
signed, which no depth goes beyond, with every transfer syntax.
Deflated is left out since it is refused, and JPEG Baseline and Extended (8 and 12 bits, lossy) since they are not read.
"""

import hashlib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, dcmread
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from spinepaint.imaging.conformance import findings
from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.painted import dciodvfy, entity_complaints, paint
from tests.imaging.series_factory import make_series
from tests.imaging.test_labels import write_labels

LOSSLESS = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian,
    RLELossless, JPEGLosslessSV1, JPEGLossless, JPEGLSLossless, JPEG2000Lossless,
)  # fmt: skip
LOSSY: dict[UID, tuple[str, dict[str, Any]]] = {
    JPEGLSNearLossless: ("ISO_14495_1", {"jls_error": 2}),
    JPEG2000: ("ISO_15444_1", {"j2k_cr": [5]}),
}
DEPTHS: dict[str, dict[str, Any]] = {
    "8 bits": {"dtype": "uint8", "bits_stored": 8},
    "12 bits": {"bits_stored": 12},
    "16 bits": {"bits_stored": 16},
    "signed": {"bits_stored": 12, "signed": True},
    "16 bits, signed": {"dtype": "int16", "bits_stored": 16},
}
RESCALES: dict[str, dict[str, float]] = {"plain": {}, "rescaled": {"slope": 0.4, "intercept": -12.5}}
# Rows and columns are even, since pixels of 8 bits are swapped by pairs in big endian, and as few as JPEG 2000's levels allow.
SMALL: dict[str, Any] = {"slices": 5, "rows": 34, "columns": 32}


class Kind(NamedTuple):
    """One series, but for its transfer syntax."""

    classic: bool
    depth: str
    rescale: str
    oblique_deg: float

    def __str__(self) -> str:
        return f"{'classic' if self.classic else 'Enhanced'}, {self.depth}, {self.rescale}, {self.oblique_deg:.0f}°"


DEEPEST = "16 bits, signed"
KINDS = [Kind(*kind) for kind in product((True, False), [d for d in DEPTHS if d != DEEPEST], RESCALES, (0.0, 20.0))]
KINDS += [Kind(classic, DEEPEST, *of) for classic, of in product((True, False), (("plain", 0.0), ("rescaled", 20.0)))]


class Output(NamedTuple):
    """Where the files of one source and of what was made of it lie."""

    sources: list[Path]
    series: tuple[Path, ...]
    labels: tuple[Path, Path]

    @property
    def written(self) -> list[Path]:
        return [*self.series, *self.labels]


def write_source(folder: Path, kind: Kind, syntax: UID) -> list[Path]:
    """The series as it arrives."""
    options = {**SMALL, **DEPTHS[kind.depth], **RESCALES[kind.rescale], "oblique_deg": kind.oblique_deg}
    # What is lossless by selection value 1 is lossless by "any selection value", the other UID of the same process.
    first = ExplicitVRLittleEndian if syntax in LOSSY else JPEGLosslessSV1 if syntax == JPEGLossless else syntax
    if kind.classic:
        paths = make_series(folder, **options, transfer_syntax=first)
    else:
        folder.mkdir(parents=True)
        # Frames out of order, as some vendors write them.
        paths = [make_enhanced(folder / "a.dcm", **options, transfer_syntax=first, frame_order=(2, 0, 1, 4, 3))]
    for path in paths if syntax != first else []:
        if syntax in LOSSY:
            lose(path, syntax)
        else:
            rename(path, syntax)
    return paths


def rename(path: Path, syntax: UID) -> None:
    """Give the same pixels the other transfer syntax UID that they may have."""
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path)


def lose(path: Path, syntax: UID) -> None:
    """Compress a file with loss, and say so as PS3.3 C.7.6.1.1.5 wants it."""
    method, options = LOSSY[syntax]
    ds: FileDataset = dcmread(path)
    before = len(ds.PixelData)
    ds.compress(syntax, generate_instance_uid=False, **options)
    ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", method
    ds.LossyImageCompressionRatio = f"{before / len(ds.PixelData):.2f}"
    ds.save_as(path)


def slices_by_position(paths: list[Path] | tuple[Path, ...]) -> dict[tuple[float, ...], NDArray[np.integer]]:
    """Stored values by plain pydicom, each plane by its Image Position (Patient) in mm."""
    planes = {}
    for ds in map(dcmread, paths):
        pixels = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
        positions = [ds]
        if "PerFrameFunctionalGroupsSequence" in ds:
            positions = [group.PlanePositionSequence[0] for group in ds.PerFrameFunctionalGroupsSequence]
        for position, plane in zip(positions, pixels, strict=True):
            planes[tuple(round(float(mm), 3) for mm in position.ImagePositionPatient)] = plane
    return planes


class Verdict(NamedTuple):
    """What dciodvfy says of the series and of the labels, and our own findings over both."""

    series: set[str]
    labels: set[str]
    findings: list[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind, UID], Output]:
    """Makes the output of a source, once."""
    folder, done = tmp_path_factory.mktemp("encodings"), dict[tuple[Kind, UID], Output]()

    def make(kind: Kind, syntax: UID) -> Output:
        if (kind, syntax) not in done:
            here = folder / str(len(done))
            sources = write_source(here / "in", kind, syntax)
            painted = paint(here / "in", here / "series")
            done[kind, syntax] = Output(sources, painted.derived.paths, write_labels(painted, here / "labels"))
        return done[kind, syntax]

    return make


@pytest.fixture(scope="module")
def judged() -> Callable[[Output], Verdict]:
    """What the validators say of an output; once for outputs that are the same to the byte."""
    verdicts: dict[str, Verdict] = {}

    def judge(output: Output) -> Verdict:
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in output.written)).hexdigest()
        if digest not in verdicts:
            series, labels = ({line for path in paths for line in complaints(path)} for paths in (output.series, output.labels))
            verdicts[digest] = Verdict(series, labels, findings(output.written, [dcmread(path) for path in output.sources]))
        return verdicts[digest]

    return judge


def complaints(path: Path) -> set[str]:
    """What dciodvfy says of a file, short of values."""
    return {line.split(" = <")[0] for line in dciodvfy(path)}


CASES = [pytest.param(kind, syntax, id=f"{kind}, {syntax.keyword}") for kind, syntax in product(KINDS, (*LOSSLESS, *LOSSY))]


@pytest.mark.parametrize(("kind", "syntax"), CASES)
def test_what_is_written_is_valid_and_identical_outside_the_edit(
    kind: Kind, syntax: UID, made: Callable[[Kind, UID], Output], judged: Callable[[Output], Verdict]
) -> None:
    output = made(kind, syntax)
    _assert_identical_outside(output)
    for path, source in zip(output.series, map(dcmread, output.sources), strict=True):
        assert source.file_meta.TransferSyntaxUID == syntax
        _assert_described_as_before(dcmread(path), source, kind)
    verdict = judged(output)
    # The MR Image IOD has no rescale. A source that has one keeps it, and what is said of it; that is no error.
    inherits = kind.classic and kind.rescale == "rescaled"
    assert verdict.series <= (complaints(output.sources[0]) if inherits else set())
    assert all(line.startswith("Warning - </Rescale") for line in verdict.series)
    assert verdict.labels == set()
    assert verdict.findings == []
    if syntax in LOSSLESS:
        # How the source was compressed leaves no trace: the output is the same to the byte, its UIDs included.
        plain = made(kind, ExplicitVRLittleEndian)
        assert [path.read_bytes() for path in output.written] == [path.read_bytes() for path in plain.written]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_objects_of_an_output_agree_with_its_source(kind: Kind, made: Callable[[Kind, UID], Output]) -> None:
    output = made(kind, ExplicitVRLittleEndian)
    assert entity_complaints(*output.sources, *output.written) == []


def _assert_identical_outside(output: Output) -> None:
    before, after = slices_by_position(output.sources), slices_by_position(output.series)
    edited = slices_by_position(output.labels[:1])
    assert before.keys() == after.keys() > edited.keys() != set()
    inside, moved_inside = 0, 0
    for position, plane in before.items():
        mask = edited.get(position, np.zeros_like(plane)) > 0
        moved = plane != after[position]
        assert not moved[~mask].any()
        inside, moved_inside = inside + int(mask.sum()), moved_inside + int(moved[mask].sum())
    assert moved_inside > 0.9 * inside > 100


def _assert_described_as_before(ds: Dataset, source: Dataset, kind: Kind) -> None:
    """Bits, sign, rescale and loss are the source's; the MR Image IOD has 16 bits to keep them in, and no others."""
    assert ds.BitsAllocated == (16 if kind.classic else source.BitsAllocated)
    for keyword in ("BitsStored", "HighBit", "PixelRepresentation", "Rows", "Columns"):
        assert ds[keyword].value == source[keyword].value
    for keyword in ("RescaleSlope", "RescaleIntercept", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        assert ds.get(keyword) == source.get(keyword)
    assert ds.get("LossyImageCompression", "00") == source.get("LossyImageCompression", "00")
    if "PerFrameFunctionalGroupsSequence" in ds:
        values = [group.PixelValueTransformationSequence[0].RescaleSlope for group in ds.PerFrameFunctionalGroupsSequence]
        assert set(values) == {source.PerFrameFunctionalGroupsSequence[0].PixelValueTransformationSequence[0].RescaleSlope}


@pytest.mark.parametrize("classic", [True, False])
@pytest.mark.parametrize("syntax", LOSSY)
def test_a_loss_that_the_source_keeps_to_itself_is_told(tmp_path: Path, syntax: UID, classic: bool) -> None:
    sources = write_source(tmp_path / "in", Kind(classic, "12 bits", "plain", 0.0), syntax)
    for path in sources:
        ds = dcmread(path)
        for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            ds.pop(keyword)
        ds.save_as(path)
    painted = paint(tmp_path / "in", tmp_path / "out")
    for path in painted.derived.paths:
        ds = dcmread(path)
        assert (ds.LossyImageCompression, ds.LossyImageCompressionMethod) == ("01", LOSSY[syntax][0])
        assert 1.0 < ds.LossyImageCompressionRatio < 10.0
        assert dciodvfy(path) == []
    assert findings([*painted.derived.paths, *write_labels(painted, tmp_path / "labels")]) == []


def test_jpeg_2000_without_loss_under_the_lossy_uid_is_not_called_lossy(tmp_path: Path) -> None:
    for path in write_source(tmp_path / "in", KINDS[0], JPEG2000Lossless):
        rename(path, JPEG2000)
    assert all("LossyImageCompression" not in ds for ds in paint(tmp_path / "in", tmp_path / "out").derived.datasets)
