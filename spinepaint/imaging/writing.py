"""One way to put a data set on disk: explicit VR little endian, whole or not at all, the same bytes each time."""

from pathlib import Path

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from spinepaint.imaging.provenance import implementation_version_name
from spinepaint.imaging.uids import IMPLEMENTATION_CLASS_UID


def write_dataset(path: Path, dataset: Dataset, version: str) -> None:
    """Write `dataset` to `path` as a DICOM file (PS3.10), under another name first and then renamed.

    The preamble is zeroed, so that no file is also something else. The data set's own file meta
    information is replaced. `version` is that of this software.
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = implementation_version_name(version)
    dataset.file_meta = meta
    dataset.preamble = b"\x00" * 128
    partial = path.with_name(f".{path.name}.partial")
    try:
        dcmwrite(
            partial,
            dataset,
            enforce_file_format=True,
            implicit_vr=False,
            little_endian=True,
        )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
