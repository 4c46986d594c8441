"""Writes a phantom as a classic MR Image Storage series (PS3.3 A.4), one file a slice."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from spinepaint.training.phantom.headers import Protocol, header_draws
from spinepaint.training.phantom.phantom import Phantom
from spinepaint.training.phantom.tissues import Weighting


def uid_of(*parts: object) -> UID:
    """A UID under 2.25 (PS3.5 B.2) that depends on `parts` alone."""
    digest = bytearray(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return UID(f"2.25.{int.from_bytes(digest, 'big')}")


def _numbers(values: NDArray[np.float64]) -> list[str]:
    return [format_number_as_ds(float(v) + 0.0) for v in values]


def write_series(phantom: Phantom, folder: Path | str, *, seed: int) -> list[Path]:
    """Write `phantom` into `folder` (made if absent) and return the files in slice order.

    `seed` draws the scanner protocol, the invented patient and the UIDs; the same phantom and seed give the same bytes. The T1
    and the T2 of one spine are two series of one study and one frame of reference; the protocol of a T1 is the one that its
    signals were computed with. The stored values are the phantom's voxels, 12 bits. The series is marked Quality Control Subject
    = YES (PS3.3 C.7.1.1) and PHANTOM^..., and not as synthetic data, because it stands for an acquired source.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    protocol, rng = header_draws(seed, phantom.weighting)
    if phantom.weighting is Weighting.T1:
        protocol = phantom.protocol
    content = hashlib.sha256(phantom.voxels.tobytes() + phantom.affine.tobytes()).hexdigest()
    shared = _shared(phantom, protocol, rng, seed, content)
    level = float(np.percentile(phantom.voxels[phantom.voxels.shape[0] // 2], 98.0))
    files = []
    for k in range(phantom.voxels.shape[0]):
        path = folder / f"slice-{k + 1:03d}.dcm"
        _write_slice(path, phantom, shared, k, level, uid_of("instance", seed, content, k))
        files.append(path)
    return files


def _shared(
    phantom: Phantom,
    protocol: Protocol,
    rng: np.random.Generator,
    seed: int,
    content: str,
) -> Dataset:
    day = f"20{rng.integers(15, 24):02d}{rng.integers(1, 13):02d}{rng.integers(1, 29):02d}"
    age = int(rng.integers(22, 82))
    time = f"{rng.integers(8, 18):02d}{rng.integers(60):02d}{rng.integers(60):02d}"
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.SOPClassUID = MRImageStorage
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = time
    ds.AccessionNumber = ""
    ds.Modality = "MR"
    ds.Manufacturer = protocol.manufacturer
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "MR LUMBAR SPINE"
    ds.SeriesDescription = protocol.description
    ds.ManufacturerModelName = protocol.model
    ds.PatientName = f"PHANTOM^{seed:06d}"
    ds.PatientID = f"PHANTOM-{seed:06d}"
    ds.PatientBirthDate = f"{int(day[:4]) - age}0101"
    ds.PatientSex = str(rng.choice(["F", "M"]))
    ds.PatientAge = f"{age:03d}Y"
    ds.QualityControlSubject = "YES"
    ds.BodyPartExamined = "LSPINE"
    _sequence(ds, phantom, protocol)
    anatomy = hashlib.sha256(phantom.labels.tobytes() + phantom.affine.tobytes()).hexdigest()
    ds.StudyInstanceUID = uid_of("study", seed, anatomy)
    ds.SeriesInstanceUID = uid_of("series", seed, content)
    ds.FrameOfReferenceUID = uid_of("frame", seed, anatomy)
    ds.StudyID = "1"
    ds.SeriesNumber = int(rng.integers(2, 9))
    if phantom.weighting is Weighting.T1:
        ds.SeriesNumber += 10
        ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = _later(time)
    ds.AcquisitionNumber = 1
    ds.PositionReferenceIndicator = ""
    ds.PatientPosition = "HFS"
    return ds


def _later(time: str) -> str:
    """Five minutes after HHMMSS, within the hour's last minute at most."""
    return f"{time[:2]}{min(int(time[2:4]) + 5, 59):02d}59"


def _sequence(ds: Dataset, phantom: Phantom, protocol: Protocol) -> None:
    """The MR Image module (PS3.3 C.8.3.1)."""
    ds.ScanningSequence = "SE"
    ds.SequenceVariant = ["SK", "SP"]
    ds.ScanOptions = ""
    ds.MRAcquisitionType = "2D"
    if protocol.sequence:
        ds.SequenceName = protocol.sequence
    ds.SliceThickness = format_number_as_ds(phantom.acquisition.thickness_mm)
    ds.RepetitionTime = format_number_as_ds(protocol.repetition_time_ms)
    ds.EchoTime = format_number_as_ds(protocol.echo_time_ms)
    ds.NumberOfAverages = "2"
    ds.ImagingFrequency = format_number_as_ds(protocol.frequency_mhz)
    ds.ImagedNucleus = "1H"
    ds.EchoNumbers = 1
    ds.MagneticFieldStrength = format_number_as_ds(protocol.field_t)
    ds.SpacingBetweenSlices = format_number_as_ds(round(phantom.spacing[0], 6))
    ds.EchoTrainLength = protocol.echo_train
    ds.PixelBandwidth = format_number_as_ds(protocol.bandwidth_hz)
    ds.InPlanePhaseEncodingDirection = "COL"
    ds.FlipAngle = format_number_as_ds(protocol.flip_angle_deg)


def _write_slice(path: Path, phantom: Phantom, shared: Dataset, k: int, level: float, uid: UID) -> None:
    affine = phantom.affine
    spacing = phantom.spacing
    columns, rows = affine[:3, 2] / spacing[2], affine[:3, 1] / spacing[1]
    position = affine[:3, 3] + k * affine[:3, 0]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), shared, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPInstanceUID = uid
    ds.InstanceNumber = k + 1
    ds.ImagePositionPatient = _numbers(position)
    ds.ImageOrientationPatient = _numbers(np.concatenate([columns, rows]))
    ds.SliceLocation = format_number_as_ds(float(position @ np.cross(columns, rows)))
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = phantom.voxels.shape[1:]
    ds.PixelSpacing = _numbers(np.round(np.array([spacing[1], spacing[2]]), 6))
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = f"{level / 2:.0f}", f"{max(level, 2.0):.0f}"
    ds.PixelData = phantom.voxels[k].astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    ds.save_as(path, enforce_file_format=True)
