"""An Enhanced source gives an Enhanced series, frame by frame in its place."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from spinepaint.imaging.reading import read_series
from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.painted import dciodvfy, paint


@pytest.mark.parametrize("signed", [False, True])
def test_enhanced_in_gives_enhanced_out(tmp_path: Path, signed: bool) -> None:
    order = (3, 1, 0, 2, 5, 4)
    source = make_enhanced(
        tmp_path / "in.dcm",
        slices=6,
        rows=40,
        columns=33,
        frame_order=order,
        signed=signed,
        slope=0.5,
        intercept=3.0,
        oblique_deg=9.0,
    )
    result = paint(source, tmp_path / "out")
    (path,) = result.derived.paths
    assert dciodvfy(path) == []
    before, after = dcmread(source), dcmread(path)
    assert list(after.ImageType) == ["DERIVED", "PRIMARY", "T2", "NONE"]
    assert after.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence[0].FrameType[0] == "DERIVED"
    assert after.SyntheticData == "YES"
    assert after.NumberOfFrames == 6
    assert result.volume.frames is not None
    pixels = before.pixel_array[list(result.volume.frames)]
    np.testing.assert_array_equal(pixels[~result.changed], after.pixel_array[~result.changed])
    assert (pixels[result.changed] != after.pixel_array[result.changed]).any()
    for frame, group in zip(result.volume.frames, after.PerFrameFunctionalGroupsSequence, strict=True):
        (item,) = group.DerivationImageSequence[0].SourceImageSequence
        assert (item.ReferencedSOPInstanceUID, item.ReferencedFrameNumber) == (before.SOPInstanceUID, frame + 1)
        assert group.PlanePositionSequence == before.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence
    again = read_series(path, allow_synthetic=True).volume
    np.testing.assert_array_equal(again.affine, result.volume.affine)
    np.testing.assert_array_equal(again.stored, result.derived.stored)
