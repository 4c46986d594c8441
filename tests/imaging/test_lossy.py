"""A source that came compressed with loss says with which ratio and which method, each as often as the other."""

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import JPEGLSNearLossless

from spinepaint.imaging.lossy import state_loss


@pytest.mark.parametrize(
    ("ratios", "methods", "expected"),
    [
        (None, None, ([4.0], ["ISO_14495_1"])),
        ("10", None, ([10.0], ["ISO_14495_1"])),
        (None, "ISO_14495_1", ([4.0], ["ISO_14495_1"])),
        ("10", "ISO_14495_1", ([10.0], ["ISO_14495_1"])),
        (["3", "10"], ["ISO_15444_1", "ISO_14495_1"], ([3.0, 10.0], ["ISO_15444_1", "ISO_14495_1"])),
        (["3", "10"], None, ([4.0], ["ISO_14495_1"])),
    ],
)
def test_what_is_missing_is_stated_and_what_is_there_kept(
    ratios: str | list[str] | None, methods: str | list[str] | None, expected: tuple[list[float], list[str]]
) -> None:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGLSNearLossless
    ds.LossyImageCompression, ds.PixelData = "01", b"\0" * 50
    if ratios:
        ds.LossyImageCompressionRatio = ratios
    if methods:
        ds.LossyImageCompressionMethod = methods
    state_loss(ds, 200)
    said = [ds[f"LossyImageCompression{what}"] for what in ("Ratio", "Method")]
    found = [list(each.value) if each.VM > 1 else [each.value] for each in said]
    assert (list(map(float, found[0])), found[1]) == expected
